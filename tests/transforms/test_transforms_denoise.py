from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, median_filter

from medseg import transforms
from medseg.errors import MedsegError
from medseg.transforms.picture import Picture, Window

TYPES = [np.uint8, np.uint16, np.int16, np.int32, np.float32]


def noise(type_, shape=(2, 17, 23)) -> Picture:
    low, high = (-1024, 3071) if np.dtype(type_).kind == "i" else (0, 200)
    values = np.random.default_rng(3).integers(low, high + 1, shape).astype(type_)
    return Picture(values, low, high, inverted=True, windows=(Window(40, 400),))


@pytest.mark.parametrize("type_", TYPES)
@pytest.mark.parametrize("size", [3, 5, 7])
def test_the_median_is_exact_for_every_depth_and_size(type_, size):
    picture = noise(type_)
    done = transforms.build("median", size=size)(picture)
    expected = [median_filter(plane, size, mode="nearest") for plane in picture.values]
    np.testing.assert_array_equal(done.values, expected)
    assert done.values.dtype == type_
    assert done.meta() == picture.meta()


def test_a_median_by_hand():
    values = np.array([[[1, 2, 3], [9, 4000, 4], [8, 7, 6]]], np.uint16)
    assert transforms.build("median")(Picture(values, 0, 4095)).values[0, 1, 1] == 6
    # the corner sees 1 four times, 2 and 9 twice, 4000 once
    assert transforms.build("median")(Picture(values, 0, 4095)).values[0, 0, 0] == 2


@pytest.mark.parametrize("type_", TYPES)
@pytest.mark.parametrize("sigma", [0.6, 1, 2.5])
def test_the_gaussian_is_rounded_once(type_, sigma):
    picture = noise(type_)
    done = transforms.build("gaussian", sigma=sigma)(picture)
    planes = picture.values.astype(np.float64)
    expected = np.stack([gaussian_filter(plane, sigma, mode="nearest", truncate=4) for plane in planes])
    limit = 2e-5 if type_ == np.float32 else 0.5 + 1e-9
    assert np.abs(done.values - expected).max() <= limit
    assert done.values.dtype == type_
    assert done.meta() == picture.meta()


def test_the_kernel_by_hand():
    impulse = np.zeros((1, 1, 21), np.uint16)
    impulse[0, 0, 10] = 60000
    row = transforms.build("gaussian", sigma=1.0)(Picture.of(impulse)).values[0, 0].astype(float)
    weights = np.exp(-(np.arange(-4, 5) ** 2) / 2)
    assert row[6:15] == pytest.approx(60000 * weights / weights.sum(), abs=0.5)
    assert not row[:6].any()


@pytest.mark.parametrize("name", ["median", "gaussian"])
def test_full_scale_stays(name):
    done = transforms.build(name)(Picture.of(np.full((1, 5, 4), 65535, np.uint16)))
    assert (done.values == 65535).all()


@pytest.mark.parametrize(
    ("name", "arguments", "reason"),
    [
        ("median", {"size": 4}, "median: size must be odd; it is 4"),
        ("median", {"size": 1}, "median: size must be a whole number from 3 on; it is 1"),
        ("median", {"size": 3.0}, "median: size must be a whole number"),
        ("gaussian", {"sigma": 0}, "gaussian: sigma must be a number above 0; it is 0"),
        ("gaussian", {"sigma": "big"}, "gaussian: sigma must be a number above 0; it is 'big'"),
        ("gaussian", {"sigma": True}, "gaussian: sigma must be a number above 0; it is True"),
    ],
)
def test_wrong_arguments_are_named(name, arguments, reason):
    with pytest.raises(MedsegError, match=reason):
        transforms.build(name, arguments)
