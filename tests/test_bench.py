"""The benches run, give every row, and refuse to time things that are not equal. No time is asserted."""

from __future__ import annotations

import json
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from medseg.losses import LOSSES
from medseg.metrics import overlap

BENCH = Path(__file__).resolve().parents[1] / "scripts" / "bench"
TOY = ["--rounds", "2", "--images", "20", "--size", "32"]


@pytest.fixture(autouse=True)
def one_thread_only_here() -> Iterator[None]:
    """The bench sets torch's threads and seed for its process, which here is everyone's."""
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        yield
    torch.set_num_threads(threads)


def run(bench: str, folder: Path, *arguments: str) -> dict[str, Any]:
    """The JSON of a bench at toy size."""
    output = folder / "result.json"
    runpy.run_path(str(BENCH / f"{bench}.py"))["main"]([*arguments, "--json", str(output)])
    return json.loads(output.read_text())


def well_formed(row: dict[str, Any]) -> bool:
    return row["ratio"] > 0 and row["ratio_min"] <= row["ratio"] <= row["ratio_max"]


def test_components_give_a_row_for_every_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = run("components", tmp_path, *TOY)
    rows = result["results"]
    names = {(row["part"], row["name"]) for row in rows}
    others = {"dice", "iou", "tversky", "bce", "focal", "focal_lin2017", "dice_bce", "dice_focal"}
    assert {name for part, name in names if part == "losses"} == others
    assert {name for part, name in names if part == "metrics"} == {
        "confusion count",
        "four metrics per case",
    }
    assert {name for part, name in names if part == "data"} == {"epoch of 12 images"}
    printed = capsys.readouterr().out.splitlines()
    for part, name in names:
        ways = [row["way"] for row in rows if (row["part"], row["name"]) == (part, name)]
        assert ways[0] == "medseg"
        assert len(set(ways)) == len(ways) == (2 if part == "losses" else 3)
        for way in ways:
            assert any(line.startswith(part) and f" {name} " in line and way in line for line in printed)
    assert all(well_formed(row) and row["ms"] > 0 for row in rows)
    assert all(row["ratio"] == 1 for row in rows if row["way"] == "medseg")
    assert result["settings"]["size"] == 32


def test_components_refuse_a_loss_that_is_not_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = LOSSES["dice"]
    monkeypatch.setattr(LOSSES, "build", lambda name: entry.build(smooth=2.0))
    monkeypatch.setattr("medseg.losses.build", LOSSES.build)
    with pytest.raises(SystemExit, match="dice: MONAI DiceLoss and medseg differ"):
        run("components", tmp_path, *TOY)
    assert not (tmp_path / "result.json").exists()


def test_components_refuse_counts_that_are_not_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    confusion = overlap.confusion
    monkeypatch.setattr(overlap, "confusion", lambda *masks: confusion(*masks).flip(-1))
    with pytest.raises(SystemExit, match="confusion count: four passes and medseg differ"):
        run("components", tmp_path, *TOY)


def test_startup_gives_a_row_for_every_process(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench = runpy.run_path(str(BENCH / "startup.py"))
    for name in ("import torch", "import monai"):  # only these rows' imports are left out: they take seconds
        bench["PROCESSES"][name] = (["-c", "print('1.0')"], ".")
    bench["main"](["--rounds", "1", "--cold", "--json", str(tmp_path / "result.json")])
    rows = json.loads((tmp_path / "result.json").read_text())["results"]
    names = ["python -c pass", "medseg --help", "medseg losses", "import torch", "import monai"]
    assert [row["name"] for row in rows] == names
    assert rows[0]["ratio"] == 1
    assert all(well_formed(row) and row["cpu_s"] > 0 and row["wall_s"] > 0 for row in rows)
    printed = capsys.readouterr().out.splitlines()
    assert [line[:16].strip() for line in printed] == names


def test_startup_refuses_a_process_that_fails_or_prints_nothing() -> None:
    bench = runpy.run_path(str(BENCH / "startup.py"))
    bench["PROCESSES"]["broken"] = (["-c", "raise SystemExit('no such thing')"], "")
    bench["PROCESSES"]["silent"] = (["-c", "pass"], "a word")
    with pytest.raises(SystemExit, match="broken failed, .*\nno such thing"):
        bench["spent"]("broken")
    with pytest.raises(SystemExit, match="silent failed"):
        bench["spent"]("silent")


def test_tracking_gives_a_row_for_every_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = run("tracking", tmp_path, "--rounds", "2", "--epochs", "2", "--steps", "2")
    ways = ["medseg", "log_metric", "MLFlowHandler", "MLFlowHandler, epochs only"]
    assert [row["way"] for row in result["results"]] == ways
    for row in result["results"]:
        assert well_formed(row)
        for clock in ("cpu", "wall"):
            seconds = row[f"{clock}_ms"] / 1000
            assert row[f"{clock}_share"] == pytest.approx(seconds / result["settings"]["send_every_s"])
        assert min(row["cpu_ms"], row["cpu_ms_early"], row["cpu_ms_late"], row["wall_ms"]) > 0
    assert result["first_message_cpu_s"] > 0
    first, *printed = capsys.readouterr().out.splitlines()
    assert first.startswith("medseg's first message")
    assert [line[:28].strip() for line in printed] == ways


def test_tracking_refuses_a_store_that_lacks_an_epoch_or_holds_another_value() -> None:
    bench = runpy.run_path(str(BENCH / "tracking.py"))
    names = bench["curve"](bench["epoch_values"](1))

    def curves() -> dict[str, dict[int, float]]:
        return {
            name: {epoch: bench["curve"](bench["epoch_values"](epoch))[name] for epoch in (1, 2, 3)}
            for name in names
        }

    bench["check"]({"medseg": curves(), "log_metric": curves()}, 3)
    lacking, wrong = curves(), curves()
    del lacking["val/dice"][2]
    wrong["train/loss"][3] += 0.1
    for held in (lacking, wrong):
        with pytest.raises(SystemExit, match="log_metric: its store does not hold the curves of 3 epochs"):
            bench["check"]({"medseg": curves(), "log_metric": held}, 3)
