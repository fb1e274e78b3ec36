"""Which process holds a claim, and whether it still lives."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path


@dataclass(frozen=True)
class Process:
    """A process, told apart from every other one that ever had its number.

    Args:
        host: name of the machine, for people.
        space: what process numbers are unique in: one boot of one machine, and the container on it.
        pid: its number.
        started: when it began, in clock ticks since boot; 0 where the system does not tell.
    """

    host: str
    space: str
    pid: int
    started: int

    @property
    def name(self) -> str:
        """What people call it, and its log file: ``<host>-<pid>``."""
        return f"{self.host}-{self.pid}"

    def gone(self) -> bool | None:
        """Whether the process has ended; None where that cannot be seen from here."""
        if self.space != space() or not self.started:
            return None
        return started(self.pid) != self.started


def this_process() -> Process:
    """The process that calls."""
    pid = os.getpid()
    return Process(socket.gethostname(), space(), pid, started(pid))


def started(pid: int) -> int:
    """When a process began, in clock ticks since boot; 0 if there is none, it has ended, or it is not Linux."""
    try:
        # the name, in brackets, may hold anything; what counts stands behind it
        fields = (
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        )
    except OSError:
        return 0
    return 0 if fields[0] in "ZX" else int(fields[19])


@lru_cache(maxsize=1)
def space() -> str:
    """One boot of one machine and the container on it; containers may share a host's name but not its processes."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return socket.gethostname()
