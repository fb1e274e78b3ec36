"""Fancy PCA: the colours of an image, changed along their own principal components."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np


@dataclass(frozen=True)
class Basis:
    """The colours of one image, as a share of full scale.

    Args:
        mean: of each channel, ``(C,)``.
        spread: variances along the principal components, largest first, ``(C,)``; of one channel, its standard
            deviation.
        components: ``(C, C)``, one in each column.
    """

    mean: np.ndarray
    spread: np.ndarray
    components: np.ndarray


def basis(image: np.ndarray, white: float) -> Basis:
    """The principal components of an image ``(C, H, W)`` whose full scale is ``white``.

    Of integers the sums are exact, so the components do not depend on the order of adding.
    """
    colours = image.reshape(len(image), -1).astype(np.float64)
    count = colours.shape[1]
    sums = colours.sum(axis=1)
    squares = np.empty((len(image), len(image)))
    for i, j in combinations_with_replacement(
        range(len(image)), 2
    ):  # quicker than one product of so few rows
        squares[i, j] = squares[j, i] = colours[i] @ colours[j]
    scatter = (squares - np.outer(sums, sums) / count) / white**2
    if len(image) == 1:
        return Basis(sums / count / white, np.sqrt(scatter[0].clip(0) / count), np.ones((1, 1)))
    spread, components = np.linalg.eigh(scatter / (count - 1))
    return Basis(sums / count / white, spread[::-1], components[:, ::-1])


def shifted(image: np.ndarray, colours: Basis, alpha: np.ndarray, white: float) -> np.ndarray:
    """The image with each pixel's distance from the mean colour added, weighted by ``alpha`` and the components.

    Args:
        image: ``(C, H, W)``.
        colours: of the image.
        alpha: weight of each component, ``(C,)``.
        white: full scale of the type.
    """
    import cv2

    added = colours.components * (alpha * colours.spread)
    matrix = (np.eye(len(image)) + added).astype(np.float32)
    offset = (-white * (added @ colours.mean)).astype(np.float32)
    result = matrix @ image.reshape(len(image), -1).astype(np.float32)
    result += offset[:, None]
    if image.dtype == np.float32:
        return result.clip(0, 1, out=result).reshape(image.shape)
    kind = cv2.CV_8U if image.dtype == np.uint8 else cv2.CV_16U
    return cv2.addWeighted(result, 1, result, 0, 0, dtype=kind).reshape(image.shape)
