"""The key of a run: everything that decides its numbers moves it, and nothing else does."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import medseg
from medseg.bundle.choice import Choice
from medseg.bundle.settings import Settings, settings_from
from medseg.data.index_file import index_path, read_index
from medseg.data.splits import make_splits
from medseg.errors import MedsegError
from medseg.study.grid import cells
from medseg.study.key import code_fingerprint, fingerprint_of, run_key, split_fingerprint, weights_of
from medseg.study.spec import Cell, Study

CELL = Cell(Choice("discs", "unet", "dice"), 0, Settings())
PARTS = {
    "index_fingerprint": "i",
    "split_fingerprint": "s",
    "weights": "none",
    "code": "c",
    "split": "holdout",
}


def key(cell: Cell = CELL, **changes: str) -> str:
    return run_key(cell, **{**PARTS, **changes})


def test_a_key_is_sixteen_hex_digits_and_always_the_same() -> None:
    assert len(key()) == 16
    assert int(key(), 16) >= 0
    assert key() == key(Cell(Choice("discs", "unet", "dice"), 0, Settings()))


@pytest.mark.parametrize("part", PARTS)
def test_each_part_moves_the_key(part: str) -> None:
    assert key(**{part: "other"}) != key()


@pytest.mark.parametrize(
    "change",
    [
        {"dataset": "x"},
        {"model": "x"},
        {"loss": "x"},
        {"augment": "x"},
        {"preprocess": ("x",)},
    ],
)
def test_each_component_moves_the_key(change: dict[str, Any]) -> None:
    assert key(replace(CELL, choice=replace(CELL.choice, **change))) != key()


def test_the_order_of_steps_moves_the_key() -> None:
    orders = (("window", "clahe"), ("clahe", "window"))
    assert len({key(replace(CELL, choice=replace(CELL.choice, preprocess=o))) for o in orders}) == 2


def test_the_repeat_moves_the_key() -> None:
    assert key(replace(CELL, repeat=1)) != key()


@pytest.mark.parametrize(
    "change",
    [
        {"image_size": (224, 225)},
        {"epochs": 201},
        {"batch_size": 9},
        {"learning_rate": 2e-3},
        {"patience": 41},
        {"seed": 43},
        {"pretrained_data": "x"},
        {"frozen_stages": 1},
        {"layer_decay": 0.9},
        {"model_arguments": {"a": 1}},
        {"loss_arguments": {"a": 1}},
        {"preprocess_arguments": {"a": {}}},
        {"augment_arguments": {"a": {}}},
        {"sampling": "balanced"},
    ],
)
def test_each_setting_moves_the_key(change: dict[str, Any]) -> None:
    assert key(replace(CELL, settings=replace(CELL.settings, **change))) != key()


def test_every_setting_is_tried_above() -> None:
    parametrised = test_each_setting_moves_the_key.pytestmark[0].args[1]
    tried = {name for change in parametrised for name in change}
    assert tried | {"pretrained"} == set(vars(Settings()))


def test_what_does_not_move_the_key() -> None:
    def changed(**values: Any) -> str:
        return key(replace(CELL, settings=settings_from(values)))

    assert changed(learning_rate=1, layer_decay=1) == changed(learning_rate=1.0, layer_decay=1.0)
    assert changed(model_arguments={"a": 1, "b": 2}) == changed(model_arguments={"b": 2, "a": 1})
    assert changed(image_size=64) == changed(image_size=[64, 64])
    assert changed(pretrained="here") == changed(pretrained="there"), "what weights are is said by `weights`"


def grid(**changes: Any) -> dict[str, str]:
    """Run -> key of a small study."""
    axes = {
        "dataset": ("discs",),
        "model": ("unet", "ducknet"),
        "loss": ("dice",),
        "preprocess": ((), ("clahe",)),
        "augment": ("vanilla",),
        "repeat": (0,),
    }
    study = Study("s", axes={**axes, **changes.pop("axes", {})}, **changes)
    return {cell.name: key(cell) for cell in cells(study)}


def test_a_study_touches_no_key_of_a_run_that_it_leaves_as_it_was() -> None:
    before = grid()
    rule = {"where": {"model": ("ducknet",)}, "set": {"model_arguments": {"filters": 4}}}
    for changes in (
        {"retries": 9},
        {"threads": 4},
        {"keep_weights": "none"},
        {"name": "other"},
        {"axes": {"repeat": (0, 1)}},
        {"axes": {"loss": ("bce", "dice")}},
    ):
        after = grid(**{k: v for k, v in changes.items() if k != "name"})
        assert {name: after[name] for name in before} == before
    ruled = grid(rules=(rule,))
    assert {name for name in before if ruled[name] != before[name]} == {n for n in before if "ducknet" in n}
    arguments = grid(fixed={"preprocess_arguments": {"clahe": {"clip_limit": 3.0}}})
    assert {name for name in before if arguments[name] != before[name]} == {n for n in before if "clahe" in n}


def test_more_repeats_leave_the_fingerprints_of_old_ones(workspace: Path) -> None:
    index = read_index(index_path("discs", workspace / "prepared"))
    five, eight = make_splits(index, repeats=5), make_splits(index, repeats=8)
    assert five.fingerprint != eight.fingerprint
    prints = [split_fingerprint(eight, k) for k in range(8)]
    assert prints[:5] == [split_fingerprint(five, k) for k in range(5)]
    assert len(set(prints)) == 8
    assert split_fingerprint(make_splits(index, seed=1), 0) != prints[0]
    with pytest.raises(MedsegError, match="repeats 0 to 4"):
        split_fingerprint(five, 5)


@pytest.mark.parametrize("part", ["training", "validation", "testing"])
def test_each_part_and_its_order_move_the_splits_fingerprint(workspace: Path, part: str) -> None:
    splits = make_splits(read_index(index_path("discs", workspace / "prepared")), repeats=1)
    turned = {**splits.repeats[0], part: splits.repeats[0][part][::-1]}
    assert split_fingerprint(replace(splits, repeats=(turned,)), 0) != split_fingerprint(splits, 0)
    assert split_fingerprint(replace(splits, index_fingerprint="x"), 0) != split_fingerprint(splits, 0)
    assert split_fingerprint(replace(splits, test_fingerprint="x"), 0) != split_fingerprint(splits, 0)


def weights(model: str, pretrained: bool | str | None) -> str:
    return weights_of(Choice("discs", model, "dice"), Settings(pretrained=pretrained))


def test_published_weights_are_told_by_their_names() -> None:
    assert weights("emcad", None) == weights("emcad", True) == "pvt_v2_b2.in1k"
    assert weights("fatnet", True) == "resnet34.tv_in1k + deit_tiny_distilled_patch16_224.fb_in1k"
    assert weights("emcad", False) == weights("unet", None) == "none"


def test_local_weights_are_told_by_their_content(tmp_path: Path) -> None:
    file = tmp_path / "pvt_v2_b2.in1k.pth"
    file.write_bytes(b"abc")
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert weights("emcad", str(file)) == weights("emcad", str(tmp_path)) == abc
    (tmp_path / "resnet50.pth").write_bytes(b"of another model")
    assert weights("emcad", str(tmp_path)) == abc
    file.write_bytes(b"abcd")
    assert weights("emcad", str(file)) != abc, "a file that changed is read again"


def test_a_folder_with_other_weights_counts_as_a_whole(tmp_path: Path) -> None:
    (tmp_path / "pvt_v2_b0.in1k.pth").write_bytes(b"abc")
    before = weights("emcad", str(tmp_path))
    (tmp_path / "pvt_v2_b1.in1k.pth").write_bytes(b"x")
    assert weights("emcad", str(tmp_path)) != before


def test_weights_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(MedsegError, match=r"emcad: no file or folder of weights .*nowhere"):
        weights("emcad", str(tmp_path / "nowhere"))


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the sources that decide numbers, and of one room that does not."""
    source, target = Path(medseg.__file__).parent, tmp_path / "medseg"
    for room in ("losses", "engine", "cli"):
        shutil.copytree(source / room, target / room, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(source / "bundle" / "templates", target / "bundle" / "templates")
    shutil.copy(source / "registry.py", target)
    return target


def test_the_codes_fingerprint() -> None:
    assert len(code_fingerprint()) == 12
    assert code_fingerprint() == fingerprint_of(Path(medseg.__file__).parent)


@pytest.mark.parametrize(
    ("file", "counts"),
    [
        ("losses/dice.py", True),
        ("registry.py", True),
        ("engine/device.py", True),
        ("bundle/templates/segmentation/train.yaml", True),
        ("cli/rank.py", False),
        ("bundle/templates/segmentation/README.md", False),
    ],
)
def test_which_sources_count(package: Path, file: str, counts: bool) -> None:
    before = fingerprint_of(package)
    with (package / file).open("a", encoding="utf-8") as source:
        source.write("\n")
    assert (fingerprint_of(package) != before) == counts


def test_a_file_more_or_under_another_name_counts_and_its_place_on_disk_does_not(package: Path) -> None:
    before = fingerprint_of(package)
    moved = package.rename(package.parent / "elsewhere")
    assert fingerprint_of(moved) == before
    (moved / "losses" / "dice.py").rename(moved / "losses" / "dice2.py")
    renamed = fingerprint_of(moved)
    (moved / "losses" / "new.py").touch()
    assert len({before, renamed, fingerprint_of(moved)}) == 3
