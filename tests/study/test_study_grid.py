"""The cells of a study: how many, in which order, with which settings, and which of them are impossible."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from medseg.bundle.choice import Choice
from medseg.bundle.settings import Settings
from medseg.data.index_file import index_path, read_index
from medseg.data.splits import make_splits
from medseg.data.splits_file import split_path, write_splits
from medseg.errors import MedsegError
from medseg.study.grid import cells, check, counted, repeats_of
from medseg.study.spec import AXES, Cell, Study

SMALL = Settings(image_size=(32, 32), model_arguments={"widths": [4, 8]})


def study(**changes: Any) -> Study:
    axes = {
        "dataset": ("a", "b"),
        "model": ("unet", "ducknet"),
        "loss": ("dice", "bce"),
        "preprocess": ((), ("clahe",)),
        "augment": ("vanilla", "filter"),
        "repeat": (0, 1, 2),
    }
    return Study("s", axes={**axes, **changes.pop("axes", {})}, **changes)


def keys(cell: Cell) -> tuple[Any, ...]:
    choice = cell.choice
    return (cell.repeat, choice.dataset, choice.model, choice.loss, choice.preprocess, choice.augment)


def test_axes_multiply_with_repeats_outermost() -> None:
    axes = study().axes
    wanted = itertools.product(
        *(axes[a] for a in ("repeat", "dataset", "model", "loss", "preprocess", "augment"))
    )
    assert [keys(cell) for cell in cells(study())] == list(wanted)
    assert len(cells(study())) == 96


def test_an_interrupted_study_has_whole_repeats() -> None:
    first = cells(study())[:32]
    assert {cell.repeat for cell in first} == {0}
    assert len({cell.choice for cell in first}) == 32


def test_names_are_those_of_bundles_and_repeats() -> None:
    assert cells(study())[3].name == "a__unet__dice__filter__clahe/0"


def test_skips_remove_what_meets_all_their_conditions() -> None:
    skip = ({"model": ("ducknet",), "augment": ("filter",)}, {"repeat": (2,), "dataset": ("a",)})
    left = {keys(cell) for cell in cells(study(skip=skip))}
    every = {keys(cell) for cell in cells(study())}
    gone = {k for k in every if (k[2] == "ducknet" and k[5] == "filter") or (k[0] == 2 and k[1] == "a")}
    assert left == every - gone
    # 24 of ducknet with filter, 16 of repeat 2 of a, 4 of them both
    assert len(gone) == 36


def test_nothing_left_is_an_error() -> None:
    with pytest.raises(MedsegError, match="study s: no run is left"):
        cells(study(skip=({"repeat": (0, 1, 2)},)))


def test_rules_set_what_they_match_and_later_ones_win() -> None:
    rules = (
        {"where": {"model": ("unet",)}, "set": {"epochs": 5, "model_arguments": {"widths": [4, 8]}}},
        {"where": {"loss": ("bce",), "dataset": ("a",)}, "set": {"epochs": 7}},
    )
    for cell in cells(study(fixed={"epochs": 3, "image_size": 64}, rules=rules)):
        choice = cell.choice
        later = choice.loss == "bce" and choice.dataset == "a"
        assert cell.settings.epochs == (7 if later else 5 if choice.model == "unet" else 3)
        assert cell.settings.model_arguments == ({"widths": [4, 8]} if choice.model == "unet" else {})
        assert cell.settings.image_size == (64, 64)


def test_a_study_is_not_changed_by_its_cells() -> None:
    fixed = {"image_size": 64}
    cells(study(fixed=fixed))
    assert fixed == {"image_size": 64}


def test_arguments_go_only_to_runs_that_have_the_step() -> None:
    fixed = {
        "preprocess_arguments": {"clahe": {"clip_limit": 3.0}},
        "augment_arguments": {"filter": {"prob": 0.5}, "equalize": {"prob": 0.1}},
    }
    for cell in cells(study(fixed=fixed)):
        steps = fixed["preprocess_arguments"] if cell.choice.preprocess else {}
        # equalize is a member of filter
        augments = fixed["augment_arguments"] if cell.choice.augment == "filter" else {}
        assert (cell.settings.preprocess_arguments, cell.settings.augment_arguments) == (steps, augments)


def test_runs_of_each_level_are_counted() -> None:
    found = cells(study(skip=({"model": ("ducknet",), "repeat": (1, 2)},)))
    assert counted(found, "model") == {"unet": 48, "ducknet": 16}
    assert counted(found, "repeat") == {"0": 32, "1": 16, "2": 16}
    assert counted(found, "preprocess") == {"none": 32, "clahe": 32}
    assert all(sum(counted(found, axis).values()) == 64 for axis in AXES)


def discs(count: int = 2, **changes: Any) -> list[Cell]:
    choice = Choice("discs", "unet", "dice")
    return [
        Cell(replace(choice, **changes.get("choice", {})), k, replace(SMALL, **changes.get("settings", {})))
        for k in range(count)
    ]


def refused(found: list[Cell], prepared: Path, split: str = "holdout") -> str:
    with pytest.raises(MedsegError) as caught:
        check(found, prepared, split)
    return str(caught.value)


def test_what_can_be_run_passes(workspace: Path) -> None:
    assert check(discs(5), workspace / "prepared") is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"choice": {"dataset": "disc"}}, "unknown data set 'disc'. Did you mean 'discs'?"),
        ({"choice": {"model": "unett"}}, "unknown model 'unett'"),
        ({"choice": {"loss": "dise"}}, "unknown loss 'dise'"),
        ({"choice": {"augment": "vanila"}}, "unknown augmentation 'vanila'"),
        ({"choice": {"augment": "vanilla-offline"}}, "vanilla makes no copies"),
        ({"choice": {"preprocess": ("clahee",)}}, "unknown transform 'clahee'"),
        ({"choice": {"preprocess": ("normalize_imagenet",)}}, "normalize_imagenet"),
        ({"settings": {"image_size": (33, 32)}}, "unet needs sides divisible by 2; image_size is 33 x 32"),
        ({"settings": {"model_arguments": {"wide": 3}}}, "model 'unet': "),
        ({"settings": {"loss_arguments": {"alpha": 3}}}, "loss 'dice': "),
        ({"settings": {"pretrained": True}}, "unet has no pre-trained backbone"),
        ({"settings": {"frozen_stages": 1}}, "cannot freeze these of unet"),
        ({"settings": {"layer_decay": 0.5}}, "this model has no backbone with stages"),
        ({"settings": {"pretrained_data": "X"}}, "pretrained_data='X'"),
        (
            {"choice": {"model": "emcad"}, "settings": {"model_arguments": {}, "pretrained": "nowhere"}},
            "emcad: no file or folder of weights nowhere",
        ),
        (
            {"choice": {"model": "deeplabv3"}, "settings": {"model_arguments": {}, "batch_size": 1}},
            "batches of one",
        ),
    ],
)
def test_impossible_cells(workspace: Path, changes: dict[str, Any], words: str) -> None:
    told = refused(discs(**changes), workspace / "prepared")
    assert words in told
    assert "(2 runs, such as " in told
    assert "\n" not in told, "one fault is told in one line"


def test_all_faults_are_told_at_once_each_with_its_runs(workspace: Path) -> None:
    bad = [
        *discs(3, settings={"image_size": (33, 33)}),
        *discs(2),
        *discs(1, choice={"loss": "dise"}, settings={"image_size": (33, 33)}),
    ]
    lines = refused(bad, workspace / "prepared").splitlines()
    assert lines[0] == "4 of 6 runs are impossible"
    assert sorted(line.split("(")[-1] for line in lines[1:]) == [
        "1 run, discs__unet__dise/0)",
        "4 runs, such as discs__unet__dice/0)",
    ]


def test_an_argument_that_a_model_cannot_use_is_told_like_any_other_fault(workspace: Path) -> None:
    told = refused(discs(2, settings={"model_arguments": {"widths": 4}}), workspace / "prepared")
    assert told.startswith("model 'unet' with {'widths': 4}: TypeError: ")
    assert told.endswith("(2 runs, such as discs__unet__dice/0)")


def test_what_many_runs_share_is_asked_once(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from medseg.bundle import compose

    asked: dict[str, int] = {}
    for name in ("check_model", "check_loss", "check_preprocess", "check_augment"):

        def count(*arguments: Any, name: str = name) -> None:
            asked[name] = asked.get(name, 0) + 1

        monkeypatch.setattr(compose, name, count)
    found = cells(
        Study(
            "s",
            axes={
                "dataset": ("discs",),
                "model": ("unet", "ducknet"),
                "loss": ("dice", "bce", "iou"),
                "preprocess": ((),),
                "augment": ("vanilla",),
                "repeat": (0, 1, 2, 3, 4),
            },
        )
    )
    check(found, workspace / "prepared")
    assert asked == {"check_model": 2, "check_loss": 3, "check_preprocess": 1, "check_augment": 1}


def test_a_loss_and_an_augmentation_of_one_name_are_two_questions(workspace: Path) -> None:
    told = refused(discs(1, choice={"loss": "filter", "augment": "filter"}), workspace / "prepared")
    assert "unknown loss 'filter'" in told


@pytest.mark.parametrize(
    ("split", "number", "cure"),
    [
        ("holdout", 5, "medseg data split discs --kind holdout --repeats 6'"),
        ("holdout-ungrouped", 5, "medseg data split discs --kind holdout --repeats 6 --ungrouped'"),
        ("official", 5, "medseg data split discs --kind official --repeats 6'"),
        ("kfold3", 3, "name another split, such as kfold6"),
    ],
)
def test_more_repeats_than_a_split_will_have(workspace: Path, split: str, number: int, cure: str) -> None:
    assert repeats_of("discs", split, workspace / "prepared") == number
    check(discs(number), workspace / "prepared", split)
    told = refused(discs(6), workspace / "prepared", split)
    assert f"split {split} of discs has repeats 0 to {number - 1}, not 5" in told
    assert cure in told
    assert "\n" not in told, "the repeats that there are not are one fault"


def test_the_split_on_disk_says_how_many_repeats_there_are(workspace: Path) -> None:
    prepared = workspace / "prepared"
    index = read_index(index_path("discs", prepared))
    write_splits(make_splits(index, repeats=8), split_path("discs", prepared, "holdout"))
    assert check(discs(8), prepared) is None
    assert "has repeats 0 to 7, not 8" in refused(discs(9), prepared)


@pytest.mark.parametrize(
    ("split", "words"),
    [
        ("mine", "split 'mine': neither made by 'medseg data split' nor one of"),
        ("external-discs", "an external test of discs needs another data set"),
    ],
)
def test_a_split_that_cannot_be_made(workspace: Path, split: str, words: str) -> None:
    assert words in refused(discs(1), workspace / "prepared", split)


def test_a_data_set_whose_name_begins_like_this_one_is_another(workspace: Path) -> None:
    assert repeats_of("discs", "external-discs_two", workspace / "prepared") == 5
    with pytest.raises(MedsegError, match="needs another data set"):
        repeats_of("discs", "external-discs-ungrouped", workspace / "prepared")
