"""A worker: claims runs of a study from its ledger, one after another, and runs them.

``python -m medseg.study.worker STUDY_FOLDER`` is how the local engine starts one.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from medseg.errors import MedsegError
from medseg.study.entry import Claim, Row
from medseg.study.folder import StudyFolder, WorkOptions
from medseg.study.heart import TOLD_TO_END, Heart
from medseg.study.ledger import Ledger
from medseg.study.process import this_process
from medseg.study.spec import Cell

#: runs after which a process of the local engine makes room for a fresh one, so that leaks do not add up
RUNS_EACH = 50
#: bytes that such a process may grow by after its first run
GROWTH = 2 << 30
#: what a worker exits with that cannot work at all, as its log says
CRASHED = 1
#: variables that say how many threads libraries start; read when they are imported
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
#: what Linux calls the signal that a process gets when its parent dies
PR_SET_PDEATHSIG = 1


def work(
    root: Path,
    *,
    device: str = "auto",
    only: str | None = None,
    limit: int | None = None,
    take_back: bool = True,
    stop: Callable[[], bool] | None = None,
    parent: int = 0,
    ending: threading.Event | None = None,
) -> int:
    """Claim and run until nothing is claimable.

    Every engine runs this function, and nothing else decides a number: threads, seeds and settings are the study's.

    Args:
        root: the study's folder; all else stands in it.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:1``.
        only: claim this run (its key) and no other.
        limit: claim at most so many.
        take_back: look for claims of dead workers before each claim.
        stop: asked after each run whether to end early.
        parent: number of the process whose end is the worker's too; 0 for none.
        ending: once set, the run is given back and the process ends at once.

    Returns:
        The number of runs finished.

    Raises:
        MedsegError: the folder holds no study, or its runs are for another version of medseg.
    """
    from medseg.study.key import code_fingerprint

    folder = StudyFolder(Path(root).resolve())
    options, ledger, code = folder.read_options(), Ledger(folder.ledger), code_fingerprint()
    _use_threads(options.threads)
    finished = claimed = 0
    with Heart(ledger, parent, ending) as heart:
        while limit is None or claimed < limit:
            if take_back:
                ledger.take_back(lambda row: epochs(folder, row), retries=options.retries)
            with heart.between():
                claim = ledger.claim(key=only, code=code)
                heart.hold(claim)
            if claim is None:
                break
            claimed += 1
            finished += _one(folder, options, ledger, heart, claim, device)
            if stop and stop():
                break
    if not claimed:
        _refuse_other_code(ledger, only, code)
    return finished


def _use_threads(threads: int) -> None:
    """Make sums the same wherever the run is, and leave the other cores to other workers."""
    import cv2
    import torch

    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)


def _refuse_other_code(ledger: Ledger, only: str | None, code: str) -> None:
    waiting = [row for row in ledger.rows() if row.state == "waiting" and only in (None, row.key)]
    other = [row for row in waiting if row.code != code]
    if other:
        raise MedsegError(
            f"{len(other)} runs wait for medseg's code {other[0].code}, and here is {code}: install the same version"
            " everywhere, or start 'medseg study run' again"
        )


def epochs(folder: StudyFolder, row: Row) -> int:
    """How many epochs of a run are on disk."""
    from medseg.study.attempt import epochs_of

    return epochs_of(folder.run_folder(row.name.rpartition("/")[0], row.repeat, row.split))


def _one(
    folder: StudyFolder, options: WorkOptions, ledger: Ledger, heart: Heart, claim: Claim, device: str
) -> bool:
    """Make one attempt and enter what became of it; True if the run is done now."""
    from medseg.study.attempt import attempt

    began = time.monotonic()
    print(f"{claim.cell.name}: begins", flush=True)
    try:
        attempt(folder, options, claim, device)
    except Exception as error:
        traceback.print_exc()
        reason = told(error, folder, options, claim.cell)
        with heart.between():
            state = ledger.fail(claim, reason, options.retries)
            heart.hold(None)
        print(f"{claim.cell.name}: {reason} ({state})", flush=True)
        _leave_broken_device()
        return False
    except BaseException:
        with heart.between():
            ledger.release(claim)
            heart.hold(None)
        raise
    finally:
        _tidy_up()
    with heart.between():
        done = ledger.finish(claim)
        heart.hold(None)
    print(f"{claim.cell.name}: done in {time.monotonic() - began:.0f} s", flush=True)
    return done


def told(error: BaseException, folder: StudyFolder, options: WorkOptions, cell: Cell) -> str:
    """Why a run failed, in one line without its own name and the folders of this machine: alike for like faults."""
    from medseg.bundle.verify import root_cause

    reason = " ".join(str(error).split()) if isinstance(error, MedsegError) else root_cause(error)
    for place in (*options.data.values(), options.prepared, str(folder.root)):
        reason = reason.replace(f"{place}/", "")
    # as its record calls it
    own = cell.choice.name.replace("__vanilla", "").replace("__", " ") + f" r{cell.repeat}"
    reason = reason.replace(f" of {own}", "")
    return reason[:300] or type(error).__name__


def _tidy_up() -> None:
    """Let go of what the last run held, on the device as well."""
    gc.collect()
    torch = _torch_on_gpu()
    if torch:
        with contextlib.suppress(RuntimeError):  # a broken device is told of elsewhere
            torch.cuda.empty_cache()


def _leave_broken_device() -> None:
    """End the process if its GPU answers no more: after an illegal access only a fresh process can use it."""
    torch = _torch_on_gpu()
    try:
        if torch:
            torch.cuda.synchronize()
    except RuntimeError as error:
        raise SystemExit(f"the GPU cannot be used any more by this process ({error})") from None


def _torch_on_gpu() -> Any:
    """PyTorch, if this process has used a GPU by it."""
    torch = sys.modules.get("torch")
    return torch if torch and torch.cuda.is_available() and torch.cuda.is_initialized() else None


def main(arguments: Sequence[str] | None = None) -> int:
    """Be a worker of the local engine: a process of its own that says nothing but in its log."""
    parser = argparse.ArgumentParser(prog="python -m medseg.study.worker", description=__doc__)
    parser.add_argument("root", type=Path, help="folder of the study")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--limit", type=int, default=RUNS_EACH, help="runs after which to end")
    parser.add_argument(
        "--parent", type=int, default=0, help="process that takes back claims of dead workers"
    )
    chosen = parser.parse_args(arguments)
    _die_with(chosen.parent)
    ending = threading.Event()
    # Slurm sends what it warns a job with (USR2) to all processes of the job
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2):
        signal.signal(number, lambda *_: ending.set())
    speak_to(StudyFolder(chosen.root).logs / f"{this_process().name}.log")
    try:
        work(
            chosen.root,
            device=chosen.device,
            limit=chosen.limit,
            take_back=not chosen.parent,
            stop=_Growth(),
            parent=chosen.parent,
            ending=ending,
        )
    except MedsegError as error:
        print(error, file=sys.stderr)
        return CRASHED
    return 0


class _Growth:
    """Whether this process has grown by ``GROWTH`` since it was asked first."""

    def __init__(self) -> None:
        self.first = 0

    def __call__(self) -> bool:
        size = _resident()
        self.first = self.first or size
        return size - self.first > GROWTH


def _resident() -> int:
    """Memory of this process in bytes; 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _die_with(parent: int) -> None:
    """Ask Linux for a SIGTERM when the parent dies; the heart looks for it as well."""
    if not (parent and sys.platform == "linux"):
        return
    import ctypes

    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it died before we asked
        os._exit(TOLD_TO_END)


def speak_to(log: Path) -> None:
    """Send standard output and error to a file, those of libraries in C as well."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)


if __name__ == "__main__":
    sys.exit(main())
