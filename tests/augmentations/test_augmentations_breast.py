"""The breast study's list for classification, and what it adds to the room."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from medseg.augmentations import AUGMENTATIONS, Pipeline, build, build_augments, copies
from medseg.errors import MedsegError

MEMBERS = ["gaussian_blur", "equalize", "channel_shift", "rotation", "flip", "translation", "shear"]
MOVES = {"rotation", "flip", "translation", "shear"}
WHITE = {np.uint8: 255, np.uint16: 65535, np.float32: 1}


def test_the_group_has_the_seven_transforms_of_the_study() -> None:
    augments = build_augments("breast_geometric")
    assert [augment.name for augment in augments] == MEMBERS
    assert build("breast_geometric") == augments and [augment.prob for augment in augments] == [0.2] * 7
    assert {augment.name for augment in augments if augment.geometric} == MOVES
    assert AUGMENTATIONS["breast_geometric"].facts["members"] == tuple(MEMBERS)


def test_the_group_makes_one_copy_per_transform_with_and_without_a_mask(
    picture: Callable[..., np.ndarray], disc: np.ndarray, kind: type
) -> None:
    image = picture(3, kind)
    made = copies(build_augments("breast_geometric"), image, disc, (42, 7))
    assert [name for name, _, _ in made] == MEMBERS
    for name, copy, mask in made:
        assert copy.dtype == kind and copy.shape == image.shape and not np.array_equal(copy, image)
        assert np.array_equal(mask, disc) == (name not in MOVES)
    bare = copies(build_augments("breast_geometric"), image, None, (42, 7))
    for (name, with_mask, _), (same, without, none) in zip(made, bare, strict=True):
        assert same == name and none is None
        np.testing.assert_array_equal(without, with_mask)


def test_a_member_takes_its_own_arguments_and_the_groups_chance() -> None:
    given = {"breast_geometric": {"prob": 0.4}, "channel_shift": {"shift": 0.1}, "flip": {"prob": 0.5}}
    augments = {a.name: a for a in build_augments("breast_geometric", given)}
    assert augments["channel_shift"] == build("channel_shift", prob=0.4, shift=0.1)[0]
    assert augments["flip"].prob == 0.5 and augments["shear"].prob == 0.4


# flip


def test_a_flip_is_one_of_the_two_mirror_images(
    picture: Callable[..., np.ndarray], disc: np.ndarray, channels: int, kind: type
) -> None:
    image = picture(channels, kind)
    pipeline = Pipeline(build("flip", prob=1))
    seen = []
    for seed in range(12):
        flipped, mask = pipeline(image, disc, np.random.default_rng(seed))
        upside_down = np.array_equal(flipped, image[:, ::-1])
        seen.append(upside_down)
        np.testing.assert_array_equal(flipped, image[:, ::-1] if upside_down else image[:, :, ::-1])
        np.testing.assert_array_equal(mask, disc[:, ::-1] if upside_down else disc[:, :, ::-1])
    assert set(seen) == {True, False}


def test_both_mirror_images_are_as_likely(picture: Callable[..., np.ndarray]) -> None:
    (flip,), rng, image = build("flip"), np.random.default_rng(0), picture(1)
    axes = [flip.draw(rng, image)["axis"] for _ in range(2000)]
    assert set(axes) == {0, 1} and np.mean(axes) == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(2000))


# channel shift


def shifted(image: np.ndarray, seed: int = 0, **arguments: object) -> np.ndarray:
    (augment,) = build("channel_shift", arguments)
    return augment.change(image, augment.draw(np.random.default_rng(seed), image))


@pytest.mark.parametrize("share", [0.2, -0.2])
def test_a_shift_adds_a_share_of_full_scale(kind: type, channels: int, share: float) -> None:
    white = WHITE[kind]
    result = shifted(np.full((channels, 4, 5), white * 0.5).astype(kind), shift=share)
    middle = white * 0.5 if kind is np.float32 else int(white * 0.5)
    step = white * share if kind is np.float32 else int(white * share)
    assert result.dtype == kind
    np.testing.assert_allclose(result, np.full(result.shape, middle + step), rtol=1e-6)


def test_a_shift_stays_within_the_types_range(kind: type) -> None:
    white = WHITE[kind]
    assert shifted(np.full((3, 4, 5), white, kind), shift=0.5).min() == white
    assert shifted(np.zeros((3, 4, 5), kind), shift=-0.5).max() == 0


def test_every_channel_has_a_shift_of_its_own() -> None:
    grey = np.full((3, 4, 5), 128, np.uint8)
    changes = [(shifted(grey, seed).astype(int) - 128)[:, 0, 0] for seed in range(200)]
    assert all(len({*change}) > 1 for change in changes[:5])
    # 8 % of 255 is 20.4: whole levels from -20 to 20, of which 200 draws of three come close to both ends
    assert np.min(changes) in (-20, -19) and np.max(changes) in (19, 20)
    narrow = [(shifted(grey, seed, shift=(0.01, 0.02)).astype(int) - 128)[:, 0, 0] for seed in range(200)]
    assert set(np.unique(narrow)) == {2, 3, 4, 5}  # 2.55 to 5.1, towards 0


@pytest.mark.parametrize("shift", [(-2, 0), (0.1, -0.1), "0.1", (0, 1.5)])
def test_a_shift_out_of_range_is_refused(shift: object) -> None:
    with pytest.raises(MedsegError, match="'channel_shift': shift is .* within -1 to 1"):
        build("channel_shift", shift=shift)
