"""Further movements: translation, scaling, shear and elastic deformation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medseg.augmentations import AUGMENTATIONS
from medseg.augmentations._warp import Affine, Field, Warp
from medseg.augmentations.augment import PROB, Augment, Geometric, interval, number


@AUGMENTATIONS.register("translation")
def translation(prob: float = PROB, shift: Sequence[float] = (-0.0625, 0.0625)) -> list[Augment]:
    """Move by whole pixels along both axes.

    Args:
        prob: chance of being applied.
        shift: range as a share of width and height, within -1 to 1.
    """
    return [Translation(prob, interval("translation", "shift", shift, -1, 1))]


@dataclass(frozen=True)
class Translation(Geometric):
    """A move by whole pixels."""

    name = "translation"
    shift: tuple[float, float]

    def draw(self, rng: np.random.Generator, image: np.ndarray) -> dict[str, Any]:
        height, width = image.shape[1:]
        x, y = rng.uniform(*self.shift, 2)
        return {"x": round(x * width), "y": round(y * height)}

    def warp(self, drawn: dict[str, Any], size: tuple[int, int]) -> Warp:
        from medseg.augmentations._albumentations import affine_matrix

        return Affine(affine_matrix(size, translate=(drawn["x"], drawn["y"])))


@AUGMENTATIONS.register("scaling")
def scaling(prob: float = PROB, factor: Sequence[float] = (0.9, 1.1)) -> list[Augment]:
    """Enlarge or shrink about the middle, both axes alike.

    Args:
        prob: chance of being applied.
        factor: range; above 1 enlarges.
    """
    return [Scaling(prob, interval("scaling", "factor", factor, 0.1, 10))]


@dataclass(frozen=True)
class Scaling(Geometric):
    """Enlargement about the middle."""

    name = "scaling"
    factor: tuple[float, float]

    def draw(self, rng: np.random.Generator, image: np.ndarray) -> dict[str, Any]:
        return {"factor": rng.uniform(*self.factor)}

    def warp(self, drawn: dict[str, Any], size: tuple[int, int]) -> Warp:
        from medseg.augmentations._albumentations import affine_matrix

        return Affine(affine_matrix(size, scale=drawn["factor"]))


@AUGMENTATIONS.register("shear")
def shear(prob: float = PROB, angle: Sequence[float] = (-10, 10)) -> list[Augment]:
    """Slant along both axes, about the middle.

    Args:
        prob: chance of being applied.
        angle: range in degrees, within -60 to 60, drawn for each axis.
    """
    return [Shear(prob, interval("shear", "angle", angle, -60, 60))]


@dataclass(frozen=True)
class Shear(Geometric):
    """A slant of columns and rows."""

    name = "shear"
    angle: tuple[float, float]

    def draw(self, rng: np.random.Generator, image: np.ndarray) -> dict[str, Any]:
        x, y = rng.uniform(*self.angle, 2)
        return {"x": x, "y": y}

    def warp(self, drawn: dict[str, Any], size: tuple[int, int]) -> Warp:
        from medseg.augmentations._albumentations import affine_matrix

        return Affine(affine_matrix(size, shear=(drawn["x"], drawn["y"])))


@AUGMENTATIONS.register("elastic", paper="10.1109/ICDAR.2003.1227801")
def elastic(prob: float = PROB, alpha: Sequence[float] = (150, 450), sigma: float = 10) -> list[Augment]:
    """Random displacements, smoothed by a Gaussian (Simard et al. 2003).

    Before smoothing the largest displacement is ``alpha``; after it, the standard deviation is about
    ``alpha / (16 * sigma)`` pixels, 1 to 3 by default, and several times as much within two ``sigma`` of the frame.

    Args:
        prob: chance of being applied.
        alpha: range of the strength, in pixels.
        sigma: standard deviation of the Gaussian, in pixels, at least 1.
    """
    strength = interval("elastic", "alpha", alpha, 0, 1e5)
    return [Elastic(prob, strength, number("elastic", "sigma", sigma, 1, 100))]


@dataclass(frozen=True)
class Elastic(Geometric):
    """A smooth field of displacements."""

    name = "elastic"
    alpha: tuple[float, float]
    sigma: float

    def draw(self, rng: np.random.Generator, image: np.ndarray) -> dict[str, Any]:
        return {"alpha": rng.uniform(*self.alpha), "seed": int(rng.integers(2**32))}

    def warp(self, drawn: dict[str, Any], size: tuple[int, int]) -> Warp:
        from medseg.augmentations._albumentations import displacement

        return Field(displacement(size, drawn["alpha"], self.sigma, drawn["seed"]))
