"""scripts/gpu-check at toy size on the CPU: both reports with every step, failures kept, time limits held."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ROOT / "scripts"
STEPS = ["install", "environment", "tests", "training_tiny", "training_full", "epochs", "models", "real"]


def module(name: str) -> ModuleType:
    """A file of scripts/, which is no package."""
    sys.path.insert(0, str(SCRIPTS))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(SCRIPTS))


gpu_check, gpu_report, gpu_steps, gpu_wheels = map(
    module, ("gpu_check", "gpu_report", "gpu_steps", "gpu_wheels")
)


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, dict, str]:
    """Exit code and reports of a run whose last step must fail: its folder of real images is empty."""
    out = tmp_path_factory.mktemp("out")
    words = ["--device", "cpu", "--out", str(out), "--data", str(tmp_path_factory.mktemp("empty"))]
    words += ["--python", sys.executable, "--minutes", "30"]
    words += ["--steps", "environment,tests,epochs,models,real"]
    command = [str(SCRIPTS / "gpu-check"), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    assert sorted(path.name for path in out.iterdir()) == ["gpu-check.json", "gpu-check.md"], done.stderr
    report = json.loads((out / "gpu-check.json").read_text())
    return done.returncode, report, (out / "gpu-check.md").read_text()


def test_every_step_is_in_both_reports(reports) -> None:
    _, report, text = reports
    assert [step["name"] for step in report["steps"]] == STEPS
    assert all(f"| {name} | " in text for name in STEPS)
    status = {step["name"]: step["status"] for step in report["steps"]}
    left_out = dict.fromkeys(("training_tiny", "training_full"), "skipped")
    assert status == {**dict.fromkeys(STEPS, "ok"), **left_out, "real": "failed"}


def test_a_failed_step_is_told_and_gives_exit_code_1(reports) -> None:
    code, report, text = reports
    assert code == 1 and report["passed"] is False
    reason = report["steps"][-1]["reason"]
    assert "none of kvasir-seg" in reason and reason in text


def test_the_figures_of_each_step_are_there(reports) -> None:
    _, report, text = reports
    rows = {step["name"]: step["rows"] for step in report["steps"]}
    assert {"card", "torch", "mlflow", "medseg"} <= {row["what"] for row in rows["environment"]}
    assert text.startswith(f"# medseg on {report['card']}\n") and report["card"].startswith("none (CPU")
    assert rows["models"][0]["model"] == "resunetplusplus" and rows["models"][0]["images_per_s"] > 0
    assert rows["epochs"][0]["model"] == "unet" and rows["epochs"][0]["images_per_s"] > 0
    assert len(rows["tests"]) > 5 and {row["result"] for row in rows["tests"]} <= {"passed", "skipped"}


def check(tmp_path: Path, **changes: object):
    """A check without its steps having run."""
    arguments = gpu_check.parse(["--device", "cpu", "--out", str(tmp_path)])
    for name, value in {"python": sys.executable, **changes}.items():
        setattr(arguments, name, value)
    return gpu_check.Check(arguments, tmp_path)


def test_a_step_that_takes_too_long_is_stopped_with_its_children(tmp_path: Path) -> None:
    step = gpu_steps.Step("slow", "Slow", limit=2.0)
    mark = tmp_path / "mark"
    child = f"import time, pathlib; time.sleep(4); pathlib.Path({str(mark)!r}).touch()"
    code = f"import subprocess, sys; print('begun'); subprocess.run([sys.executable, '-c', {child!r}])"
    began = time.monotonic()
    runner = check(tmp_path)
    runner.attempt(step, lambda s: runner.python(s, "-c", code))
    assert time.monotonic() - began < 3.8
    assert (step.status, step.tail) == ("overtime", ["begun"])
    time.sleep(max(0.0, 5 - (time.monotonic() - began)))
    assert not mark.exists()


def test_rows_written_before_the_limit_are_kept(tmp_path: Path) -> None:
    step, rows = gpu_steps.Step("slow", "Slow", limit=2.0), tmp_path / "rows.json"
    code = f"import time, pathlib; pathlib.Path({str(rows)!r}).write_text('[{{\"a\": 1}}]'); time.sleep(60)"
    runner = check(tmp_path)
    runner.attempt(step, lambda s: runner.python(s, "-c", code, rows=rows))
    assert (step.status, step.rows) == ("overtime", [{"a": 1}])


def test_a_command_that_fails_leaves_its_last_words(tmp_path: Path) -> None:
    step, runner = gpu_steps.Step("bad", "Bad", limit=20.0), check(tmp_path)
    runner.attempt(step, lambda s: runner.python(s, "-c", "print('out'); raise SystemExit('no card')"))
    assert (step.status, step.reason) == ("failed", "exit code 1: no card")
    assert step.tail == ["out", "no card"]


def test_the_training_loops_are_measured_at_full_size_on_a_gpu(tmp_path: Path, monkeypatch) -> None:
    runner, said = check(tmp_path, device="cuda"), []
    runner.small = False

    def measured(step: object, *words: object, rows: Path | None = None) -> str:
        said.extend(map(str, words))
        results = {"medseg": {"ratio_to_bare": 0.98765}, "bare": {"ratio_to_bare": 1.0}}
        Path(said[-1]).write_text(json.dumps({"results": results}))
        return ""

    monkeypatch.setattr(runner, "python", measured)
    step = runner.step("training_tiny")
    runner.training(step, ["8", "16", "32"])
    assert step.rows == [{"loop": "medseg", "ratio_to_bare": 0.988}, {"loop": "bare", "ratio_to_bare": 1.0}]
    assert " ".join(said[1:]).startswith(
        "--rounds 5 --epochs 4 --images 320 --widths 8 16 32 --device cuda --json"
    )


def test_steps_beyond_the_time_are_skipped(tmp_path: Path) -> None:
    assert check(tmp_path, minutes=0.1).run() == 0
    report = json.loads((tmp_path / "gpu-check.json").read_text())
    assert {(step["status"], step["reason"]) for step in report["steps"]} == {("skipped", "no time left")}


@pytest.mark.parametrize(
    ("rate", "minutes", "epochs"),
    [
        (800.0, 8.0, 200),  # a second an epoch: the study's 200 fit
        (800.0, 2.0, 47),  # 0.8 * (120 - 60) seconds, a little of which has gone
        (80.0, 8.0, 33),  # ten seconds an epoch
        (80.0, 0.5, 1),
    ],
)
def test_epochs_that_fit(tmp_path: Path, rate: float, minutes: float, epochs: int) -> None:
    runner = check(tmp_path, minutes=minutes)
    runner.step("epochs").rows = [
        {"model": "unetplusplus", "amp": True, "images_per_s": 1.0},
        {"model": "unet", "amp": False, "images_per_s": 2.0},
        {"model": "unet", "amp": True, "images_per_s": rate},
    ]
    assert runner.epochs_that_fit() == epochs


def test_pytest_output_is_read_with_its_reasons() -> None:
    output = """\
tests/cuda/test_a.py::test_one[bce-1] PASSED                    [ 25%]
tests/cuda/test_a.py::test_two FAILED                           [ 50%]
tests/cuda/test_a.py::test_three SKIPPED (no CUDA GPU here)     [ 75%]
=========================== short test summary info ============
FAILED tests/cuda/test_a.py::test_two - RuntimeError: called a synchronizing operation
"""
    assert gpu_steps.test_rows(output) == [
        {"test": "test_a.py::test_one[bce-1]", "result": "passed", "reason": ""},
        {
            "test": "test_a.py::test_two",
            "result": "failed",
            "reason": "RuntimeError: called a synchronizing operation",
        },
        {"test": "test_a.py::test_three", "result": "skipped", "reason": "no CUDA GPU here"},
    ]


def test_a_table_in_markdown() -> None:
    assert gpu_report.table([{"a": 1, "b": "x|y"}, {"a": 0.123456, "c": None}]) == [
        "| a | b | c |",
        "| --- | --- | --- |",
        "| 1 | x\\|y |  |",
        "| 0.1235 |  |  |",
    ]


@pytest.mark.parametrize(
    ("folder", "dataset"), [("kvasir-seg", "kvasir_seg"), ("busi", "busi_benign"), ("isic-2017", "isic2017")]
)
def test_real_images_are_found_by_their_folder(tmp_path: Path, folder: str, dataset: str) -> None:
    from medseg.data.datasets import DATASETS

    (tmp_path / folder).mkdir()
    for given in (tmp_path, tmp_path / folder):
        assert gpu_check.find_dataset(given) == (tmp_path / folder, dataset)
    assert set(gpu_check.DATASETS.values()) <= set(DATASETS.names())


def test_the_checkout_gets_metadata_without_being_built(tmp_path: Path) -> None:
    assert gpu_wheels.install(None, tmp_path, sys.executable) == []
    code = "import importlib.metadata as m; print(m.version('medseg'), m.requires('medseg'))"
    command = [sys.executable, "-S", "-c", code]
    said = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=True
    )
    from medseg import __version__

    assert said.stdout.strip() == f"{__version__} {gpu_wheels.requirements()}"


def test_what_is_collected_leaves_the_machine_its_torch() -> None:
    names = {text.split("==")[0] for text in gpu_wheels.missing()}
    assert {"monai", "pytorch-ignite", "mlflow", "mlflow-skinny", "jsonschema", "fire"} <= names
    assert not names & {"torch", "numpy", "pandas", "triton", "setuptools", "medseg"}
    assert not any(name.startswith("nvidia") for name in names)


def test_an_unknown_step_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        gpu_check.parse(["--steps", "tests,nosuch"])
    assert "unknown step nosuch; there are install, environment" in capsys.readouterr().err
