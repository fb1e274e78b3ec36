"""Workers in this process, on runs of a second each; what happens to processes is tested beside the local engine."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from medseg.bundle.choice import Choice
from medseg.bundle.compose import compose
from medseg.bundle.open import Bundle
from medseg.bundle.settings import Settings
from medseg.engine import workflow
from medseg.errors import MedsegError
from medseg.study import heart as heart_module
from medseg.study.attempt import MARKER, epochs_of, fit_bundle, fit_repeat, has_results, keep_weights
from medseg.study.database import transaction
from medseg.study.entry import Claim, Entry
from medseg.study.folder import StudyFolder, WorkOptions
from medseg.study.heart import CLAIM_LOST, Heart
from medseg.study.key import code_fingerprint
from medseg.study.ledger import Ledger
from medseg.study.process import this_process
from medseg.study.spec import Cell
from medseg.study.worker import _Growth, told, work

SMALL = Settings(image_size=(32, 32), epochs=2, learning_rate=1e-2, model_arguments={"widths": [4, 8]})
PLAIN = Cell(Choice("discs", "unet", "dice"), 0, SMALL)


def study_of(root: Path, *cells: Cell, **options: object) -> StudyFolder:
    folder = StudyFolder(root)
    folder.root.mkdir(parents=True)
    folder.write_options(WorkOptions(prepared=str(Path("prepared").resolve()), **options))
    entries = [Entry(f"k{i}", "", code_fingerprint(), cell, "holdout") for i, cell in enumerate(cells)]
    Ledger(folder.ledger).enter(entries)
    return folder


def claim_of(cell: Cell, key: str = "k0", code: str = "c0") -> Claim:
    return Claim(key, "token", cell, "holdout", code)


def test_runs_in_one_process_have_the_numbers_of_fresh_processes(workspace: Path):
    augmented = Cell(Choice("discs", "unet", "bce", "all"), 1, SMALL)
    failing = Cell(Choice("discs", "unet", "bce"), 0, replace(SMALL, learning_rate=1e30))
    folder = study_of(workspace / "one", PLAIN, failing, augmented, retries=1)
    before = list(sys.path)
    assert work(folder.root, device="cpu") == 2
    assert sys.path == before
    done, failed, last = Ledger(folder.ledger).rows()
    assert (done.state, last.state) == ("done", "done")
    assert (failed.state, failed.attempts) == ("failed", 2)
    assert failed.error.startswith("the training loss became nan in epoch 1: ")
    assert [a.outcome for a in Ledger(folder.ledger).attempts()] == ["done", "failed", "done", "failed"]
    assert work(folder.root, device="cpu") == 0

    alone = study_of(workspace / "alone", augmented)
    command = [sys.executable, "-m", "medseg.study.worker", str(alone.root), "--device", "cpu"]
    subprocess.run(command, check=True)
    results = [
        (f.run_folder(augmented.choice.name, 1, "holdout") / "cases.csv").read_bytes()
        for f in (folder, alone)
    ]
    assert results[0] == results[1]
    assert next(iter(alone.logs.glob("*.log"))).read_text().startswith(f"{augmented.name}: begins\n")


def test_a_worker_claims_no_more_than_it_may(workspace: Path, monkeypatch):
    made = []
    monkeypatch.setattr("medseg.study.attempt.attempt", lambda *arguments: made.append(arguments[2].key))
    folder = study_of(workspace / "s", *(replace(PLAIN, repeat=k) for k in range(5)))
    assert work(folder.root, only="k3") == 1
    assert work(folder.root, limit=2) == 2
    assert work(folder.root, stop=lambda: True) == 1
    assert work(folder.root) == 1
    assert made == ["k3", "k0", "k1", "k2", "k4"]


def test_a_run_that_was_killed_after_its_results_is_not_trained_again(workspace: Path):
    folder = study_of(workspace / "s", PLAIN)
    work(folder.root, device="cpu")
    place = folder.run_folder(PLAIN.choice.name, 0, "holdout")
    released = folder.bundles / PLAIN.choice.name / "models" / "model.pt"
    stamps = [(place / name).stat().st_mtime_ns for name in ("cases.csv", "model.pt")]
    released.unlink()
    with transaction(folder.ledger) as db:  # as it stood before the end was entered
        owner = replace(this_process(), started=1)
        db.execute("UPDATE runs SET state = 'running', token = 't', beats = 0, started = ?", (owner.started,))
    assert work(folder.root, device="cpu") == 1
    assert [(place / name).stat().st_mtime_ns for name in ("cases.csv", "model.pt")] == stamps
    assert released.read_bytes() == (place / "model.pt").read_bytes()


def test_a_bundle_of_other_settings_is_moved_away_whole(workspace: Path):
    folder = StudyFolder(workspace / "s")
    first = fit_bundle(folder, claim_of(PLAIN), Path("prepared"))
    (first.root / "repeats" / "0").mkdir(parents=True)
    (first.root / "repeats" / "0" / "cases.csv").write_text("old")
    assert fit_bundle(folder, claim_of(PLAIN), Path("prepared")) == first
    assert not folder.superseded.exists()

    longer = replace(PLAIN, settings=replace(SMALL, epochs=3))
    second = fit_bundle(folder, claim_of(longer), Path("prepared"))
    assert second.read("train")["epochs"] == 3
    assert not (second.root / "repeats").exists()
    old = folder.superseded / f"{PLAIN.choice.name}-1"
    assert (old / "repeats" / "0" / "cases.csv").read_text() == "old"


def test_a_bundle_and_a_repeat_that_were_moved_away_come_back(workspace: Path):
    folder = StudyFolder(workspace / "s")
    longer = replace(PLAIN, settings=replace(SMALL, epochs=3))
    for cell, key in ((PLAIN, "k0"), (longer, "k1")):
        place = fit_bundle(folder, claim_of(cell), Path("prepared")).run_folder(0)
        fit_repeat(folder, place, key)
        (place / "cases.csv").write_text(key)
    for cell, key, at_home in ((PLAIN, "k0", 2), (longer, "k1", 3), (PLAIN, "k0", 2)):
        bundle = fit_bundle(folder, claim_of(cell), Path("prepared"))
        assert bundle.read("train")["epochs"] == at_home
        assert (bundle.run_folder(0) / "cases.csv").read_text() == key
        assert len(list(folder.superseded.iterdir())) == 1
    # other data: the same bundle, another key
    place = folder.run_folder(PLAIN.choice.name, 0, "holdout")
    for key in ("k2", "k0"):
        fit_repeat(folder, place, key)
        assert (place / "cases.csv").exists() == (key == "k0")
        assert has_results(place, "k0") == (key == "k0")


def test_configs_of_other_code_are_made_anew_and_kept_and_repeats_stay(workspace: Path):
    folder = StudyFolder(workspace / "s")
    bundle = fit_bundle(folder, claim_of(PLAIN), Path("prepared"))
    (bundle.root / "configs" / "train.yaml").write_text("epochs: 7\n")
    (bundle.root / "repeats" / "0").mkdir(parents=True)
    fresh = fit_bundle(folder, claim_of(PLAIN, code="c1"), Path("prepared"))
    assert fresh.read("train")["epochs"] == 2
    assert (fresh.root / "repeats" / "0").is_dir()
    assert Bundle(folder.superseded / f"{PLAIN.choice.name}-1").read("train")["epochs"] == 7
    assert sorted(p.name for p in folder.bundles.iterdir()) == [".lock", PLAIN.choice.name]


def test_what_a_killed_composing_left_is_cleared(workspace: Path):
    folder = StudyFolder(workspace / "s")
    (folder.bundles / f".{PLAIN.choice.name}.k1ll" / "configs").mkdir(parents=True)
    fit_bundle(folder, claim_of(PLAIN), Path("prepared"))
    assert sorted(p.name for p in folder.bundles.iterdir()) == [".lock", PLAIN.choice.name]


def test_a_repeat_of_another_key_is_moved_away_and_half_files_are_cleared(tmp_path: Path):
    folder = StudyFolder(tmp_path)
    place = folder.run_folder("b", 0, "holdout")
    fit_repeat(folder, place, "k0")
    (place / "cases.csv").write_text("mine")
    (place / ".model.pt.k1ll").write_text("half")
    fit_repeat(folder, place, "k0")
    assert sorted(p.name for p in place.iterdir()) == ["cases.csv", MARKER]
    assert has_results(place, "k0")
    assert not has_results(place, "k1")
    fit_repeat(folder, place, "k1")
    assert [p.name for p in place.iterdir()] == [MARKER]
    assert (folder.superseded / "b-1" / "repeats" / "0" / "cases.csv").read_text() == "mine"


@pytest.mark.parametrize(
    ("which", "repeats", "released"),
    [("all", ["0", "1", "2"], True), ("best", ["1"], True), ("none", [], False)],
)
def test_only_the_weights_that_are_wanted_stay(workspace: Path, which, repeats, released):
    bundle = compose(PLAIN.choice, Path("bundles"), SMALL, prepared=Path("prepared"))
    for repeat, dice in enumerate((0.3, 0.5, 0.4)):
        place = bundle.run_folder(repeat)
        place.mkdir(parents=True)
        (place / "model.pt").write_text(f"weights {repeat}")
        (place / "run.json").write_text(json.dumps({"best_val_dice": dice}))
        (place / "cases.csv").write_text("results")
        workflow.release(str(bundle.root))
        keep_weights(bundle, which)
    assert [p.parent.name for p in sorted(bundle.root.glob("repeats/*/model.pt"))] == repeats
    assert len(bundle.finished()) == 3
    model = bundle.root / "models" / "model.pt"
    assert model.is_file() == released
    assert not released or model.read_text() == "weights 1"
    assert json.loads((bundle.root / "models" / "model.json").read_text())["repeat"] == "1"


def test_epochs_on_disk(tmp_path: Path):
    assert epochs_of(tmp_path) == 0
    (tmp_path / "curves.csv").write_text("epoch,train_loss\n")
    assert epochs_of(tmp_path) == 0
    (tmp_path / "curves.csv").write_text("epoch,train_loss\n1,0.5\n2,0.4\n")
    assert epochs_of(tmp_path) == 2


def test_a_reason_is_one_line_without_the_folders_of_this_machine(tmp_path: Path):
    folder = StudyFolder(tmp_path / "s")
    options = WorkOptions(prepared="/home/me/prepared", data={"discs": "/data/patients"})
    error = MedsegError("/data/patients/a.png:\n  broken; see /home/me/prepared/discs")
    assert told(error, folder, options, PLAIN) == "a.png: broken; see discs"
    try:
        try:
            raise ZeroDivisionError("inner")
        except ZeroDivisionError as inner:
            raise RuntimeError("outer") from inner
    except RuntimeError as outer:
        assert told(outer, folder, options, PLAIN) == "ZeroDivisionError: inner"


def test_a_folder_without_a_study_is_named(tmp_path: Path):
    with pytest.raises(MedsegError, match=r"no study here \(options.json is missing\)"):
        work(tmp_path)


class Exited(BaseException):
    """What takes the place of the end of the process."""


@pytest.fixture
def exits(monkeypatch: pytest.MonkeyPatch) -> None:
    def leave(code: int) -> None:
        raise Exited(code)

    monkeypatch.setattr(heart_module.os, "_exit", leave)


def test_a_worker_whose_claim_was_lost_ends(ledger: Ledger, exits):
    heart = Heart(ledger)
    claim = ledger.claim()
    heart.hold(claim)
    heart._beat()
    ledger.release(claim)
    with pytest.raises(Exited, match=str(CLAIM_LOST)):
        heart._beat()


def test_a_ledger_out_of_reach_is_borne_until_another_may_have_the_run(ledger: Ledger, exits, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(heart_module.time, "monotonic", lambda: clock[0])
    heart = Heart(ledger)
    heart.hold(ledger.claim())

    def away(claim: Claim) -> bool:
        raise MedsegError("the ledger cannot be used")

    monkeypatch.setattr(ledger, "beat", away)
    clock[0] += 49
    heart._beat()
    clock[0] += 2
    with pytest.raises(Exited, match=str(CLAIM_LOST)):
        heart._beat()


def test_a_process_that_has_grown_is_left(monkeypatch):
    size = [10 << 30]
    monkeypatch.setattr("medseg.study.worker._resident", lambda: size[0])
    grown = _Growth()
    assert not grown()
    size[0] += 2 << 30
    assert not grown()
    size[0] += 1
    assert grown()
