"""The Slurm engine: what sbatch is given, and a whole study with submitit's jobs on this machine."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from medseg.errors import MedsegError
from medseg.study.folder import StudyFolder
from medseg.study.grid import cells
from medseg.study.launch import LaunchOptions, slurm
from medseg.study.ledger import Ledger
from medseg.study.prepare import prepare_all
from medseg.study.run import RunOptions, enter
from medseg.study.spec import Study, read_study
from medseg.study.worker import work

SBATCH = """#!/bin/sh
echo "Submitted batch job 77"
"""
LOCAL = LaunchOptions(device="cpu", slurm={"cluster": "local"})


@pytest.fixture
def waiting(study_folder: StudyFolder, plan) -> StudyFolder:
    """A study of three runs, none of which was begun."""
    Ledger(study_folder.ledger).enter(plan(3))
    return study_folder


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with commands named as Slurm's, which is all that PATH has."""
    for name in ("sbatch", "srun", "scontrol"):
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).write_text(SBATCH)
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path / "bin"


def script(folder: StudyFolder) -> list[str]:
    return (folder.logs / "slurm" / "77_submission.sh").read_text().splitlines()


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("90", 90),
        ("30:30", 31),
        ("12:00:00", 720),
        ("0:00:01", 1),
        ("1-12", 2160),
        ("1-2:30", 1590),
        ("2-1:00:01", 2941),
    ],
)
def test_times_as_slurm_writes_them(text: str, minutes: int):
    assert slurm.minutes_of(text) == minutes


@pytest.mark.parametrize("text", ["", "soon", "1h", "0", "00:00:00", "-5", "1:2:3:4"])
def test_what_is_no_time_is_refused(text: str):
    with pytest.raises(MedsegError, match="time"):
        slurm.minutes_of(text)


def test_sbatch_is_given_the_options(waiting: StudyFolder, commands: Path, capfd):
    options = LaunchOptions(
        workers=2,
        per_gpu=2,
        threads=3,
        partition="gpu",
        account="lab",
        time="1-00",
        mem="16G",
        gpus=1,
        slurm={"qos": "long", "array-parallelism": "1", "mail-user": "me@lab", "exclusive": "true"},
    )
    slurm.launch(waiting, options, lambda: None)
    lines = script(waiting)
    for wanted in (
        "--array=0-1%1",
        "--requeue",
        "--gpus-per-node=1",
        "--cpus-per-task=6",
        "--mem=16G",
        "--partition=gpu",
        "--account=lab",
        "--time=1440",
        "--qos=long",
        "--mail-user=me@lab",
        "--exclusive",
        "--job-name=medseg-tiny",
        "--signal=USR2@120",
    ):
        assert f"#SBATCH {wanted}" in lines
    told = capfd.readouterr().err
    assert "submitted Slurm job 77 with 2 workers" in told and "medseg study status" in told


def test_a_cpu_study_asks_for_no_gpu_and_no_more_jobs_than_runs(waiting: StudyFolder, commands: Path):
    slurm.launch(waiting, LaunchOptions(device="cpu", cpus=2, quiet=True), lambda: None)
    lines = script(waiting)
    assert not [line for line in lines if "gpu" in line]
    # two runs at once in each job: three runs need two jobs
    assert "#SBATCH --array=0-1%2" in lines and "#SBATCH --cpus-per-task=2" in lines
    assert "#SBATCH --time=720" in lines


def test_one_gpu_is_asked_for_where_nothing_is_said(waiting: StudyFolder, commands: Path):
    slurm.launch(waiting, LaunchOptions(quiet=True, time="3"), lambda: None)
    assert "#SBATCH --gpus-per-node=1" in script(waiting)
    assert "#SBATCH --signal=USR2@90" in script(waiting)


def test_a_study_that_is_over_submits_nothing(study_folder: StudyFolder, commands: Path):
    slurm.launch(study_folder, LaunchOptions(), lambda: None)
    assert not (study_folder.logs / "slurm").exists()


def test_a_job_that_must_not_be_queued_again(waiting: StudyFolder, commands: Path):
    slurm.launch(waiting, LaunchOptions(quiet=True, slurm={"no-requeue": ""}), lambda: None)
    assert "#SBATCH --no-requeue" in script(waiting) and "#SBATCH --requeue" not in script(waiting)


def test_the_reason_of_a_refusal_is_told(waiting: StudyFolder, commands: Path):
    (commands / "sbatch").write_text("#!/bin/sh\necho 'invalid partition specified: gpux' >&2\nexit 1\n")
    with pytest.raises(MedsegError, match="Slurm refused the jobs .*invalid partition specified: gpux"):
        slurm.launch(waiting, LaunchOptions(partition="gpux"), lambda: None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"slurm": {"cluster": "slrum"}}, "unknown cluster 'slrum'. Did you mean 'slurm'?"),
        ({"slurm": {"time": "5"}}, "use --time"),
        ({"device": "cpu", "gpus": 1}, "device is cpu and gpus is 1"),
        ({"time": "tomorrow"}, "time 'tomorrow'"),
    ],
)
def test_mistakes_are_told_before_anything_is_submitted(waiting: StudyFolder, commands, options, message):
    with pytest.raises(MedsegError) as caught:
        slurm.launch(waiting, LaunchOptions(**options), lambda: None)
    assert message in str(caught.value)
    assert not list(waiting.root.rglob("*_submission.sh"))


def test_a_machine_without_slurm_is_told_so(waiting: StudyFolder, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MedsegError, match="sbatch and srun .* not there"):
        slurm.launch(waiting, LaunchOptions(), lambda: None)


def test_without_submitit_the_extra_is_named(waiting: StudyFolder, monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(MedsegError, match=r"pip install 'medseg\[slurm\]'"):
        slurm.launch(waiting, LaunchOptions(), lambda: None)


def test_jobs_that_end_and_leave_runs_are_told_of(waiting: StudyFolder, monkeypatch):
    class Ended:
        job_id = "77_0"

        class paths:
            result_pickle = waiting.options_file

        def done(self) -> bool:
            return True

    monkeypatch.setattr(slurm, "submit", lambda *_: [Ended()])
    with pytest.raises(MedsegError, match="jobs ended and 3 runs are left"):
        slurm.launch(waiting, LaunchOptions(wait=True), lambda: None)


def a_study(workspace: Path, epochs: int) -> Study:
    path = workspace / "tiny.yaml"
    path.write_text(
        "study: tiny\n"
        "axes: {dataset: [discs], model: [unet], loss: [dice], repeat: 3}\n"
        f"fixed: {{image_size: [32, 32], epochs: {epochs}, learning_rate: 1e-2, patience: 100,"
        " model_arguments: {widths: [4, 8]}}\n"
    )
    return read_study(path)


def entered(workspace: Path, study: Study, studies: str) -> StudyFolder:
    """The study's folder with everything ready for an engine."""
    options = RunOptions(studies=workspace / studies, prepared=workspace / "prepared", tracking_uri="")
    folder = StudyFolder(options.studies / study.name)
    planned = cells(study)
    enter(
        folder,
        study,
        planned,
        prepare_all(planned, study.split, options.prepared, {}, lambda _: None),
        options,
    )
    return folder


def results(folder: StudyFolder) -> dict[str, bytes]:
    found = sorted(folder.bundles.glob("*/repeats/*/cases.csv"))
    return {str(path.relative_to(folder.bundles)): path.read_bytes() for path in found}


def test_a_study_with_a_job_that_is_preempted_is_done_once_with_the_same_numbers(workspace: Path):
    study = a_study(workspace, epochs=15)
    plain = entered(workspace, study, "plain")
    work(plain.root, device="cpu")
    folder = entered(workspace, study, "slurm")
    ledger = Ledger(folder.ledger)
    jobs = slurm.submit(folder, replace(LOCAL, workers=1, time="10"))
    try:
        until(
            lambda: any(len(path.read_text().splitlines()) > 4 for path in folder.bundles.rglob("curves.csv"))
        )
        (running,) = ledger.rows(state="running")
        os.kill(parent_of(running.process.pid), signal.SIGUSR2)  # as Slurm warns a job
        until(lambda: any(attempt.outcome == "released" for attempt in ledger.attempts()))
        assert [job.result() for job in jobs] == [3]
    finally:
        for job in jobs:
            job.cancel()
    assert [row.state for row in ledger.rows()] == ["done"] * 3
    assert sorted(a.outcome for a in ledger.attempts()) == ["done"] * 3 + ["released"]
    assert results(folder) == results(plain) and len(results(folder)) == 3
    assert "Caught signal SIGUSR2" in jobs[0].stderr()


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def until(condition, seconds: float = 300.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.05)


def test_a_job_on_a_machine_without_the_folder_says_so(tmp_path: Path):
    with pytest.raises(MedsegError, match="must be on a disk that all nodes share"):
        slurm.Worker(tmp_path / "away", "cpu", 1)()
