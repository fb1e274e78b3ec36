"""A study under ``kill -9``: of a worker, of the command, of everything; then the same command again."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from medseg.bundle.choice import Choice
from medseg.bundle.settings import Settings
from medseg.study.entry import Entry
from medseg.study.folder import StudyFolder, WorkOptions
from medseg.study.key import code_fingerprint
from medseg.study.ledger import Ledger
from medseg.study.process import Process
from medseg.study.spec import Cell
from medseg.study.worker import work

SETTINGS = {"image_size": 32, "epochs": 6, "learning_rate": 1e-2, "model_arguments": {"widths": [4, 8]}}
COMMAND = """
from pathlib import Path
from medseg.study.launch import LaunchOptions
from medseg.study.run import RunOptions, run_study
from medseg.study.spec import Study

axes = {"dataset": ("discs",), "model": ("unet",), "loss": ("dice", "bce"), "preprocess": ((),)}
axes |= {"augment": ("vanilla", "all"), "repeat": (0,)}
study = Study("tiny", axes, fixed=SETTINGS)
run_study(study, RunOptions(tracking_uri="", launch=LaunchOptions(workers=2, device="cpu"), quiet=True))
"""


def start() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", f"SETTINGS = {SETTINGS}\n{COMMAND}"])


def until(condition: Callable[[], object], command: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        assert command.poll() is None, "the command ended before it could be killed"
        time.sleep(0.01)


def test_every_run_is_done_once_with_the_same_results_whatever_is_killed(workspace: Path):
    folder = StudyFolder(workspace / "studies" / "tiny")
    ledger = Ledger(folder.ledger)

    def workers() -> list[Process]:
        if not folder.ledger.is_file():
            return []
        return [row.process for row in ledger.rows(state="running") if row.process and not row.process.gone()]

    def begun() -> bool:
        return any(folder.bundles.glob("*/repeats/*/run.json"))

    # a worker before its first epoch, and then everything, in the middle of whatever it is at
    command = start()
    until(lambda: len(workers()) == 2, command)
    first = workers()[0]
    os.kill(first.pid, signal.SIGKILL)
    until(lambda: any(a.outcome == "died" for a in ledger.attempts()) and begun(), command)
    command.kill()
    for worker in workers():
        os.kill(worker.pid, signal.SIGKILL)
    command.wait()

    assert start().wait(timeout=600) == 0
    assert [row.state for row in ledger.rows()] == ["done"] * 4
    attempts = ledger.attempts()
    assert sorted(a.key for a in attempts if a.outcome == "done") == sorted(row.key for row in ledger.rows())
    assert (first.name, "died") in {(a.owner, a.outcome) for a in attempts}
    assert len(attempts) > 4
    assert not list(folder.bundles.glob("*/repeats/*/resume.pt"))
    assert not [p for p in folder.bundles.glob("*/repeats/*/.*") if p.is_file()]

    whole = uninterrupted(workspace / "whole", [ledger.cells()[row.key] for row in ledger.rows()])
    for row in ledger.rows():
        name = row.name.rpartition("/")[0]
        files = [f.run_folder(name, 0, "holdout") / "cases.csv" for f in (folder, whole)]
        assert files[0].read_bytes() == files[1].read_bytes()


def uninterrupted(root: Path, cells: list[Cell]) -> StudyFolder:
    """The same runs, one after another in this process."""
    folder = StudyFolder(root)
    folder.root.mkdir()
    folder.write_options(WorkOptions(prepared=str(Path("prepared").resolve())))
    entries = [Entry(cell.name, "", code_fingerprint(), cell, "holdout") for cell in cells]
    Ledger(folder.ledger).enter(entries)
    assert work(folder.root, device="cpu") == len(cells)
    return folder


def test_a_run_killed_in_the_middle_goes_on_from_its_checkpoint(workspace: Path, monkeypatch):
    from medseg.engine.handlers import Checkpoints

    cell = Cell(Choice("discs", "unet", "dice"), 0, Settings(**{**SETTINGS, "image_size": (32, 32)}))
    whole = uninterrupted(workspace / "whole", [cell])
    usual = Checkpoints._save
    monkeypatch.setattr(Checkpoints, "_epoch", every_epoch(Checkpoints._epoch))
    seen: list[int] = []

    class Killed(BaseException):
        pass

    def save_and_die(self, engine) -> None:
        usual(self, engine)
        seen.append(engine.state.epoch)
        if engine.state.epoch == 3 and seen.count(3) == 1:
            raise Killed

    monkeypatch.setattr(Checkpoints, "_save", save_and_die)
    folder = StudyFolder(workspace / "cut")
    folder.root.mkdir()
    folder.write_options(WorkOptions(prepared=str(Path("prepared").resolve())))
    Ledger(folder.ledger).enter([Entry("k0", "", code_fingerprint(), cell, "holdout")])
    with contextlib.suppress(Killed):
        work(folder.root, device="cpu")
    assert work(folder.root, device="cpu") == 1
    assert seen == [1, 2, 3, 4, 5, 6]
    files = [f.run_folder(cell.choice.name, 0, "holdout") / "cases.csv" for f in (folder, whole)]
    assert files[0].read_bytes() == files[1].read_bytes()


def every_epoch(usual: Callable[..., None]) -> Callable[..., None]:
    """A checkpoint at every epoch, however short it is."""

    def epoch(self, engine) -> None:
        self.every_seconds = 0
        usual(self, engine)

    return epoch
