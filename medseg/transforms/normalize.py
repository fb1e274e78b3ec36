"""Normalisations: float32 images of 0 to 1 in the range that a network was made for, in numpy and in torch."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from medseg.errors import MedsegError, unknown
from medseg.transforms import TRANSFORMS
from medseg.transforms.picture import Picture

if TYPE_CHECKING:
    from torch import Tensor

#: of red, green and blue in 0..1, over the training images of ImageNet (ILSVRC 2012), as torchvision's weights use
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
NAMES = ("normalize", "normalize_imagenet", "normalize_signed", "normalize_zscore")


def check_channels(name: str | None, channels: int) -> None:
    """Refuse a normalisation that is not for images of so many channels.

    Raises:
        MedsegError: it is not.
    """
    if name == "normalize_imagenet" and channels != 3:
        raise MedsegError(
            f"normalize_imagenet needs 3 channels, the image has {channels}; "
            "choose normalize_zscore, or read the images with 3 channels"
        )


def full_range(picture: Picture) -> Picture:
    """The picture as arrays keep it: integers of the full range of their type, or float32 of 0 to 1, high is bright.

    Integers of another range are stretched to 16 bits; floats are taken from ``low`` and ``high`` to 0 and 1.
    """
    if picture.values.dtype.kind != "f" or (picture.low, picture.high) == (0, 1):
        return Picture.of(picture.stored())
    share = (picture.values.astype(np.float64) - picture.low) / ((picture.high - picture.low) or 1)
    share = (1 - share if picture.inverted else share).clip(0, 1)
    return Picture.of(share.astype(np.float32))


def unit_range(picture: Picture) -> np.ndarray:
    """The pixels as float32 from 0 (black) to 1 (white), to the bit as training makes them of stored arrays.

    Shape:
        ``(C, H, W)`` as the values.
    """
    stored = full_range(picture).values
    if stored.dtype == np.float32:
        return stored.copy()
    return stored.astype(np.float32) * np.float32(1.0 / np.iinfo(stored.dtype).max)


def normalized(image: Tensor, name: str | None) -> Tensor:
    """Normalise a batch on its device, as the step of that name does it in numpy.

    Args:
        image: float32 in 0..1.
        name: of the step; none leaves the image as it is.

    Shape:
        ``(N, C, H, W)`` to the same.

    Raises:
        MedsegError: there is no such normalisation, or it wants another number of channels.
    """
    import torch

    if name in (None, "normalize"):
        return image
    check_channels(name, image.shape[1])
    if name == "normalize_signed":
        return image * 2 - 1
    if name == "normalize_imagenet":
        mean, std = (image.new_tensor(v)[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_STD))
        return (image - mean) / std
    if name == "normalize_zscore":
        variance, mean = torch.var_mean(image, dim=(1, 2, 3), correction=0, keepdim=True)
        constant = image.amax((1, 2, 3), keepdim=True) == image.amin((1, 2, 3), keepdim=True)
        # the variance of a constant image is its rounding error, or zero
        return torch.where(constant, torch.zeros_like(image), (image - mean) / variance.sqrt())
    raise unknown("normalisation", name, NAMES)


@TRANSFORMS.register("normalize", normalization=True, version=1)
class Normalize:
    """Scale pixels to 0..1: the range that they may take, such as 0 to 255 or 0 to 4095, not that of one image.

    Shape:
        ``(C, H, W)`` to the same, float32.
    """

    def __call__(self, picture: Picture) -> Picture:
        return full_range(picture).having(unit_range(picture), low=0.0, high=1.0)


@TRANSFORMS.register("normalize_signed", normalization=True, version=1)
class NormalizeSigned:
    """Scale pixels to -1..1: twice what ``normalize`` gives, less 1.

    Shape:
        ``(C, H, W)`` to the same, float32.
    """

    def __call__(self, picture: Picture) -> Picture:
        return full_range(picture).having(unit_range(picture) * 2 - 1, low=-1.0, high=1.0)


@TRANSFORMS.register("normalize_zscore", normalization=True, version=1)
class NormalizeZscore:
    """Bring each image to mean 0 and standard deviation 1, over all its pixels and channels.

    Padding counts as pixels. A constant image becomes 0.

    Shape:
        ``(C, H, W)`` to the same, float32.
    """

    def __call__(self, picture: Picture) -> Picture:
        image = unit_range(picture).astype(np.float64)
        mean, std = image.mean(), image.std()
        if image.min() == image.max():
            mean, std = image.flat[0], 1.0
        values = ((image - mean) / std).astype(np.float32)
        return full_range(picture).having(values, low=float(-mean / std), high=float((1 - mean) / std))


@TRANSFORMS.register("normalize_imagenet", normalization=True, version=1)
class NormalizeImagenet:
    """Subtract ImageNet's mean (0.485, 0.456, 0.406), divide by its deviation (0.229, 0.224, 0.225), after 0..1.

    Shape:
        ``(3, H, W)`` to the same, float32.

    Raises:
        MedsegError: the image has not 3 channels.
    """

    def __call__(self, picture: Picture) -> Picture:
        check_channels("normalize_imagenet", len(picture.values))
        mean, std = np.array(IMAGENET_MEAN), np.array(IMAGENET_STD)
        values = (unit_range(picture) - mean[:, None, None]) / std[:, None, None]
        low, high = float((-mean / std).min()), float(((1 - mean) / std).max())
        return replace(full_range(picture), values=values.astype(np.float32), low=low, high=high)
