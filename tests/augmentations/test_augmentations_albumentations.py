"""Of 8-bit images, the same parameters give the same image as plain albumentations."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import medseg
from medseg.augmentations import Pipeline, build
from medseg.augmentations.augment import Augment

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
import albumentations as A
from albumentations.augmentations.blur import functional as blur
from albumentations.augmentations.geometric import functional as geometry

Drawn = dict[str, Any]


def affine(size: tuple[int, int], **given: Any) -> Drawn:
    parts = {"translate": {"x": 0, "y": 0}, "shear": {"x": 0, "y": 0}, "scale": {"x": 1, "y": 1}, "rotate": 0}
    matrix = geometry.create_affine_transformation_matrix(**{**parts, **given}, shift=geometry.center(size))
    ends = dict.fromkeys(("x_min", "x_max", "y_min", "y_max"), -1)
    return {"matrix": matrix, "shape": size, "output_shape": size, **ends}


def grid(drawn: Drawn, size: tuple[int, int]) -> Drawn:
    steps = geometry.normalize_grid_distortion_steps(size, 5, list(drawn["x"]), list(drawn["y"]))
    return dict(
        zip(
            ("map_x", "map_y"),
            geometry.generate_grid(size, steps["steps_x"], steps["steps_y"], 5),
            strict=True,
        )
    )


def elastic(drawn: Drawn, size: tuple[int, int]) -> Drawn:
    transform = A.ElasticTransform(alpha=drawn["alpha"], sigma=10)
    transform.set_random_state(np.random.default_rng(drawn["seed"]), transform.py_random)
    return transform.get_params_dependent_on_data({"shape": size}, {})


# name -> albumentations' transform, and its parameters for ours
EQUAL: dict[str, tuple[Any, Callable[[Drawn, tuple[int, int]], Drawn]]] = {
    "clahe": (A.CLAHE(), lambda drawn, size: drawn),
    "gaussian_blur": (
        A.GaussianBlur(),
        lambda drawn, size: {"kernel": blur.create_gaussian_kernel_1d(drawn["sigma"])},
    ),
    "equalize": (A.Equalize(), lambda drawn, size: {"mask": None}),
    "rotation": (A.Rotate(), lambda drawn, size: affine(size, rotate=drawn["angle"])),
    "vertical_flip": (A.VerticalFlip(), lambda drawn, size: {}),
    "horizontal_flip": (A.HorizontalFlip(), lambda drawn, size: {}),
    "grid_distortion": (A.GridDistortion(), grid),
    "translation": (A.Affine(), lambda drawn, size: affine(size, translate=drawn)),
    "scaling": (A.Affine(), lambda d, size: affine(size, scale=dict.fromkeys("xy", d["factor"]))),
    "shear": (A.Affine(), lambda drawn, size: affine(size, shear=drawn)),
    "elastic": (A.ElasticTransform(), elastic),
    "brightness": (A.RandomBrightnessContrast(), lambda d, size: {"alpha": 1.0, "beta": 255 * d["shift"]}),
    "channel_shift": (A.RGBShift(), lambda d, size: {"noise_map": np.float32(255 * d["shift"])}),
    "gamma": (A.RandomGamma(), lambda drawn, size: {"gamma": drawn["exponent"]}),
    "sharpening": (
        A.Sharpen(),
        lambda d, size: {
            "alpha": d["strength"],
            "sharpening_matrix": A.Sharpen._Sharpen__generate_sharpening_matrix(
                d["strength"], d["lightness"]
            ),
        },
    ),
}


def single(name: str, **arguments: Any) -> Augment:
    (augment,) = build(name, arguments)
    return augment


@pytest.mark.parametrize("look", ["colour", "grey", "grey in three channels", "odd size"])
@pytest.mark.parametrize("name", EQUAL)
def test_the_image_and_mask_are_albumentations_own(
    name: str, look: str, picture: Callable[..., np.ndarray]
) -> None:
    size = (61, 83) if look == "odd size" else (64, 50)
    image = picture(1 if look == "grey" else 3, size=size)
    if look == "grey in three channels":
        image = np.repeat(image[:1], 3, axis=0)
    mask = (image[:1] > 100).astype(np.uint8)
    augment, (plain, parameters) = single(name), EQUAL[name]
    for seed in range(4):
        drawn = augment.draw(np.random.default_rng(seed), image)
        ours, our_mask = Pipeline([augment]).apply([(augment, drawn)], image, mask)
        given = parameters(drawn, size)
        theirs = plain.apply(np.ascontiguousarray(image.transpose(1, 2, 0)), **given)
        np.testing.assert_array_equal(ours, theirs.reshape(*size, -1).transpose(2, 0, 1))
        expected = plain.apply_to_mask(mask[0], **given) if augment.geometric else mask[0]
        np.testing.assert_array_equal(our_mask[0], expected)


@pytest.mark.parametrize("strength", [0.1, 30.0])
@pytest.mark.parametrize("look", ["colour", "grey", "grey in three channels", "five channels"])
def test_fancy_pca_is_within_one_level(
    look: str, strength: float, picture: Callable[..., np.ndarray]
) -> None:
    image = picture({"grey": 1, "five channels": 5}.get(look, 3))
    if look == "grey in three channels":
        image = np.repeat(image[:1], 3, axis=0)
    augment = single("fancy_pca", alpha=strength)
    changed = 0
    for seed in range(8):
        drawn = augment.draw(np.random.default_rng(seed), image)
        ours = augment.change(image, drawn).astype(int)
        # the direction of a component is free; that of grey in three channels hangs on the last bit of rounding
        signs = (1, -1) if look == "grey in three channels" else (1,)
        hwc = np.ascontiguousarray(image.transpose(1, 2, 0))
        theirs = [A.FancyPCA().apply(hwc, sign * drawn["alpha"]) for sign in signs]
        differences = [np.abs(ours - t.reshape(*image.shape[1:], -1).transpose(2, 0, 1)) for t in theirs]
        difference = min(differences, key=np.max)
        assert difference.max() <= 1 and (difference > 0).mean() < 0.001
        np.testing.assert_array_equal(augment.change(image, drawn, key="a"), ours)
        np.testing.assert_array_equal(augment.change(image, drawn, key="a"), ours)
        changed = max(changed, int(np.abs(ours - image).max()))
    assert changed > 50 if strength == 30 else changed <= 10


def test_noise_has_the_spread_of_albumentations(picture: Callable[..., np.ndarray]) -> None:
    image = np.full((3, 64, 50), 128, np.uint8)
    augment = single("noise", sigma=0.05)
    ours = augment.change(image, augment.draw(np.random.default_rng(0), image))
    theirs = A.GaussNoise(std_range=(0.05, 0.05), p=1)(image=image.transpose(1, 2, 0).copy())["image"]
    assert ours.std() == pytest.approx(0.05 * 255, rel=0.05) == pytest.approx(theirs.std(), rel=0.05)


def test_one_module_imports_albumentations() -> None:
    package = Path(medseg.__file__).parent
    pattern = re.compile(r"^\s*(?:import|from)\s+(?:albumentations|albucore)\b", re.MULTILINE)
    users = [p.relative_to(package) for p in package.rglob("*.py") if pattern.search(p.read_text("utf-8"))]
    assert users == [Path("augmentations/_albumentations.py")]


def test_the_room_is_listed_without_heavy_imports_and_nothing_is_asked_of_the_network() -> None:
    program = """
import sys, urllib.request
def refuse(*arguments, **more): raise SystemExit("a request was made")
urllib.request.OpenerDirector.open = refuse
from medseg.augmentations import AUGMENTATIONS
assert [entry.summary for entry in AUGMENTATIONS]
heavy = {"albumentations", "cv2", "torch", "monai", "skimage", "scipy"} & set(sys.modules)
assert not heavy, heavy
import medseg.augmentations._albumentations as adapter
assert "albumentations" in sys.modules
"""
    environment = {name: value for name, value in os.environ.items() if name != "NO_ALBUMENTATIONS_UPDATE"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
