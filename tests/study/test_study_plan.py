"""What a plan says: the runs and their states, and estimates worked out by hand."""

from __future__ import annotations

import json
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
from medseg.study import plan as module
from medseg.study.amounts import duration, size
from medseg.study.cost import BESIDES, START, Costs, Images, growth, images_of
from medseg.study.entry import Entry
from medseg.study.folder import StudyFolder
from medseg.study.grid import cells
from medseg.study.key import code_fingerprint
from medseg.study.ledger import Ledger
from medseg.study.plan import Plan, make_plan
from medseg.study.probe import Measured, ProbeCache
from medseg.study.spec import Cell, Study

FIXED = {"image_size": 32, "epochs": 10, "batch_size": 4, "model_arguments": {"widths": [2, 4]}}
MEASURED = Measured(train_seconds=2.0, eval_seconds=0.5, steps=3, memory=500_000_000, parameters=1000)


def study(**changes: Any) -> Study:
    axes = {
        "dataset": ("discs",),
        "model": ("unet",),
        "loss": ("dice", "bce"),
        "preprocess": ((),),
        "augment": ("vanilla",),
        "repeat": (0, 1),
    }
    return Study("s", axes={**axes, **changes.pop("axes", {})}, **{"fixed": FIXED, **changes})


@pytest.fixture
def folder(workspace: Path) -> StudyFolder:
    return StudyFolder(workspace / "studies" / "s")


@pytest.fixture
def probed(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The setups that were measured; every one with the same result."""
    asked: list[Any] = []

    def fake(setup: Any, *_: Any) -> Measured:
        asked.append(setup)
        return MEASURED

    monkeypatch.setattr("medseg.study.probe.probe", fake)
    return asked


def planned(folder: StudyFolder, of: Study | None = None, **options: Any) -> Plan:
    return make_plan(of or study(), Path("prepared"), folder, device="cpu", **{"workers": 2, **options})


def enter(folder: StudyFolder, of: Study, code: str | None = None) -> Ledger:
    """The study's runs in its ledger, as 'study run' enters them."""
    bases = module._bases(cells(of), of.split, Path("prepared"))
    ledger = Ledger(folder.ledger)
    ledger.enter(
        Entry(f"key of {cell.name}", bases.get(cell.name, ""), code or code_fingerprint(), cell, of.split)
        for cell in cells(of)
    )
    return ledger


def split(**options: Any) -> None:
    made = make_splits(read_index(index_path("discs", Path("prepared"))), **options)
    write_splits(made, split_path("discs", Path("prepared"), made.name))


def test_times_from_a_probe(folder: StudyFolder, probed: list[Any]) -> None:
    plan = planned(folder)
    # 24 discs: 14 train (4 batches), 5 validate (2), 5 test (2)
    of = plan.estimates["discs__unet__dice/0"]
    assert of.seconds == pytest.approx(BESIDES + 10 * (4 * 2.0 + 2 * 0.5) + 2 * 0.5)
    assert (of.basis, of.memory, of.parameters) == ("probe", 500_000_000, 1000)
    assert len(probed) == 1, "two losses and two repeats share one measurement"
    assert plan.work == pytest.approx(4 * of.seconds)
    assert plan.wall == pytest.approx(START + 2 * of.seconds)
    assert planned(folder, workers=3).wall == pytest.approx(START + 4 / 3 * of.seconds)
    assert planned(folder, workers=9).wall == START + of.seconds, "never less than the longest run"
    assert len(probed) == 1, "the second time it is read"


def test_where_no_forward_pass_was_measured_it_takes_a_third(
    folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Measured(train_seconds=30.0, parameters=1000)
    monkeypatch.setattr("medseg.study.probe.probe", lambda *_: slow)
    seconds = planned(folder).estimates["discs__unet__dice/0"].seconds
    assert seconds == pytest.approx(BESIDES + 10 * (4 * 30.0 + 2 * 10.0) + 2 * 10.0)


def test_disk(folder: StudyFolder, probed: list[Any]) -> None:
    split(repeats=2)
    plan = planned(folder)
    # 24 grey images of 32 x 32 bytes with as large a mask
    assert plan.arrays == 24 * 32 * 32 * 2
    # 4 bytes a weight: 4 runs, 2 bundles' best, and checkpoints of 4 times the weights for 2 workers
    assert plan.weights == 4 * 1000 * (4 + 2 + 8)
    assert planned(folder, study(keep_weights="best")).weights == 4 * 1000 * (2 + 2 + 8)
    assert planned(folder, study(keep_weights="none")).weights == 4 * 1000 * (0 + 0 + 8)
    axes = {"preprocess": ((), ("clahe",)), "augment": ("vanilla", "filter-offline")}
    # arrays of two preprocessings, and for each and each of 2 repeats fivefold training parts
    training = len(make_splits(read_index(index_path("discs", Path("prepared")))).items(0)["training"])
    grown = planned(folder, study(axes=axes)).arrays
    assert grown == (2 * 24 + 2 * 2 * 5 * training) * 32 * 32 * 2


def test_copies_multiply_the_training_part() -> None:
    def of(augment: str) -> int:
        return growth(Cell(Choice("discs", "unet", "dice", augment), 0, Settings()))

    assert [of(a) for a in ("vanilla", "filter", "filter-offline", "all-leaking", "rotation-offline")] == [
        1,
        1,
        5,
        9,
        2,
    ]


@pytest.mark.parametrize(
    ("dataset", "name", "wanted"),
    [
        ("discs", "holdout", Images(14, 5, 5, "index")),
        # a fold of five tests; the rest is divided three to one
        ("discs", "kfold5", Images(14, 5, 5, "index")),
        ("discs", "kfold3", Images(12, 4, 8, "index")),
        ("kvasir_seg", "holdout", Images(600, 200, 200, "published")),
        ("nothing", "holdout", None),
    ],
)
def test_images_where_nothing_is_split_yet(
    workspace: Path, dataset: str, name: str, wanted: Images | None
) -> None:
    assert images_of(dataset, name, 0, Path("prepared")) == wanted


def test_images_of_a_split(workspace: Path) -> None:
    split(repeats=2, fractions=(0.5, 0.25, 0.25))
    found = images_of("discs", "holdout", 1, Path("prepared"))
    assert found is not None
    assert (found.basis, found.all) == ("split", 24)
    assert found.training == pytest.approx(12, abs=2)


def test_nothing_is_known_without_a_probe(folder: StudyFolder, probed: list[Any]) -> None:
    plan = planned(folder, probing=False)
    assert probed == []
    assert {of.seconds for of in plan.estimates.values()} == {None}
    assert "time: nothing to estimate it from" in plan.words()
    assert plan.models()["hours left"].isna().all()
    usual = planned(folder, study(fixed={"image_size": 32}), probing=False)
    assert usual.estimates["discs__unet__dice/0"].parameters == 31_037_633, "the model's facts say so"


def test_finished_runs_tell_more_than_a_probe(folder: StudyFolder, probed: list[Any]) -> None:
    ledger = enter(folder, study())
    for name in ("discs__unet__dice/0", "discs__unet__bce/0"):
        claim = ledger.claim(key=f"key of {name}")
        assert claim is not None
        ledger.finish(claim)
    rows = {row.name: row for row in ledger.rows()}
    plan = planned(folder)
    assert probed == [], "no model is left to measure"
    done = (rows["discs__unet__dice/0"].seconds + rows["discs__unet__bce/0"].seconds) / 2
    assert plan.estimates["discs__unet__bce/1"].seconds == pytest.approx(done)
    assert plan.estimates["discs__unet__bce/1"].basis == "2 finished runs"
    assert plan.words()[0] == "4 runs: 2 done, 2 waiting"
    assert [cell.name for cell in plan.left] == ["discs__unet__dice/1", "discs__unet__bce/1"]


def test_states(folder: StudyFolder, probed: list[Any]) -> None:
    ledger = enter(folder, study())
    first, second = ledger.claim(), ledger.claim()
    assert first is not None
    assert second is not None
    ledger.fail(first, "no luck")
    third = ledger.claim()
    assert third is not None
    ledger.finish(third)
    plan = planned(folder)
    assert list(plan.runs()["state"]) == ["failed", "running", "done", "waiting"]
    more = planned(folder, study(axes={"repeat": (0, 1, 2)}))
    assert list(more.runs()["state"]) == ["failed", "running", "done", "waiting", "waiting", "waiting"]


def test_other_settings_or_data_make_a_run_again(folder: StudyFolder, probed: list[Any]) -> None:
    split(repeats=2)
    enter(folder, study())
    assert set(planned(folder).states.values()) == {"waiting"}
    assert set(planned(folder, study(fixed={**FIXED, "epochs": 11})).states.values()) == {"changed"}
    split(repeats=2, seed=1)
    assert set(planned(folder).states.values()) == {"changed"}


def test_what_else_a_reader_must_know(folder: StudyFolder, probed: list[Any]) -> None:
    ledger = enter(folder, study(), code="old")
    claim = ledger.claim()
    assert claim is not None
    ledger.finish(claim)
    words = planned(folder, study(axes={"loss": ("dice",)})).words()
    assert "1 done runs are of another version of the code; see --code" in words
    assert "2 runs in the ledger are no longer of the study" in words
    assert "discs: shares of the indexed images, as the split is not made yet" in words
    assert "these are estimates" in words


def test_a_model_whose_probe_fails_is_named(folder: StudyFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "medseg.study.probe.probe",
        lambda setup, *_: MEASURED if setup.model == "unet" else Measured(fault="out of memory"),
    )
    rules = ({"where": {"model": ("ducknet",)}, "set": {"model_arguments": {"filters": 4}}},)
    plan = planned(folder, study(axes={"model": ("unet", "ducknet")}, rules=rules))
    words = plan.words()
    assert "ducknet: its probe failed: out of memory" in words
    assert "without 4 runs that nothing is known of" in words
    table = plan.models().set_index("model")
    assert table["hours left"].isna().to_dict() == {"unet": False, "ducknet": True, "all": True}


def test_gpu_hours_where_runs_go_to_a_gpu(folder: StudyFolder, probed: list[Any]) -> None:
    plan = replace(planned(folder), device="cuda")
    assert f"{plan.work / 3600:.3g} GPU-hours" in " ".join(plan.words())
    two = planned(folder, study(threads=2))
    assert f"{2 * two.work / 3600:.3g} CPU core-hours" in " ".join(two.words())


def test_tables(folder: StudyFolder, probed: list[Any]) -> None:
    plan = planned(folder)
    runs = plan.runs()
    assert list(runs["run"]) == [cell.name for cell in plan.cells]
    assert list(runs["repeat"]) == [0, 0, 1, 1]
    assert set(runs["split"]) == {"holdout"}
    axes = plan.axes().set_index("axis")["runs of each"]
    assert axes["loss"] == "dice (2), bce (2)"
    assert axes["preprocess"] == "none (4)"
    models = plan.models()
    assert list(models["model"]) == ["unet", "all"]
    assert list(models["hours left"]) == [round(plan.work / 3600, 2)] * 2


def test_what_is_expected_is_kept_for_the_status(folder: StudyFolder, probed: list[Any]) -> None:
    plan = planned(folder)
    kept = json.loads((folder.root / "estimates.json").read_text(encoding="utf-8"))
    assert kept == {name: pytest.approx(of.seconds) for name, of in plan.estimates.items()}
    assert set(ProbeCache(folder.root / "probe.json").read().values()) == {MEASURED}
    assert not folder.ledger.exists()


def test_a_folder_that_cannot_be_written_costs_no_plan(folder: StudyFolder, probed: list[Any]) -> None:
    folder.root.parent.write_text("a file where folders should be", encoding="utf-8")
    assert {of.basis for of in planned(folder).estimates.values()} == {"probe"}
    assert len(probed) == 1


def test_nothing_is_kept_where_that_is_not_wanted(folder: StudyFolder) -> None:
    planned(folder, probing=False, keep=False)
    assert not folder.root.parent.exists()


def test_an_unknown_device_has_no_plan(folder: StudyFolder, probed: list[Any]) -> None:
    with pytest.raises(MedsegError, match="unknown device 'gpu': give auto, cpu, cuda or cuda:N"):
        make_plan(study(), Path("prepared"), folder, device="gpu")
    assert probed == []


def test_an_impossible_study_has_no_plan(folder: StudyFolder, probed: list[Any]) -> None:
    with pytest.raises(MedsegError, match="sides divisible"):
        planned(folder, study(fixed={**FIXED, "image_size": 33}))
    assert not folder.root.exists()


def test_setups_are_those_of_the_data_set(workspace: Path) -> None:
    costs = Costs(Path("prepared"), "holdout", "cpu", 1, "c")
    setup = costs.setup(cells(study())[0])
    assert (setup.channels, setup.classes, setup.image_size, setup.batch_size) == (1, 1, (32, 32), 4)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (0.25, "0.25 s"),
        (89, "89 s"),
        (90, "2 min"),
        (3599, "1 h 0 min"),
        (86400, "1 d 0 h"),
        (None, "?"),
    ],
)
def test_durations(seconds: float | None, words: str) -> None:
    assert duration(seconds) == words


def test_sizes() -> None:
    assert [size(n) for n in (0, 999, 1.5e9, 2e12)] == ["?", "1 kB", "1.5 GB", "2.0 TB"]
