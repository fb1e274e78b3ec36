"""One prediction at a time, a short line, and folders of which nothing is left."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from medseg.serve.guard import Refused
from medseg.serve.worker import Stopped, Worker, Workplace

HOLD = """
import sys
from pathlib import Path
from medseg.serve.worker import Workplace
place = Workplace(Path(sys.argv[1]))
with place.folder() as folder:
    (folder / "image.dcm").write_text("of a patient")
    print(place.root, flush=True)
    sys.stdin.read()
"""


async def here() -> bool:
    return False


async def gone() -> bool:
    return True


def test_tasks_run_one_after_the_other():
    running, most = 0, 0

    def task(check) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        total = sum(range(100_000))
        running -= 1
        return total

    async def all_of_them(worker: Worker) -> list[int]:
        return await asyncio.gather(*(worker.run(task, here) for _ in range(5)))

    worker = Worker(4)
    assert asyncio.run(all_of_them(worker)) == [4999950000] * 5
    assert most == 1
    worker.end()


def test_the_line_is_short():
    worker = Worker(1)
    with worker.place(), worker.place():
        with pytest.raises(Refused, match="other predictions are waiting") as error, worker.place():
            pass
        assert (error.value.status, error.value.headers) == (503, {"retry-after": "5"})
    with pytest.raises(KeyError), worker.place():
        raise KeyError
    with worker.place(), worker.place():
        pass
    worker.end()


def test_a_task_ends_when_nobody_waits_and_the_next_one_runs():
    begun = threading.Event()

    def endless(check) -> None:
        begun.set()
        while True:
            check()

    worker = Worker(1)
    with pytest.raises(Stopped):
        asyncio.run(worker.run(endless, gone))
    assert begun.is_set()
    assert asyncio.run(worker.run(lambda check: 3, here)) == 3
    worker.end()


def test_the_end_of_the_server_ends_its_task():
    begun = threading.Event()

    def endless(check) -> None:
        begun.set()
        while True:
            check()

    async def both(worker: Worker) -> None:
        running = asyncio.create_task(worker.run(endless, here))
        while not begun.is_set():
            await asyncio.sleep(0.01)
        worker.end()
        with pytest.raises(Stopped):
            await running

    asyncio.run(both(Worker(1)))


def test_an_error_of_a_task_is_told():
    worker = Worker(1)
    with pytest.raises(ZeroDivisionError):
        asyncio.run(worker.run(lambda check: 1 // 0, here))
    worker.end()


def test_folders_are_private_and_vanish(tmp_path):
    place = Workplace(tmp_path)
    assert place.root.stat().st_mode & 0o777 == 0o700
    with pytest.raises(KeyError), place.folder() as folder:
        assert folder.parent == place.root
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "image.png").write_text("x")
        raise KeyError
    assert not folder.exists()
    with place.folder() as folder:
        (folder / "image.png").write_text("x")
        place.close()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_server_left_is_removed_by_the_next_but_not_what_is_in_use(tmp_path):
    held = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert held.stdout is not None
    root = Path(held.stdout.readline().strip())
    try:
        beside = Workplace(tmp_path)
        assert len(list(root.rglob("image.dcm"))) == 1
        beside.close()
    finally:
        os.kill(held.pid, signal.SIGKILL)
        held.wait()
    assert len(list(root.rglob("image.dcm"))) == 1
    after = Workplace(tmp_path)
    assert not root.exists()
    after.close()
    assert list(tmp_path.iterdir()) == []


def test_links_to_elsewhere_are_not_followed(tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "lock").touch()
    (other / "kept").touch()
    where = tmp_path / "temporary"
    where.mkdir()
    (where / "medseg-serve-link").symlink_to(other)
    Workplace(where).close()
    assert (other / "kept").exists()
