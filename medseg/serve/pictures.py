"""PNG files in memory: what the page shows."""

from __future__ import annotations

import io
from collections.abc import Collection

import numpy as np
from PIL import Image


def encode(pixels: np.ndarray) -> bytes:
    """Pixels as PNG without any text.

    Args:
        pixels: ``(H, W)``, ``(H, W, 3)`` or ``(H, W, 4)`` uint8; three equal channels become one.
    """
    import cv2

    if pixels.ndim == 3 and pixels.shape[2] == 3 and (pixels == pixels[..., :1]).all():
        pixels = pixels[..., 0]
    if pixels.ndim == 3:
        # OpenCV counts colours from blue to red
        pixels = pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]
    # the network is this machine: speed before size
    _, png = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    return png.tobytes()


def decode(png: bytes) -> np.ndarray:
    """Pixels of what ``encode`` made, ``(H, W)`` or ``(H, W, C)`` uint8."""
    return np.asarray(Image.open(io.BytesIO(png), formats=("PNG",)))


def levels(probability: np.ndarray) -> np.ndarray:
    """Probabilities ``(H, W)`` of 0 to 1 as grey levels of 0 to 255."""
    return np.rint(probability.clip(0, 1) * np.float32(255)).astype(np.uint8)


def heat(grey: np.ndarray) -> np.ndarray:
    """Probabilities as a layer over a picture: coloured by inferno, and the less opaque the less probable.

    Args:
        grey: ``(H, W)`` uint8, 0 to 255 for 0 to 1.

    Returns:
        ``(H, W, 4)`` uint8, red, green, blue and opacity.
    """
    import cv2

    colours = cv2.applyColorMap(np.ascontiguousarray(grey), cv2.COLORMAP_INFERNO)[..., ::-1]
    return np.dstack([colours, grey])


def outlined(shown: bytes, mask: bytes, labels: Collection[int]) -> bytes:
    """A picture with the outlines of some labels.

    Args:
        shown: PNG of the picture.
        mask: PNG whose grey levels are the numbers of labels.
        labels: those that are drawn.
    """
    from medseg.predict.overlay import overlay

    pixels, numbers = decode(shown), decode(mask)
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, 2)
    return encode(overlay(pixels, np.where(np.isin(numbers, list(labels)), numbers, 0).astype(np.uint8)))
