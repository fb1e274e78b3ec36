"""Movements that the augmentation studies call geometric: rotation, flips and grid distortion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medseg.augmentations import AUGMENTATIONS
from medseg.augmentations._warp import Affine, Flip, Grid, Warp
from medseg.augmentations.augment import PROB, Augment, Geometric, interval, whole
from medseg.errors import MedsegError

GEOMETRIC = ("rotation", "vertical_flip", "horizontal_flip", "grid_distortion")


@AUGMENTATIONS.register("geometric", members=GEOMETRIC)
def geometric(prob: float = PROB) -> list[Augment]:
    """Rotation, vertical flip, horizontal flip and grid distortion, each with its own chance.

    Args:
        prob: chance of each.
    """
    builders = (rotation, vertical_flip, horizontal_flip, grid_distortion)
    return [augment for build in builders for augment in build(prob=prob)]


@AUGMENTATIONS.register("rotation")
def rotation(prob: float = PROB, angle: Sequence[float] = (-90, 90)) -> list[Augment]:
    """Turn about the middle; corners that come from outside are 0.

    Args:
        prob: chance of being applied.
        angle: range in degrees, anticlockwise.
    """
    return [Rotation(prob, interval("rotation", "angle", angle, -360, 360))]


@dataclass(frozen=True)
class Rotation(Geometric):
    """A turn about the middle."""

    name = "rotation"
    angle: tuple[float, float]

    def draw(self, rng: np.random.Generator, image: np.ndarray) -> dict[str, Any]:
        return {"angle": rng.uniform(*self.angle)}

    def warp(self, drawn: dict[str, Any], size: tuple[int, int]) -> Warp:
        from medseg.augmentations._albumentations import affine_matrix

        return Affine(affine_matrix(size, rotate=drawn["angle"]))


@AUGMENTATIONS.register("vertical_flip")
def vertical_flip(prob: float = PROB) -> list[Augment]:
    """Turn upside down: the first row becomes the last.

    Args:
        prob: chance of being applied.
    """
    return [VerticalFlip(prob)]


@dataclass(frozen=True)
class VerticalFlip(Geometric):
    """Rows in reverse order."""

    name = "vertical_flip"

    def warp(self, drawn: dict[str, Any], size: tuple[int, int]) -> Warp:
        return Flip.along(0, size)


@AUGMENTATIONS.register("horizontal_flip")
def horizontal_flip(prob: float = PROB) -> list[Augment]:
    """Swap left and right: the first column becomes the last.

    Args:
        prob: chance of being applied.
    """
    return [HorizontalFlip(prob)]


@dataclass(frozen=True)
class HorizontalFlip(Geometric):
    """Columns in reverse order."""

    name = "horizontal_flip"

    def warp(self, drawn: dict[str, Any], size: tuple[int, int]) -> Warp:
        return Flip.along(1, size)


@AUGMENTATIONS.register("flip")
def flip(prob: float = PROB) -> list[Augment]:
    """Swap left and right or turn upside down, one of the two, each as likely.

    Args:
        prob: chance of being applied.
    """
    return [RandomFlip(prob)]


@dataclass(frozen=True)
class RandomFlip(Geometric):
    """Rows or columns in reverse order."""

    name = "flip"

    def draw(self, rng: np.random.Generator, image: np.ndarray) -> dict[str, Any]:
        return {"axis": int(rng.integers(2))}

    def warp(self, drawn: dict[str, Any], size: tuple[int, int]) -> Warp:
        return Flip.along(drawn["axis"], size)


@AUGMENTATIONS.register("grid_distortion")
def grid_distortion(
    prob: float = PROB, distortion: Sequence[float] = (-0.3, 0.3), cells: int = 5
) -> list[Augment]:
    """Stretch and squeeze the columns and rows of a grid, within the frame.

    Args:
        prob: chance of being applied.
        distortion: range of the change of a cell's width or height, as a share of it, within -0.9 to 0.9.
        cells: number of cells along each side.
    """
    limits = interval("grid_distortion", "distortion", distortion, -0.9, 0.9)
    return [GridDistortion(prob, limits, whole("grid_distortion", "cells", cells))]


@dataclass(frozen=True)
class GridDistortion(Geometric):
    """A grid with cells of other widths and heights."""

    name = "grid_distortion"
    distortion: tuple[float, float]
    cells: int

    def draw(self, rng: np.random.Generator, image: np.ndarray) -> dict[str, Any]:
        if self.cells > min(image.shape[1:]):
            size = f"{image.shape[1]}x{image.shape[2]}"
            raise MedsegError(
                f"augmentation 'grid_distortion': {self.cells} cells do not fit an image of {size} pixels;"
                f" at most {min(image.shape[1:])} do"
            )
        x, y = 1 + rng.uniform(*self.distortion, (2, self.cells + 1))
        return {"x": x, "y": y}

    def warp(self, drawn: dict[str, Any], size: tuple[int, int]) -> Warp:
        return Grid(_sources(size[1], drawn["x"]), _sources(size[0], drawn["y"]))


def _sources(length: int, shares: np.ndarray) -> np.ndarray:
    """Where each column or row of a distorted grid comes from, as albumentations' ``GridDistortion`` has it.

    Args:
        length: width or height, in pixels.
        shares: length of each cell as a share of the regular one, and of what is left behind the last, ``(n + 1,)``.

    Shape:
        ``(length,)`` ``float32``, from 0 to ``length``.
    """
    cells = len(shares) - 1
    step, left = divmod(length, cells)
    shares = np.append(shares[:-1], shares[-1] * (left / step))
    ends = np.cumsum(step * (shares * (length / step / shares.sum())))
    starts = np.append(0.0, ends[:-1])
    whole = _spread(starts[:-1], ends[:-1], step).ravel()
    return np.append(whole, _spread(starts[-1:], ends[-1:], left)).astype(np.float32)


def _spread(starts: np.ndarray, ends: np.ndarray, count: int) -> np.ndarray:
    """Evenly spaced values from each start to its end, both included, ``(cells, count)``."""
    values = np.arange(count) * ((ends - starts) / max(count - 1, 1))[:, None] + starts[:, None]
    if count > 1:
        values[:, -1] = ends
    return values
