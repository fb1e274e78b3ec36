"""The thread beside a worker: gives signs of life, and ends the process when its claim or its parent is gone."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from medseg.errors import MedsegError
from medseg.study.entry import Claim
from medseg.study.ledger import BEAT, Ledger

#: what a worker exits with that was told to end, as a shell says of SIGTERM
TOLD_TO_END = 143
#: what a worker exits with whose run was given to another one
CLAIM_LOST = 75


class Heart:
    """Keeps the claim of the running attempt alive.

    It ends the process with ``os._exit`` rather than by an exception: training code may be anywhere, nothing that
    it writes is ever half written, and nothing may be written beside another worker that has the run now.

    Args:
        ledger: the ledger.
        parent: number of the process whose end is this one's too; 0 for none.
        ending: once set, the claim is given back and the process ends.
        every: seconds between two signs of life.
    """

    def __init__(
        self, ledger: Ledger, parent: int = 0, ending: threading.Event | None = None, every: float = BEAT
    ) -> None:
        self.ledger = ledger
        self.parent = parent
        self.every = every
        self.ending = ending or threading.Event()
        self._claim: Claim | None = None
        self._lock = threading.RLock()
        self._closed = False
        self._alive = time.monotonic()
        self._thread = threading.Thread(target=self._watch, name="medseg-heart", daemon=True)

    def __enter__(self) -> Heart:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        self.ending.set()
        self._thread.join()

    @contextmanager
    def between(self) -> Iterator[None]:
        """While a claim is taken or given back: the thread stands still."""
        with self._lock:
            yield

    def hold(self, claim: Claim | None) -> None:
        """Keep this claim alive from now on, or none."""
        self._alive = time.monotonic()
        self._claim = claim

    def _watch(self) -> None:
        # the parent is looked for more often than signs of life are given
        step, beaten = min(1.0, self.every), time.monotonic()
        while True:
            told = self.ending.wait(step)
            if self._closed:
                return
            with self._lock:
                if told or (self.parent and os.getppid() != self.parent):
                    self._end()
                if time.monotonic() - beaten >= self.every:
                    beaten = time.monotonic()
                    self._beat()

    def _beat(self) -> None:
        if self._claim is None:
            return
        try:
            held = self.ledger.beat(self._claim)
        except MedsegError as error:
            # a ledger out of reach for a moment is no harm, as long as nobody can have taken the run
            print(error, file=sys.stderr, flush=True)
            held = time.monotonic() - self._alive < self.ledger.lease - self.every
        else:
            self._alive = time.monotonic()
        if not held:
            print(
                f"the claim on {self._claim.cell.name} is lost; another worker has it",
                file=sys.stderr,
                flush=True,
            )
            os._exit(CLAIM_LOST)

    def _end(self) -> None:
        """Give the run back and end."""
        try:
            if self._claim is not None:
                self.ledger.release(self._claim)
                print(f"gave {self._claim.cell.name} back unfinished", file=sys.stderr, flush=True)
        finally:
            os._exit(TOLD_TO_END)
