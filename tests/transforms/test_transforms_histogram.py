from __future__ import annotations

import cv2
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage.color import rgb2lab
from skimage.exposure import equalize_adapthist

from medseg import transforms
from medseg.errors import MedsegError
from medseg.transforms import histogram
from medseg.transforms.histogram import clahe, clahe_plane, equalize, equalize_plane
from medseg.transforms.picture import Picture, Window


def clouds(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Soft clouds in 0..1, with the crowded histogram of a medical image."""
    image = np.random.default_rng(seed).normal(size=shape)
    image = gaussian_filter(image, (*[0] * (len(shape) - 2), 4, 4))
    return ((image - image.min()) / np.ptp(image)) ** 2


def levels(image: np.ndarray, top: int) -> np.ndarray:
    return np.rint(image * top).astype(np.uint16)


def in_containers(image: np.ndarray) -> list[Picture]:
    """The same 12-bit image unsigned, in Hounsfield units, in 32 bits, and of a detector that counts from 100."""
    twelve = levels(image, 4095)
    return [
        Picture(twelve, 0, 4095),
        Picture(twelve.astype(np.int16) - 1024, -1024, 3071, windows=(Window(40, 400),)),
        Picture(twelve.astype(np.int32), 0, 4095),
        Picture(twelve + np.uint16(100), 100, 4195),
    ]


def test_equalisation_by_hand():
    # 3 pixels on the lowest level; the 2 on 10 and the 3 on 4000 end at 2/5 and 5/5 of the range
    values = np.array([[0, 0, 0, 10, 10, 4000, 4000, 4000]], np.uint16)
    expected = [[0, 0, 0, 1638, 1638, 4095, 4095, 4095]]
    assert equalize_plane(values, 0, 4095).tolist() == expected
    units = values.astype(np.int16) - 1024
    assert (equalize_plane(units, -1024, 3071) + 1024).tolist() == expected


def test_eight_bits_are_opencv_to_the_level():
    image = levels(clouds((57, 41)), 255).astype(np.uint8)
    step = transforms.build("equalize")
    assert (step(Picture.of(image[None])).values[0] == cv2.equalizeHist(image)).all()
    # the same levels in another type go through the formula of deeper pixels
    deeper = step(Picture(image[None].astype(np.int16), 0, 255)).values[0]
    assert np.abs(deeper - cv2.equalizeHist(image).astype(int)).max() == 0


@pytest.mark.parametrize("name", ["equalize", "clahe"])
def test_twelve_bits_give_one_result_in_any_container(name):
    first, *others = [(transforms.build(name)(p), p) for p in in_containers(clouds((1, 60, 75)))]
    for done, picture in others:
        assert done.values.dtype == picture.values.dtype
        assert (done.low, done.high, done.windows) == (picture.low, picture.high, ())
        assert np.abs(done.values - picture.low - first[0].values.astype(int)).max() == 0


@pytest.mark.parametrize("name", ["equalize", "clahe"])
def test_twelve_bits_stretched_to_sixteen_agree_to_rounding(name):
    image = clouds((1, 60, 75))
    step = transforms.build(name)
    twelve = Picture(levels(image, 4095), 0, 4095)
    stretched = step(Picture.of(twelve.stored())).values / 65535
    assert np.abs(step(twelve).values / 4095 - stretched).max() <= 1 / 4095


@pytest.mark.parametrize("name", ["equalize", "clahe"])
@pytest.mark.parametrize("channels", [1, 3])
def test_floats_go_as_sixteen_bits_do(name, channels):
    sixteen = levels(clouds((channels, 48, 64)), 65535)
    step = transforms.build(name)
    done = step(Picture.of((sixteen / 65535).astype(np.float32))).values
    assert done.dtype == np.float32
    apart = np.abs(done * 65535 - step(Picture.of(sixteen)).values)
    # float32 may put a luma halfway between two levels on the other one
    assert np.quantile(apart, 0.99 if (name, channels) == ("equalize", 3) else 1) < 2


@pytest.mark.parametrize("name", ["equalize", "clahe"])
def test_an_inverted_picture_is_turned_first(name):
    step, values = transforms.build(name), levels(clouds((1, 40, 40)), 4095)
    upright = step(Picture(values, 0, 4095))
    turned = step(Picture(4095 - values, 0, 4095, inverted=True))
    assert not turned.inverted
    assert (turned.values == upright.values).all()


@pytest.mark.parametrize("name", ["equalize", "clahe"])
def test_a_constant_image_stays_constant(name):
    for values in (np.full((1, 16, 16), 900, np.uint16), np.full((3, 16, 16), 900, np.uint16)):
        done = transforms.build(name)(Picture(values, 0, 4095)).values
        assert np.ptp(done) <= (1 if len(values) == 3 else 0)
    assert equalize_plane(np.full((4, 4), 900, np.uint16), 0, 4095).max() == 900


@pytest.mark.parametrize(
    ("shape", "tiles"), [((96, 128), (8, 8)), ((57, 83), (8, 8)), ((96, 83), (4, 8)), ((40, 61), (3, 5))]
)
@pytest.mark.parametrize("clip_limit", [0.5, 2.0, 4.0])
def test_the_own_clahe_is_opencvs(shape, tiles, clip_limit):
    image = levels(clouds(shape), 255).astype(np.uint8)
    reference = cv2.createCLAHE(clip_limit, tiles[::-1]).apply(image).astype(int)
    assert (clahe_plane(image, 0, 255, clip_limit, tiles) == reference).all()
    # signed pixels of the same levels are computed by our own code
    own = clahe_plane(image.astype(np.int16), 0, 255, clip_limit, tiles)
    assert np.abs(own - reference).max() <= 1
    deep = clahe_plane(image.astype(np.uint16) * 257, 0, 65535, clip_limit, tiles)
    assert np.abs(deep / 257 - reference).max() < 1.01


def test_clahe_loses_no_levels():
    image = levels(clouds((300, 40)), 65535)
    assert len(np.unique(clahe_plane(image, 0, 65535, 2.0, (8, 8)))) > 0.95 * len(np.unique(image))


def test_clahe_does_not_depend_on_the_strip(monkeypatch):
    image = levels(clouds((300, 40)), 65535)
    whole = clahe_plane(image, 0, 65535, 2.0, (8, 8))
    monkeypatch.setattr(histogram, "STRIP", 7)
    assert (clahe_plane(image, 0, 65535, 2.0, (8, 8)) == whole).all()


def test_what_the_libraries_make_of_twelve_bits():
    twelve = levels(clouds((96, 128)), 4095)
    tool = cv2.createCLAHE(2.0, (8, 8))
    # OpenCV spreads 12 bits in 16 over all of 0..65535
    assert tool.apply(twelve).max() > 4095
    # scikit-image keeps about as many levels as bins
    theirs = equalize_adapthist(twelve, kernel_size=twelve.shape, clip_limit=1.0, nbins=256)
    ours = clahe_plane(twelve, 0, 4095, 256.0, (1, 1))
    assert len(np.unique(theirs)) < 400
    assert len(np.unique(ours)) > 2000


def test_clip_limit_and_tiles_are_moved_alone():
    image = levels(clouds((64, 64)), 4095)
    spread = [clahe_plane(image, 0, 4095, limit, (4, 4)).std() for limit in (1.0, 2.0, 8.0)]
    assert spread == sorted(spread)
    tall = transforms.build("clahe", tiles=[1, 8])(Picture(image[None], 0, 4095)).values[0]
    wide = transforms.build("clahe", tiles=[8, 1])(Picture(image.T[None].copy(), 0, 4095)).values[0]
    assert (tall == wide.T).all()
    assert (tall != clahe_plane(image, 0, 4095, 2.0, (8, 1))).any()


def test_colour_clahe_is_that_of_lightness():
    image = levels(clouds((3, 64, 80)), 255).astype(np.uint8)
    lab = cv2.cvtColor(image.transpose(1, 2, 0).copy(), cv2.COLOR_RGB2LAB)
    lab[..., 0] = cv2.createCLAHE(2.0, (8, 8)).apply(np.ascontiguousarray(lab[..., 0]))
    expected = cv2.cvtColor(lab, cv2.COLOR_LAB2RGB).transpose(2, 0, 1)
    assert (clahe(image, 0, 255) == expected).all()
    deep = clahe(image.astype(np.uint16) * 257, 0, 65535) / 257
    # Lab of 8 bits is coarse: a level of lightness more or less, times the slope of the curve
    assert np.abs(deep - expected).mean() < 4


def test_deep_colour_clahe_keeps_hue():
    skin = (
        0.2 + 0.2 * np.array([1.6, 1.1, 1.0])[:, None, None] + 0.1 * clouds((1, 64, 80)) * np.ones((3, 1, 1))
    )
    image = levels(skin, 65535)
    before, after = (
        rgb2lab(i / 65535, channel_axis=0) for i in (image, clahe(image, 0, 65535, clip_limit=1.5))
    )
    lightness = clahe_plane(before[0], 0, 100, 1.5, (8, 8))
    assert np.abs(lightness - before[0]).max() > 1
    assert np.abs(after[0] - lightness).max() < 0.01
    assert np.abs(after[1:] - before[1:]).max() < 0.01


def test_colour_equalisation_is_that_of_luma():
    image = levels(clouds((3, 64, 80)), 255).astype(np.uint8)
    done = equalize(image, 0, 255).astype(int)
    luma = np.rint(np.tensordot([0.299, 0.587, 0.114], image, 1)).astype(np.uint8)
    moved = cv2.equalizeHist(luma).astype(int) - luma
    inside = ((image + moved >= 0) & (image + moved <= 255)).all(0)
    assert inside.mean() > 0.5
    assert (done[:, inside] == (image + moved)[:, inside]).all()
    by_channels = equalize(image, 0, 255, by_channels=True)
    assert all((a == cv2.equalizeHist(b)).all() for a, b in zip(by_channels, image, strict=True))


def test_a_grey_image_in_three_channels_stays_grey():
    grey = levels(clouds((1, 50, 50)), 4095)
    for name, allowed in (("equalize", 0), ("clahe", 1)):
        done = transforms.build(name)(Picture(np.repeat(grey, 3, 0), 0, 4095)).values.astype(int)
        assert np.ptp(done, axis=0).max() <= allowed
    alone = transforms.build("equalize")(Picture(grey, 0, 4095)).values
    assert (transforms.build("equalize")(Picture(np.repeat(grey, 3, 0), 0, 4095)).values == alone).all()


def test_more_channels_are_taken_one_by_one():
    image = levels(clouds((5, 40, 40)), 4095)
    for change in (equalize, clahe):
        done = change(image, 0, 4095)
        assert all((done[k] == change(image[k : k + 1], 0, 4095)[0]).all() for k in range(5))


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"clip_limit": 0}, "clahe: clip_limit must be a number above 0; it is 0"),
        ({"tiles": 8}, r"clahe: tiles must be two whole numbers \(rows, columns\); it is 8"),
        ({"tiles": [8, 0]}, "clahe: tiles must be a whole number from 1 on; it is 0"),
    ],
)
def test_wrong_arguments_are_named(arguments, reason):
    with pytest.raises(MedsegError, match=reason):
        transforms.build("clahe", arguments)


def test_a_clip_limit_beyond_all_bins_clips_nothing():
    plane = np.random.default_rng(2).integers(0, 256, (512, 512)).astype(np.uint8)
    free = histogram.clahe_plane(plane, 0, 255, 256, (8, 8))
    np.testing.assert_array_equal(histogram.clahe_plane(plane, 0, 255, 1e9, (8, 8)), free)
