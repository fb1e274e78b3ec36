"""What goes into the ledger of a study, and what comes out of it."""

from __future__ import annotations

from dataclasses import dataclass

from medseg.study.process import Process
from medseg.study.spec import Cell

#: what a run can be
STATES = ("waiting", "running", "done", "failed", "superseded")


@dataclass(frozen=True)
class Entry:
    """A run to be entered.

    Args:
        key: of everything that decides its numbers.
        base: the same without the code's version.
        code: the code's version.
        cell: the run.
        split: name of the split.
    """

    key: str
    base: str
    code: str
    cell: Cell
    split: str


@dataclass(frozen=True)
class Row:
    """A run as the ledger has it.

    Args:
        key, base, code: as in ``Entry``.
        position: in the study, from 0.
        name: ``<bundle>/<repeat>``.
        dataset, model, loss, preprocess, augment, split, repeat: what a run is keyed by everywhere.
        state: one of ``STATES``.
        attempts: how often it was claimed.
        failures: how many of its attempts are used up.
        error: why it failed last, in one line.
        owner: who has it or had it last, as ``<host>-<pid>``; the name of the log as well. Empty for nobody yet.
        host: of the owner.
        process: of the owner; None for nobody yet.
        beat: the owner's last sign of life, in seconds since 1970 by its clock.
        began: of the last attempt.
        ended: of the last attempt; None while it runs.
        seconds: of all attempts together, as far as they are over.
        reached: epochs at the last death.
    """

    key: str
    base: str
    code: str
    position: int
    name: str
    dataset: str
    model: str
    loss: str
    preprocess: str
    augment: str
    split: str
    repeat: int
    state: str
    attempts: int
    failures: int
    error: str
    owner: str
    host: str
    process: Process | None
    beat: float | None
    began: float | None
    ended: float | None
    seconds: float
    reached: int


@dataclass(frozen=True)
class Claim:
    """The right to run one run; whoever holds the token holds it.

    Args:
        key: the run's.
        token: of this claim alone.
        cell: the run.
        split: name of the split.
        code: the version of the code that the run is for.
    """

    key: str
    token: str
    cell: Cell
    split: str
    code: str


@dataclass(frozen=True)
class Attempt:
    """One attempt at a run: ``outcome`` is ``done failed died released``, or empty while it goes on."""

    key: str
    owner: str
    began: float
    ended: float | None
    outcome: str
    reason: str
    epochs: int | None
