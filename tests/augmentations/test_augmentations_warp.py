"""Movements: where pixels go, image and mask together, one interpolation for several."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest

from medseg.augmentations import AUGMENTATIONS, Pipeline, build, build_augments
from medseg.augmentations._warp import Affine, Flip, Grid, warp
from medseg.errors import MedsegError

MOVES = [
    "rotation",
    "vertical_flip",
    "horizontal_flip",
    "flip",
    "grid_distortion",
    "translation",
    "scaling",
    "shear",
    "elastic",
]
CHAINS = [
    "geometric",
    "rotation-grid_distortion",
    "grid_distortion-rotation",
    "elastic-rotation",
    "rotation-elastic",
    "grid_distortion-elastic-horizontal_flip",
    "rotation-vertical_flip-horizontal_flip",
    "shear-scaling-translation",
]


def moved(name: str, image: np.ndarray, mask: np.ndarray, seed: int = 0, **arguments: Any) -> Any:
    return Pipeline(build(name, {"prob": 1, **arguments}))(image, mask, np.random.default_rng(seed))


@pytest.mark.parametrize("name", MOVES)
def test_image_and_mask_move_together(name: str, disc: np.ndarray) -> None:
    image, mask = moved(name, disc * np.uint8(255), disc)
    assert set(np.unique(mask)) == {0, 1}
    difference = (image[0] > 127) != (mask[0] > 0)
    assert difference.mean() < 0.01 and not np.array_equal(mask, disc)
    # the places that differ lie on the edge of the disc
    inside = cv2.erode(mask[0], np.ones((3, 3)))
    outside = 1 - cv2.dilate(mask[0], np.ones((3, 3)))
    assert not difference[(inside | outside) > 0].any()


@pytest.mark.parametrize("name", MOVES)
def test_any_depth_and_number_of_channels(
    name: str, kind: type, channels: int, picture: Callable[..., np.ndarray], disc: np.ndarray
) -> None:
    image, mask = picture(channels, kind), np.concatenate([disc, 1 - disc])
    result, masks = moved(name, image, mask)
    assert result.shape == image.shape and result.dtype == kind
    assert masks.shape == mask.shape and masks.dtype == np.uint8 and masks.max() == 1
    assert not np.array_equal(result, image)
    for plane, expected in zip(image, result, strict=True):  # a channel does not depend on the others
        np.testing.assert_array_equal(moved(name, plane[None], mask)[0][0], expected)
    if kind is not np.uint8:
        coarse = moved(name, picture(channels), mask)[0] / 255
        fine = result / (65535 if kind is np.uint16 else 1)
        assert np.abs(coarse - fine).max() < 1.1 / 255


@pytest.mark.parametrize("size", [(64, 50), (61, 83), (7, 9)])
def test_flips_are_exact(size: tuple[int, int], picture: Callable[..., np.ndarray]) -> None:
    image = picture(3, size=size)
    mask = (image[:2] > 100).astype(np.uint8)
    for name, index in {
        "vertical_flip": np.s_[:, ::-1],
        "horizontal_flip": np.s_[:, :, ::-1],
        "vertical_flip-horizontal_flip": np.s_[:, ::-1, ::-1],
    }.items():
        pipeline = Pipeline(build_augments(name, prob=1))
        for ours, given in zip(pipeline(image, mask, np.random.default_rng(0)), (image, mask), strict=True):
            np.testing.assert_array_equal(ours, given[index])
    # the matrices by which flips join other movements say the same
    straight = Affine(np.eye(3))
    for axis in (0, 1):
        joined, _ = warp([Flip.along(axis, size), straight], image, mask)
        np.testing.assert_array_equal(joined, np.flip(image, axis + 1))


@pytest.mark.parametrize("chain", CHAINS)
def test_one_interpolation_is_within_two_levels_of_several(chain: str) -> None:
    y, x = np.mgrid[:128, :112]
    waves = [np.sin(x / 15) * np.cos(y / 19), np.cos(x / 22 + y / 17), np.sin(y / 13)]
    image = np.rint(127 + 100 * np.stack(waves)).astype(np.uint8)
    mask = ((x - 50) ** 2 + (y - 65) ** 2 < 30**2).astype(np.uint8)[None]
    augments = build_augments(chain)
    for seed in range(3):
        rng = np.random.default_rng(seed)
        drawn = [(augment, augment.draw(rng, image)) for augment in augments]
        together, mask_together = Pipeline(augments).apply(drawn, image, mask)
        apart, mask_apart, frame = image, mask, np.full((1, *image.shape[1:]), 255, np.uint8)
        for step in drawn:
            frame, _ = Pipeline(augments).apply([step], frame, mask_apart)
            apart, mask_apart = Pipeline(augments).apply([step], apart, mask_apart)
        inside = cv2.erode(frame[0], np.ones((5, 5))) == 255
        assert inside.mean() > 0.3
        assert np.abs(together.astype(int) - apart)[:, inside].max() <= 2
        dice = 2 * (mask_together & mask_apart).sum() / (mask_together.sum() + mask_apart.sum())
        assert dice > 0.98


def test_one_interpolation_is_sharper_and_keeps_what_comes_back() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (1, 64, 64), np.uint8)
    mask = np.zeros((0, 64, 64), np.uint8)
    turn = [Affine(cv2.getRotationMatrix2D((31.5, 31.5), angle, 1)) for angle in (20, -20)]
    turn = [Affine(np.vstack([step.matrix, [0, 0, 1]])) for step in turn]
    there_and_back, _ = warp(turn, image, mask)
    np.testing.assert_array_equal(there_and_back, image)
    apart = image
    for step in turn:
        apart, _ = warp([step], apart, mask)
    assert apart[0, 20:44, 20:44].std() < 0.9 * image[0, 20:44, 20:44].std()
    assert (apart[0, 0, :3] == 0).all() and image[0, 0, :3].all()


def test_rotation_by_a_right_angle_is_a_transposition() -> None:
    image = np.arange(25, dtype=np.uint8).reshape(1, 5, 5)
    mask = (image > 12).astype(np.uint8)
    result, turned = moved("rotation", image, mask, angle=90)
    np.testing.assert_array_equal(result[0], np.rot90(image[0]))
    np.testing.assert_array_equal(turned[0], np.rot90(mask[0]))


def test_translation_by_whole_pixels_fills_with_0() -> None:
    image = np.full((1, 10, 20), 9, np.uint8)
    result, mask = moved("translation", image, np.ones((1, 10, 20), np.uint8), shift=0.2)
    # 0.2 of 20 to the right and 0.2 of 10 down
    expected = np.zeros((10, 20))
    expected[2:, 4:] = 1
    np.testing.assert_array_equal(result[0], 9 * expected)
    np.testing.assert_array_equal(mask[0], expected)


def test_scaling_enlarges_the_mask_by_the_factor_squared() -> None:
    y, x = np.mgrid[:101, :101]
    mask = ((x - 50) ** 2 + (y - 50) ** 2 <= 20**2).astype(np.uint8)[None]
    _, larger = moved("scaling", mask, mask, factor=1.5)
    assert larger.sum() / mask.sum() == pytest.approx(2.25, rel=0.02)


def test_shear_by_45_degrees_moves_a_row_by_its_distance_from_the_middle() -> None:
    mask = np.zeros((1, 21, 21), np.uint8)
    mask[:, :, 10] = 1
    _, slanted = moved("shear", mask, mask, angle=(0, 0))
    np.testing.assert_array_equal(slanted, mask)
    augment = build("shear")[0]
    _, slanted = Pipeline([augment]).apply([(augment, {"x": 45, "y": 0})], mask, mask)
    np.testing.assert_array_equal(slanted[0], np.eye(21))


def test_elastic_moves_by_the_stated_spread() -> None:
    augment = build("elastic", alpha=300)[0]
    drawn = augment.draw(np.random.default_rng(0), np.zeros((1, 224, 224), np.uint8))
    inside = augment.warp(drawn, (224, 224)).displacement[:, 40:-40, 40:-40]
    assert inside.std() == pytest.approx(300 / 160, rel=0.25)


def test_grid_distortion_stays_within_the_frame() -> None:
    augment = build("grid_distortion")[0]
    for size in ((224, 224), (61, 83), (30, 47)):
        for seed in range(5):
            drawn = augment.draw(np.random.default_rng(seed), np.zeros((1, *size), np.uint8))
            step = augment.warp(drawn, size)
            assert isinstance(step, Grid)
            for table, length in ((step.x, size[1]), (step.y, size[0])):
                assert len(table) == length and table[0] == 0
                assert length - 3 < table[-1] <= length + 1e-3 and (np.diff(table) >= 0).all()


def test_grid_looks_up_between_and_beyond_its_entries() -> None:
    step = Grid(np.array([0.0, 2, 3]), np.array([1.0, 1, 1]))
    x, y = step.source((np.array([[-1.0, 0.5, 1.5, 4.0]]), np.array([[1.0]])))
    np.testing.assert_allclose(x, [[-1, 1, 2.5, 5]])
    np.testing.assert_allclose(y, [[1]])


def drawn_from(name: str, **arguments: Any) -> list[dict[str, Any]]:
    (augment,) = build(name, arguments)
    image = np.zeros((1, 1000, 1000), np.uint8)
    return [augment.draw(np.random.default_rng(seed), image) for seed in range(40)]


@pytest.mark.parametrize(
    ("name", "parameter", "drawn", "low", "high", "scale"),
    [
        ("rotation", "angle", "angle", 10, 20, 1),
        ("grid_distortion", "distortion", "x", 0.1, 0.2, None),
        ("translation", "shift", "x", 0.1, 0.2, 1000),
        ("scaling", "factor", "factor", 1.1, 1.2, 1),
        ("shear", "angle", "y", 3, 4, 1),
        ("elastic", "alpha", "alpha", 50, 60, 1),
        ("clahe", "clip_limit", "clip_limit", 2, 3, 1),
        ("gaussian_blur", "sigma", "sigma", 1, 2, 1),
        ("brightness", "shift", "shift", 0.1, 0.2, 1),
        ("gamma", "exponent", "exponent", 1.1, 1.2, 1),
        ("sharpening", "strength", "strength", 0.1, 0.2, 1),
        ("sharpening", "lightness", "lightness", 0.1, 0.2, 1),
        ("noise", "sigma", "sigma", 0.1, 0.2, 1),
    ],
)
def test_each_range_is_drawn_from(
    name: str, parameter: str, drawn: str, low: float, high: float, scale: float | None
) -> None:
    values = np.array([d[drawn] for d in drawn_from(name, **{parameter: [low, high]})])
    values = values - 1 if scale is None else values / scale
    assert low <= values.min() < low + 0.3 * (high - low) < high - 0.3 * (high - low) < values.max() <= high
    # no other parameter moves with it
    usual = drawn_from(name)
    for key in set(usual[0]) - {drawn, "x", "y"}:
        assert [d[key] for d in usual] == [d[key] for d in drawn_from(name, **{parameter: [low, high]})]
    alone = np.array([d[drawn] for d in drawn_from(name, **{parameter: low})])
    np.testing.assert_allclose(alone - 1 if scale is None else alone / scale, low)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("grid_distortion", {"cells": 3}), ("elastic", {"sigma": 5}), ("clahe", {"tiles": 4})],
)
def test_each_count_matters(
    name: str, arguments: dict[str, Any], picture: Callable[..., np.ndarray], disc: np.ndarray
) -> None:
    assert not np.array_equal(moved(name, picture(), disc)[0], moved(name, picture(), disc, **arguments)[0])


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        (
            "rotation",
            {"angle": [20, 10]},
            r"'rotation': angle is \[20, 10\]; a number or a pair \[low, high\] within",
        ),
        ("rotation", {"angle": "wide"}, "angle is 'wide'"),
        ("rotation", {"angle": [float("nan"), 3]}, "angle is"),
        ("scaling", {"factor": 0}, "factor is 0; a number or a pair .* within 0.1 to 10"),
        ("noise", {"sigma": [0, 2]}, "'noise': sigma is"),
        ("clahe", {"clip_limit": 0.5}, "clip_limit is 0.5"),
        ("clahe", {"clip_limit": float("inf")}, "clip_limit is inf"),
        ("clahe", {"tiles": 0}, "tiles is 0; a whole number of at least 1"),
        ("fancy_pca", {"alpha": -1}, "alpha is -1"),
        ("fancy_pca", {"alpha": [0, 1]}, "alpha is"),
        ("elastic", {"sigma": 0.5}, "sigma is 0.5"),
        ("rotation", {"prob": 1.5}, "'rotation': prob is 1.5; a chance in 0..1"),
        ("rotation", {"prob": True}, "prob is True"),
        (
            "rotation",
            {"angel": 3},
            "'rotation': got an unexpected keyword argument 'angel'; it takes prob, angle",
        ),
    ],
)
def test_wrong_arguments_are_named(name: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(MedsegError, match=message):
        build(name, arguments)


def test_a_grid_finer_than_the_image_is_refused() -> None:
    image, mask = np.zeros((1, 4, 9), np.uint8), np.zeros((1, 4, 9), np.uint8)
    with pytest.raises(MedsegError, match="5 cells do not fit an image of 4x9 pixels; at most 4 do"):
        moved("grid_distortion", image, mask)
    assert moved("grid_distortion", image, mask, cells=4)[0].shape == image.shape


def test_every_registered_movement_is_tested() -> None:
    singles = [entry for entry in AUGMENTATIONS if not {"members", "batch"} & set(entry.facts)]
    assert sorted(MOVES) == sorted(e.name for e in singles if e.build()[0].geometric)
