from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from medseg.errors import MedsegError
from medseg.transforms import TRANSFORMS
from medseg.transforms.denoise import median
from medseg.transforms.histogram import equalize
from medseg.transforms.normalize import NAMES
from medseg.transforms.picture import Picture, Window
from medseg.transforms.resize import resize_image, resize_mask
from medseg.transforms.steps import build_steps


def hounsfield(shape=(1, 37, 51)) -> Picture:
    """A 12-bit slice in Hounsfield units; its own window shows nothing below 20."""
    values = np.random.default_rng(2).integers(-1024, 3072, shape).astype(np.int16)
    return Picture(values, -1024, 3071, windows=(Window(40.5, 41),))


def drawn(size=(37, 51)) -> np.ndarray:
    mask = np.zeros(size, np.uint8)
    mask[10:25, 20:40] = 1
    return mask


def test_without_a_spatial_step_the_image_is_stretched_last():
    steps = build_steps(["median", "normalize_zscore"], {}, (16, 20))
    picture, mask = steps.apply(hounsfield(), drawn())
    expected = resize_image(median(hounsfield().values, 3), (16, 20))
    assert (picture.values == Picture(expected, -1024, 3071).stored()).all()
    assert mask is not None
    assert (mask == resize_mask(drawn(), (16, 20))).all()
    assert steps.normalization == "normalize_zscore"


def test_an_empty_list_only_stretches():
    steps = build_steps([], None, (16, 20))
    values = np.random.default_rng(0).integers(0, 255, (3, 30, 30), np.uint8)
    picture, mask = steps.apply(Picture.of(values))
    assert (picture.values == resize_image(values, (16, 20))).all()
    assert mask is None
    assert steps.normalization is None


@pytest.mark.parametrize("type_", [np.uint16, np.int16, np.int32])
def test_every_one_of_twelve_bits_survives(type_):
    low = 0 if type_ == np.uint16 else -1024
    values = (np.arange(4096).reshape(1, 64, 64) + low).astype(type_)
    picture, _ = build_steps(["normalize"], {}, (64, 64)).apply(Picture(values, low, low + 4095))
    assert picture.values.dtype == np.uint16
    assert (np.rint(picture.values.ravel() / 65535 * 4095) == np.arange(4096)).all()
    assert (picture.stored() == picture.values).all()


def test_steps_are_made_in_order():
    window = {"window": {"center": 40.5, "width": 401}}
    first = build_steps(["window", "equalize"], window, (37, 51)).apply(hounsfield())[0].values
    shown = TRANSFORMS.build("window", window["window"])(hounsfield()).values
    assert (first == equalize(shown, 0, 255)).all()
    last = build_steps(["equalize", "window"], window, (37, 51)).apply(hounsfield())[0].values
    assert (first != last).any()


def test_steps_behind_the_spatial_one_work_at_the_networks_size():
    behind = build_steps(["resize_pad", "median"], {}, (24, 24)).apply(hounsfield())[0].values
    padded = TRANSFORMS.build("resize_pad", size=(24, 24))(hounsfield())
    assert (behind == padded.having(median(padded.values, 3)).stored()).all()
    assert (behind != build_steps(["median", "resize_pad"], {}, (24, 24)).apply(hounsfield())[0].values).any()


def test_a_step_may_be_listed_twice():
    twice = build_steps(["median", "gaussian", "median"], {"median": {"size": 5}}, (37, 51))
    values = TRANSFORMS.build("gaussian")(hounsfield().having(median(hounsfield().values, 5))).values
    assert (twice.apply(hounsfield())[0].values == hounsfield().having(median(values, 5)).stored()).all()


@pytest.mark.parametrize("spatial", ["resize", "resize_pad", "resize_crop"])
def test_image_and_mask_move_together_and_come_back(spatial):
    mask = drawn()
    steps = build_steps(["window", spatial, "normalize"], {"window": {"center": 0.5, "width": 1}}, (32, 32))
    picture, small = steps.apply(Picture(mask[None].astype(np.int16) * 100, -1024, 3071), mask)
    assert small is not None
    assert np.abs((picture.values[0] > 127).astype(int) - small).mean() < 0.05
    back = steps.restore(small[None].astype(np.float32), mask.shape)[0]
    assert back.shape == mask.shape
    assert ((back > 0.5) != mask)[:, 10:40].mean() < 0.08
    assert back[17, 30] == 1


def test_an_inverted_picture_is_bright_in_the_end():
    given = hounsfield()
    turned = Picture(2047 - given.values, -1024, 3071, inverted=True)
    for names in ([], ["resize_pad"], ["equalize"], ["median"]):
        steps = build_steps(names, {}, (40, 40))
        ours, theirs = (steps.apply(p)[0].values.astype(int) for p in (given, turned))
        assert np.abs(ours - theirs).max() <= 17  # one of 4096 levels is 16 of 65536


def test_floats_end_in_0_to_1():
    values = np.linspace(-5, 15, 12, dtype=np.float32).reshape(1, 3, 4)
    picture, _ = build_steps([], {}, (3, 4)).apply(Picture(values, -5.0, 15.0))
    assert picture.values == pytest.approx(np.linspace(0, 1, 12).reshape(1, 3, 4), abs=1e-6)
    assert (picture.low, picture.high) == (0, 1)


def test_the_record_holds_all_arguments_and_versions_and_is_json():
    steps = build_steps(["window", "clahe", "normalize"], {"window": {"center": 40, "width": 400}}, (16, 20))
    record = steps.record()
    assert record == {
        "image_size": [16, 20],
        "steps": [
            {
                "name": "window",
                "version": 1,
                "arguments": {
                    "center": 40,
                    "width": 400,
                    "function": "LINEAR",
                    "index": 0,
                    "default": "full",
                    "to": "uint8",
                },
            },
            {"name": "clahe", "version": 1, "arguments": {"clip_limit": 2.0, "tiles": [8, 8]}},
            {"name": "resize", "version": 1, "arguments": {}},
        ],
    }
    assert json.loads(json.dumps(record)) == record


def test_the_record_tells_what_changes_the_arrays_and_only_that():
    record = build_steps(["clahe"], {"clahe": {"tiles": (4, 4)}}, (16, 20)).record()
    assert record == build_steps(["clahe", "normalize"], {"clahe": {"tiles": [4, 4]}}, [16, 20]).record()
    assert (
        record
        == build_steps(
            ["clahe", "resize"], {"clahe": {"tiles": [4, 4], "clip_limit": 2.0}}, (16, 20)
        ).record()
    )
    others = [
        build_steps(["clahe"], {}, (16, 20)),
        build_steps(["clahe"], {"clahe": {"tiles": (4, 4)}}, (20, 16)),
        build_steps(["clahe", "resize_pad"], {"clahe": {"tiles": (4, 4)}}, (16, 20)),
        build_steps(["resize", "clahe"], {"clahe": {"tiles": (4, 4)}}, (16, 20)),
    ]
    assert all(other.record() != record for other in others)


@pytest.mark.parametrize(
    ("names", "arguments", "reason"),
    [
        (["claheh"], {}, "unknown transform 'claheh'. Did you mean 'clahe'"),
        ("clahe", {}, "preprocess must be a list of names; it is 'clahe'"),
        (None, {}, "preprocess must be a list of names; it is None"),
        ([{"clahe": {}}], {}, "preprocess must be a list of names"),
        (
            ["clahe"],
            {"clahe": {"cliplimit": 2}},
            "unknown clahe argument 'cliplimit'. Did you mean 'clip_limit'",
        ),
        (["clahe"], {"window": {}}, "arguments are given for 'window', which is not among the steps"),
        (["clahe"], {"clahe": 3}, "arguments of transform 'clahe' must be given by name; got 3"),
        (["clahe"], [3], "arguments of preprocess must be given by step"),
        (["clahe"], {"clahe": {"clip_limit": "much"}}, "clahe: clip_limit must be a number above 0"),
        (["normalize"], {"normalize": {"mean": 3}}, "unknown normalize argument 'mean'. Known: none"),
        (["resize", "median", "resize_pad"], {}, "resize and resize_pad both change the size; keep one"),
        (["normalize", "median"], {}, "normalize must stand last, behind median"),
        (["normalize", "normalize_zscore"], {}, "normalize and normalize_zscore both normalise; keep one"),
        (
            ["resize_pad"],
            {"resize_pad": {"size": [8, 8]}},
            "takes its size from image_size; remove the argument size",
        ),
    ],
)
def test_wrong_lists_are_refused(names, arguments, reason):
    with pytest.raises(MedsegError, match=reason):
        build_steps(names, arguments, (16, 16))


@pytest.mark.parametrize("size", [16, (16, 0), ("a", 3), None])
def test_wrong_sizes_are_refused(size):
    with pytest.raises(MedsegError, match="preprocess: image_size must be"):
        build_steps([], {}, size)


def test_a_mask_of_another_size_is_refused():
    with pytest.raises(MedsegError, match=r"the mask is \(37, 50\), its image \(37, 51\)"):
        build_steps([], {}, (16, 16)).apply(hounsfield(), drawn((37, 50)))


def test_channels_are_checked_before_training():
    for name in NAMES:
        build_steps([name], {}, (16, 16)).check_channels(3)
    with pytest.raises(MedsegError, match="normalize_imagenet needs 3 channels"):
        build_steps(["normalize_imagenet"], {}, (16, 16)).check_channels(1)


def test_the_picture_that_was_given_stays():
    given = hounsfield()
    copy = given.values.copy()
    build_steps(["median", "equalize", "window", "gaussian"], {}, (37, 51)).apply(given)
    assert (given.values == copy).all()


def test_the_transform_of_the_page_works(monkeypatch):
    text = (Path(__file__).parents[2] / "docs/extending/add_a_transform.md").read_text(encoding="utf-8")
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]
    known = TRANSFORMS.names()
    monkeypatch.setattr(TRANSFORMS, "_entries", dict(TRANSFORMS._entries))
    exec(compile(code, "page", "exec", dont_inherit=True), {"__name__": "medseg.transforms.shown"})
    (name,) = set(TRANSFORMS.names()) - set(known)
    given = Picture(np.array([[[-1024, 0, 3071]]], np.int16), -1024, 3071)
    done = TRANSFORMS.build(name, {"gamma": 0.5})(given)
    # 1024 / 4095 to the power 0.5 is 0.50006
    assert done.values.tolist() == [[[-1024, 1024, 3071]]]
    assert build_steps([name], {name: {"gamma": 2}}, (8, 8)).record()["steps"][0]["arguments"] == {"gamma": 2}


def test_the_list_of_the_page_can_be_built():
    text = (Path(__file__).parents[2] / "docs/preprocessing.md").read_text(encoding="utf-8")
    config = yaml.safe_load(re.search(r"```yaml\n(.*?)```", text, re.DOTALL)[1])
    steps = build_steps(config["preprocess"], config["preprocess_arguments"], config["image_size"])
    assert steps.normalization == "normalize_zscore"
    assert steps.apply(hounsfield())[0].values.shape == (1, 256, 256)
    rows = re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)
    assert sorted(rows) == TRANSFORMS.names()
