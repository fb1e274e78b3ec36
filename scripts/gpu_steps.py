"""The steps of scripts/gpu-check: what there is to run, and how a command is run, stopped and read."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: lines of each output that are kept of a step that is not ok
TAIL = 40
Rows = list[dict[str, Any]]


@dataclass
class Step:
    """One thing to run, and what came of it.

    Args:
        name: what ``--steps`` calls it.
        title: its heading in the report.
        limit: seconds after which it is stopped.
        status: ``not run``, ``running``, ``ok``, ``failed``, ``overtime`` or ``skipped``.
        seconds: that it took.
        reason: why it is not ok.
        rows: its figures.
        tail: the end of its output, if it is not ok.
    """

    name: str
    title: str
    limit: float
    status: str = "not run"
    seconds: float = 0.0
    reason: str = ""
    rows: Rows = field(default_factory=list)
    tail: list[str] = field(default_factory=list)


def plan() -> list[Step]:
    """The steps in their order; the last takes the time that is left."""
    return [
        Step("install", "Packages installed from wheels", 90),
        Step("environment", "Machine", 60),
        Step("tests", "CUDA tests", 240),
        Step("training_tiny", "Training loop, tiny U-Net (8, 16, 32)", 100),
        Step("training_full", "Training loop, the full U-Net (64 to 1024)", 110),
        Step("epochs", "The study's settings (224 x 224, batch 8)", 110),
        Step("models", "Every model at the study's settings, mixed precision", 180),
        Step("real", "Real images, the study's settings", 600),
    ]


def stopped_after(
    limit: float, command: list[str], files: list[Path], env: dict[str, str], folder: Path
) -> int:
    """Run a command with its output in two files, and end it with all its children when its time is up.

    Raises:
        TimeoutExpired: it was stopped.
    """
    with files[0].open("wb") as out, files[1].open("wb") as err:
        process = subprocess.Popen(
            command, stdout=out, stderr=err, env=env, cwd=folder, preexec_fn=os.setpgrp
        )
        try:
            return process.wait(timeout=max(1.0, limit))
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def tail(files: list[Path]) -> list[str]:
    """The last lines of what a step said, standard error last."""
    texts = [file.read_text(encoding="utf-8", errors="replace").rstrip() for file in files]
    return [line for text in texts for line in text.splitlines()[-TAIL:]]


def test_rows(output: str) -> Rows:
    """A row per test of pytest's verbose report, with the reason of those that did not pass."""
    results = r"PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS"
    pattern = rf"^\S*?(\w+\.py::\S.*?) ({results})\b *(?:\((.*?)\))? *(?:\[ *\d+%\])?$"
    reasons = dict(re.findall(r"^(?:FAILED|ERROR) \S*?(\w+\.py::\S+) - (.*)$", output, re.M))
    return [
        {"test": test, "result": result.lower(), "reason": reasons.get(test, skipped)}
        for test, result, skipped in re.findall(pattern, output, re.M)
    ]
