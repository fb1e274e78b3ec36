"""The local engine around workers whose runs are a few lines, so that every way of dying can be tried."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from medseg.errors import MedsegError
from medseg.study.folder import StudyFolder
from medseg.study.launch import LaunchOptions, launch, local
from medseg.study.ledger import Ledger
from medseg.study.process import Process

# what a run of repeat k does is line k of the file "script" in the study's folder
STUB = """
import os, signal, sys, time
from pathlib import Path
import medseg.study.attempt, medseg.study.key, medseg.study.worker as worker

def attempt(folder, options, claim, device):
    what = (folder.root / "script").read_text().split()[claim.cell.repeat]
    with (folder.root / "trace").open("a") as file:
        file.write(f"{claim.key} {device} {os.environ['OMP_NUM_THREADS']}\\n")
    if what == "raise":
        raise ValueError(f"{folder.root}/bundles is not to be seen")
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "once" and not (folder.root / claim.key).exists():
        (folder.root / claim.key).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "hang":
        while not (folder.root / "go").exists():
            time.sleep(0.01)

medseg.study.attempt.attempt = attempt
medseg.study.key.code_fingerprint = lambda: "c0"
worker._use_threads = lambda threads: None
sys.exit(worker.main())
"""
COMMAND = """
import sys
from pathlib import Path
from medseg.study.folder import StudyFolder
from medseg.study.launch import LaunchOptions, launch, local
local.WORKER = (sys.executable, sys.argv[2])
launch("local", StudyFolder(Path(sys.argv[1])), LaunchOptions(workers=2, device="cpu"), lambda: None)
"""


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A worker whose runs do what they are told."""
    path = tmp_path / "stub.py"
    path.write_text(textwrap.dedent(STUB))
    monkeypatch.setattr(local, "WORKER", (sys.executable, str(path)))
    return path


@pytest.fixture
def study(study_folder: StudyFolder, plan, stub) -> Callable[[str], StudyFolder]:
    """Makes a study of runs that behave as the words of a line say."""

    def make(script: str) -> StudyFolder:
        (study_folder.root / "script").write_text(script)
        Ledger(study_folder.ledger).enter(plan(len(script.split())))
        return study_folder

    return make


def run(folder: StudyFolder, workers: int = 2) -> list[str]:
    launch("local", folder, LaunchOptions(workers=workers, device="cpu"), lambda: None)
    return [row.state for row in Ledger(folder.ledger).rows()]


def until(condition: Callable[[], object], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def outcomes(folder: StudyFolder) -> Counter[tuple[str, str]]:
    return Counter((a.key, a.outcome) for a in Ledger(folder.ledger).attempts())


def alive(folder: StudyFolder) -> list[Process]:
    rows = Ledger(folder.ledger).rows(state="running")
    return [row.process for row in rows if row.process and not row.process.gone()]


def test_every_run_is_done_once_and_a_failing_or_killing_one_is_named(study):
    folder = study("ok raise ok kill once ok")
    assert run(folder) == ["done", "failed", "done", "failed", "done", "done"]
    rows = Ledger(folder.ledger).rows()
    assert rows[1].error == "ValueError: bundles is not to be seen"
    assert rows[3].error == "its worker died (signal 9) 3 times in epoch 1"
    assert outcomes(folder) == {
        ("k0", "done"): 1,
        ("k1", "failed"): 2,
        ("k2", "done"): 1,
        ("k3", "died"): 3,
        ("k4", "died"): 1,
        ("k4", "done"): 1,
        ("k5", "done"): 1,
    }
    assert "not to be seen" in (folder.logs / f"{rows[1].owner}.log").read_text()
    assert {
        line.split()[1:] == ["cpu", "1"] for line in (folder.root / "trace").read_text().splitlines()
    } == {True}


def test_a_second_command_finds_nothing_to_do(study):
    folder = study("ok ok")
    run(folder)
    assert run(folder) == ["done", "done"]
    assert sum(outcomes(folder).values()) == 2


def test_two_commands_at_once_share_the_runs(study, stub):
    folder = study("ok " * 12)
    commands = [
        subprocess.Popen([sys.executable, "-c", COMMAND, str(folder.root), str(stub)]) for _ in range(2)
    ]
    assert [command.wait(timeout=240) for command in commands] == [0, 0]
    assert outcomes(folder) == {(f"k{i}", "done"): 1 for i in range(12)}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 1)])
def test_a_command_that_is_told_to_end_gives_its_runs_back(study, stub, number, code):
    folder = study("hang hang hang")
    command = subprocess.Popen(
        [sys.executable, "-c", COMMAND, str(folder.root), str(stub)], stderr=subprocess.DEVNULL
    )
    until(lambda: len(alive(folder)) == 2)
    workers = alive(folder)
    command.send_signal(number)
    assert command.wait(timeout=120) in (code, -number)
    assert all(worker.gone() for worker in workers)
    assert Ledger(folder.ledger).counts()["waiting"] == 3
    assert outcomes(folder) == {("k0", "released"): 1, ("k1", "released"): 1}
    (folder.root / "go").touch()
    assert run(folder) == ["done"] * 3


def test_workers_end_with_their_command_and_the_next_one_goes_on(study, stub):
    folder = study("hang hang hang")
    command = subprocess.Popen([sys.executable, "-c", COMMAND, str(folder.root), str(stub)])
    until(lambda: len(alive(folder)) == 2)
    workers = alive(folder)
    command.kill()
    command.wait()
    until(lambda: all(worker.gone() for worker in workers))
    (folder.root / "go").touch()
    assert run(folder) == ["done"] * 3
    assert [a.outcome for a in Ledger(folder.ledger).attempts()].count("done") == 3


def test_everything_killed_at_once_is_taken_up_again(study, stub):
    folder = study("hang hang ok")
    command = subprocess.Popen([sys.executable, "-c", COMMAND, str(folder.root), str(stub)])
    until(lambda: len(alive(folder)) == 2)
    for worker in alive(folder):
        os.kill(worker.pid, signal.SIGKILL)
    command.kill()
    command.wait()
    (folder.root / "go").touch()
    assert run(folder) == ["done"] * 3


def test_a_worker_alone_that_is_told_to_end_is_replaced(study):
    folder = study("hang ok")
    thread = threading.Thread(target=run, args=(folder, 1))
    thread.start()
    until(lambda: alive(folder))
    os.kill(alive(folder)[0].pid, signal.SIGTERM)
    until(lambda: ("k0", "released") in outcomes(folder))
    (folder.root / "go").touch()
    thread.join(120)
    assert [row.state for row in Ledger(folder.ledger).rows()] == ["done", "done"]


def test_runs_of_another_machine_are_left_to_it(study):
    folder = study("ok ok")
    ledger = Ledger(folder.ledger)
    far = ledger.claim(Process("far", "another machine", 7, 1))
    thread = threading.Thread(target=run, args=(folder,))
    thread.start()
    until(lambda: ledger.rows()[1].state == "done")
    while thread.is_alive():  # it waits for a sign of life
        assert ledger.beat(far)
        thread.join(0.2)
    assert [row.state for row in ledger.rows()] == ["running", "done"]


def test_workers_that_cannot_start_end_the_command_and_their_log_is_named(study, stub):
    folder = study("ok ok")
    stub.write_text("raise SystemExit('no such library')")
    with pytest.raises(
        MedsegError, match=r"workers end before they claim a run; see .*\.log for the reason"
    ) as told:
        run(folder, workers=1)
    log = Path(str(told.value).split("see ")[1].split(" for")[0])
    assert "no such library" in log.read_text()


def test_a_worker_of_other_code_claims_nothing(study, stub):
    folder = study("ok")
    stub.write_text(stub.read_text().replace('"c0"', '"c1"'))
    with pytest.raises(MedsegError, match="workers end before they claim a run"):
        run(folder, workers=1)
    said = "".join(log.read_text() for log in folder.logs.glob("*.log"))
    assert "1 runs wait for medseg's code c0, and here is c1" in said


def test_an_unknown_engine_is_named(study_folder):
    with pytest.raises(MedsegError, match="unknown engine 'slrum'. Did you mean 'slurm'"):
        launch("slrum", study_folder, LaunchOptions(), lambda: None)


@pytest.mark.parametrize(
    ("options", "devices", "threads", "number"),
    [
        (LaunchOptions(workers=3), ["cpu"], 1, 3),
        (LaunchOptions(), ["cpu"], 1, 8),
        (LaunchOptions(), ["cpu"], 4, 2),
        (LaunchOptions(), ["cpu"], 16, 1),
        (LaunchOptions(), ["cuda:0", "cuda:1"], 1, 2),
        (LaunchOptions(per_gpu=3), ["cuda:0", "cuda:1"], 1, 6),
    ],
)
def test_as_many_workers_as_gpus_or_cores_take(monkeypatch, options, devices, threads, number):
    monkeypatch.setattr(local.os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr(local, "_free_memory", lambda: 1 << 40)
    assert local.number_of_workers(options, devices, threads) == number


def test_no_more_workers_than_memory_takes(monkeypatch):
    monkeypatch.setattr(local.os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr(local, "_free_memory", lambda: 3 * local.WORKER_MEMORY)
    assert local.number_of_workers(LaunchOptions(), ["cpu"], 1) == 3


def test_no_worker_at_all_is_refused():
    with pytest.raises(MedsegError, match="workers is 0; give 1 or more"):
        local.number_of_workers(LaunchOptions(workers=0), ["cpu"], 1)
