"""Regions, the share of energy, and the picture with its heat."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medseg.data.faults import FileFault
from medseg.errors import MedsegError
from medseg.explain.heat import OPACITY, OUTLINE, edge, energy_inside, heat_overlay
from medseg.explain.regions import NoRegion, Region, lesion

#: two labels; label 1 has parts of 2 (at a corner), 1 and 3 pixels
PREDICTED = np.array(
    [
        [1, 0, 0, 0, 2],
        [0, 1, 0, 0, 2],
        [0, 0, 0, 0, 0],
        [1, 0, 1, 1, 1],
    ],
    np.uint8,
)


def test_predicted_region_is_the_label() -> None:
    assert (Region().of(PREDICTED, 1) == (PREDICTED == 1)).all()
    assert Region().of(PREDICTED, 2).sum() == 2


def test_whole_region_is_every_pixel_even_where_nothing_is_predicted() -> None:
    assert Region("whole").of(np.zeros((3, 4), np.uint8), 1).sum() == 12


@pytest.mark.parametrize(("number", "pixels"), [(1, [15 + 2, 15 + 3, 15 + 4]), (2, [0, 6]), (3, [15])])
def test_lesions_are_counted_from_the_largest_and_touch_at_corners(number: int, pixels: list[int]) -> None:
    region = Region.parse(f"lesion:{number}").of(PREDICTED, 1)
    assert np.flatnonzero(region).tolist() == pixels


def test_of_equal_lesions_the_upper_is_first() -> None:
    mask = np.array([[0, 0, 1], [0, 0, 0], [1, 0, 0]], bool)
    assert np.flatnonzero(lesion(mask, 1)).tolist() == [2]
    assert np.flatnonzero(lesion(mask, 2)).tolist() == [6]


@pytest.mark.parametrize(
    ("region", "label", "words"),
    [
        ("predicted", 3, "no lesion is predicted; --region whole"),
        ("lesion:4", 1, "there is no lesion 4: 3 predicted"),
        ("lesion:1", 3, "no lesion is predicted"),
    ],
)
def test_region_without_a_pixel_is_told(region: str, label: int, words: str) -> None:
    with pytest.raises(NoRegion, match=words):
        Region.parse(region).of(PREDICTED, label)


@pytest.mark.parametrize(
    "text", ["", "Predicted", "lesion", "lesion:0", "lesion:x", "mask", "mask:", "predicted:1"]
)
def test_text_that_is_no_region_is_refused(text: str) -> None:
    with pytest.raises(MedsegError, match="give predicted, whole, lesion:2 or mask:FILE"):
        Region.parse(text)


def test_missing_mask_is_refused_at_once() -> None:
    with pytest.raises(MedsegError, match="no such file or folder nowhere.png"):
        Region.parse("mask:nowhere.png")


def saved(values: np.ndarray, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(np.uint8)).save(path)
    return path


def test_mask_of_a_file_and_of_a_folder_by_name(tmp_path: Path) -> None:
    mask = np.zeros((4, 5))
    mask[1, 2] = 255
    path = saved(mask, tmp_path / "masks" / "a" / "case.png")
    for region in (Region.parse(f"mask:{path}"), Region.parse(f"mask:{tmp_path / 'masks'}")):
        assert np.flatnonzero(region.of(PREDICTED, 1, "a/case")).tolist() == [7]
    assert str(Region.parse(f"mask:{path}")) == "mask:case.png"
    assert [str(Region.parse(text)) for text in ("whole", "lesion:2")] == ["whole", "lesion:2"]


def test_mask_of_several_labels_holds_their_numbers(tmp_path: Path) -> None:
    path = saved(PREDICTED, tmp_path / "labels.png")
    assert (Region.parse(f"mask:{path}").of(PREDICTED, 2, labels=2) == (PREDICTED == 2)).all()


def test_mask_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    path = saved(np.full((4, 6), 255), tmp_path / "wide.png")
    with pytest.raises(MedsegError, match=r"the mask is 4 x 6, its image 4 x 5"):
        Region.parse(f"mask:{path}").of(PREDICTED, 1)
    path = saved(np.zeros((4, 5)), tmp_path / "empty.png")
    with pytest.raises(NoRegion, match="empty.png: the mask is empty"):
        Region.parse(f"mask:{path}").of(PREDICTED, 1)
    with pytest.raises(FileFault, match="other.png"):
        Region.parse(f"mask:{tmp_path}").of(PREDICTED, 1, "other")


def test_energy_inside_by_hand() -> None:
    heat = np.array([[0.5, 1.0], [0.25, 0.25]], np.float32)
    mask = np.array([[True, True], [False, False]])
    assert energy_inside(heat, mask) == 0.75
    assert energy_inside(heat, ~mask) == 0.25
    assert energy_inside(np.ones((2, 2)), mask) == 0.5  # a map without a preference has the share of the area
    assert energy_inside(np.zeros((2, 2)), mask) is None
    assert energy_inside(heat, np.zeros((2, 2), bool)) is None


def test_overlay_leaves_cold_pixels_and_colours_hot_ones() -> None:
    shown = np.full((3, 4, 3), 100, np.uint8)
    heat, mask = np.zeros((3, 4), np.float32), np.zeros((3, 4), bool)
    heat[0, 0], mask[2, 3] = 1.0, True
    drawn = heat_overlay(shown, heat, mask)
    # the hottest colour of inferno is (252, 255, 164)
    hottest = np.rint(100 * (1 - OPACITY) + OPACITY * np.array([252, 255, 164]))
    assert np.abs(drawn[0, 0] - hottest).max() <= 1
    assert tuple(drawn[2, 3]) == OUTLINE
    drawn[0, 0] = drawn[2, 3] = 100
    assert (drawn == shown).all() and drawn.dtype == np.uint8


def test_outline_is_the_rim_and_grows_with_the_image() -> None:
    mask = np.zeros((9, 9), bool)
    mask[2:7, 2:7] = True
    inner = np.zeros_like(mask)
    inner[3:6, 3:6] = True
    assert (edge(mask) == (mask & ~inner)).all()
    assert not edge(np.zeros((4, 4), bool)).any()
    full = edge(np.ones((5, 5), bool))
    assert full[0].all() and full[:, -1].all() and not full[1:-1, 1:-1].any()  # closed at the border
    large = np.zeros((1600, 1600), bool)
    large[100:300, 100:300] = True
    assert edge(large)[100:104, 150].all() and not edge(large)[104, 150]
