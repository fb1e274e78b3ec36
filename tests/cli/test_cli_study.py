"""``medseg study``: run, plan and status as people and scripts call them."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from medseg.cli import main
from medseg.study.entry import Entry
from medseg.study.folder import StudyFolder
from medseg.study.grid import cells
from medseg.study.ledger import Ledger
from medseg.study.probe import Measured
from medseg.study.run import RunOptions
from medseg.study.spec import read_study

TEXT = """study: tiny
axes:
  dataset: discs
  model: unet
  loss: [dice, bce]
  repeat: 2
fixed:
  image_size: 32
  epochs: 2
  learning_rate: 1e-2
  model_arguments: {widths: [2, 4]}
"""


@pytest.fixture
def file(workspace: Path) -> Path:
    path = workspace / "tiny.yaml"
    path.write_text(TEXT, encoding="utf-8")
    return path


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """No process is started to measure."""
    monkeypatch.setattr(
        "medseg.study.probe.probe",
        lambda *_: Measured(train_seconds=1.0, eval_seconds=0.5, memory=300_000_000, parameters=1000),
    )


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["study", *map(str, arguments)])


def entered(file: Path) -> Ledger:
    study = read_study(file)
    ledger = Ledger(StudyFolder(Path("studies/tiny")).ledger)
    ledger.enter(Entry(cell.name, cell.name, "c", cell, study.split) for cell in cells(study))
    return ledger


def test_run_status_and_plan_for_real(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All but the processes that an engine starts, which tests of the engines do."""
    from medseg.study.worker import work

    monkeypatch.setattr("medseg.study.run.launch", lambda engine, folder, options, watch: work(folder.root))
    file.write_text(TEXT.replace("[dice, bce]", "[dice]"), encoding="utf-8")
    result = call("run", file, "--tracking-uri", "", "--quiet")
    assert result.exit_code == 0, result.output
    assert "tiny: 2 runs, 2 done, 0 running, 0 failed, 0 waiting" in result.stdout
    assert len(list(Path("studies/tiny/bundles").glob("*/repeats/*/cases.csv"))) == 2
    status = call("status", file, "--format", "json")
    assert [row["state"] for row in json.loads(status.stdout)] == ["done", "done"]
    planned = call("plan", file, "--runs", "--no-probe", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(planned.stdout)))
    assert [row["state"] for row in rows] == ["done"] * 2
    assert {row["basis"] for row in rows} == {"2 finished runs"}
    ledger = Ledger(Path("studies/tiny/ledger.db"))
    before = ledger.attempts()
    assert call("run", file, "--tracking-uri", "", "--quiet").exit_code == 0
    assert ledger.attempts() == before, "nothing was left to do"
    assert len(before) == 2


def test_options_reach_the_study(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    got: list[Any] = []

    def fake(study: Any, options: RunOptions) -> None:
        got.extend((study, options))
        entered(file)

    monkeypatch.setattr("medseg.study.run.run_study", fake)
    options = ["--data", "discs=source", "--prepared", "p", "--tracking-uri", "http://x", "--engine", "slurm"]
    options += [
        "--workers",
        3,
        "--device",
        "cuda:1",
        "--per-gpu",
        2,
        "--partition",
        "gpu",
    ]
    options += ["--account", "me", "--time", "12:00:00", "--mem", "16G", "--gpus", 1, "--cpus", 4, "--wait"]
    options += ["--slurm", "qos=low", "--slurm", "nice=5", "--retry-failed", "--code", "rerun", "--quiet"]
    result = call("run", file, *options)
    study, given = got
    assert (study.name, given.prepared, given.studies) == ("tiny", Path("p"), Path("studies"))
    assert (given.data, given.tracking_uri, given.engine) == ({"discs": Path("source")}, "http://x", "slurm")
    assert (given.retry_failed, given.code, given.quiet) == (True, "rerun", True)
    launch = given.launch
    assert (launch.workers, launch.device, launch.per_gpu, launch.address) == (3, "cuda:1", 2, "")
    assert (launch.partition, launch.account, launch.time, launch.mem) == ("gpu", "me", "12:00:00", "16G")
    assert (launch.gpus, launch.cpus, launch.wait) == (1, 4, True)
    assert launch.slurm == {"qos": "low", "nice": "5"}
    assert result.exit_code == 1, "runs are left"
    options.remove("--wait")
    assert call("run", file, *options).exit_code == 0, "jobs are submitted"
    call("run", file, "--engine", "ray", "--address", "auto")
    assert got[-1].launch.address == "auto"


def test_a_study_that_is_stopped_says_how_it_goes_on(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(study: Any, options: RunOptions) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("medseg.study.run.run_study", stop)
    result = call("run", file)
    assert result.exit_code == 1
    assert "stopped; the same command goes on" in result.stderr


def test_what_the_engines_are_called() -> None:
    from medseg.cli.study import run
    from medseg.study.launch import ENGINES

    option = next(p for p in run.params if p.name == "engine")
    assert list(option.type.choices) == list(ENGINES)


def test_failures_are_told_on_the_error_stream(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fake(study: Any, options: RunOptions) -> None:
        ledger = entered(file)
        claim = ledger.claim()
        assert claim is not None
        ledger.fail(claim, "the loss became nan")

    monkeypatch.setattr("medseg.study.run.run_study", fake)
    result = call("run", file)
    assert result.exit_code == 1
    assert result.stderr == "failed: discs__unet__dice/0: the loss became nan\n"
    assert "3 waiting" in result.stdout


def test_a_dry_run_checks_and_does_nothing(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medseg.study.run.run_study", lambda *_: pytest.fail("it ran"))
    result = call("run", file, "--dry-run")
    assert result.exit_code == 0
    assert "4 runs: 4 waiting" in result.stdout
    assert not Path("studies").exists()
    file.write_text(TEXT.replace("image_size: 32", "image_size: 33"), encoding="utf-8")
    assert "sides divisible by 2" in call("run", file, "--dry-run").stderr


def test_a_plan_for_people(file: Path, measured: None) -> None:
    result = call("plan", file, "--workers", 2, "--device", "cpu")
    assert result.exit_code == 0
    assert "Axes of tiny" in result.stdout
    assert "300 MB" in result.stdout
    assert "with 2 workers on cpu" in result.stdout
    assert "GPU memory" not in result.stdout
    lines = call("plan", file, "--device", "cpu", "--format", "md").stdout.splitlines()
    assert lines[0].startswith("| axis |")
    assert "" in lines


def test_a_plan_for_machines(file: Path, measured: None) -> None:
    rows = json.loads(call("plan", file, "--device", "cpu", "--format", "json").stdout)
    assert [(row["model"], row["runs"], row["memory"]) for row in rows] == [
        ("unet", 4, 300_000_000),
        ("all", 4, 300_000_000),
    ]
    runs = json.loads(call("plan", file, "--device", "cpu", "--runs", "--format", "json").stdout)
    assert [run["run"] for run in runs] == [cell.name for cell in cells(read_study(file))]


def test_status_by_file_folder_and_name(file: Path) -> None:
    entered(file)
    wanted = "tiny: 4 runs, 0 done, 0 running, 0 failed, 4 waiting"
    for target in (file, "studies/tiny", "tiny"):
        result = call("status", target)
        assert wanted in result.stdout
        assert result.exit_code == 0


def test_status_tells_what_runs_and_what_failed(file: Path) -> None:
    ledger = entered(file)
    claim = ledger.claim()
    assert claim is not None
    ledger.fail(claim, "out of memory")
    ledger.claim()
    result = call("status", "tiny", "--by", "loss", "--format", "md")
    assert result.exit_code == 1
    assert "| dice | 2 | 1 | 0 | 0 | 1 |" in result.stdout
    assert "| bce | 2 | 1 | 1 | 0 | 0 |" in result.stdout
    assert "running: discs__unet__bce/0: preparing" in result.stdout
    assert "failed: discs__unet__dice/0: out of memory" in result.stdout


def test_watching_ends_with_the_study(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, waited = entered(file), []

    def work(seconds: float) -> None:
        waited.append(seconds)
        claim = ledger.claim()
        assert claim is not None
        ledger.finish(claim)

    monkeypatch.setattr("time.sleep", work)
    result = call("status", "tiny", "--watch", "--every", 0.5)
    assert result.exit_code == 0
    assert waited == [0.5] * 4
    assert "tiny: 4 runs, 4 done, 0 running, 0 failed, 0 waiting" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "none.yaml"], "none.yaml: no such file"),
        (["run", "tiny.yaml", "--data", "discs"], "'discs' is not NAME=DIR"),
        (["run", "tiny.yaml", "--data", "a=b", "--data", "a=c"], "a is given twice"),
        (["run", "tiny.yaml", "--slurm", "=x"], "'=x' is not KEY=VALUE"),
        (["run", "tiny.yaml", "--mem", "4G", "--wait"], "--mem, --wait: for --engine slurm, not local"),
        (
            ["run", "tiny.yaml", "--engine", "slurm", "--address", "x"],
            "--address: for --engine ray, not slurm",
        ),
        (["run", "tiny.yaml", "--engine", "spark"], "'spark' is not one of"),
        (["run", "tiny.yaml", "--code", "ask"], "'ask' is not one of"),
        (["plan", "bad.yaml"], "bad.yaml: line 5, axes: loss: unknown loss 'dise'. Did you mean 'dice'?"),
        (["status", "tiny.yaml"], "no study was run here yet"),
        (["status", "nothing"], "nothing: no such file"),
    ],
)
def test_mistakes_are_told_in_words(file: Path, arguments: list[str], words: str) -> None:
    Path("bad.yaml").write_text(TEXT.replace("[dice", "[dise"), encoding="utf-8")
    result = call(*arguments)
    assert result.exit_code == 2
    assert words in result.stderr
    assert "Traceback" not in result.stderr
    assert not Path("studies").exists()
