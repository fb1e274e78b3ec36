"""Measures of a prediction, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from medseg.predict.measures import MEASURES, count_lesions, disagreement, entropy, measure
from medseg.predict.prediction import Prediction

NONE = np.empty((0, 3, 4), np.uint8)
MASK = np.array([[1, 0, 0, 2], [0, 1, 0, 2], [0, 0, 0, 0]], np.uint8)


def prediction(mask: np.ndarray = MASK, members: np.ndarray = NONE) -> Prediction:
    probabilities = np.full((2, 3, 4), 0.125, np.float32)
    probabilities[0][mask == 1], probabilities[1][mask == 2] = 0.75, 0.5
    return Prediction(probabilities, mask, members)


def test_each_label_is_measured_by_itself():
    first, second = (measure(prediction(), label, (2.0, 3.0)) for label in (1, 2))
    assert tuple(first) == MEASURES
    assert first == {
        "area_px": 2,
        "area_mm2": 12.0,
        "lesions": 1,
        "mean_probability": 0.75,
        "uncertainty": pytest.approx(-0.75 * math.log2(0.75) - 0.25 * math.log2(0.25)),
        "disagreement": None,
    }
    assert (second["mean_probability"], second["uncertainty"]) == (0.5, 1.0)


def test_an_unknown_spacing_leaves_the_area_in_mm2_open():
    assert measure(prediction(), 1)["area_mm2"] is None


def test_an_empty_mask_has_the_uncertainty_of_its_most_probable_pixel():
    found = measure(prediction(np.zeros_like(MASK)), 1)
    assert (found["area_px"], found["lesions"], found["mean_probability"]) == (0, 0, None)
    assert found["uncertainty"] == pytest.approx(-0.125 * math.log2(0.125) - 0.875 * math.log2(0.875))


def test_pixels_that_touch_at_a_corner_are_one_lesion():
    assert count_lesions(np.array([[1, 0, 0], [0, 1, 0], [0, 0, 0]], bool)) == 1
    assert count_lesions(np.array([[1, 0, 1], [0, 0, 0], [1, 0, 0]], bool)) == 3


def test_sure_pixels_have_no_entropy():
    sure = np.array([[0.0, 1.0]], np.float32)
    assert entropy(sure, sure > 0.5) == 0
    assert entropy(sure * 0, sure < 0) == 0


def test_disagreement_is_one_less_the_mean_dice_of_pairs():
    members = np.array([[[1, 1, 0, 0]], [[1, 1, 0, 0]], [[0, 1, 1, 1]]], bool)
    # pairs: 1, 2 / 5, 2 / 5
    assert disagreement(members) == pytest.approx(1 - (1 + 0.4 + 0.4) / 3)
    assert disagreement(np.zeros((2, 1, 4), bool)) == 0
    assert disagreement(np.array([[[1, 0]], [[0, 0]]], bool)) == 1


def test_members_are_compared_label_by_label():
    swapped = np.where(MASK == 2, 0, MASK).astype(np.uint8)
    found = prediction(members=np.stack([MASK, swapped]))
    assert [measure(found, label)["disagreement"] for label in (1, 2)] == [0, 1]
