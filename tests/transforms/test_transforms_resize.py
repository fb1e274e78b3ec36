from __future__ import annotations

import numpy as np
import pytest

from medseg import transforms
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


def test_it_is_registered():
    built = transforms.build("resize", size=(2, 3))
    assert built(np.zeros((1, 4, 4), np.uint8)).shape == (1, 2, 3)
    assert transforms.TRANSFORMS["resize"].facts == {"keeps_size": False}
