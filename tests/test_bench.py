"""The benches run, give every row, and refuse to time things that are not equal. No time is asserted."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from medseg import models
from medseg.errors import MedsegError
from medseg.losses import LOSSES
from medseg.metrics import overlap
from medseg.models import MODELS

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


def test_models_give_a_row_for_every_part(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--small", "--size", "32", "--batch", "2", "--rounds", "2", "--device", "cpu"]
    with pytest.raises(SystemExit) as stopped:
        run("models", tmp_path, "--models", "unet", "unett", *options)
    assert str(stopped.value).startswith("unknown model 'unett'. Did you mean 'unet'?")
    result = json.loads((tmp_path / "result.json").read_text())
    rows = result["results"]
    names = [("unet", "forward", "medseg"), ("unet", "training", "medseg")]
    assert [(row["model"], row["part"], row["way"]) for row in rows] == names
    network = models.build("unet", in_channels=3, out_channels=1, **MODELS["unet"].facts["small"])
    for row in rows:
        assert well_formed(row) and row["ratio"] == 1 and row["ms"] > 0
        assert row["parameters"] == sum(parameter.numel() for parameter in network.parameters())
    assert 0 <= rows[0]["MiB"] <= rows[1]["MiB"]
    assert result["settings"]["size"] == 32
    printed = capsys.readouterr().out.splitlines()
    assert [tuple(line.split()[:3]) for line in printed] == names


def test_models_leave_out_one_that_fails_and_say_why(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = runpy.run_path(str(BENCH / "models.py"))
    job = {
        "model": "unet",
        "way": "medseg",
        "size": 18,
        "batch": 2,
        "rounds": 1,
        "device": "cpu",
        "small": True,
    }
    with pytest.raises(MedsegError, match="unet needs sides divisible by 4; got 18x18"):
        bench["measure"](job)
    failed = subprocess.CompletedProcess([], 1, stdout="", stderr="Traceback\nMedsegError: no such luck\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(SystemExit, match=r"^unet \(medseg\): MedsegError: no such luck$"):
        bench["main"](["--models", "unet", "--device", "cpu"])


@pytest.mark.parametrize(
    ("model", "parameters"),
    [
        ("unet", 31_113_217),
        ("unetplusplus", 9_119_332),
        ("deeplabv3", 39_633_729),
        ("deeplabv3plus", 26_677_585),
    ],
)
def test_models_are_timed_against_networks_of_the_same_kind(model: str, parameters: int) -> None:
    bench = runpy.run_path(str(BENCH / "models.py"))
    label, _ = bench["EQUIVALENTS"][model]
    with torch.device("meta"):
        networks = {way: bench["builder"](model, way, False)() for way in ("medseg", label)}
        bench["check"](model, networks, torch.zeros(2, 3, 64, 64))
    assert sum(parameter.numel() for parameter in networks[label].parameters()) == parameters
    assert sum(parameter.numel() for parameter in networks["medseg"].parameters()) == pytest.approx(
        parameters, rel=0.01
    )


def test_models_refuse_networks_that_are_not_of_the_same_kind() -> None:
    check = runpy.run_path(str(BENCH / "models.py"))["check"]

    class Twice(torch.nn.Conv2d):
        def forward(self, images: torch.Tensor) -> Any:
            logits = super().forward(images)
            return (logits, logits) if self.training else logits

    images = torch.zeros(2, 3, 8, 8)
    medseg = torch.nn.Conv2d(3, 1, 1)
    check("model", {"medseg": medseg, "other": torch.nn.Conv2d(3, 1, 3, padding=1)}, images)
    with pytest.raises(SystemExit, match=r"model: other gives logits of the shape \(2, 2, 8, 8\)"):
        check("model", {"medseg": medseg, "other": torch.nn.Conv2d(3, 2, 1)}, images)
    with pytest.raises(SystemExit, match="numbers of outputs differ: {'medseg': 1, 'other': 2}"):
        check("model", {"medseg": medseg, "other": Twice(3, 1, 1)}, images)


def test_models_take_turns_in_a_mode_of_their_own() -> None:
    bench = runpy.run_path(str(BENCH / "models.py"))
    calls: list[tuple[str, bool, bool]] = []

    class Watched(torch.nn.Conv2d):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            calls.append((self.name, self.training, torch.is_grad_enabled()))
            return super().forward(images)

    networks = {name: Watched(3, 1, 1) for name in ("medseg", "other")}
    for name, network in networks.items():
        network.name = name
    for number in (0, 1):
        spent = bench["one_round"](number, networks, torch.zeros(2, 3, 8, 8))
        assert all(spent[part].keys() == {"medseg", "other"} for part in ("forward", "training"))
    turns = [["medseg", "other"], ["other", "medseg"]]
    assert calls == [(name, mode, mode) for turn in turns for mode in (False, True) for name in turn]
    assert all(network.weight.grad is not None for network in networks.values())


WIDE = """
import json, runpy, sys, torch

class Wide(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(16 * 2**20))  # 64 MiB

    def forward(self, images):
        # 64 MiB more, and as much again for each gradient
        return images[:1, :1] * (self.weight * 2).mean()

_, peaks = runpy.run_path(sys.argv[1])["memory"](Wide, torch.zeros(2, 3, 8, 8))
print(json.dumps(peaks))
"""


def test_models_memory_is_that_of_the_network_and_the_pass() -> None:
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("only Linux forgets a peak")
    # a process of its own, as the bench has: memory that another test gave back would be used again unseen
    command = [sys.executable, "-c", WIDE, str(BENCH / "models.py")]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    peaks = json.loads(told)
    assert 120 < peaks["forward"] < 160
    assert peaks["training"] > peaks["forward"] + 50


def test_ranking_gives_a_row_for_every_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = {"losses": 3, "models": 2, "datasets": 2, "repeats": 2, "cases": 5}
    options = [text for name, size in sizes.items() for text in (f"--{name}", str(size))]
    result = run("ranking", tmp_path, "--rounds", "1", *options)
    ways = ["medseg", "medseg, file by file", "pandas, file by file", "folder of runs", "one table"]
    assert [row["way"] for row in result["results"]] == ways
    assert all(well_formed(row) and row["s"] > 0 for row in result["results"])
    assert [line[6:28].strip() for line in capsys.readouterr().out.splitlines()] == ways


def test_ranking_refuses_readers_that_differ_and_a_rank_that_fails() -> None:
    bench = runpy.run_path(str(BENCH / "ranking.py"))
    table = pd.DataFrame({"dice": [0.1, 0.3]})
    bench["check"]({"medseg": table, "other": table.copy()})
    with pytest.raises(SystemExit, match="other and medseg differ"):
        bench["check"]({"medseg": table, "other": table * (1 + 2**-52)})
    with pytest.raises(SystemExit, match="medseg rank failed, .*\n.*no such file"):
        bench["rank"](["absent.csv"])
