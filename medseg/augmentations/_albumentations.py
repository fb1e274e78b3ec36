"""What is taken from albumentations 2.0.8; no other module imports it, so it can be replaced here.

Where a function of OpenCV alone is behind a transform of it, that is called elsewhere; tests compare the results.
"""

from __future__ import annotations

import os

import numpy as np

from medseg.errors import MedsegError

# without this, importing albumentations asks the package index for a newer release
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"

try:
    import albumentations
    from albucore import multiply_add
    from albumentations.augmentations.blur import functional as blur
    from albumentations.augmentations.geometric import functional as geometry
    from albumentations.augmentations.pixel import functional as pixel
except ImportError as error:
    raise MedsegError(f"augmentations need albumentations 2.0.8 ({error}); install it") from None
if albumentations.__version__ != "2.0.8":
    raise MedsegError(
        f"augmentations need albumentations 2.0.8, not {albumentations.__version__}; install albumentations==2.0.8"
    )


def clahe(pixels: np.ndarray, clip_limit: float, tiles: tuple[int, int]) -> np.ndarray:
    """CLAHE of ``uint8``, grey ``(H, W)`` or colour ``(H, W, 3)`` by the L of Lab."""
    return pixel.clahe(pixels, clip_limit, tiles)


def gaussian_kernel(sigma: float) -> np.ndarray:
    """Weights of a Gaussian, cut at 3.5 sigma."""
    return blur.create_gaussian_kernel_1d(sigma, 0)


def convolve(pixels: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Convolve with a matrix, mirrored at the border, and clip to the type's range."""
    return pixel.convolve(pixels, kernel)


def gamma(plane: np.ndarray, exponent: float) -> np.ndarray:
    """The power of a ``uint8`` or ``float32`` plane, taken between 0 and 1."""
    return pixel.gamma_transform(plane, exponent)


def add(plane: np.ndarray, value: float) -> np.ndarray:
    """Add a number and clip to the type's range."""
    return multiply_add(plane, 1.0, value, inplace=False)


def affine_matrix(
    size: tuple[int, int],
    *,
    translate: tuple[float, float] = (0, 0),
    shear: tuple[float, float] = (0, 0),
    scale: float = 1,
    rotate: float = 0,
) -> np.ndarray:
    """``(3, 3)`` from places in the image to places in the result, about the image's middle.

    Args:
        size: height and width.
        translate: to the right and down, in pixels.
        shear: along x and y, in degrees.
        scale: factor of both axes.
        rotate: degrees, anticlockwise.
    """
    return geometry.create_affine_transformation_matrix(
        {"x": translate[0], "y": translate[1]},
        {"x": shear[0], "y": shear[1]},
        {"x": scale, "y": scale},
        rotate,
        geometry.center(size),
    )


def displacement(size: tuple[int, int], alpha: float, sigma: float, seed: int) -> np.ndarray:
    """A smooth random field of displacements along x and y, ``(2, H, W)`` ``float32`` in pixels.

    The Gaussian repeats the noise at the frame, so displacements are largest there.
    """
    fields = geometry.generate_displacement_fields(
        size,
        alpha,
        sigma,
        same_dxdy=False,
        kernel_size=(0, 0),
        random_generator=np.random.default_rng(seed),
        noise_distribution="gaussian",
    )
    return np.stack(fields)
