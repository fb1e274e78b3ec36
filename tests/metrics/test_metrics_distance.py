"""Hausdorff distance and surface Dice: squares whose outlines are known, the convention, and brute force."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_erosion
from scipy.spatial.distance import cdist
from torch import Tensor

from medseg.errors import MedsegError
from medseg.metrics.distance import hd95, nsd


def square(top: int, left: int, side: int, height: int = 40, width: int = 30) -> Tensor:
    mask = torch.zeros(1, 1, height, width, dtype=torch.bool)
    mask[..., top : top + side, left : left + side] = True
    return mask


NOTHING = square(0, 0, 0)
FULL = torch.ones(1, 1, 40, 30, dtype=torch.bool)


@pytest.mark.parametrize(
    ("prediction", "target", "distance", "agreement"),
    [
        (square(5, 5, 8), square(5, 5, 8), 0, 1),
        (NOTHING, NOTHING, 0, 1),
        (FULL, FULL, 0, 1),
        (NOTHING, square(5, 5, 8), 50, 0),
        (square(5, 5, 8), NOTHING, 50, 0),
        (FULL, NOTHING, 50, 0),
        # single pixels 3 down and 4 to the right
        (square(5, 5, 1), square(8, 9, 1), 5, 0),
        (square(5, 5, 1), square(5, 7, 1), 2, 1),
    ],
)
def test_by_hand(prediction: Tensor, target: Tensor, distance: float, agreement: float) -> None:
    for first, second in ((prediction, target), (target, prediction)):
        value = hd95(first, second)
        assert value.dtype == torch.float64 and value.shape == (1, 1)
        assert value.item() == distance
        assert nsd(first, second).item() == agreement


def test_the_diagonal_is_in_float64() -> None:
    mask = torch.zeros(1, 1, 64, 300, dtype=torch.bool)
    other = mask.clone()
    other[..., 0, 0] = True
    assert hd95(mask, other).item() == math.hypot(64, 300)


@pytest.mark.parametrize(("tolerance", "expected"), [(0.0, 0.0), (1.0, 0.0), (2.0, 1.0), (3.0, 1.0)])
def test_tolerance(tolerance: float, expected: float) -> None:
    assert nsd(square(5, 5, 1), square(5, 7, 1), tolerance=tolerance).item() == expected


def test_partial_agreement_by_hand() -> None:
    # two pixels each; one pair meets, the other two lie 5 apart
    prediction, target = NOTHING.clone(), NOTHING.clone()
    prediction[..., 10, 10] = target[..., 10, 10] = True
    prediction[..., 20, 10] = target[..., 20, 15] = True
    assert nsd(prediction, target).item() == 0.5
    # distances 0 and 5 in both directions: the 95th percentile of (0, 5) by linear interpolation
    assert hd95(prediction, target).item() == pytest.approx(4.75)


def outline(mask: np.ndarray) -> np.ndarray:
    return np.argwhere(mask & ~binary_erosion(mask))


def test_against_brute_force() -> None:
    torch.manual_seed(0)
    smooth = torch.nn.functional.avg_pool2d(torch.randn(12, 1, 30, 34), 7, stride=1)
    prediction, target = smooth[:6] > 0, smooth[6:] > 0.02
    distances, agreements = hd95(prediction, target), nsd(prediction, target)
    for case in range(6):
        between = cdist(outline(prediction[case, 0].numpy()), outline(target[case, 0].numpy()))
        there, back = between.min(1), between.min(0)
        expected = max(np.percentile(there, 95), np.percentile(back, 95))
        assert distances[case].item() == pytest.approx(expected, rel=1e-5)
        near = (there <= 2).sum() + (back <= 2).sum()
        assert agreements[case].item() == pytest.approx(near / (len(there) + len(back)), rel=1e-5)


def test_each_case_and_channel_has_its_own_value_without_a_warning() -> None:
    prediction = torch.cat((square(5, 5, 1), NOTHING, square(5, 5, 1), NOTHING)).view(2, 2, 40, 30)
    target = torch.cat((square(8, 9, 1), NOTHING, NOTHING, square(5, 5, 1))).view(2, 2, 40, 30)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert hd95(prediction.numpy(), target.numpy()).tolist() == [[5, 0], [50, 50]]
        assert nsd(prediction.numpy(), target.numpy()).tolist() == [[0, 1], [0, 0]]


def test_mistakes() -> None:
    with pytest.raises(MedsegError, match="tolerance must not be negative; got -1"):
        nsd(NOTHING, NOTHING, tolerance=-1)
    with pytest.raises(MedsegError, match="same shape"):
        hd95(NOTHING, NOTHING[0])
