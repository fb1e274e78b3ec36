"""What the overlap losses share: soft counts of pixels, and the ratio's reduction to a scalar."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from medseg.errors import MedsegError
from medseg.losses._binary import checked

REDUCTIONS = ("image", "batch")


class SoftCounts(NamedTuple):
    """Sums over pixels of one image and channel, or of one channel of the whole batch.

    Args:
        hit: probability on true pixels, the soft number of true positives.
        predicted: probability on all pixels.
        true: number of true pixels.
    """

    hit: Tensor
    predicted: Tensor
    true: Tensor


def soft_counts(logits: Tensor, target: Tensor, reduction: str) -> SoftCounts:
    """The soft counts that the overlap losses are made of.

    Args:
        reduction: ``image`` sums over each image, ``batch`` over the whole batch.

    Shape:
        logits and target ``(N, K, H, W)``, results ``(N, K)`` for ``image`` and ``(K,)`` for ``batch``.
    """
    logits, target = checked(logits, target)
    probability = logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(1)
    pixels = (2, 3) if reduction == "image" else (0, 2, 3)
    return SoftCounts((probability * target).sum(pixels), probability.sum(pixels), target.sum(pixels))


def check_overlap(loss: str, smooth: float, reduction: str) -> None:
    """Refuse a smooth term that leaves 0/0 for empty masks, and an unknown reduction.

    Raises:
        MedsegError: one of the two is not usable.
    """
    if not smooth > 0:
        raise MedsegError(
            f"loss {loss!r}: smooth must be above 0 (an empty mask would give 0/0); got {smooth}"
        )
    if reduction not in REDUCTIONS:
        raise MedsegError(
            f"loss {loss!r}: reduction must be one of {', '.join(REDUCTIONS)}; got {reduction!r}"
        )
