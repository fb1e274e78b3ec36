"""Draws are a function of the generator alone, and copies of the sample's name."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from medseg.augmentations import AUGMENTATIONS, Pipeline, build, build_augments, copies
from medseg.errors import MedsegError

EVERYTHING = "-".join(entry.name for entry in AUGMENTATIONS if not {"members", "batch"} & set(entry.facts))


def same(one: Any, other: Any) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("name", EVERYTHING.split("-"))
def test_the_same_generator_gives_the_same_bytes(
    name: str, kind: type, picture: Callable[..., np.ndarray], disc: np.ndarray
) -> None:
    image = picture(3, kind)
    # limits and weights that show in so small an image
    arguments = {"clahe": {"clip_limit": [1, 50]}, "fancy_pca": {"alpha": 30}}.get(name, {})

    def drawn(seed: int) -> Any:
        return Pipeline(build(name, arguments, prob=1))(image, disc, np.random.default_rng(seed))

    assert same(drawn(4), drawn(4))
    alike = all(same(drawn(4), drawn(seed)) for seed in range(5, 9))
    assert alike == (name in ("vertical_flip", "horizontal_flip", "equalize"))


@pytest.mark.parametrize("name", EVERYTHING.split("-"))
def test_views_in_any_layout_give_the_same(
    name: str, kind: type, channels: int, picture: Callable[..., np.ndarray], disc: np.ndarray
) -> None:
    image, mask = picture(channels, kind), np.concatenate([disc, 1 - disc])

    def drawn(image: np.ndarray, mask: np.ndarray) -> Any:
        return Pipeline(build(name, prob=1))(image, mask, np.random.default_rng(4))

    last = [np.moveaxis(np.ascontiguousarray(np.moveaxis(a, 0, -1)), -1, 0) for a in (image, mask)]
    turned = [np.ascontiguousarray(a.transpose(0, 2, 1)).transpose(0, 2, 1) for a in (image, mask)]
    backwards = [np.ascontiguousarray(a[..., ::-1])[..., ::-1] for a in (image, mask)]
    for view in (last, turned, backwards):
        assert same(drawn(*view), drawn(image, mask))


@pytest.mark.parametrize("names", ["filter", "all"])
def test_filters_of_deep_colour_follow_each_other(
    names: str, kind: type, picture: Callable[..., np.ndarray], disc: np.ndarray
) -> None:
    image, mask = Pipeline(build_augments(names, prob=1))(picture(3, kind), disc, np.random.default_rng(0))
    assert image.dtype == kind and image.shape == (3, 64, 50) and mask.shape == disc.shape


def test_the_order_of_samples_does_not_matter(picture: Callable[..., np.ndarray], disc: np.ndarray) -> None:
    pipeline = Pipeline(build_augments(EVERYTHING, prob=0.5))
    results = []
    for order in (range(6), reversed(range(6))):
        drawn = {i: pipeline(picture(), disc, np.random.default_rng((1, i)), key=i) for i in order}
        results.append([drawn[i] for i in range(6)])
    assert all(same(one, other) for one, other in zip(*results, strict=True))
    assert not same(results[0][0], results[0][1])


def test_what_was_drawn_can_be_applied_again(picture: Callable[..., np.ndarray], disc: np.ndarray) -> None:
    pipeline = Pipeline(build_augments(EVERYTHING, prob=1))
    drawn = pipeline.draw(picture(), np.random.default_rng(3))
    assert [augment.name for augment, _ in drawn] == EVERYTHING.split("-")
    drawn_back = pickle.loads(pickle.dumps(drawn))
    assert same(pipeline.apply(drawn, picture(), disc), pipeline.apply(drawn_back, picture(), disc))


class Samples(Dataset):
    """Items are the hash of a sample drawn from (seed, epoch, index)."""

    def __init__(self, image: np.ndarray, mask: np.ndarray) -> None:
        self.image, self.mask = image, mask
        self.pipeline = Pipeline(build_augments(EVERYTHING, prob=0.3))

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> torch.Tensor:
        rng = np.random.default_rng((42, 3, index))
        result = self.pipeline(self.image, self.mask, rng, key=0)
        digest = hashlib.sha256(b"".join(array.tobytes() for array in result)).digest()
        return torch.tensor(list(digest))


def test_the_number_of_workers_does_not_matter(picture: Callable[..., np.ndarray], disc: np.ndarray) -> None:
    samples = Samples(np.array(picture()), np.array(disc))
    hashes = [torch.cat(list(DataLoader(samples, batch_size=3, num_workers=n))) for n in (0, 1, 2)]
    assert len({tuple(row.tolist()) for row in hashes[0]}) == 8
    assert hashes[0].equal(hashes[1]) and hashes[0].equal(hashes[2])


def test_each_transform_comes_with_its_chance(picture: Callable[..., np.ndarray]) -> None:
    augments = [*build("rotation", prob=0.0), *build("noise", prob=0.25), *build("gamma", prob=1.0)]
    pipeline, rng = Pipeline(augments), np.random.default_rng(0)
    counts = dict.fromkeys(("rotation", "noise", "gamma"), 0)
    for _ in range(2000):
        for augment, _ in pipeline.draw(picture(1), rng):
            counts[augment.name] += 1
    assert counts["rotation"] == 0 and counts["gamma"] == 2000
    assert counts["noise"] == pytest.approx(500, abs=4 * np.sqrt(2000 * 0.25 * 0.75))


def test_a_group_changes_a_sample_0_8_times_on_average(picture: Callable[..., np.ndarray]) -> None:
    pipeline, rng = Pipeline(build("filter")), np.random.default_rng(0)
    drawn = [len(pipeline.draw(picture(1), rng)) for _ in range(2000)]
    assert np.mean(drawn) == pytest.approx(0.8, abs=4 * np.sqrt(0.64 / 2000))


def test_nothing_drawn_gives_the_arrays_back(picture: Callable[..., np.ndarray], disc: np.ndarray) -> None:
    for names in ("vanilla", "all"):
        image = picture()
        result = Pipeline(build_augments(names, prob=0))(image, disc, np.random.default_rng(0))
        assert result[0] is image and result[1] is disc


def test_a_sample_without_masks(picture: Callable[..., np.ndarray]) -> None:
    none = np.empty((0, 64, 50), np.uint8)
    for name in EVERYTHING.split("-"):
        assert (
            Pipeline(build(name, prob=1.0))(picture(), none, np.random.default_rng(0))[1].shape == none.shape
        )


@pytest.mark.parametrize("names", ["vanilla", "all", "noise-shear", "elastic-clahe"])
def test_no_mask_comes_back_as_none_and_changes_nothing_else(
    names: str, picture: Callable[..., np.ndarray], disc: np.ndarray
) -> None:
    augments = build_augments(names, prob=1)
    with_mask = Pipeline(augments)(picture(), disc, np.random.default_rng(2))[0]
    without, none = Pipeline(augments)(picture(), None, np.random.default_rng(2))
    assert none is None
    np.testing.assert_array_equal(without, with_mask)
    for one, other in zip(
        copies(augments, picture(), disc, (1,)), copies(augments, picture(), None, (1,)), strict=True
    ):
        assert one[0] == other[0] and other[2] is None
        np.testing.assert_array_equal(one[1], other[1])


@pytest.mark.parametrize(
    ("image", "mask", "message"),
    [
        (np.zeros((8, 8), np.uint8), np.zeros((1, 8, 8), np.uint8), r"shape \(8, 8\) cannot be augmented"),
        (np.zeros((8, 8), np.uint8), None, r"shape \(8, 8\) cannot be augmented"),
        (np.zeros((1, 8, 8), np.int16), np.zeros((1, 8, 8), np.uint8), "int16 .* uint8, uint16 or float32"),
        (
            np.zeros((1, 8, 8), np.uint8),
            np.zeros((1, 8, 9), np.uint8),
            r"mask of uint8 and shape \(1, 8, 9\)",
        ),
        (np.zeros((1, 8, 8), np.uint8), np.zeros((1, 8, 8), bool), "mask of bool"),
        (np.zeros((1, 8, 8), np.uint8), np.zeros((8, 8), np.uint8), r"mask of uint8 and shape \(8, 8\)"),
    ],
)
def test_other_arrays_are_refused(image: np.ndarray, mask: np.ndarray, message: str) -> None:
    with pytest.raises(MedsegError, match=message):
        Pipeline(build("rotation", prob=1.0))(image, mask, np.random.default_rng(0))


# offline


def test_copies_are_one_per_transform_whatever_its_chance(
    picture: Callable[..., np.ndarray], disc: np.ndarray
) -> None:
    augments = build_augments("all", prob=0)
    made = copies(augments, picture(), disc, (42, 7))
    assert [name for name, _, _ in made] == [augment.name for augment in augments]
    for augment, (_, image, mask) in zip(augments, made, strict=True):
        assert image.shape == picture().shape and image.dtype == np.uint8
        assert np.array_equal(mask, disc) != augment.geometric
        assert augment.name == "fancy_pca" or not np.array_equal(image, picture())


def test_a_copy_depends_on_the_seed_the_case_and_its_transform_alone(
    picture: Callable[..., np.ndarray], disc: np.ndarray
) -> None:
    def made(names: str, *key: int) -> dict[str, np.ndarray]:
        return {name: image for name, image, _ in copies(build_augments(names), picture(), disc, key)}

    first = made("rotation-noise-gamma", 42, 7)
    for name, image in made("gamma-rotation", 42, 7).items():
        np.testing.assert_array_equal(image, first[name])
    for key in ((43, 7), (42, 8)):
        other = made("rotation-noise-gamma", *key)
        assert not any(np.array_equal(first[name], other[name]) for name in first)


def test_copies_in_threads_are_the_same(picture: Callable[..., np.ndarray], disc: np.ndarray) -> None:
    from concurrent.futures import ThreadPoolExecutor

    augments = build_augments(EVERYTHING)

    def made(case: int) -> bytes:
        return b"".join(image.tobytes() for _, image, _ in copies(augments, picture(), disc, (1, case)))

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(made, range(8))) == [made(case) for case in range(8)]
