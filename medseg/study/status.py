"""How a study stands, read from its ledger and the files of its runs; nothing is changed and nobody is held up."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

from medseg.errors import MedsegError
from medseg.study.amounts import duration
from medseg.study.entry import STATES, Row
from medseg.study.folder import StudyFolder
from medseg.study.ledger import Ledger

if TYPE_CHECKING:
    import pandas as pd

#: what a plan expected of each run, where nothing better is known: run -> seconds
EXPECTED = "estimates.json"


@dataclass(frozen=True)
class Progress:
    """How far a running run is.

    Args:
        epoch: epochs that are over, as far as they are on disk.
        epochs: at most so many.
        dead: whether its worker is seen to be gone.
    """

    epoch: int
    epochs: int | None
    dead: bool

    @property
    def share(self) -> float:
        """Share of the epochs that are over, 0 to 1."""
        return min(1.0, self.epoch / self.epochs) if self.epochs else 0.0


@dataclass(frozen=True)
class Status:
    """A study at one moment.

    Args:
        folder: the study's.
        rows: its runs, those that are superseded at the end.
        progress: name of a running run -> how far it is.
        expected: name of a run -> seconds that a plan expected.
        now: the moment, in seconds since 1970.
    """

    folder: StudyFolder
    rows: list[Row]
    progress: dict[str, Progress]
    expected: dict[str, float]
    now: float

    def of(self, *states: str) -> list[Row]:
        """The runs in some states."""
        return [row for row in self.rows if row.state in states]

    @property
    def counts(self) -> dict[str, int]:
        """State -> number of runs."""
        counts = Counter(row.state for row in self.rows)
        return {state: counts[state] for state in STATES}

    @property
    def over(self) -> bool:
        """Whether no run is waiting or running."""
        return not self.of("waiting", "running")

    @property
    def workers(self) -> int:
        """How many workers hold a run, less those that are seen to be gone."""
        return sum(not progress.dead for progress in self.progress.values())

    @property
    def time_left(self) -> float | None:
        """Seconds until all is done with the workers that there are; None where nothing tells, or nobody works.

        A run will take what the finished ones of its data set and model took on average, else those of its model,
        else what a plan expected, else the average of all.
        """
        left = self.of("waiting", "running")
        if not left or not self.workers:
            return 0.0 if not left else None
        done = [(row, row.seconds) for row in self.of("done")]
        same = _means((row.dataset, row.model, row.augment, seconds) for row, seconds in done)
        model = _means((row.model, seconds) for row, seconds in done)
        usual = mean(seconds for _, seconds in done) if done else None
        work, longest = 0.0, 0.0
        for row in left:
            known = (same.get((row.dataset, row.model, row.augment)), model.get((row.model,)))
            seconds = next((s for s in (*known, self.expected.get(row.name), usual) if s is not None), None)
            if seconds is None:
                return None
            rest = seconds * (1 - self.progress[row.name].share) if row.name in self.progress else seconds
            work, longest = work + rest, max(longest, rest)
        return max(work / self.workers, longest)

    def by(self, axis: str) -> pd.DataFrame:
        """One row per level of an axis, and one for all: how many runs are in each state."""
        import pandas as pd

        states = [state for state in STATES if state != "superseded"]
        planned = self.of(*states)
        levels = dict.fromkeys(getattr(row, axis) for row in planned)
        rows = [
            _counted(level or "none", [r for r in planned if getattr(r, axis) == level]) for level in levels
        ]
        return pd.DataFrame([*rows, _counted("all", planned)], columns=[axis, "runs", *states])

    def runs(self) -> pd.DataFrame:
        """One row per run: keys, state, owner, epochs, times and the last error."""
        import pandas as pd

        return pd.DataFrame([self._row(row) for row in self.rows])

    def _row(self, row: Row) -> dict[str, Any]:
        keys = ("name", "dataset", "model", "loss", "preprocess", "augment", "split", "repeat", "state")
        at = self.progress.get(row.name) if row.state == "running" else None
        told = {key: getattr(row, key) for key in (*keys, "attempts", "owner", "seconds", "error")}
        return told | {"epoch": at.epoch if at else None, "epochs": at.epochs if at else None}

    def running(self) -> list[str]:
        """What runs where, how far it is and since when, one line each."""
        lines = []
        for row in self.of("running"):
            at = self.progress[row.name]
            epochs = f"epoch {at.epoch} of {at.epochs}" if at.epochs else "preparing"
            since = duration(self.now - row.began) if row.began else "?"
            gone = "; its worker is gone, and the next one takes it up" if at.dead else ""
            lines.append(f"{row.name}: {epochs} for {since} on {row.owner}{gone}")
        return lines

    def failures(self) -> list[str]:
        """What failed and why, one line for each reason and the runs that share it."""
        return [_failed(error, rows) for error, rows in _grouped(self.of("failed"), lambda row: row.error)]

    def words(self) -> list[str]:
        """The whole in a few lines."""
        counts, left = self.counts, self.time_left
        total = sum(number for state, number in counts.items() if state != "superseded")
        told = ", ".join(f"{counts[s]} {s}" for s in ("done", "running", "failed", "waiting"))
        lines = [f"{self.folder.name}: {total} runs, {told}"]
        if not self.over:
            many = f"{self.workers} worker{'s'[: self.workers != 1]}"
            lines.append(
                "nobody works on it; 'medseg study run' goes on"
                if not self.workers
                else f"time left: not known yet, with {many}"
                if left is None
                else f"time left: about {duration(left)} with {many}"
            )
        retried = [row for row in self.of("waiting") if row.error]
        lines += [f"to be tried again: {_failed(e, r)}" for e, r in _grouped(retried, lambda row: row.error)]
        if counts["superseded"]:
            lines.append(
                f"{counts['superseded']} earlier runs are superseded: of other settings, data or code"
            )
        return lines


def _failed(error: str, rows: Sequence[Row]) -> str:
    more = f" and {len(rows) - 1} more" if len(rows) > 1 else ""
    return f"{rows[0].name}{more}: {error or 'no reason was told'}"


def _counted(level: str, rows: Sequence[Row]) -> list[object]:
    counts = Counter(row.state for row in rows)
    return [level, len(rows), *(counts[state] for state in STATES if state != "superseded")]


def _grouped(rows: Iterable[Row], key: Any) -> list[tuple[str, list[Row]]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return list(groups.items())


def _means(values: Iterable[tuple[Any, ...]]) -> dict[tuple[Any, ...], float]:
    """Mean of the last item of tuples by the items before it."""
    groups: dict[tuple[Any, ...], list[float]] = {}
    for *key, value in values:
        groups.setdefault(tuple(key), []).append(value)
    return {group: mean(found) for group, found in groups.items()}


def read_status(folder: StudyFolder) -> Status:
    """How a study stands now.

    Raises:
        MedsegError: there is no study in the folder.
    """
    if not folder.ledger.is_file():
        raise MedsegError(f"{folder.root}: no study was run here yet; start it with 'medseg study run'")
    rows = Ledger(folder.ledger).rows(superseded=True)
    progress = {row.name: progress_of(folder, row) for row in rows if row.state == "running"}
    return Status(folder, rows, progress, _expected(folder), time.time())


def progress_of(folder: StudyFolder, row: Row) -> Progress:
    """How far a run is, by its ``run.json`` and ``curves.csv``."""
    run = folder.run_folder(row.name.rpartition("/")[0], row.repeat, row.split)
    record = _json(run / "run.json")
    settings = record.get("settings")
    epochs = settings.get("epochs") if isinstance(settings, dict) else None
    try:
        lines = (run / "curves.csv").read_text(encoding="utf-8").count("\n")
    except (OSError, UnicodeDecodeError):
        lines = 0
    dead = row.process is not None and row.process.gone() is True
    return Progress(max(0, lines - 1), epochs if isinstance(epochs, int) else None, dead)


def _expected(folder: StudyFolder) -> dict[str, float]:
    found = _json(folder.root / EXPECTED)
    return {str(name): float(value) for name, value in found.items() if isinstance(value, (int, float))}


def _json(path: Path) -> dict[str, Any]:
    """A JSON object; empty if it is missing or broken, as it only adds to what the ledger says."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
