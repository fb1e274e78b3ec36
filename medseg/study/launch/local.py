"""The local engine: worker processes of this machine, watched by the command that started them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from medseg.errors import MedsegError
from medseg.study.folder import StudyFolder
from medseg.study.launch import LaunchOptions
from medseg.study.ledger import Ledger
from medseg.study.process import Process, space, started, this_process
from medseg.study.worker import CRASHED, THREADS, epochs

#: the command of a worker, before its arguments
WORKER = (sys.executable, "-m", "medseg.study.worker")
#: seconds between two looks at the workers
LOOK = 0.2
#: seconds between two looks for claims of workers that died elsewhere
LOOK_ELSEWHERE = 1.0
#: workers that end in a row without a claim before the engine gives up
BARREN = 3
#: seconds that workers have to give their runs back
LAST_WORDS = 20.0
#: memory in bytes that a worker needs at least
WORKER_MEMORY = 1 << 30


def launch(folder: StudyFolder, options: LaunchOptions, watch: Callable[[], None]) -> None:
    """Run workers until no run waits and none goes on at this machine.

    A worker that dies is replaced, and its run taken up again, also one of another command. When only runs of other
    machines are left, this returns once each of them has given a sign of life.

    Raises:
        MedsegError: workers end before they claim a run; the log is named.
        KeyboardInterrupt: on Ctrl-C, after the workers gave their runs back; a second one kills them.
    """
    crew = Crew(folder, options)
    with crew.signals(), crew.ended():
        crew.run(watch)


@dataclass
class Worker:
    """A worker process and its place."""

    popen: subprocess.Popen[bytes]
    process: Process
    slot: int


class Crew:
    """The workers of one command.

    Args:
        folder: the study's.
        options: how many, and where.
    """

    def __init__(self, folder: StudyFolder, options: LaunchOptions) -> None:
        self.folder = folder
        self.ledger = Ledger(folder.ledger)
        self.retries = folder.read_options().retries
        self.threads = folder.read_options().threads
        self.devices = devices(options.device)
        self.number = number_of_workers(options, self.devices, self.threads)
        self.workers: list[Worker] = []
        self.log = folder.logs / f"{this_process().name}.log"
        self._barren = 0
        self._looked = float("-inf")
        self._interrupts: list[int] = []

    def run(self, watch: Callable[[], None]) -> None:
        """Keep workers at work until nothing is left for them."""
        self.folder.logs.mkdir(parents=True, exist_ok=True)
        while True:
            deaths = self._reap()
            self._take_back(deaths)
            if self._interrupts:
                self._stop()
            if not self._start() and not self.workers and not self.ledger.undecided():
                watch()
                return
            watch()
            time.sleep(LOOK)

    def _reap(self) -> dict[Process, str]:
        """Note the workers that ended; of those that were killed, how."""
        deaths = {}
        for worker in list(self.workers):
            code = worker.popen.poll()
            if code is None:
                continue
            self.workers.remove(worker)
            if code < 0:
                deaths[worker.process] = f"signal {-code}"
            elif code not in (0, CRASHED):
                deaths[worker.process] = f"exit {code}"
            claimed = any(attempt.owner == worker.process.name for attempt in self.ledger.attempts())
            self._barren = 0 if claimed or code == 0 else self._barren + 1
        if self._barren >= BARREN:
            raise MedsegError(f"workers end before they claim a run; see {self._last_log()} for the reason")
        return deaths

    def _last_log(self) -> Path:
        logs = [path for path in self.folder.logs.glob("*.log") if path.stat().st_size]
        return max(logs, key=lambda path: path.stat().st_mtime, default=self.log)

    def _take_back(self, deaths: dict[Process, str]) -> None:
        now = time.monotonic()
        if deaths or now - self._looked >= LOOK_ELSEWHERE:
            self._looked = now
            # one that dies just now is looked at in the next round, when it is known how
            own = {worker.process for worker in self.workers}
            self.ledger.take_back(lambda row: epochs(self.folder, row), deaths, self.retries, own)

    def _start(self) -> bool:
        """Start as many workers as there are places and runs that wait; True if any run waits."""
        waiting = self.ledger.counts()["waiting"]
        if not waiting:
            return False
        own = {worker.process for worker in self.workers}
        busy = sum(row.process in own for row in self.ledger.rows(state="running"))
        free = sorted(set(range(self.number)) - {worker.slot for worker in self.workers})
        for slot in free[: max(0, waiting + busy - len(self.workers))]:
            self.workers.append(self._worker(slot))
        return True

    def _worker(self, slot: int) -> Worker:
        device = self.devices[slot % len(self.devices)]
        own = [str(self.folder.root), "--device", device, "--parent", str(os.getpid())]
        environment = os.environ | dict.fromkeys(THREADS, str(self.threads))
        with self.log.open("ab") as log:
            popen = subprocess.Popen(
                [*WORKER, *own],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,  # Ctrl-C is for this process, which tells its workers
            )
        host = this_process().host
        return Worker(popen, Process(host, space(), popen.pid, started(popen.pid)), slot)

    @contextlib.contextmanager
    def signals(self) -> Iterator[None]:
        """Meanwhile SIGINT and SIGTERM ask the workers to give their runs back."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {
            number: signal.signal(number, lambda number, _: self._interrupts.append(number))
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop(self) -> None:
        """End all workers, kindly at first, and this command after them."""
        self._end_workers()
        if signal.SIGTERM in self._interrupts:
            raise SystemExit(128 + signal.SIGTERM)
        raise KeyboardInterrupt

    def _end_workers(self) -> None:
        asked = len(self._interrupts)
        for worker in self.workers:
            worker.popen.terminate()
        until = time.monotonic() + LAST_WORDS
        while any(worker.popen.poll() is None for worker in self.workers):
            if time.monotonic() > until or len(self._interrupts) > max(1, asked):
                for worker in self.workers:
                    worker.popen.kill()
            time.sleep(0.05)
        self.workers.clear()

    @contextlib.contextmanager
    def ended(self) -> Iterator[None]:
        """Leave no worker behind, whatever ends this command; nor an empty log."""
        try:
            yield
        finally:
            self._end_workers()
            with contextlib.suppress(OSError):
                if not self.log.stat().st_size:
                    self.log.unlink()


def devices(device: str) -> list[str]:
    """The devices that workers take in turn: for ``auto`` and ``cuda`` all GPUs, or the CPU where there is none.

    Raises:
        MedsegError: a device is asked for that is not here.
    """
    if device == "cpu":
        return ["cpu"]
    import torch

    from medseg.engine.workflow import check_device

    check_device(device)
    gpus = torch.cuda.device_count()
    if device in ("auto", "cuda") and gpus:
        return [f"cuda:{i}" for i in range(gpus)]
    return ["cpu" if device == "auto" else device]


def number_of_workers(options: LaunchOptions, devices: Sequence[str], threads: int) -> int:
    """How many workers run at once: as asked, or what GPUs, cores and memory allow."""
    if options.workers is not None:
        if options.workers < 1:
            raise MedsegError(f"workers is {options.workers}; give 1 or more")
        return options.workers
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    number = len(devices) * options.per_gpu if devices != ["cpu"] else cores // threads
    return max(1, min(number, _free_memory() // WORKER_MEMORY))


def _free_memory() -> int:
    """Memory in bytes that new processes can have; without limit where the system does not tell."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    return 1 << 62
