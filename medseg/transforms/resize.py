"""Resizing images smoothly and masks without new values."""

from __future__ import annotations

import numpy as np
from PIL import Image

from medseg.transforms import TRANSFORMS


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Stretch an image by bilinear interpolation, antialiased when it shrinks.

    Args:
        image: ``uint8`` or ``uint16``.
        size: new height and width.

    Shape:
        ``(C, H, W)`` to ``(C, *size)``, of the same type.
    """
    if image.shape[1:] == tuple(size):
        return image
    if image.dtype == np.uint8:
        planes = [Image.fromarray(plane) for plane in image]
        return np.stack([np.asarray(plane.resize(size[::-1], Image.Resampling.BILINEAR)) for plane in planes])
    # Pillow resizes 16-bit pixels by way of 32-bit floats
    planes = [Image.fromarray(plane.astype(np.float32)) for plane in image]
    resized = np.stack([np.asarray(plane.resize(size[::-1], Image.Resampling.BILINEAR)) for plane in planes])
    limits = np.iinfo(image.dtype)
    return np.rint(resized).clip(limits.min, limits.max).astype(image.dtype)


def resize_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Stretch a mask by nearest neighbour.

    Args:
        mask: ``uint8``.
        size: new height and width.

    Shape:
        ``(H, W)`` to ``size``.
    """
    if mask.shape == tuple(size):
        return mask
    return np.asarray(Image.fromarray(mask).resize(size[::-1], Image.Resampling.NEAREST))


@TRANSFORMS.register("resize", keeps_size=False)
class Resize:
    """Stretch images to one size (bilinear, antialiased), whatever their proportions.

    Args:
        size: new height and width, in pixels.

    Shape:
        ``(C, H, W)`` to ``(C, *size)``.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size

    def __call__(self, image: np.ndarray) -> np.ndarray:
        return resize_image(image, self.size)
