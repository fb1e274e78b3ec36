from __future__ import annotations

import numpy as np
import pytest

from medseg import transforms
from medseg.errors import MedsegError
from medseg.transforms.picture import Picture, Window
from medseg.transforms.resize import resize_image, resize_mask


def test_shrinking_averages_and_does_not_skip():
    stripes = np.tile(np.array([0, 200], np.uint8), (1, 32, 32))
    assert set(np.unique(resize_image(stripes, (16, 16))[0, 1:-1, 1:-1])) == {100}


@pytest.mark.parametrize("type_", [np.uint8, np.uint16])
def test_constant_images_stay_constant_up_to_full_scale(type_):
    full = np.iinfo(type_).max
    resized = resize_image(np.full((3, 10, 14), full, type_), (7, 31))
    assert resized.shape == (3, 7, 31)
    assert resized.dtype == type_
    assert (resized == full).all()


def test_sixteen_bits_keep_their_precision():
    ramp = np.broadcast_to(np.arange(64, dtype=np.uint16) * 1000, (1, 64, 64))
    resized = resize_image(ramp, (64, 32))[0, 0].astype(int)
    # pairs of columns average to 500, 2500, 4500 ...; bilinear weights are symmetric inside
    assert np.abs(resized[1:-1] - (500 + 2000 * np.arange(1, 31))).max() <= 1


def test_height_and_width_are_not_swapped():
    image = np.zeros((1, 4, 8), np.uint8)
    image[:, :2] = 255
    resized = resize_image(image, (2, 16))
    assert resized.shape == (1, 2, 16)
    assert resized[0, 0].min() > 200 > 60 > resized[0, 1].max()


def test_masks_get_no_new_values_and_keep_their_place():
    mask = np.zeros((8, 8), np.uint8)
    mask[2:6, 4:8] = 1
    small = resize_mask(mask, (4, 4))
    assert small.tolist() == [[0, 0, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 0, 0]]
    assert set(np.unique(resize_mask(mask, (13, 5)))) == {0, 1}


def test_the_same_size_is_the_same_array():
    image, mask = np.ones((3, 4, 5), np.uint8), np.ones((4, 5), np.uint8)
    assert resize_image(image, (4, 5)) is image
    assert resize_mask(mask, (4, 5)) is mask


@pytest.mark.parametrize("type_", [np.int16, np.int32, np.float32])
def test_other_types_are_stretched_too(type_):
    ramp = np.broadcast_to(np.arange(64, dtype=type_) * 60 - 1024, (1, 64, 64))
    resized = resize_image(ramp, (64, 32))
    assert resized.dtype == type_
    assert resized[0, 0, 1:-1] == pytest.approx(-994 + 120 * np.arange(1, 31), abs=1e-3)


def picture(shape=(1, 30, 50), **fields) -> Picture:
    values = np.random.default_rng(0).integers(-1024, 3072, shape).astype(np.int16)
    return Picture(values, -1024, 3071, windows=(Window(40, 400),), **fields)


@pytest.mark.parametrize("name", ["resize", "resize_pad", "resize_crop"])
def test_the_same_size_is_bit_exact(name):
    given = picture()
    done = transforms.build(name, size=(30, 50))(given)
    assert (done.values == given.values).all()
    assert done.meta() == given.meta()
    assert transforms.TRANSFORMS[name].facts["spatial"] is True


def test_stretching_ignores_proportions():
    done = transforms.build("resize", size=(16, 16))(picture())
    assert (done.values == resize_image(picture().values, (16, 16))).all()
    assert done.low == -1024


@pytest.mark.parametrize(
    ("size", "frame", "scaled", "place"),
    [
        # wide: 64 / 50 * 30 = 38.4; 26 rows of padding, 13 above
        ((30, 50), (64, 64), (38, 64), (13, 0)),
        # 31 / 51 * 30 = 18.24; 13 rows of padding, the odd one below
        ((30, 51), (31, 31), (18, 31), (6, 0)),
        # upright: 25 / 7 columns rounded half up to 4 of 25
        ((50, 7), (25, 25), (25, 4), (0, 10)),
        # a line keeps one pixel
        ((1000, 1), (10, 10), (10, 1), (0, 4)),
        ((20, 30), (10, 15), (10, 15), (0, 0)),
    ],
)
def test_padding_is_exact(size, frame, scaled, place):
    geometry = transforms.build("resize_pad", size=frame).geometry(size)
    assert (geometry.scaled, (geometry.top, geometry.left)) == (scaled, place)
    shown = geometry.image(np.full((2, *size), 9, np.uint8))
    rows, columns = (slice(start, start + length) for start, length in zip(place, scaled, strict=True))
    expected = np.zeros((2, *frame), np.uint8)
    expected[:, rows, columns] = 9
    assert (shown == expected).all()
    assert (geometry.mask(np.ones(size, np.uint8)) == expected[0] // 9).all()


@pytest.mark.parametrize(
    ("size", "frame", "scaled", "place"),
    [
        # wide: 64 / 30 * 50 = 106.67; 43 columns cut, 21 on the left
        ((30, 50), (64, 64), (64, 107), (0, -21)),
        ((51, 30), (31, 31), (53, 31), (-11, 0)),
        # the frame is wider than the image: columns fit, rows are cut
        ((30, 50), (10, 40), (24, 40), (-7, 0)),
        ((20, 30), (10, 15), (10, 15), (0, 0)),
    ],
)
def test_cropping_is_exact(size, frame, scaled, place):
    geometry = transforms.build("resize_crop", size=frame).geometry(size)
    assert (geometry.scaled, (geometry.top, geometry.left)) == (scaled, place)
    values = np.random.default_rng(0).integers(0, 255, (2, *size), np.uint8)
    rows, columns = (slice(-start, frame_ - start) for start, frame_ in zip(place, frame, strict=True))
    assert (geometry.image(values) == resize_image(values, scaled)[:, rows, columns]).all()
    assert (geometry.mask(values[0]) == resize_mask(values[0], scaled)[rows, columns]).all()


@pytest.mark.parametrize(("inverted", "black"), [(False, -1024), (True, 3071)])
def test_padding_is_black_as_shown(inverted, black):
    done = transforms.build("resize_pad", size=(64, 64))(picture(inverted=inverted))
    assert (done.values[:, :13] == black).all()
    assert not done.stored()[:, :13].any()


@pytest.mark.parametrize("size", [8, (8,), ("8", 8), (0, 8), (8, 8, 8), None])
def test_sizes_that_are_none_are_refused(size):
    with pytest.raises(MedsegError, match="resize: size must be"):
        transforms.build("resize", size=size)


def test_a_size_is_needed():
    with pytest.raises(MedsegError, match="transform 'resize_pad': missing a required argument: 'size'"):
        transforms.build("resize_pad")
