"""The figures of an export's check, by hand and by PyTorch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from medseg.errors import MedsegError
from medseg.export.check import Check, Difference, Mismatch, compare, probabilities, undecided
from medseg.predict.predictor import label_map


def test_difference_by_hand() -> None:
    # logits 0 and ln 3 are probabilities 0.5 and 0.75
    expected = np.array([0, np.log(3), -50, -50], np.float32).reshape(1, 1, 2, 2)
    given = np.array([np.log(3), np.log(3), -50, 50], np.float32).reshape(1, 1, 2, 2)
    difference = compare(expected, given)
    assert difference.probabilities == pytest.approx(1)
    assert difference.logits == pytest.approx(100)
    assert difference.pixels == 0.25  # of 0.5 and 0.75 both are lesion
    assert compare(expected[:, :, :1], given[:, :, :1]).probabilities == pytest.approx(0.25)


def test_answers_that_tell_networks_apart() -> None:
    """Two networks whose logits are thousands apart agree where both are sure."""
    sure, other = np.full((1, 1, 2, 2), 1e3, np.float32), np.full((1, 1, 2, 2), 9e3, np.float32)
    assert compare(sure, other).probabilities == 0 and not undecided(sure)
    sure[0, 0, 1, 1] = 3
    assert undecided(sure) and undecided(-sure)


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_probabilities_are_pytorchs(channels: int) -> None:
    logits = torch.randn(2, channels, 3, 3, dtype=torch.float64) * 20
    own = probabilities(logits.numpy())
    expected = logits.sigmoid() if channels == 1 else logits.softmax(1)[:, 1:]
    np.testing.assert_allclose(own, expected.numpy(), atol=1e-12)


def test_masks_name_the_likeliest_sure_label() -> None:
    planes = np.array([[0.5, 0.2, 0.1, 0.4], [0.4, 0.7, 0.1, 0.45]]).reshape(1, 2, 1, 4)
    assert label_map(planes, 0.5).tolist() == [[[1, 2, 0, 0]]]
    assert label_map(planes, 0.45).tolist() == [[[1, 2, 0, 2]]]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_never_agree(value: float) -> None:
    logits = np.full((1, 1, 1, 1), value, np.float32)
    with pytest.raises(Mismatch, match="PyTorch's network answers values that are not finite"):
        compare(logits, logits)
    with pytest.raises(Mismatch, match="the written network answers values that are not finite"):
        compare(np.zeros_like(logits), logits)


def test_another_shape_never_agrees() -> None:
    with pytest.raises(Mismatch, match=r"answers \(1, 2, 4, 4\), PyTorch \(1, 1, 4, 4\)"):
        compare(np.zeros((1, 1, 4, 4)), np.zeros((1, 2, 4, 4)))


def test_check_passes_up_to_its_tolerance() -> None:
    check = Check("onnx", Path("a.onnx"), 3, "real images", Difference(1e-4, 0.0, 2.0), 1e-4)
    assert check.passed and check.demand() is check
    assert not replace(check, tolerance=0.9e-4).passed
    assert not replace(check, inputs=0).passed
    with pytest.raises(
        MedsegError, match=r"a.onnx differs from PyTorch by 0.0001 .* 3 image\(s\) \(real images\)"
    ):
        replace(check, tolerance=1e-5).demand()
