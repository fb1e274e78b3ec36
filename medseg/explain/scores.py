"""The number that is explained: the logits of a region, or the logit of a class."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from medseg.errors import MedsegError


@dataclass(frozen=True, eq=False)
class RegionScore:
    """The sum of a label's logits over the pixels of a region (Vinogradova et al. 2020, arXiv:2002.11434).

    Args:
        channel: of the logits.
        region: ``(H, W)`` bool, at the network's size.

    Shape:
        logits ``(N, K, H, W)``, score ``(N,)``.
    """

    channel: int
    region: Tensor

    def __call__(self, logits: Tensor) -> Tensor:
        if logits.dim() != 4 or logits.shape[2:] != self.region.shape:
            seen, wanted = tuple(logits.shape), tuple(self.region.shape)
            raise MedsegError(f"the network gives {seen}, no logits (N, K, H, W) for a region {wanted}")
        _check(self.channel, logits)
        return (logits[:, self.channel] * self.region.to(logits)).sum((1, 2))


@dataclass(frozen=True)
class ClassScore:
    """The logit of a class.

    Args:
        channel: of the logits; None for the class that the network finds most likely.

    Shape:
        logits ``(N, K)``, score ``(N,)``.
    """

    channel: int | None = None

    def __call__(self, logits: Tensor) -> Tensor:
        if logits.dim() != 2:
            raise MedsegError(f"the network gives {tuple(logits.shape)}, no logits (N, K) of a classifier")
        if self.channel is None:
            return logits.amax(1)
        _check(self.channel, logits)
        return logits[:, self.channel]


def _check(channel: int, logits: Tensor) -> None:
    if not 0 <= channel < logits.shape[1]:
        raise MedsegError(f"no channel {channel}: the network gives {logits.shape[1]}, counted from 0")
