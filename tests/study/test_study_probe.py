"""The probe: what it measures, what it keeps, and how it fails."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from medseg.study import probe as module
from medseg.study.probe import Measured, ProbeCache, Setup, measure, peak_memory, probe

TINY = Setup("unet", "dice", (16, 16), 2, 1, model_arguments={"widths": [2, 4]})


def test_a_process_measures_a_setup() -> None:
    found = probe(TINY)
    # 1-2 and 2-2 channels, twice 3x3 with batch normalisation, and so on; counted by torch from the same network
    from medseg.models import build

    network = build("unet", {"widths": [2, 4]}, in_channels=1, out_channels=1)
    assert found.parameters == sum(p.numel() for p in network.parameters())
    assert (found.steps, found.fault, found.gpu_memory) == (3, "", 0)
    assert 0 < found.eval_seconds < found.train_seconds < 10
    # torch alone takes more than 50 MB
    assert 50e6 < found.memory < 8e9


def test_the_median_of_three_steps_behind_the_first_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = iter([9.0, 1.0, 5.0, 2.0, 8.0, 0.5, 0.1, 0.3])
    monkeypatch.setattr(module, "_timed", lambda step, device: next(taken))
    told: list[Measured] = []
    found = measure(TINY, "cpu", 1, 1000.0, told.append)
    assert (found.train_seconds, found.eval_seconds, found.steps) == (2.0, 0.3, 3)
    assert [(t.train_seconds, t.steps) for t in told[:4]] == [(9.0, 0), (1.0, 1), (3.0, 2), (2.0, 3)]
    assert told[-1] == found


def test_where_time_is_up_the_first_step_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_timed", lambda step, device: 7.0)
    found = measure(TINY, "cpu", 1, 0.0, lambda _: None)
    assert (found.train_seconds, found.eval_seconds, found.steps) == (7.0, None, 0)


@pytest.mark.parametrize("loss", ["sparse_cross_entropy", "weighted_cross_entropy", "binary_cross_entropy"])
def test_a_classifier_is_measured_with_classes_as_labels(loss: str) -> None:
    small = {"depths": [1, 1, 1, 1], "widths": [2, 2, 2, 2]}
    setup = Setup("resnet50", loss, (32, 32), 4, 1, 3, model_arguments=small)
    labels = module._labels(setup)
    assert labels.shape == (4, 3) and labels.sum(1).tolist() == [1, 1, 1, 1]
    found = measure(setup, "cpu", 1, 1000.0, lambda _: None)
    assert found.steps == 3 and found.train_seconds is not None and found.train_seconds > 0


def test_a_setup_that_cannot_be_built_is_told_in_a_line() -> None:
    found = probe(replace(TINY, model_arguments={"widths": [0]}))
    assert "widths must be" in found.fault
    assert "\n" not in found.fault
    assert found.train_seconds is None


def test_what_was_measured_before_the_process_was_killed_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    line = json.dumps({"train_seconds": 2.0, "parameters": 5})
    script = f"import os; print({line!r}, flush=True); print('cut', flush=True); os.kill(os.getpid(), 9)"
    _instead(monkeypatch, script)
    assert probe(TINY) == Measured(
        train_seconds=2.0, parameters=5, fault="its process was ended by signal 9; out of memory?"
    )


def test_a_process_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GRACE", 0.5)
    _instead(monkeypatch, "import signal; signal.pause()")
    assert probe(TINY, limit=0.5).fault == "ended after 1 s without a training step"


def _instead(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Run this Python code in place of the probe's process."""
    import subprocess
    import sys

    run = subprocess.run
    monkeypatch.setattr(
        module.subprocess, "run", lambda command, **more: run([sys.executable, "-c", script], **more)
    )


@pytest.mark.parametrize(
    "change",
    [
        {"model": "ducknet"},
        {"image_size": (16, 32)},
        {"batch_size": 3},
        {"channels": 3},
        {"classes": 2},
        {"frozen_stages": 1},
        {"model_arguments": {}},
    ],
)
def test_what_a_measurement_is_kept_by(change: dict) -> None:
    assert replace(TINY, **change).key("cpu", 1, "c") != TINY.key("cpu", 1, "c")


def test_losses_share_a_measurement_and_machines_do_not() -> None:
    assert replace(TINY, loss="bce", loss_arguments={"a": 1}).key("cpu", 1, "c") == TINY.key("cpu", 1, "c")
    keys = {TINY.key(*of) for of in (("cpu", 1, "c"), ("cuda", 1, "c"), ("cpu", 2, "c"), ("cpu", 1, "d"))}
    assert len(keys) == 4


def test_measurements_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Setup] = []

    def fake(setup: Setup, device: str, threads: int, limit: float) -> Measured:
        asked.append(setup)
        return Measured(train_seconds=float(setup.batch_size))

    monkeypatch.setattr(module, "probe", fake)
    cache = ProbeCache(tmp_path / "study" / "probe.json")
    other = replace(TINY, batch_size=5)
    assert cache.measured([TINY], "cpu", 1, "c") == {TINY.key("cpu", 1, "c"): Measured(train_seconds=2.0)}
    both = cache.measured([TINY, other], "cpu", 1, "c")
    assert [m.train_seconds for m in both.values()] == [2.0, 5.0]
    assert asked == [TINY, other], "each was measured once"
    assert ProbeCache(cache.path).read() == both
    cache.path.write_text("[]", encoding="utf-8")
    assert cache.read() == {}


def test_memory_is_that_of_this_process() -> None:
    before = peak_memory()
    held = bytearray(64 << 20)
    held[:: 1 << 12] = b"x" * len(held[:: 1 << 12])
    assert peak_memory() >= max(before, 64 << 20)
