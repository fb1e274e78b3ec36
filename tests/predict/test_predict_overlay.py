"""Pictures for the eye, with masks drawn in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageColor

from medseg.errors import MedsegError
from medseg.predict.overlay import COLOURS, displayed, overlay, write_picture
from medseg.predict.sheet import Sheet
from medseg.transforms.picture import Picture, Window

FIRST, SECOND = (np.array(ImageColor.getrgb(colour)) for colour in COLOURS[:2])


def test_bytes_are_shown_as_they_are():
    grey = np.arange(12, dtype=np.uint8).reshape(1, 3, 4)
    assert (displayed(Picture.of(grey)) == grey[0][..., None]).all()
    colour = np.random.default_rng(0).integers(0, 256, (3, 4, 5)).astype(np.uint8)
    assert (displayed(Picture.of(colour)) == colour.transpose(1, 2, 0)).all()


def test_dicom_is_shown_through_its_window():
    values = np.array([[[-200, 0, 40, 80, 300]]], np.int16)
    picture = Picture(values, -1024, 3071, windows=(Window(40, 80),))
    # PS3.3 C.11.2.1.2: ((x - 39.5) / 79 + 0.5) * 255
    expected = np.clip(np.rint(((values[0] - 39.5) / 79 + 0.5) * 255), 0, 255)
    assert (displayed(picture)[..., 0] == expected).all()
    inverted = Picture(values, -1024, 3071, inverted=True, windows=(Window(40, 80),))
    assert np.abs(displayed(inverted)[..., 0] - (255 - expected)).max() <= 1


def test_deep_pixels_without_a_window_are_stretched():
    values = np.linspace(1000, 1100, 101).astype(np.uint16).reshape(1, 1, -1)
    shown = displayed(Picture.of(values))
    assert shown.shape == (1, 101, 3)
    assert (shown.min(), shown.max()) == (0, 255)
    assert shown[0, 50, 0] == pytest.approx(127.5, abs=1)


def test_a_label_is_outlined_and_lightly_filled():
    shown = np.full((7, 9, 3), 100, np.uint8)
    mask = np.zeros((7, 9), np.uint8)
    mask[1:6, 1:6] = 1
    drawn = overlay(shown, mask)
    edge = np.zeros((7, 9), bool)
    edge[1:6, 1:6] = True
    edge[2:5, 2:5] = False
    assert (drawn[edge] == FIRST).all()
    assert (drawn[2:5, 2:5] == np.rint(75 + FIRST / 4)).all()
    assert (drawn[mask == 0] == 100).all()
    assert (shown == 100).all()


def test_labels_have_colours_of_their_own_and_borders_are_closed():
    mask = np.zeros((4, 8), np.uint8)
    mask[:, :3], mask[:, 5:] = 1, 2
    drawn = overlay(np.zeros((4, 8, 3), np.uint8), mask)
    assert (drawn[0, 0] == FIRST).all()
    assert (drawn[3, 7] == SECOND).all()
    assert not (drawn[1, 1] == FIRST).all()


def test_an_outline_grows_with_the_picture():
    mask = np.zeros((40, 1600), np.uint8)
    mask[5:35, 5:1595] = 1
    drawn = overlay(np.zeros((40, 1600, 3), np.uint8), mask)
    assert [(drawn[row, 800] == FIRST).all() for row in (5, 8, 9)] == [True, True, False]


def test_a_mask_of_another_size_is_refused():
    with pytest.raises(MedsegError, match=r"a mask of \(3, 3\) is none for a picture of \(4, 3\)"):
        overlay(np.zeros((4, 3, 3), np.uint8), np.zeros((3, 3), np.uint8))


@pytest.mark.parametrize(("shape", "kind"), [((5, 4), np.uint8), ((5, 4), np.uint16), ((5, 4, 3), np.uint8)])
def test_pictures_are_written_exactly(tmp_path: Path, shape, kind):
    pixels = np.random.default_rng(0).integers(0, np.iinfo(kind).max, shape).astype(kind)
    write_picture(pixels, tmp_path / "sub" / "a.png")
    assert (np.asarray(Image.open(tmp_path / "sub" / "a.png")) == pixels).all()
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["a.png"]


def sheet_of(areas: list[int], side: int = 8) -> np.ndarray:
    sheet = Sheet(len(areas))
    for frame, area in enumerate(areas):
        mask = np.zeros((side, side), np.uint8)
        mask.ravel()[:area] = 1
        sheet.add(frame, Picture.of(np.full((1, side, side), frame, np.uint8)), mask)
    return sheet.drawn()


def test_a_sheet_shows_the_slices_with_the_largest_lesions_in_their_order():
    drawn = sheet_of([0, 5, 6, 7, 0, 8, 9, 10, 1, 11, 12])
    assert drawn.shape == (24, 24, 3)
    # the last pixel of each tile is no lesion, and tells the slice
    assert [int(drawn[r, c, 0]) for r in (7, 15, 23) for c in (7, 15, 23)] == [1, 2, 3, 5, 6, 7, 8, 9, 10]


def test_a_sheet_without_lesions_shows_the_middle():
    drawn = sheet_of([0] * 21)
    assert [int(drawn[r, c, 0]) for r in (7, 15, 23) for c in (7, 15, 23)] == list(range(6, 15))


def test_a_single_image_keeps_its_size_up_to_a_limit():
    assert sheet_of([3], side=50).shape == (50, 50, 3)
    assert sheet_of([3], side=3000).shape == (2048, 2048, 3)
    assert sheet_of([0, 0], side=640).shape == (320, 640, 3)
