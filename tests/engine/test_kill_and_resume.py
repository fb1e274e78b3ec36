"""A training killed at any moment and resumed ends in the numbers of one that never was."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd

from medseg.bundle.choice import Choice
from medseg.bundle.compose import compose

ARGUMENTS = ["--tracking-uri", "", "--set", "checkpoint_seconds=0", "--set", "train::trainer::max_epochs=12"]


def medseg(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from medseg.cli import main; main()", *arguments]


def test_killed_and_resumed_equals_uninterrupted(workspace: Path, small_settings):
    name = compose(
        Choice("discs", "unetplusplus", "bce", "all"),
        Path("whole"),
        small_settings,
        prepared=Path("prepared"),
    ).name
    compose(Choice.parse(name), Path("killed"), small_settings, prepared=Path("prepared"))
    run = ["bundle", "run", name, *ARGUMENTS]
    subprocess.run(medseg(*run, "--bundles", "whole"), check=True, capture_output=True)

    folder = Path("killed") / name / "repeats" / "0"
    process = subprocess.Popen(
        medseg(*run, "--bundles", "killed"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while not _epochs(folder) >= 3:
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (folder / "cases.csv").exists()
    assert 3 <= _epochs(folder) < 12

    subprocess.run(medseg(*run, "--bundles", "killed", "--resume"), check=True, capture_output=True)
    whole = Path("whole") / name / "repeats" / "0"
    assert (whole / "cases.csv").read_text() == (folder / "cases.csv").read_text()
    curves = [pd.read_csv(f / "curves.csv").drop(columns=["epoch_seconds", "time"]) for f in (whole, folder)]
    pd.testing.assert_frame_equal(*curves, check_exact=True)
    assert not (folder / "resume.pt").exists()


def _epochs(folder: Path) -> int:
    path = folder / "curves.csv"
    return len(path.read_text().splitlines()) - 1 if path.exists() and (folder / "resume.pt").exists() else 0
