"""The way back: a prediction at the image's own size and place."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, distance_transform_edt

from medseg import transforms
from medseg.errors import MedsegError
from medseg.transforms.geometry import Geometry

NAMES = ["resize", "resize_pad", "resize_crop"]
SIZES = [
    ((61, 97), (32, 32)),
    ((97, 60), (31, 45)),
    ((33, 20), (64, 63)),
    ((50, 50), (50, 50)),
    ((9, 200), (32, 32)),
]


def lesion(size) -> np.ndarray:
    """An ellipse off the centre, drawn at the image's size."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    off = ((rows - 0.45 * size[0]) / (0.3 * size[0])) ** 2 + (
        (columns - 0.55 * size[1]) / (0.25 * size[1])
    ) ** 2
    return (off < 1).astype(np.uint8)


def far_from_the_edge(mask: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Pixels further from the mask's edge than one pixel of the network, and seen by it."""
    row_step, column_step = (o / s for o, s in zip(geometry.size, geometry.scaled, strict=True))
    steps = [max(1.0, row_step), max(1.0, column_step)]
    inverse = [1 / step for step in steps]
    inside, outside = (distance_transform_edt(m, sampling=inverse) for m in (mask, 1 - mask))
    return np.maximum(inside, outside) > np.sqrt(2) + 1e-9


def seen(geometry: Geometry) -> np.ndarray:
    frame = np.ones((1, *geometry.frame), np.uint8)
    return geometry.restore(frame)[0].astype(bool)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("size", "frame"), SIZES)
@pytest.mark.parametrize("kind", ["mask", "soft"])
def test_there_and_back_is_right_to_the_pixel(name, size, frame, kind):
    geometry = transforms.build(name, size=frame).geometry(size)
    mask = lesion(size)
    there = geometry.mask(mask)[None]
    back = geometry.restore(there if kind == "mask" else there.astype(np.float32))
    assert back.shape == (1, *size)
    assert back.dtype == (np.uint8 if kind == "mask" else np.float32)
    checked = far_from_the_edge(mask, geometry) & seen(geometry)
    assert checked.any()
    assert ((back[0] >= 0.5) == mask)[checked].all()
    if size == frame:
        assert (back[0] == mask).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("size", "frame"), SIZES)
def test_nothing_moves(name, size, frame):
    # the centre of mass of a soft spot, in the image's pixels, is where it was
    geometry = transforms.build(name, size=frame).geometry(size)
    rows, columns = np.mgrid[: size[0], : size[1]]
    spot = lesion(size).astype(np.float32)
    back = geometry.restore(geometry.image(spot[None]))[0]
    if name == "resize_crop":
        spot = spot * seen(geometry)
    for places, own, scaled in ((rows, size[0], geometry.scaled[0]), (columns, size[1], geometry.scaled[1])):
        moved = (back * places).sum() / back.sum() - (spot * places).sum() / spot.sum()
        assert abs(moved) < max(0.12, 0.12 * own / scaled)


def test_the_frame_shows_the_middle_of_a_cropped_image():
    # 4 rows by 8 columns into 4 x 4: columns 2 to 5 are seen
    geometry = transforms.build("resize_crop", size=(4, 4)).geometry((4, 8))
    full = np.ones((2, 4, 4))
    for prediction in (full.astype(np.uint8), full.astype(np.float32), full.astype(bool)):
        back = geometry.restore(prediction)
        assert back.tolist() == [[[0, 0, 1, 1, 1, 1, 0, 0]] * 4] * 2


def test_soft_predictions_do_not_fade_at_the_rim_of_the_crop():
    geometry = transforms.build("resize_crop", size=(16, 16)).geometry((37, 81))
    back = geometry.restore(np.full((1, 16, 16), 0.75, np.float32))
    assert set(np.unique(back)) == {np.float32(0), np.float32(0.75)}
    assert (back[0] > 0).all(0).sum() == pytest.approx(37, abs=1)
    assert ((back[0] > 0) == seen(geometry)).all()


def test_padding_is_cut_off_and_does_not_bleed_in():
    geometry = transforms.build("resize_pad", size=(16, 16)).geometry((20, 40))
    prediction = np.ones((1, 16, 16), np.float32)
    prediction[:, 4:12] = 0.25  # the image's rows
    assert (geometry.restore(prediction) == 0.25).all()


@pytest.mark.parametrize(
    ("frame", "scaled", "top", "left"), [((6, 6), (6, 12), 0, -3), ((6, 6), (6, 3), 0, 1)]
)
def test_a_geometry_by_hand(frame, scaled, top, left):
    geometry = Geometry(scaled, scaled, frame, top, left)
    values = np.arange(scaled[0] * scaled[1], dtype=np.uint16).reshape(1, *scaled)
    shown = geometry.image(values, fill=999)
    assert geometry.restore((shown > 5).astype(np.uint8)).shape == (1, *scaled)
    for row in range(6):
        for column in range(6):
            inside = 0 <= column - left < scaled[1]
            assert shown[0, row, column] == (values[0, row, column - left] if inside else 999)


def test_what_is_no_prediction_of_the_frame_is_refused():
    geometry = transforms.build("resize", size=(8, 8)).geometry((20, 20))
    with pytest.raises(MedsegError, match=r"a prediction of 1 x 20 x 20 is none for a frame of \(8, 8\)"):
        geometry.restore(np.zeros((1, 20, 20), np.uint8))
    with pytest.raises(
        MedsegError, match="a prediction of type int64 cannot be resized; give float or uint8"
    ):
        geometry.restore(np.zeros((1, 8, 8), np.int64))


def test_many_channels_come_back_in_order():
    geometry = transforms.build("resize_pad", size=(16, 16)).geometry((30, 20))
    masks = np.stack([binary_dilation(geometry.mask(lesion((30, 20))), iterations=k + 1) for k in range(3)])
    back = geometry.restore(masks)
    assert all((back[k] == geometry.restore(masks[k : k + 1])[0]).all() for k in range(3))
    assert back.sum((1, 2)).tolist() == sorted(back.sum((1, 2)).tolist())
