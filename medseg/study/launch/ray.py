"""The Ray engine: one task of Ray Core for each run that waits, on a cluster or on this machine."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from medseg.errors import MedsegError
from medseg.study.folder import StudyFolder
from medseg.study.launch import LaunchOptions
from medseg.study.launch.ray_task import Share, run_one, share_of
from medseg.study.ledger import Ledger
from medseg.study.process import Process
from medseg.study.worker import RUNS_EACH, THREADS, epochs

log = logging.getLogger(__name__)

#: seconds between two looks at the ledger
LOOK = 1.0
#: seconds between two looks for claims of workers that died
LOOK_FOR_DEAD = 5.0
#: tasks that fail in a row before the engine gives up
BARREN = 5
#: seconds that workers have to give their runs back
LAST_WORDS = 20.0
#: seconds that the head of a cluster has to answer
KNOCK = 10.0
#: bytes of the store of a cluster on this machine: tasks pass nothing but names
STORE = 80 * 2**20


def launch(folder: StudyFolder, options: LaunchOptions, watch: Callable[[], None]) -> None:
    """Run a study's waiting runs as Ray tasks until none waits and none of this command's own goes on.

    A task runs what every engine runs, for one run. Of a worker or a node that dies the claim is taken back, at
    once where its process can be seen, else a lease after its last sign of life; then the run is sent out again
    and goes on from its checkpoint. If this command dies, its tasks end; the same command again goes on.

    Raises:
        MedsegError: Ray is not installed, there is no cluster at the address, or a node cannot do the work.
        KeyboardInterrupt: on Ctrl-C, after the workers gave their runs back.
    """
    ray = _imported()
    threads = folder.read_options().threads
    with _connected(ray, options, threads):
        share = share_of(options, threads, ray.cluster_resources())
        driver = Driver(ray, folder, options, share)
        try:
            driver.run(watch)
        finally:
            driver.end()


def _imported() -> Any:
    # no report of use to Ray's makers, from this process or a cluster that it starts
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # a task without GPU sees none, in all versions of Ray
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")
    try:
        import ray
    except ImportError:
        raise MedsegError("the engine ray needs Ray: pip install 'medseg[ray]'") from None
    return ray


@contextmanager
def _connected(ray: Any, options: LaunchOptions, threads: int) -> Iterator[None]:
    """A connection to the cluster at the address, or to one of this machine's own that ends with it."""
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if options.address:
            _knock(options.address)
            ray.init(address=options.address, **quiet)
        else:
            cpus = options.workers * threads if options.workers else None
            own = {"num_cpus": cpus, "include_dashboard": False, "object_store_memory": STORE}
            # without "local" Ray would look for a cluster in the environment
            ray.init(address="local", **own, **quiet)
    except (RuntimeError, ValueError, OverflowError, OSError) as error:
        place = options.address or "this machine"
        reason = " ".join(str(error).split())[:200]
        raise MedsegError(
            f"Ray at {place}: {reason}; give the address of a cluster's head, such as 10.0.0.1:6379 or auto"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Raise at once if nobody is at an address: Ray itself would try for minutes.

    Raises:
        OSError: nobody answers.
        ValueError: there is no such port.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=KNOCK).close()


class Driver:
    """Sends runs out and looks after them.

    Args:
        ray: the module, connected.
        folder: the study's.
        options: how many at once, and on what.
        share: what one task takes.
    """

    def __init__(self, ray: Any, folder: StudyFolder, options: LaunchOptions, share: Share) -> None:
        from medseg.study.key import code_fingerprint

        self.ray = ray
        self.folder = folder
        self.options = options
        self.share = share
        self.ledger = Ledger(folder.ledger)
        self.retries = folder.read_options().retries
        self.code = code_fingerprint()
        self.tasks: dict[Any, str] = {}
        self.sent: set[str] = set()
        self.deaths: dict[Process, str] = {}
        self._task = self._remote()
        self._barren = 0
        self._looked = float("-inf")
        self._warned = False

    def _remote(self) -> Any:
        variables = dict.fromkeys(THREADS, str(self.share.cpus))
        # processes stay for many runs, so a GPU is named to each run and not to the process
        variables["RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES"] = "1" if self.share.gpus else "0"
        return self.ray.remote(
            num_cpus=self.share.cpus,
            num_gpus=self.share.gpus,
            max_calls=RUNS_EACH,
            # the ledger says whether a run is tried again, not Ray
            max_retries=0,
            scheduling_strategy="SPREAD",
            runtime_env={"env_vars": variables},
        )(run_one)

    def run(self, watch: Callable[[], None]) -> None:
        """Keep the cluster at work until nothing is left for it."""
        while True:
            self._take_back()
            waiting = self._send()
            if not (waiting or self.tasks or self._ours_go_on() or self.ledger.undecided()):
                watch()
                return
            self._collect()
            watch()

    def _send(self) -> bool:
        """Send runs out that wait, as many as there is room for; True if any waits."""
        waiting = [row.key for row in self.ledger.rows(state="waiting")]
        busy = set(self.tasks.values())
        free = [key for key in waiting if key not in busy]
        for key in free[: max(0, self._room() - len(self.tasks))]:
            where = (str(self.folder.root), key, bool(self.share.gpus), self.code)
            self.tasks[self._task.remote(*where)] = key
            self.sent.add(key)
        return bool(waiting)

    def _room(self) -> int:
        """How many tasks there may be: as asked, or twice what the cluster carries now, for nodes that may join."""
        if self.options.workers:
            return self.options.workers
        nodes = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        number = sum(self.share.fit(resources) for resources in nodes)
        if not number and not self._warned:
            self._warned = True
            need = f"{self.share.cpus} CPUs" + (f" and {self.share.gpus:g} GPU" if self.share.gpus else "")
            log.warning("No node of the Ray cluster has %s for a run; waiting for one to join.", need)
        return max(1, 2 * number)

    def _ours_go_on(self) -> bool:
        return any(row.key in self.sent for row in self.ledger.rows(state="running"))

    def _collect(self) -> None:
        """Wait a little for tasks that end, and see how they did."""
        if not self.tasks:
            time.sleep(LOOK)
            return
        ended, _ = self.ray.wait(list(self.tasks), num_returns=1, timeout=LOOK)
        for task in ended:
            key = self.tasks.pop(task)
            fault = self._outcome(task, key)
            self._barren = self._barren + 1 if fault else 0
            if self._barren >= BARREN:
                raise MedsegError(f"Ray: {BARREN} tasks in a row could not work ({fault})")

    def _outcome(self, task: Any, key: str) -> str:
        """Why a task could not work; empty if it could, whatever became of the run.

        Raises:
            MedsegError: what its node lacks, which only people can mend.
        """
        from ray import exceptions

        try:
            lacking = self.ray.get(task)
        except (exceptions.WorkerCrashedError, exceptions.OutOfMemoryError) as error:
            self._note_death(key, type(error).__name__)
            return self._unclaimed(key, _first_line(error))
        except exceptions.RayTaskError as error:
            if "medseg" in str(error) and "ModuleNotFoundError" in str(error):
                raise MedsegError(
                    "a node of the Ray cluster has no medseg; install the same version on every node"
                ) from error
            return _first_line(error.cause)
        except exceptions.RayError as error:  # a node was lost: not the run's fault
            log.info("%s", _first_line(error))
            return ""
        if lacking:
            raise MedsegError(lacking)
        return ""

    def _note_death(self, key: str, how: str) -> None:
        """Remember that the worker that has a run was seen to die."""
        for row in self.ledger.rows(state="running"):
            if row.key == key and row.process:
                self.deaths[row.process] = how
                self._looked = float("-inf")

    def _unclaimed(self, key: str, reason: str) -> str:
        """The reason if a worker died that never had its run: such deaths are not in the ledger."""
        return "" if self.ledger.attempts(key) else reason

    def _take_back(self) -> None:
        now = time.monotonic()
        if now - self._looked >= LOOK_FOR_DEAD:
            self._looked = now
            taken = self.ledger.take_back(lambda row: epochs(self.folder, row), self.deaths, self.retries)
            for row in taken:
                if row.process:
                    self.deaths.pop(row.process, None)

    def end(self) -> None:
        """Let tasks that go on give their runs back, and wait for them a little."""
        for task in self.tasks:
            self.ray.cancel(task, force=False)
        if self.tasks:
            self.ray.wait(list(self.tasks), num_returns=len(self.tasks), timeout=LAST_WORDS)
        self.tasks.clear()


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
