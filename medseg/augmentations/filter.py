"""Changes of contrast, sharpness and colour that the augmentation studies call filters."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from medseg.augmentations import AUGMENTATIONS
from medseg.augmentations._pca import Basis, basis, shifted
from medseg.augmentations._planes import by_colour, by_plane, full_scale
from medseg.augmentations.augment import PROB, Augment, Filter, interval, number, whole
from medseg.transforms import histogram

FILTERS = ("clahe", "gaussian_blur", "equalize", "fancy_pca")


@AUGMENTATIONS.register("filter", members=FILTERS)
def filters(prob: float = PROB) -> list[Augment]:
    """CLAHE, Gaussian blur, histogram equalisation and Fancy PCA, each with its own chance.

    Args:
        prob: chance of each.
    """
    return [augment for build in (clahe, gaussian_blur, equalize, fancy_pca) for augment in build(prob=prob)]


@AUGMENTATIONS.register("clahe")
def clahe(prob: float = PROB, clip_limit: Sequence[float] = (1, 4), tiles: int = 8) -> list[Augment]:
    """Contrast-limited adaptive histogram equalisation (Zuiderveld 1994), in colour of the L of Lab.

    Args:
        prob: chance of being applied.
        clip_limit: range of the largest bin of a tile's histogram, in multiples of an even one; at least 1.
        tiles: number of tiles along each side.
    """
    return [Clahe(prob, interval("clahe", "clip_limit", clip_limit, 1), whole("clahe", "tiles", tiles))]


@dataclass(frozen=True)
class Clahe(Filter):
    """Adaptive histogram equalisation; channels that are not three are equalised one by one."""

    name = "clahe"
    clip_limit: tuple[float, float]
    tiles: int

    def draw(self, rng: np.random.Generator, image: np.ndarray) -> dict[str, Any]:
        return {"clip_limit": rng.uniform(*self.clip_limit)}

    def change(self, image: np.ndarray, drawn: dict[str, Any], key: Hashable | None = None) -> np.ndarray:
        if len(image) not in (1, 3):
            return np.concatenate([self.change(plane[None], drawn) for plane in image])
        tiles = (self.tiles, self.tiles)
        if image.dtype != np.uint8:
            return histogram.clahe(image, 0, full_scale(image), drawn["clip_limit"], tiles)
        from medseg.augmentations._albumentations import clahe

        return by_colour(lambda pixels: clahe(pixels, drawn["clip_limit"], tiles), image)


@AUGMENTATIONS.register("gaussian_blur")
def gaussian_blur(prob: float = PROB, sigma: Sequence[float] = (0.5, 3.0)) -> list[Augment]:
    """Blur by a Gaussian that is cut at 3.5 sigma, mirrored at the border.

    Args:
        prob: chance of being applied.
        sigma: range of its standard deviation, in pixels.
    """
    return [GaussianBlur(prob, interval("gaussian_blur", "sigma", sigma, 0.1, 50))]


@dataclass(frozen=True)
class GaussianBlur(Filter):
    """Blur of each channel."""

    name = "gaussian_blur"
    sigma: tuple[float, float]

    def draw(self, rng: np.random.Generator, image: np.ndarray) -> dict[str, Any]:
        return {"sigma": rng.uniform(*self.sigma)}

    def change(self, image: np.ndarray, drawn: dict[str, Any], key: Hashable | None = None) -> np.ndarray:
        import cv2

        from medseg.augmentations._albumentations import gaussian_kernel

        kernel = gaussian_kernel(drawn["sigma"])
        return by_plane(lambda plane, out: cv2.sepFilter2D(plane, -1, kernel, kernel, out), image)


@AUGMENTATIONS.register("equalize")
def equalize(prob: float = PROB) -> list[Augment]:
    """Histogram equalisation of each channel.

    Args:
        prob: chance of being applied.
    """
    return [Equalize(prob)]


@dataclass(frozen=True)
class Equalize(Filter):
    """Histogram equalisation of each channel."""

    name = "equalize"

    def change(self, image: np.ndarray, drawn: dict[str, Any], key: Hashable | None = None) -> np.ndarray:
        if image.dtype != np.uint8:
            return histogram.equalize(image, 0, full_scale(image), by_channels=True)
        import cv2

        return by_plane(cv2.equalizeHist, image)


@AUGMENTATIONS.register("fancy_pca", paper="10.1145/3065386")
def fancy_pca(prob: float = PROB, alpha: float = 0.1) -> list[Augment]:
    r"""Colours changed along their principal components (Krizhevsky et al. 2012), as albumentations does it.

    .. math:: x' = x + E\,\mathrm{diag}(a_i \lambda_i)\,(x - \mu), \quad a_i \sim \mathcal{N}(0, \alpha^2)

    with mean :math:`\mu`, eigenvalues :math:`\lambda_i` and eigenvectors :math:`E` of the image's own colours
    between 0 and 1. The paper adds one colour to the whole image instead, which is stronger: an eigenvalue of
    colours between 0 and 1 is rarely above 0.1, so here the default moves few pixels by more than 1 of 255.
    Of one channel, :math:`x' = x + a \sigma (x - \mu)`.

    Args:
        prob: chance of being applied.
        alpha: standard deviation of the weights.
    """
    return [FancyPCA(prob, number("fancy_pca", "alpha", alpha, 0, 100))]


@dataclass(frozen=True)
class FancyPCA(Filter):
    """Colours along their components, which are kept for images that come again under the same key."""

    name = "fancy_pca"
    alpha: float
    known: dict[Hashable, Basis] = field(default_factory=dict, repr=False, compare=False)

    def draw(self, rng: np.random.Generator, image: np.ndarray) -> dict[str, Any]:
        return {"alpha": rng.normal(0, self.alpha, len(image)).astype(np.float32)}

    def change(self, image: np.ndarray, drawn: dict[str, Any], key: Hashable | None = None) -> np.ndarray:
        white = full_scale(image)
        return shifted(image, self._basis(image, white, key), drawn["alpha"], white)

    def _basis(self, image: np.ndarray, white: float, key: Hashable | None) -> Basis:
        if key is None:
            return basis(image, white)
        if key not in self.known:
            self.known[key] = basis(image, white)
        return self.known[key]
