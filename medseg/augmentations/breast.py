"""The breast study's transforms for classification."""

from __future__ import annotations

from medseg.augmentations import AUGMENTATIONS
from medseg.augmentations.augment import PROB, Augment
from medseg.augmentations.deformation import shear, translation
from medseg.augmentations.filter import equalize, gaussian_blur
from medseg.augmentations.geometric import flip, rotation
from medseg.augmentations.intensity import channel_shift

BREAST_GEOMETRIC = (
    "gaussian_blur",
    "equalize",
    "channel_shift",
    "rotation",
    "flip",
    "translation",
    "shear",
)


@AUGMENTATIONS.register("breast_geometric", members=BREAST_GEOMETRIC, paper="10.3390/s23042307")
def breast_geometric(prob: float = PROB) -> list[Augment]:
    """The breast study's list for classification: Gaussian, equalise, shift, rotation, flip, translation, shear.

    The study (Kwak, Choi, Lee, Sensors 2023, 23(4), 2307) calls these seven geometric. Only their names were at hand;
    ranges and readings are ours: Gaussian is the blur and equalise the histogram equalisation of its filters, and flip
    one of the two mirror images. Translation already moves the image, so shift is taken as that of the channels' values
    (``channel_shift``), as albumentations' ``RGBShift`` has it; where a move is meant, join the six others by ``-``.
    The three that change values come first, so that no histogram counts corners that a movement leaves empty.

    Args:
        prob: chance of each.
    """
    builders = (gaussian_blur, equalize, channel_shift, rotation, flip, translation, shear)
    return [augment for build in builders for augment in build(prob=prob)]
