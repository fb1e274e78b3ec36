"""One prediction at a time: the others wait in a short line, and each has a folder that vanishes with it."""

from __future__ import annotations

import asyncio
import fcntl
import shutil
import tempfile
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from medseg.serve.guard import Refused

PREFIX = "medseg-serve-"
LOCK = "lock"
#: seconds between two looks whether the sender still waits
LOOK = 0.25
T = TypeVar("T")


class Stopped(Exception):
    """Nobody waits for this answer any more."""


class Worker:
    """Runs one task at a time in a thread.

    Args:
        waiting: how many may wait beside it, from the first byte of their upload on.
    """

    def __init__(self, waiting: int) -> None:
        self.places = waiting + 1
        self._taken = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="predict")
        self._ended = threading.Event()

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place in the line.

        Raises:
            Refused: there is none left (503).
        """
        if self._taken >= self.places:
            raise Refused(503, "other predictions are waiting; try again in a moment", {"retry-after": "5"})
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1

    async def run(self, task: Callable[[Callable[[], None]], T], gone: Callable[[], Awaitable[bool]]) -> T:
        """Run a task when those before it are done.

        Args:
            task: is given a function to call now and then, which raises ``Stopped`` when nobody waits any more.
            gone: whether the sender has gone.

        Raises:
            Stopped: the sender has gone, or the server ends.
        """
        stop = threading.Event()

        def check() -> None:
            if stop.is_set() or self._ended.is_set():
                raise Stopped

        def begun() -> T:
            check()
            return task(check)

        future = asyncio.get_running_loop().run_in_executor(self._thread, begun)
        # nobody may be left to hear of an error
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            while not (await asyncio.wait([future], timeout=LOOK))[0]:
                if self._ended.is_set():
                    raise Stopped
                if await gone():
                    stop.set()
                    break
            return await future
        finally:
            stop.set()

    def stop(self) -> None:
        """Let the running task stop at its next look, and start no other."""
        self._ended.set()

    def end(self) -> None:
        """Stop, and wait until the running task has."""
        self.stop()
        self._thread.shutdown(wait=True, cancel_futures=True)


class Workplace:
    """The folder of one server, in which each request has its own; nothing is left when it is closed.

    A server that was killed leaves its folder behind, of which the operating system has taken the lock back: the
    next one to start removes it.

    Args:
        parent: where it is made; the system's folder of temporary files if not given.
    """

    def __init__(self, parent: Path | None = None) -> None:
        where = Path(parent or tempfile.gettempdir())
        for left in where.glob(f"{PREFIX}*"):
            _remove_if_left(left)
        self.root = Path(tempfile.mkdtemp(prefix=PREFIX, dir=where))
        self._lock = (self.root / LOCK).open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """A folder for one request, readable by this user alone, removed after it."""
        with tempfile.TemporaryDirectory(dir=self.root, ignore_cleanup_errors=True) as name:
            yield Path(name)

    def close(self) -> None:
        """Remove the folder and all in it."""
        shutil.rmtree(self.root, ignore_errors=True)
        self._lock.close()


def _remove_if_left(folder: Path) -> None:
    try:
        with (folder / LOCK).open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
    except OSError:  # in use, of another user, or gone meanwhile
        return
