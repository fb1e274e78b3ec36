"""Augmentations by name."""

from __future__ import annotations

from typing import Any

import pytest

from medseg.augmentations import AUGMENTATIONS, build, build_augments
from medseg.errors import MedsegError

FILTER = ["clahe", "gaussian_blur", "equalize", "fancy_pca"]
GEOMETRIC = ["rotation", "vertical_flip", "horizontal_flip", "grid_distortion"]


@pytest.mark.parametrize(
    ("names", "members"),
    [
        ("vanilla", []),
        ("filter", FILTER),
        ("geometric", GEOMETRIC),
        ("all", FILTER + GEOMETRIC),
        ("rotation-gamma-noise", ["rotation", "gamma", "noise"]),
        ("noise-filter", ["noise", *FILTER]),
    ],
)
def test_names_give_their_transforms_in_order(names: str, members: list[str]) -> None:
    augments = build_augments(names)
    assert [augment.name for augment in augments] == members
    assert all(augment.prob == 0.2 for augment in augments)
    if "-" not in names:
        assert build(names) == augments
        assert list(AUGMENTATIONS[names].facts["members"]) == members


def test_every_single_bears_its_registered_name() -> None:
    for entry in AUGMENTATIONS:
        if not {"members", "batch"} & set(entry.facts):
            (augment,) = entry.build()
            assert augment.name == entry.name and augment.prob == 0.2


def test_chances_come_from_the_call_the_group_or_the_transform() -> None:
    def probs(names: str, arguments: dict[str, Any], prob: float | None = None) -> list[float]:
        return [augment.prob for augment in build_augments(names, arguments, prob)]

    assert probs("geometric", {}, 0.5) == [0.5] * 4
    assert probs("geometric", {"geometric": {"prob": 0.4}}, 0.5) == [0.4] * 4
    own = {"geometric": {"prob": 0.4}, "vertical_flip": {"prob": 0.1}}
    assert probs("geometric-noise", own, 0.5) == [0.4, 0.1, 0.4, 0.4, 0.5]


def test_a_member_of_a_group_takes_its_own_arguments() -> None:
    augments = {a.name: a for a in build_augments("all", {"rotation": {"angle": [-15, 15]}})}
    assert augments["rotation"] == build("rotation", angle=(-15, 15))[0]
    assert augments["clahe"] == build("clahe")[0]


@pytest.mark.parametrize(
    ("names", "arguments", "message"),
    [
        ("rotatoin", {}, "unknown augmentation 'rotatoin'. Did you mean 'rotation'"),
        ("filter-clahe", {}, "'filter-clahe' hold clahe twice"),
        ("noise-noise", {}, "hold noise twice"),
        ("all-geometric", {}, "hold rotation twice"),
        ("filter", {"rotation": {}}, "unknown augmentation of 'filter' with arguments 'rotation'"),
        (
            "filter",
            {"filter": {"sigma": 3}},
            "'filter': got an unexpected keyword argument 'sigma'; it takes prob",
        ),
        ("filter", {"clahe": {"sigma": 3}}, "'clahe': got an unexpected keyword argument 'sigma'"),
        ("noise", {"noise": 0.3}, "'noise': arguments are 0.3; a mapping"),
        ("", {}, "unknown augmentation ''"),
    ],
)
def test_wrong_names_and_arguments_are_refused(names: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(MedsegError, match=message):
        build_augments(names, arguments)


def test_the_record_of_a_transform_names_its_parameters() -> None:
    # what was cached is found again by this text
    assert repr(build("rotation")[0]) == "Rotation(prob=0.2, angle=(-90.0, 90.0))"
    assert repr(build("fancy_pca")[0]) == "FancyPCA(prob=0.2, alpha=0.1)"
