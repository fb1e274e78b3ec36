"""Run every CUDA test and GPU figure, each step with a time limit, and report as JSON and Markdown.

Called by scripts/gpu-check. Needs nothing but Python's standard library itself: what the steps need is installed
from a folder of wheels beside what the machine has. Both reports are written anew after every step.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path

import gpu_wheels
from gpu_report import markdown, replace
from gpu_steps import Step, plan, stopped_after, tail, test_rows

ROOT = Path(__file__).resolve().parents[1]
BENCH = ROOT / "scripts" / "bench"
MEDSEG = ["-c", "from medseg.cli import main; main()"]
#: seconds of a real run besides its epochs: imports, decoding, evaluation
AROUND = 60.0
#: folder of real images -> registered data set
DATASETS = {
    "kvasir-seg": "kvasir_seg",
    "cvc-clinicdb": "cvc_clinicdb",
    "isic-2017": "isic2017",
    "foot-ulcer": "foot_ulcer",
    "busi": "busi_benign",
}


class Check:
    """One call: its options, its steps and its two reports.

    Args:
        arguments: the command line.
        scratch: a folder that is removed afterwards.
    """

    def __init__(self, arguments: argparse.Namespace, scratch: Path) -> None:
        self.arguments = arguments
        self.scratch = scratch
        self.steps = plan()
        self.began = time.monotonic()
        self.date = datetime.now(timezone.utc).isoformat(timespec="seconds")
        self.site = scratch / "site"
        self.small = arguments.device == "cpu"
        for step in self.steps if self.small else ():
            step.limit = arguments.minutes * 60  # a busy CPU is no fault of the step's

    @property
    def left(self) -> float:
        """Seconds until the time is up."""
        return self.arguments.minutes * 60 - (time.monotonic() - self.began)

    def step(self, name: str) -> Step:
        """The step of a name."""
        return next(step for step in self.steps if step.name == name)

    def run(self) -> int:
        """Run all steps; 0 if all that ran are ok."""
        runs: dict[str, Callable[[Step], None]] = {
            "install": self.install,
            "environment": self.environment,
            "tests": self.tests,
            "training_tiny": lambda step: self.training(step, ["8", "16", "32"]),
            "training_full": lambda step: self.training(step, ["64", "128", "256", "512", "1024"]),
            "epochs": self.epochs,
            "models": self.models,
            "real": self.real,
        }
        self.write()
        for step in self.steps:
            if step.name != "install" and self.arguments.steps and step.name not in self.arguments.steps:
                step.status, step.reason = "skipped", "not asked for"
            elif self.left < 10:
                step.status, step.reason = "skipped", "no time left"
            else:
                self.attempt(step, runs[step.name])
            self.write()
            print(f"{step.name}: {step.status} {step.seconds:.0f} s {step.reason}", flush=True)
        return 0 if all(step.status in ("ok", "skipped") for step in self.steps) else 1

    def attempt(self, step: Step, run: Callable[[Step], None]) -> None:
        """Run one step; whatever goes wrong is kept in it, and the next ones go on."""
        step.status = "running"
        self.write()
        began = time.monotonic()
        try:
            run(step)
            step.status = "ok" if step.status == "running" else step.status
        except subprocess.TimeoutExpired as error:
            step.status, step.reason = "overtime", f"stopped after {error.timeout:.0f} s"
        except Exception as error:  # a step that breaks in any way must not end the others
            step.status, step.reason = "failed", f"{type(error).__name__}: {error}"
        step.seconds = round(time.monotonic() - began, 1)

    def python(self, step: Step, *words: object, rows: Path | None = None) -> str:
        """Run the machine's Python on the checkout, and read the rows that it leaves; its standard output."""
        path = os.pathsep.join([str(self.site), str(ROOT)])
        own = {"TMPDIR": str(self.scratch), "PYTHONUNBUFFERED": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
        environment = {**os.environ, "PYTHONPATH": path, **own}
        command = [self.arguments.python, *map(str, words)]
        files = [self.scratch / f"{step.name}.{end}" for end in ("out", "err")]
        try:
            code = stopped_after(min(step.limit, self.left - 3), command, files, environment, self.scratch)
        except subprocess.TimeoutExpired:
            step.tail = tail(files)
            raise
        finally:
            if rows and rows.is_file():
                step.rows = json.loads(rows.read_text(encoding="utf-8"))
        if code:
            step.tail = tail(files)
            last = step.tail[-1] if step.tail else "no output"
            step.status, step.reason = "failed", f"exit code {code}: {last}"
        return files[0].read_text(encoding="utf-8", errors="replace")

    def install(self, step: Step) -> None:
        """The wheels, and medseg's metadata."""
        wheels = self.arguments.wheels
        if wheels and not any(wheels.glob("*.whl")):
            raise FileNotFoundError(f"no wheel in {wheels}; run scripts/gpu-check --collect {wheels}")
        names = gpu_wheels.install(wheels, self.site, self.arguments.python)
        step.rows = [{"wheels": len(names), "folder": str(wheels) if wheels else "none: as the machine is"}]

    def environment(self, step: Step) -> None:
        """The facts, as rows of two columns."""
        file = self.scratch / "machine.json"
        self.python(step, BENCH / "machine.py", "--device", self.arguments.device, "--json", file)
        if file.is_file():
            facts = json.loads(file.read_text(encoding="utf-8"))
            step.rows = [{"what": key, "is": value} for key, value in facts.items()]

    def tests(self, step: Step) -> None:
        """The tests marked ``cuda``, read from pytest's running report so that a stopped run keeps its results."""
        where = ROOT / "tests" / "cuda" / ("test_cuda_metrics.py" if self.small else "")
        options = ["-v", "-o", "addopts=", "--strict-markers", "--import-mode=importlib"]
        folders = ["--basetemp", self.scratch / "pytest", "--rootdir", ROOT, "-c", ROOT / "setup.cfg"]
        words = ["-m", "pytest", *options, *folders, "-p", "no:cacheprovider", "-m", "cuda", where]
        try:
            self.python(step, *words)
        finally:
            output = (self.scratch / "tests.out").read_text(encoding="utf-8", errors="replace")
            step.rows = test_rows(output)
        if not self.small and not any(row["result"] == "passed" for row in step.rows):
            step.status, step.reason = "failed", step.reason or "no test ran on the GPU"

    def training(self, step: Step, widths: list[str]) -> None:
        """medseg's loop beside a bare one and a zoo-style bundle's."""
        file = self.scratch / f"{step.name}.json"
        size = ["--rounds", "5", "--epochs", "4", "--images", "320"]
        if self.small:
            widths, size = ["4", "8"], ["--rounds", "1", "--epochs", "1", "--images", "30", "--size", "32"]
        device = ["--device", self.arguments.device, "--json", file]
        self.python(step, BENCH / "training.py", *size, "--widths", *widths, *device)
        if file.is_file():
            results = json.loads(file.read_text(encoding="utf-8"))["results"]
            step.rows = [
                {"loop": loop, **{k: round(v, 3) for k, v in row.items()}} for loop, row in results.items()
            ]

    def epochs(self, step: Step) -> None:
        """Seconds per epoch and peak memory."""
        file = self.scratch / "epochs.json"
        toy = ["--models", "unet", "--widths", "4", "8", "--epochs", "2", "--images", "30", "--size", "32"]
        size = toy if self.small else []
        words = [BENCH / "epochs.py", *size, "--device", self.arguments.device, "--json", file]
        self.python(step, *words, rows=file)

    def models(self, step: Step) -> None:
        """The same of every model, fewer epochs of fewer images, mixed precision alone."""
        file = self.scratch / "models.json"
        size = ["--models", "all", "--epochs", "3", "--images", "160", "--amp-only"]
        if self.small:
            size = ["--models", "resunetplusplus", "--epochs", "1", "--images", "30", "--size", "32"]
        words = [BENCH / "epochs.py", *size, "--device", self.arguments.device, "--json", file]
        self.python(step, *words, rows=file)

    def real(self, step: Step) -> None:
        """U-Net on one set of real images, for as many epochs as fit into the time that is left."""
        if self.arguments.data is None:
            step.status, step.reason = "skipped", "no --data given"
            return
        folder, dataset = find_dataset(self.arguments.data)
        name, bundles = f"{dataset}__unet__dice_bce", self.scratch / "bundles"
        places = ["--bundles", bundles, "--prepared", self.scratch / "prepared"]
        places += ["--tracking-uri", self.tracking_uri()]
        epochs = 1 if self.small else self.epochs_that_fit()
        toy = ["--set", "image_size=32", "--set", "model_arguments={widths: [4, 8]}"] if self.small else []
        words = ["bundle", "run", name, "--data", folder, *places, "--device", self.arguments.device, *toy]
        output = self.python(step, *MEDSEG, *words, "--set", f"epochs={epochs}", "--format", "json")
        if step.status == "running":
            step.rows = [{k: v for k, v in row.items() if v is not None} for row in json.loads(output)]
            record = json.loads((bundles / name / "repeats" / "0" / "run.json").read_text(encoding="utf-8"))
            step.title += (
                f": {name}, {record['epochs']} of at most {epochs} epochs in {record['seconds']:.0f} s"
            )

    def tracking_uri(self) -> str:
        """A store in the scratch folder, or none where MLflow cannot be imported."""
        absent = [
            row for row in self.step("environment").rows if row["what"] == "mlflow" and "absent" in row["is"]
        ]
        return "" if absent else f"sqlite:///{self.scratch / 'mlruns' / 'mlflow.db'}"

    def epochs_that_fit(self) -> int:
        """At most the study's 200, by the speed that the step ``epochs`` measured, with a fifth to spare."""
        rates = [
            row["images_per_s"] for row in self.step("epochs").rows if row["model"] == "unet" and row["amp"]
        ]
        seconds = (
            800 / rates[0] if rates else 10.0
        )  # the largest set has 800 images for training and validation
        return max(1, min(200, int(0.8 * (self.left - AROUND) / seconds)))

    def write(self) -> None:
        """Both reports, each replaced at once."""
        content = {
            "date": self.date,
            "card": self.card(),
            "device": self.arguments.device,
            "seconds": round(time.monotonic() - self.began, 1),
            "passed": all(step.status in ("ok", "skipped") for step in self.steps),
            "steps": [asdict(step) for step in self.steps],
        }
        replace(self.arguments.out / "gpu-check.json", json.dumps(content, indent=2) + "\n")
        replace(self.arguments.out / "gpu-check.md", markdown(content))

    def card(self) -> str:
        """The GPU's name, once it is known."""
        return next(
            (row["is"] for row in self.step("environment").rows if row["what"] == "card"),
            "card not known yet",
        )


def find_dataset(folder: Path) -> tuple[Path, str]:
    """The first known set in a folder laid out like resized224, or the folder itself if it is one."""
    for name, dataset in DATASETS.items():
        for place in (folder / name, folder):
            if place.name == name and place.is_dir():
                return place.resolve(), dataset
    raise FileNotFoundError(f"{folder}: none of {', '.join(DATASETS)} in it")


def parse(words: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="scripts/gpu-check", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--collect", type=Path, metavar="DIR", help="only download the wheels to carry into DIR"
    )
    parser.add_argument("--wheels", type=Path, metavar="DIR", help="wheels of what the machine lacks")
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help=f"real images: a folder with {', '.join(DATASETS)}"
    )
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT") or "gpu-check"), metavar="DIR")
    parser.add_argument("--python", default=sys.executable, help="which has torch; this one by default")
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: the same at toy size")
    names = [step.name for step in plan()]
    parser.add_argument("--steps", type=lambda text: text.split(","), help=f"only these of {','.join(names)}")
    arguments = parser.parse_args(words)
    if unknown := set(arguments.steps or ()) - set(names):
        parser.error(f"unknown step {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    return arguments


def stop(number: int, frame: object) -> None:
    """End as for Ctrl-C, so that the running step is ended too."""
    raise SystemExit(128 + number)


def main(words: list[str] | None = None) -> int:
    """Collect, or run the steps; the exit code is 0 if all is well."""
    arguments = parse(words)
    if arguments.collect:
        return subprocess.run([arguments.python, gpu_wheels.__file__, str(arguments.collect)]).returncode
    signal.signal(signal.SIGTERM, stop)
    arguments.out = arguments.out.resolve()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in ("wheels", "data"):
        if getattr(arguments, name):
            setattr(arguments, name, getattr(arguments, name).resolve())
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as scratch:
        code = Check(arguments, Path(scratch)).run()
    print(f"reports: {arguments.out / 'gpu-check.md'} and gpu-check.json")
    return code


if __name__ == "__main__":
    sys.exit(main())
