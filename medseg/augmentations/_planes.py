"""OpenCV's functions on images ``(C, H, W)``; its own layout is ``(H, W)`` or ``(H, W, C)``.

Images may lie in memory as any view does, such as one of ``(H, W, C)``; OpenCV reads these but cannot write to them,
so results are made whole planes, one behind the other.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def by_plane(change: Callable[[np.ndarray, np.ndarray], object], image: np.ndarray) -> np.ndarray:
    """Change each channel of an image ``(C, H, W)`` by itself; floats stay within 0..1.

    Args:
        change: takes a plane ``(H, W)`` and writes the changed one into its second argument.
        image: it is not written to.
    """
    result = np.empty(image.shape, image.dtype)
    for plane, place in zip(image, result, strict=True):
        change(plane, place)
    return result.clip(0, 1, out=result) if image.dtype == np.float32 else result


def by_colour(change: Callable[[np.ndarray], np.ndarray], image: np.ndarray) -> np.ndarray:
    """Change three channels together as ``(H, W, 3)``, and any other number one by one."""
    import cv2

    if len(image) != 3:
        return np.stack([change(plane) for plane in image])
    result = np.empty(image.shape, image.dtype)
    cv2.split(change(cv2.merge(list(image))), list(result))
    return result


def by_pixel(change: Callable[[np.ndarray], np.ndarray], image: np.ndarray) -> np.ndarray:
    """Change an image ``(C, H, W)`` as one plane, where every pixel is changed by itself."""
    return change(image.reshape(-1, image.shape[2])).reshape(image.shape)


def full_scale(image: np.ndarray) -> float:
    """What white is in the image's type: 255, 65535 or 1.0."""
    return 1.0 if image.dtype == np.float32 else float(np.iinfo(image.dtype).max)
