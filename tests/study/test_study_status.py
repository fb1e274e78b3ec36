"""How a study stands: counts, progress, time left, reasons; from a ledger and files made by hand."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from medseg.bundle.choice import Choice
from medseg.bundle.settings import Settings
from medseg.errors import MedsegError
from medseg.study.entry import Entry
from medseg.study.folder import StudyFolder
from medseg.study.ledger import Ledger
from medseg.study.process import this_process
from medseg.study.spec import Cell
from medseg.study.status import Status, read_status

LOSSES = ("dice", "bce", "iou")


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    """A study of two models and three losses, none of them begun."""
    made = StudyFolder(tmp_path / "studies" / "mine")
    Ledger(made.ledger).enter(entries())
    return made


def entries(models: tuple[str, ...] = ("unet", "ducknet")) -> list[Entry]:
    found = [Cell(Choice("discs", model, loss), 0, Settings()) for model in models for loss in LOSSES]
    return [Entry(cell.name, cell.name, "c", cell, "holdout") for cell in found]


def key(model: str, loss: str) -> str:
    return f"discs__{model}__{loss}/0"


def take(folder: StudyFolder, model: str, loss: str) -> object:
    claim = Ledger(folder.ledger).claim(key=key(model, loss))
    assert claim is not None
    return claim


def took(status: Status, seconds: dict[str, float]) -> Status:
    """The status as if its runs had taken so long."""
    rows = [replace(row, seconds=seconds.get(row.name, row.seconds)) for row in status.rows]
    return replace(status, rows=rows)


def write_run(folder: StudyFolder, model: str, loss: str, epoch: int, epochs: int) -> None:
    run = folder.run_folder(f"discs__{model}__{loss}", 0, "holdout")
    run.mkdir(parents=True)
    (run / "run.json").write_text(json.dumps({"settings": {"epochs": epochs}}), encoding="utf-8")
    lines = ["train_loss", *("0.5" for _ in range(epoch))]
    (run / "curves.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_nothing_has_begun(folder: StudyFolder) -> None:
    status = read_status(folder)
    assert status.counts == {"waiting": 6, "running": 0, "done": 0, "failed": 0, "superseded": 0}
    assert (status.over, status.workers, status.time_left) == (False, 0, None)
    assert status.words() == [
        "mine: 6 runs, 0 done, 0 running, 0 failed, 6 waiting",
        "nobody works on it; 'medseg study run' goes on",
    ]


def test_a_folder_without_a_study(tmp_path: Path) -> None:
    with pytest.raises(MedsegError, match="no study was run here yet; start it with 'medseg study run'"):
        read_status(StudyFolder(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_time_left_that_nothing_tells(folder: StudyFolder) -> None:
    take(folder, "unet", "dice")
    assert read_status(folder).words()[1] == "time left: not known yet, with 1 worker"


def test_how_far_a_run_is(folder: StudyFolder) -> None:
    take(folder, "unet", "dice")
    before = read_status(folder)
    assert before.running()[0].startswith("discs__unet__dice/0: preparing for ")
    write_run(folder, "unet", "dice", epoch=3, epochs=12)
    status = read_status(folder)
    at = status.progress[key("unet", "dice")]
    assert (at.epoch, at.epochs, at.share, at.dead) == (3, 12, 0.25, False)
    assert status.running()[0].startswith("discs__unet__dice/0: epoch 3 of 12 for ")
    assert status.running()[0].endswith(f"on {this_process().name}")


@pytest.mark.parametrize("broken", ["", "{", "[]", '{"settings": 3}', '{"settings": {"epochs": "x"}}'])
def test_a_record_that_is_cut_short_does_no_harm(folder: StudyFolder, broken: str) -> None:
    take(folder, "unet", "dice")
    write_run(folder, "unet", "dice", epoch=3, epochs=12)
    run = folder.run_folder("discs__unet__dice", 0, "holdout")
    (run / "run.json").write_text(broken, encoding="utf-8")
    assert read_status(folder).progress[key("unet", "dice")].epochs is None


def test_a_worker_that_died_is_seen(folder: StudyFolder) -> None:
    script = (
        "import sys; from pathlib import Path; from medseg.study.ledger import Ledger;"
        "print(Ledger(Path(sys.argv[1])).claim() is not None)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder.ledger)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "True"
    status = read_status(folder)
    assert status.progress[key("unet", "dice")].dead
    assert (status.workers, status.time_left) == (0, None)
    assert status.running()[0].endswith("; its worker is gone, and the next one takes it up")
    assert status.words()[1] == "nobody works on it; 'medseg study run' goes on"


def test_time_left_from_runs_of_the_model(folder: StudyFolder) -> None:
    ledger = Ledger(folder.ledger)
    for model, loss in (("unet", "dice"), ("unet", "bce"), ("ducknet", "dice")):
        ledger.finish(take(folder, model, loss))
    take(folder, "unet", "iou")
    write_run(folder, "unet", "iou", epoch=3, epochs=12)
    status = took(
        read_status(folder),
        {key("unet", "dice"): 10.0, key("unet", "bce"): 30.0, key("ducknet", "dice"): 100.0},
    )
    # three quarters of a unet (20 s), and two ducknets, by one worker
    assert status.time_left == pytest.approx(0.75 * 20 + 2 * 100)
    take(folder, "ducknet", "bce")
    two = took(read_status(folder), {row.name: row.seconds for row in status.rows})
    assert two.workers == 2
    assert two.time_left == pytest.approx((0.75 * 20 + 2 * 100) / 2)
    assert two.words()[1] == "time left: about 2 min with 2 workers"


def test_time_left_is_at_least_that_of_the_longest_run(folder: StudyFolder) -> None:
    ledger = Ledger(folder.ledger)
    for model in ("unet", "ducknet"):
        ledger.finish(take(folder, model, "dice"))
    for model, loss in (("unet", "bce"), ("unet", "iou"), ("ducknet", "bce")):
        take(folder, model, loss)
    ledger.finish(take(folder, "ducknet", "iou"))
    status = took(
        read_status(folder),
        {key("unet", "dice"): 1.0, key("ducknet", "dice"): 100.0, key("ducknet", "iou"): 100.0},
    )
    assert status.time_left == pytest.approx(100.0)


def test_time_left_of_a_model_that_nothing_is_done_of(folder: StudyFolder) -> None:
    ledger = Ledger(folder.ledger)
    for loss in ("dice", "bce"):
        ledger.finish(take(folder, "unet", loss))
    take(folder, "unet", "iou")
    seconds = {key("unet", "dice"): 20.0, key("unet", "bce"): 20.0}
    assert took(read_status(folder), seconds).time_left == pytest.approx(20 + 3 * 20), "as the others"
    plan = {key("ducknet", loss): 7.0 for loss in LOSSES} | {key("unet", "iou"): 1000.0}
    (folder.root / "estimates.json").write_text(json.dumps(plan), encoding="utf-8")
    assert took(read_status(folder), seconds).time_left == pytest.approx(20 + 3 * 7), "as planned"


def test_time_left_before_anything_is_done(folder: StudyFolder) -> None:
    take(folder, "unet", "dice")
    assert read_status(folder).time_left is None
    (folder.root / "estimates.json").write_text(
        json.dumps({entry.cell.name: 5.0 for entry in entries()}), encoding="utf-8"
    )
    assert read_status(folder).time_left == pytest.approx(30.0)


def test_failures_are_told_once_for_each_reason(folder: StudyFolder) -> None:
    ledger = Ledger(folder.ledger)
    ledger.fail(take(folder, "unet", "dice"), "the loss became nan")
    ledger.fail(take(folder, "ducknet", "dice"), "the loss became nan")
    ledger.fail(take(folder, "unet", "bce"), "out of memory")
    ledger.fail(take(folder, "unet", "iou"), "a hiccup", retries=1)
    status = read_status(folder)
    assert status.failures() == [
        "discs__unet__dice/0 and 1 more: the loss became nan",
        "discs__unet__bce/0: out of memory",
    ]
    assert "to be tried again: discs__unet__iou/0: a hiccup" in status.words()
    assert status.counts["failed"] == 3


def test_all_is_over(folder: StudyFolder) -> None:
    ledger = Ledger(folder.ledger)
    for entry in entries():
        claim = ledger.claim(key=entry.key)
        assert claim is not None
        ledger.finish(claim)
    status = read_status(folder)
    assert (status.over, status.time_left) == (True, 0.0)
    assert status.words() == ["mine: 6 runs, 6 done, 0 running, 0 failed, 0 waiting"]


def test_superseded_runs_are_told_of_and_not_counted(folder: StudyFolder) -> None:
    Ledger(folder.ledger).enter(entries(("unet",)))
    status = read_status(folder)
    assert status.words()[0] == "mine: 3 runs, 0 done, 0 running, 0 failed, 3 waiting"
    assert "3 earlier runs are superseded: of other settings, data or code" in status.words()
    assert list(status.by("model")["runs"]) == [3, 3]
    assert len(status.runs()) == 6


def test_counts_by_an_axis(folder: StudyFolder) -> None:
    ledger = Ledger(folder.ledger)
    ledger.finish(take(folder, "unet", "dice"))
    ledger.fail(take(folder, "unet", "bce"), "x")
    take(folder, "ducknet", "bce")
    table = read_status(folder).by("model").set_index("model")
    assert table.loc["unet"].to_dict() == {"runs": 3, "waiting": 1, "running": 0, "done": 1, "failed": 1}
    assert table.loc["ducknet"].to_dict() == {"runs": 3, "waiting": 2, "running": 1, "done": 0, "failed": 0}
    assert table.loc["all"].to_dict() == {"runs": 6, "waiting": 3, "running": 1, "done": 1, "failed": 1}
    assert list(read_status(folder).by("preprocess")["preprocess"]) == ["none", "all"]


def test_a_row_per_run(folder: StudyFolder) -> None:
    take(folder, "unet", "dice")
    write_run(folder, "unet", "dice", epoch=3, epochs=12)
    runs = read_status(folder).runs().set_index("name")
    assert runs.loc[key("unet", "dice"), ["state", "epoch", "epochs", "attempts"]].tolist() == [
        "running",
        3,
        12,
        1,
    ]
    assert runs.loc[key("unet", "bce"), "state"] == "waiting"


def test_reading_changes_nothing_and_waits_for_nobody(folder: StudyFolder) -> None:
    import sqlite3

    take(folder, "unet", "dice")
    before = folder.ledger.read_bytes()
    reader = sqlite3.connect(folder.ledger, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM runs").fetchone()
    assert read_status(folder).counts["running"] == 1
    reader.close()
    assert folder.ledger.read_bytes() == before
