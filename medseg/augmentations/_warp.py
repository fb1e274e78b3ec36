"""Movements of pixels, several of which become one interpolation.

A result's pixel at (x, y) is looked up at a place of its source. Movements that follow each other therefore ask
in turn, the last one first, and only the first one's answer is looked up in the image. An image interpolated
once is sharper than one interpolated after every movement; and what one movement pushes over the edge and a
later one brings back is kept.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np

from medseg.augmentations._planes import by_colour, by_pixel, by_plane

#: x and y of the places, ``float32``; arrays that broadcast to ``(H, W)``, kept as a row and a column if possible
Places = tuple[np.ndarray, np.ndarray]


class Warp(ABC):
    """One movement."""

    @abstractmethod
    def source(self, places: Places) -> Places:
        """Where in the source the places of the result lie."""


@dataclass(frozen=True)
class Affine(Warp):
    """Straight lines stay straight.

    Args:
        matrix: ``(3, 3)`` from places of the source to places of the result.
    """

    matrix: np.ndarray

    def source(self, places: Places) -> Places:
        x, y = places
        (a, b, c), (d, e, f), _ = np.linalg.inv(self.matrix).tolist()
        row = a * x + c if b == 0 else (a * x + c) + b * y
        column = e * y + f if d == 0 else (e * y + f) + d * x
        return row, column


@dataclass(frozen=True)
class Flip(Affine):
    """A mirror image, exact to the pixel.

    Args:
        matrix: as of ``Affine``.
        axis: of ``(H, W)``: 0 turns it upside down, 1 swaps left and right.
    """

    axis: int

    @classmethod
    def along(cls, axis: int, size: tuple[int, int]) -> Flip:
        """The mirror image of an image of that height and width."""
        matrix = np.eye(3)
        matrix[1 - axis, 1 - axis], matrix[1 - axis, 2] = -1, size[axis] - 1
        return cls(matrix, axis)


@dataclass(frozen=True)
class Grid(Warp):
    """Columns and rows move as wholes.

    Args:
        x: ``(W,)``, where each column comes from, in pixels.
        y: ``(H,)``, where each row comes from.
    """

    x: np.ndarray
    y: np.ndarray

    def source(self, places: Places) -> Places:
        x, y = (_looked_up(at, table) for at, table in zip(places, (self.x, self.y), strict=True))
        return x, y


@dataclass(frozen=True)
class Field(Warp):
    """Every pixel moves by itself.

    Args:
        displacement: along x and y, ``(2, H, W)`` ``float32``, in pixels.
    """

    displacement: np.ndarray

    def source(self, places: Places) -> Places:
        import cv2

        x, y = places
        if _is_regular(places, self.displacement.shape[1:]):
            return x + self.displacement[0], y + self.displacement[1]
        at = _full(places, self.displacement.shape[1:])
        shift = [cv2.remap(plane, *at, cv2.INTER_LINEAR) for plane in self.displacement]
        return x + shift[0], y + shift[1]


def warp(warps: Sequence[Warp], image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Apply movements in turn, in one step: the image bilinear, the mask by its nearest pixel, 0 outside.

    Args:
        warps: at least one.
        image: ``(C, H, W)``, ``uint8``, ``uint16`` or ``float32``.
        mask: ``(K, H, W)`` ``uint8``.
    """
    import cv2

    size = image.shape[1:]
    if all(isinstance(step, Flip) for step in warps):
        axes = [step.axis for step in warps if isinstance(step, Flip)]
        return _flipped(image, axes), _flipped(mask, axes)
    affine = [step.matrix for step in warps if isinstance(step, Affine)]
    if len(affine) == len(warps):
        matrix = reduce(lambda one, other: other @ one, affine)[:2]
        smooth = by_colour(lambda pixels: cv2.warpAffine(pixels, matrix, size[::-1]), image)
        nearest = cv2.INTER_NEAREST
        return smooth, by_plane(lambda p, out: cv2.warpAffine(p, matrix, size[::-1], out, nearest), mask)

    x, y = _full(_sources(warps, size), size)
    # places to 1/32 of a pixel are quicker; a single movement is left as albumentations computes it
    at = cv2.convertMaps(x, y, cv2.CV_16SC2) if len(warps) > 1 else (x, y)
    smooth = by_colour(lambda pixels: cv2.remap(pixels, at[0], at[1], cv2.INTER_LINEAR), image)
    return smooth, by_plane(lambda p, out: cv2.remap(p, x, y, cv2.INTER_NEAREST, out), mask)


def _sources(warps: Sequence[Warp], size: tuple[int, ...]) -> Places:
    height, width = size
    places = np.arange(width, dtype=np.float32)[None], np.arange(height, dtype=np.float32)[:, None]
    return reduce(lambda asked, step: step.source(asked), reversed(warps), places)


def _full(places: Places, size: tuple[int, ...]) -> Places:
    """Places as two whole arrays ``(H, W)``."""
    x, y = (np.ascontiguousarray(np.broadcast_to(at, size)) for at in places)
    return x, y


def _is_regular(places: Places, size: tuple[int, ...]) -> bool:
    """Whether the places are the pixels themselves."""
    x, y = places
    return (
        x.shape[0] == y.shape[1] == 1
        and np.array_equal(x[0], np.arange(size[1]))
        and np.array_equal(y[:, 0], np.arange(size[0]))
    )


def _looked_up(at: np.ndarray, table: np.ndarray) -> np.ndarray:
    """The table's value at places between its entries; as far outside as the place is, where it lies outside."""
    last = len(table) - 1
    inside = np.interp(at, np.arange(last + 1), table)
    return (inside + np.minimum(at, 0) + np.maximum(at - last, 0)).astype(np.float32)


def _flipped(planes: np.ndarray, axes: Sequence[int]) -> np.ndarray:
    """Planes ``(C, H, W)``, mirrored along axes of ``(H, W)``."""
    import cv2

    if axes.count(1) % 2 and planes.size:
        planes = by_pixel(lambda rows: cv2.flip(rows, 1), planes)
    if axes.count(0) % 2:
        planes = np.ascontiguousarray(planes[:, ::-1])
    return planes
