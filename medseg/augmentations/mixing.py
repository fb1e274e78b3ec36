r"""Mixtures of a training batch's images: MixUp and CutMix, whose targets are mixed alike.

Both mix images of one batch, so they are applied to whole batches on the device, after the transforms of single
images, and never to validation or test images. torchvision's own ``MixUp`` and ``CutMix`` do the work: they take
batches of odd size and targets as rows, draw from torch's generators alone and write to no input, whereas timm's
``Mixup`` wants even batches, draws from numpy's generator and changes the images in place. Each image is mixed with
the one before it in the batch, which is a random partner since training batches are shuffled.

The mixed target is :math:`\lambda y_a + (1 - \lambda) y_b`, where :math:`\lambda` is the share of image a. A
loss that is linear in its target then costs what the papers write, :math:`\lambda L(y_a) + (1 - \lambda) L(y_b)`;
all cross-entropies of :mod:`medseg.losses` with the fact ``soft`` are. Rows that summed to 1 still do. For multi-label
sets each finding is mixed by itself in the same way: its target is the share of the mixture that shows it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

from medseg.augmentations import AUGMENTATIONS
from medseg.augmentations.augment import number
from medseg.augmentations.combined import build_augments, given
from medseg.augmentations.protocol import batch_members
from medseg.errors import MedsegError

if TYPE_CHECKING:
    from torch import Tensor


@AUGMENTATIONS.register("mixup", task="classification", batch=True, paper="arXiv:1710.09412")
def mixup(prob: float = 1.0, alpha: float = 0.2) -> list[Mix]:
    r"""Weighted mean of two images and of their targets (Zhang et al. 2018, arXiv:1710.09412).

    .. math:: \tilde x = \lambda x_a + (1 - \lambda) x_b, \quad \tilde y = \lambda y_a + (1 - \lambda) y_b, \quad
              \lambda \sim \mathrm{Beta}(\alpha, \alpha)

    with one :math:`\lambda` for the batch. The paper uses 0.1 to 0.4 on ImageNet and 1 on CIFAR.

    Args:
        prob: chance that a batch is mixed.
        alpha: of the Beta distribution; near 0 most batches stay almost as they are, at 1 every share is as likely.
    """
    return [MixUp(chance("mixup", prob), number("mixup", "alpha", alpha, 0.01, 100))]


@AUGMENTATIONS.register("cutmix", task="classification", batch=True, paper="arXiv:1905.04899")
def cutmix(prob: float = 1.0, alpha: float = 1.0) -> list[Mix]:
    r"""A box of one image pasted into another, targets mixed by area (Yun et al. 2019, arXiv:1905.04899).

    The box has the image's proportions and about :math:`1 - \lambda` of its area,
    :math:`\lambda \sim \mathrm{Beta}(\alpha, \alpha)`; its middle lies anywhere, so it may reach over the edge. The
    targets are mixed by the pixels that were in fact pasted. One box holds for the batch.

    Args:
        prob: chance that a batch is mixed; the paper has 1 on ImageNet and 0.5 on CIFAR.
        alpha: of the Beta distribution; 1 makes every share as likely, as in the paper.
    """
    return [CutMix(chance("cutmix", prob), number("cutmix", "alpha", alpha, 0.01, 100))]


@dataclass(frozen=True)
class Mix(ABC):
    """One way of mixing a batch.

    Args:
        prob: chance that a batch is mixed.
        alpha: of the Beta distribution.
    """

    name: ClassVar[str]

    prob: float
    alpha: float

    @abstractmethod
    def mixed(self, image: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """The mixed images ``(N, C, H, W)`` and targets ``(N, K)``, both new."""


@dataclass(frozen=True)
class MixUp(Mix):
    """Weighted means of images."""

    name = "mixup"

    def mixed(self, image: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        return _torchvision("MixUp", self.alpha)(image, label)


@dataclass(frozen=True)
class CutMix(Mix):
    """Boxes of other images."""

    name = "cutmix"

    def mixed(self, image: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        return _torchvision("CutMix", self.alpha)(image, label)


@dataclass(frozen=True)
class Mixer:
    """Mixes training batches; of several ways one is chosen for each batch, each as likely as the others.

    All draws come from torch's global generator.

    Args:
        mixes: at least one.
    """

    mixes: tuple[Mix, ...]

    def __call__(self, image: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """Mix a batch; a batch of one image stays as it is.

        Args:
            image: ``(N, C, H, W)``, floats; it is not written to.
            label: ``(N, K)``, one-hot, multi-hot or soft; it is not written to.

        Returns:
            images as given, and targets ``(N, K)`` in at least ``float32``.

        Raises:
            MedsegError: the images are no floats, or the shapes do not go together.
        """
        import torch

        if image.ndim != 4 or label.ndim != 2 or len(image) != len(label) or not image.is_floating_point():
            raise MedsegError(
                f"a mixture takes images (N, C, H, W) of floats and targets (N, K);"
                f" got {tuple(image.shape)} of {image.dtype} and {tuple(label.shape)}"
            )
        label = label.to(torch.promote_types(label.dtype, torch.float32))
        if len(image) == 1:
            return image, label
        mix = self.mixes[int(torch.randint(len(self.mixes), ()))]
        return mix.mixed(image, label) if float(torch.rand(())) < mix.prob else (image, label)


def mixer(
    names: str, arguments: Mapping[str, Mapping[str, Any]] | None = None
) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None:
    """What mixes the training batches of an augmentation, or None where it has no such member.

    Args:
        names: augmentations joined by ``-``, without the protocol's ending, such as ``mixup-filter``.
        arguments: of them, by name.

    Raises:
        MedsegError: a name or argument is unknown or wrong.
    """
    build_augments(names, arguments)  # refuses what is wrong with any of them
    mixes = [
        mix
        for name in batch_members(names)
        for mix in AUGMENTATIONS.build(name, given(arguments or {}, name))
    ]
    return Mixer(tuple(mixes)) if mixes else None


def chance(augment: str, prob: float) -> float:
    """A chance, checked.

    Raises:
        MedsegError: it is no number in 0..1.
    """
    return number(augment, "prob", prob, 0, 1)


@lru_cache
def _torchvision(name: str, alpha: float) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    from torchvision.transforms import v2

    return getattr(v2, name)(alpha=alpha)
