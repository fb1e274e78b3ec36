from __future__ import annotations

import numpy as np
import pytest
import torch

from medseg import transforms
from medseg.errors import MedsegError
from medseg.transforms.normalize import NAMES, full_range, normalized, unit_range
from medseg.transforms.picture import Picture, Window


def picture(type_=np.int16, channels=3) -> Picture:
    values = np.random.default_rng(5).integers(0, 4096, (channels, 19, 23))
    low = -1024 if type_ == np.int16 else 0
    return Picture((values + low).astype(type_), low, low + 4095, windows=(Window(40, 400),))


def test_every_normalisation_of_the_room_has_its_torch_twin():
    assert [e.name for e in transforms.TRANSFORMS if e.facts.get("normalization")] == list(NAMES)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("type_", [np.uint16, np.int16])
def test_numpy_and_torch_agree(name, type_):
    given = picture(type_)
    step = transforms.build(name)(given)
    assert step.values.dtype == np.float32
    batch = torch.from_numpy(unit_range(given))[None].repeat(2, 1, 1, 1)
    batch[0] = batch[0].flip(1) / 2  # images of a batch do not see each other
    twin = normalized(batch, name)
    assert twin.dtype == torch.float32
    assert np.abs(twin[1].numpy() - step.values).max() <= 1e-6
    assert np.float32(step.low) <= step.values.min()
    assert step.values.max() <= np.float32(step.high)
    assert step.windows == ()


def test_unit_range_is_that_of_stored_arrays():
    given = picture(np.int16)
    stored = torch.from_numpy(given.stored())
    scaled = stored.to(torch.float32).mul_(1.0 / torch.iinfo(torch.uint16).max)
    assert unit_range(given).tobytes() == scaled.numpy().tobytes()
    eight = Picture.of(np.arange(256, dtype=np.uint8).reshape(1, 16, 16))
    scaled = torch.from_numpy(eight.values).to(torch.float32).mul_(1.0 / 255)
    assert unit_range(eight).tobytes() == scaled.numpy().tobytes()


def test_ranges_by_hand():
    values = np.array([[[-1024, 3071]]], np.int16)
    hounsfield = Picture(values, -1024, 3071)
    assert transforms.build("normalize")(hounsfield).values.tolist() == [[[0, 1]]]
    assert transforms.build("normalize_signed")(hounsfield).values.tolist() == [[[-1, 1]]]
    turned = hounsfield.having(values, inverted=True)
    assert transforms.build("normalize")(turned).values.tolist() == [[[1, 0]]]
    # mean 0.5, deviation 0.5
    assert transforms.build("normalize_zscore")(hounsfield).values.tolist() == [[[-1, 1]]]
    middle = Picture(np.array([[[0, 51], [102, 255]]], np.uint8), 0, 255)
    assert transforms.build("normalize")(middle).values == pytest.approx(np.array([[[0, 0.2], [0.4, 1]]]))


def test_zscore_takes_all_channels_together():
    done = transforms.build("normalize_zscore")(picture()).values
    assert done.mean(dtype=np.float64) == pytest.approx(0, abs=1e-6)
    assert done.std(dtype=np.float64) == pytest.approx(1, abs=1e-6)
    assert abs(done[0].mean()) > 1e-3


@pytest.mark.parametrize("value", [0, 77, 255])
def test_zscore_of_a_constant_image_is_zero(value):
    constant = Picture.of(np.full((3, 40, 40), value, np.uint8))
    assert not transforms.build("normalize_zscore")(constant).values.any()
    batch = torch.from_numpy(np.stack([unit_range(constant), unit_range(constant) * 0.9]))
    batch[1, :, 3] = 0.123
    done = normalized(batch, "normalize_zscore")
    assert not done[0].any()
    assert done[1].std(correction=0) == pytest.approx(1, abs=1e-4)


def test_imagenet_by_hand():
    white = Picture.of(np.full((3, 1, 1), 255, np.uint8))
    expected = [(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225]
    assert transforms.build("normalize_imagenet")(white).values.ravel() == pytest.approx(expected, abs=1e-6)
    done = normalized(torch.ones(1, 3, 1, 1), "normalize_imagenet")
    assert done.ravel().tolist() == pytest.approx(expected, abs=1e-6)


def test_imagenet_needs_three_channels():
    reason = "normalize_imagenet needs 3 channels, the image has 1; choose normalize_zscore"
    with pytest.raises(MedsegError, match=reason):
        transforms.build("normalize_imagenet")(picture(channels=1))
    with pytest.raises(MedsegError, match=reason):
        normalized(torch.zeros(2, 1, 4, 4), "normalize_imagenet")


def test_no_normalisation_leaves_the_batch():
    batch = torch.rand(2, 3, 4, 4)
    assert normalized(batch, None) is batch
    with pytest.raises(
        MedsegError, match="unknown normalisation 'normalize_score'. Did you mean 'normalize_zscore'"
    ):
        normalized(batch, "normalize_score")


def test_full_range_stretches_and_turns():
    assert full_range(picture(np.uint16)).values.max() > 65000
    eight = Picture(np.array([[[0, 255]]], np.uint8), 0, 255, inverted=True)
    assert full_range(eight).values.tolist() == [[[255, 0]]]
    floats = Picture(np.array([[[-10, 0, 30]]], np.float32), -10.0, 30.0)
    assert full_range(floats).values.tolist() == [[[0, 0.25, 1]]]
    assert full_range(floats.having(floats.values, inverted=True)).values.tolist() == [[[1, 0.75, 0]]]
    assert full_range(floats).stored().dtype == np.float32
