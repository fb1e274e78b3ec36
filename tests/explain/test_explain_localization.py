"""The region and box that a map marks, and their agreement with masks, in numbers counted by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medseg.errors import MedsegError
from medseg.explain.localization import (
    MEASURES,
    Box,
    box_around,
    boxes,
    check_share,
    compared,
    marked,
    points_inside,
    summary,
)
from medseg.explain.masks import Masks
from medseg.predict.inputs import find_items


def grid(*rows: str) -> np.ndarray:
    """A map from digits, ``.`` for 0; its largest value is 9."""
    return np.array([[0 if cell == "." else int(cell) for cell in row] for row in rows], np.float32) / 9


HEAT = grid(
    "9...3",
    "...33",
    "..234",
    ".1...",
)


def test_marked_region_is_the_largest_part_above_the_share() -> None:
    """2 of 9 is above a fifth, 1 of 9 is not; corners connect; the maximum itself may lie outside."""
    region = marked(HEAT, 0.2)
    np.testing.assert_array_equal(region, grid("....1", "...11", "..111", ".....") > 0)
    assert box_around(region) == Box(0, 2, 3, 3)
    assert marked(HEAT, 0.1).sum() == 7 and box_around(marked(HEAT, 0.1)) == Box(0, 1, 4, 4)
    assert marked(HEAT, 0.3).sum() == 5
    assert marked(HEAT, 0.5).nonzero() == ([0], [0])


def test_part_at_the_share_itself_is_not_above_it() -> None:
    heat = np.array([[1.0, 0.25, 0.5]])
    assert marked(heat, 0.25).tolist() == [[True, False, False]]
    assert marked(heat, 0.2).tolist() == [[True, True, True]]


def test_nothing_is_marked_by_a_map_of_zeros() -> None:
    region = marked(np.zeros((3, 4), np.float32))
    assert not region.any() and region.shape == (3, 4) and box_around(region) is None
    values = compared(np.zeros((3, 4)), region, np.eye(3, 4) > 0)
    assert values["mask_share"] == 0.25 and {values[name] for name in MEASURES[1:]} == {None}


@pytest.mark.parametrize("share", [-0.1, 1.0, True, float("nan")])
def test_share_that_is_none(share: float) -> None:
    with pytest.raises(MedsegError, match="share must be at least 0 and below 1; got"):
        check_share(share)


def test_overlap_of_boxes() -> None:
    box = Box(2, 3, 4, 6)
    assert box.mask((8, 12)).sum() == 24 and box_around(box.mask((8, 12))) == box
    assert box.overlap(box) == 1
    assert box.overlap(Box(4, 6, 4, 6)) == pytest.approx(2 * 3 / (24 + 24 - 6))
    assert box.overlap(Box(3, 4, 1, 2)) == pytest.approx(2 / 24)
    assert box.overlap(Box(6, 3, 4, 6)) == box.overlap(Box(0, 0, 2, 12)) == 0


def test_comparison_by_hand() -> None:
    mask = grid("....9", "....9", "....9", "9....") > 0
    region = marked(HEAT)
    values = compared(HEAT, region, mask)
    total = 9 + 3 + 3 + 3 + 2 + 3 + 4 + 1
    assert values == {
        "mask_share": 4 / 20,
        "pointing_game": 0.0,  # the largest value is at the upper left
        "energy_in_mask": pytest.approx((3 + 3 + 4) / total),
        "box_iou": pytest.approx(3 / 9),  # with the box of the larger lesion, not the dot's
        "region_iou": pytest.approx(3 / (6 + 4 - 3)),
    }
    assert compared(HEAT, region, np.zeros((4, 5), bool)) == dict.fromkeys(MEASURES)


def test_box_is_compared_with_the_lesion_that_it_fits_best() -> None:
    mask = np.zeros((10, 10), bool)
    mask[:2, :2] = mask[4:9, 4:9] = True
    assert boxes(mask) == [Box(0, 0, 2, 2), Box(4, 4, 5, 5)]
    heat = np.zeros((10, 10))
    heat[:2, :2] = 1
    assert compared(heat, marked(heat), mask)["box_iou"] == 1


def test_pointing_game_takes_the_first_of_equal_values() -> None:
    heat = np.array([[0.0, 1.0], [1.0, 0.0]])
    assert points_inside(heat, np.array([[False, True], [False, False]]))
    assert not points_inside(heat, np.array([[False, False], [True, False]]))


def test_summary_counts_an_empty_map_as_nothing_found() -> None:
    rows = [
        dict(zip(MEASURES, (0.1, 1.0, 0.6, 0.5, 0.4), strict=True)),
        dict(zip(MEASURES, (0.3, None, None, None, None), strict=True)),
        dict.fromkeys(MEASURES),
        {"outcome": "failed"},
    ]
    assert summary(rows) == (
        "2 images with a mask, which covers 0.200 of them: pointing game 0.500, energy in mask 0.300, "
        "box IoU 0.250 (0.500 reach 0.5), region IoU 0.200"
    )
    assert summary(rows[2:]) == ""


# masks beside images


def save(path: Path, *points: tuple[int, int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((6, 8), np.uint8)
    for point in points:
        pixels[point] = 255
    Image.fromarray(pixels).save(path)


def test_masks_in_the_images_own_folder_are_united_and_are_no_inputs(tmp_path: Path) -> None:
    save(tmp_path / "benign (1).png")
    save(tmp_path / "benign (1)_mask.png", (0, 0))
    save(tmp_path / "benign (1)_mask_1.png", (5, 7))
    save(tmp_path / "benign (10).png")
    save(tmp_path / "benign (10)_mask.png", (2, 2))
    save(tmp_path / "normal (1).png")
    items, _ = find_items([tmp_path])
    masks = Masks("{stem}_mask*", items)
    images = masks.images(items)
    assert [item.files[0].name for item in images] == ["benign (1).png", "benign (10).png", "normal (1).png"]
    found = [masks.read(item, 0, (6, 8)) for item in images]
    assert found[2] is None
    assert [np.argwhere(mask).tolist() for mask in found[:2] if mask is not None] == [
        [[0, 0], [5, 7]],
        [[2, 2]],
    ]
    with pytest.raises(
        MedsegError, match=r"benign \(1\)_mask.png: the mask is 6 x 8, its image 6 x 9 \(height"
    ):
        masks.read(images[0], 0, (6, 9))


def test_masks_in_another_folder(tmp_path: Path) -> None:
    save(tmp_path / "a" / "images" / "x.png")
    save(tmp_path / "a" / "masks" / "x.png", (1, 1))
    save(tmp_path / "a" / "images" / "y.png")
    items, _ = find_items([tmp_path / "a" / "images"])
    for pattern in ("../masks/{stem}.png", str(tmp_path / "a" / "masks" / "{stem}.*")):
        masks = Masks(pattern, items)
        assert masks.images(items) == items
        one, other = (masks.read(item, 0, (6, 8)) for item in items)
        assert one is not None and np.argwhere(one).tolist() == [[1, 1]] and other is None


def test_pattern_that_finds_the_image_itself_is_no_mask(tmp_path: Path) -> None:
    save(tmp_path / "x.png")
    items, _ = find_items([tmp_path])
    masks = Masks("{stem}.png", items)
    assert masks.of(tmp_path / "x.png") == [] and masks.images(items) == items


def test_slices_of_a_volume_have_slices_of_its_mask(tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    values = np.zeros((8, 6, 2), np.int16)
    nibabel.Nifti1Image(values, np.eye(4)).to_filename(tmp_path / "v.nii.gz")
    values[3, 2, 1] = 1
    nibabel.Nifti1Image(values, np.eye(4)).to_filename(tmp_path / "v_mask.nii.gz")
    items, _ = find_items([tmp_path / "v.nii.gz"])
    masks = Masks("{stem}_mask.nii.gz", items)
    size = items[0].read(0, 1).values.shape[1:]
    sums = [int(mask.sum()) for mask in (masks.read(items[0], n, size) for n in (0, 1)) if mask is not None]
    assert sums == [0, 1]


@pytest.mark.parametrize("pattern", ["masks/*.png", "{stem}/{stem}.png", "[a]{stem}.png"])
def test_pattern_that_is_none(pattern: str) -> None:
    with pytest.raises(MedsegError, match="needs {stem} once, where the image's stem stands"):
        Masks(pattern, [])


def test_folder_that_is_not_there(tmp_path: Path) -> None:
    save(tmp_path / "x.png")
    with pytest.raises(MedsegError, match="mask pattern '../mask/{stem}.png': there is no folder"):
        Masks("../mask/{stem}.png", find_items([tmp_path])[0])
