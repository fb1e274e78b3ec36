"""What a bundle says of one image."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, eq=False)
class Prediction:
    """One picture's prediction, at the picture's own height and width.

    Args:
        probabilities: ``(K, H, W)`` float32, 0 to 1, one plane per label, in the order of the bundle's labels.
        mask: ``(H, W)`` uint8: 0 background, ``k`` the label number ``k`` from 1.
        members: ``(M, H, W)`` uint8, the mask of each member (network and flip) alone; empty where there is one.
    """

    probabilities: np.ndarray = field(repr=False)
    mask: np.ndarray = field(repr=False)
    members: np.ndarray = field(repr=False)


@dataclass(frozen=True, eq=False)
class ClassPrediction:
    """The classes of one picture.

    Args:
        probabilities: ``(K,)`` float32, 0 to 1, one per class, in the order of the bundle's classes; of a set in which
            an image has one class their sum is 1.
        members: ``(M, K)`` float32, those of each member (network and flip) alone; empty where there is one.
    """

    probabilities: np.ndarray
    members: np.ndarray = field(repr=False)
