"""Shows how a study goes while an engine runs it: a bar on a terminal, a line now and then in a file."""

from __future__ import annotations

import time
from statistics import mean
from typing import TYPE_CHECKING

from medseg.study.entry import Row
from medseg.study.ledger import Ledger

if TYPE_CHECKING:
    from rich.progress import Progress

#: seconds between two looks into the ledger
LOOK = 3.0
#: seconds between two lines where there is no terminal
LINE_EVERY = 30.0


class Watch:
    """Called by engines again and again; looks into the ledger now and then and says what has changed.

    Args:
        ledger: the study's.
        quiet: say nothing.
    """

    def __init__(self, ledger: Ledger, *, quiet: bool = False) -> None:
        from rich.console import Console

        self.ledger = ledger
        self.quiet = quiet
        self._console = Console(stderr=True)
        self._bar: Progress | None = None
        self._looked = self._spoke = float("-inf")
        self._text = ""

    def __enter__(self) -> Watch:
        if self._console.is_terminal and not self.quiet:
            from rich.progress import BarColumn, Progress, TextColumn

            columns = (TextColumn("{task.description}"), BarColumn())
            self._bar = Progress(*columns, console=self._console, refresh_per_second=2)
            self._bar.add_task("")
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._look()
            self._bar.stop()
        elif not self.quiet:
            self._spoke = float("-inf")
            self._look()

    def __call__(self) -> None:
        """Say how far the study is, if some time has passed."""
        if not self.quiet and time.monotonic() - self._looked >= LOOK:
            self._look()

    def _look(self) -> None:
        self._looked = time.monotonic()
        if self._bar is None and self._looked - self._spoke < LINE_EVERY:
            return
        rows = self.ledger.rows()
        text, over = summary(rows), sum(row.state in ("done", "failed") for row in rows)
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], description=text, completed=over, total=len(rows))
        elif text != self._text:
            self._console.print(text, highlight=False, soft_wrap=True)
        self._spoke, self._text = self._looked, text


def summary(rows: list[Row]) -> str:
    """A study in a line: done, failed, running, left, and the time that is left."""
    counts = {
        state: sum(row.state == state for row in rows) for state in ("done", "failed", "running", "waiting")
    }
    words = {"done": "done", "failed": "failed", "running": "running", "waiting": "left"}
    said = [f"{counts[s]} {w}" for s, w in words.items() if counts[s] or s == "done"]
    seconds = seconds_left(rows)
    said += [f"about {span(seconds)} to go"] if seconds is not None else []
    return f"{len(rows)} runs: {', '.join(said)}"


def seconds_left(rows: list[Row]) -> float | None:
    """How long the rest takes with the workers that are alive, if runs take as long as those done of their model.

    None where nothing is done or nobody is at work.
    """
    done: dict[str, list[float]] = {}
    for row in rows:
        if row.state == "done" and row.seconds > 0:
            done.setdefault(row.model, []).append(row.seconds)
    running = [row for row in rows if row.state == "running"]
    left = [row for row in rows if row.state == "waiting"]
    if not done or not running:
        return None
    every = mean(seconds for found in done.values() for seconds in found)
    expected = {row.key: mean(done.get(row.model, [every])) for row in (*running, *left)}
    now = time.time()
    spent = {row.key: now - (row.began or now) for row in running}
    rest = sum(max(0.0, seconds - spent.get(key, 0.0)) for key, seconds in expected.items())
    return rest / len(running)


def span(seconds: float) -> str:
    """A time for people.

    >>> span(42), span(600), span(9000), span(200000)
    ('42 s', '10 min', '2.5 h', '2.3 days')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"
