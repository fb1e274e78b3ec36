"""Steps against noise."""

from __future__ import annotations

import numpy as np

from medseg.errors import MedsegError
from medseg.transforms import TRANSFORMS
from medseg.transforms._checks import real, whole
from medseg.transforms.picture import Picture

#: what OpenCV's median takes: any odd size up to 255 for 8 bits, 3 and 5 for these
OPENCV_MEDIAN = (np.uint16, np.int16, np.float32)


def median(image: np.ndarray, size: int) -> np.ndarray:
    """Replace each pixel by the median of the square around it; the edge is continued beyond the border.

    Args:
        image: of any type.
        size: side of the square in pixels, odd.

    Shape:
        ``(C, H, W)`` to the same, of the same type.
    """
    import cv2

    if (image.dtype == np.uint8 and size <= 255) or (image.dtype in OPENCV_MEDIAN and size <= 5):
        return np.stack([cv2.medianBlur(np.ascontiguousarray(plane), size) for plane in image])
    from scipy.ndimage import median_filter

    return np.stack([median_filter(plane, size, mode="nearest") for plane in image])


def gaussian(image: np.ndarray, sigma: float) -> np.ndarray:
    r"""Smooth by the kernel :math:`\exp(-x^2 / 2 \sigma^2)`, cut at :math:`4 \sigma` and scaled to sum 1.

    It is computed in 64-bit floats and rounded once; the edge is continued beyond the border.

    Args:
        image: of any type.
        sigma: in pixels.

    Shape:
        ``(C, H, W)`` to the same, of the same type.
    """
    import cv2

    side = 2 * int(4 * sigma + 0.5) + 1
    planes = image.astype(np.float64)
    smooth = np.stack(
        [cv2.GaussianBlur(p, (side, side), sigma, borderType=cv2.BORDER_REPLICATE) for p in planes]
    )
    return smooth.astype(image.dtype) if image.dtype.kind == "f" else np.rint(smooth).astype(image.dtype)


@TRANSFORMS.register("median", version=1)
class Median:
    """Replace each pixel by the median of the square around it, exact for any depth; edges are kept sharp.

    Args:
        size: side of the square in pixels, odd.

    Shape:
        ``(C, H, W)`` to the same, of the same type and range.

    Raises:
        MedsegError: the size is even or below 3.
    """

    def __init__(self, size: int = 3) -> None:
        self.size = whole("median", "size", size, least=3)
        if size % 2 == 0:
            raise MedsegError(f"median: size must be odd; it is {size}")

    def __call__(self, picture: Picture) -> Picture:
        return picture.having(median(picture.values, self.size))


@TRANSFORMS.register("gaussian", version=1)
class Gaussian:
    r"""Smooth by a Gaussian kernel :math:`\exp(-x^2 / 2 \sigma^2)`, cut at :math:`4 \sigma`.

    Args:
        sigma: standard deviation :math:`\sigma` in pixels.

    Shape:
        ``(C, H, W)`` to the same, of the same type and range; integers are rounded once.

    Raises:
        MedsegError: ``sigma`` is not above 0.
    """

    def __init__(self, sigma: float = 1.0) -> None:
        self.sigma = real("gaussian", "sigma", sigma, above=0)

    def __call__(self, picture: Picture) -> Picture:
        return picture.having(gaussian(picture.values, self.sigma))
