"""What the runs of a classification answered for each test case, read from their ``cases.csv``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from medseg.errors import MedsegError
from medseg.ranking.table import PROBABILITY
from medseg.report.runs import Run
from medseg.report.task import told_by
from medseg.results import read_csv

#: between the names of several classes of one image
SEPARATOR = "|"


@dataclass(frozen=True)
class Answers:
    """A run's probabilities of its test cases, and the truth.

    Args:
        run: the run.
        classes: their names, in the order of the columns below.
        multilabel: an image has any number of them.
        cases: names of the test cases.
        groups: of the cases.
        probabilities: ``(N, K)`` float64.
        truth: ``(N, K)`` boolean.
    """

    run: Run
    classes: tuple[str, ...]
    multilabel: bool
    cases: tuple[str, ...]
    groups: tuple[str, ...]
    probabilities: np.ndarray = field(repr=False)
    truth: np.ndarray = field(repr=False)

    @property
    def found(self) -> np.ndarray:
        """Which classes were predicted, ``(N, K)`` boolean."""
        from medseg.metrics.classification import answers

        return answers(self.probabilities, self.multilabel)


def read_answers(run: Run) -> Answers:
    """The answers of a run.

    Raises:
        MedsegError: the run has no readable ``cases.csv``, or that has no probabilities.
    """
    frame = read_csv(run.folder / "cases.csv")
    columns = [c for c in frame.columns if c.startswith(PROBABILITY)]
    if not columns or not {"case", "truth"} <= set(frame.columns):
        raise MedsegError(
            f"{run.bundle.name}: cases.csv of repeat {run.folder.name} has no probabilities of classes"
        )
    classes = tuple(c.removeprefix(PROBABILITY) for c in columns)
    told = told_by(run).get("multilabel")
    named = frame["truth"].isin(classes)
    multilabel = bool(told) if told is not None else not named.all()
    truth = np.stack([_has(list(frame["truth"]), name, multilabel) for name in classes], 1)
    if not multilabel and not named.all():
        strange = frame["truth"][~named].iloc[0]
        raise MedsegError(
            f"{run.bundle.name}: {strange!r} in cases.csv is none of the classes {', '.join(classes)}"
        )
    groups = frame["group"] if "group" in frame.columns else frame["case"]
    values = frame[columns].to_numpy(np.float64)
    return Answers(run, classes, multilabel, tuple(frame["case"]), tuple(groups), values, truth)


def _has(truth: Sequence[str], name: str, multilabel: bool) -> np.ndarray:
    return np.array(
        [name in text.split(SEPARATOR) if multilabel else text == name for text in truth], dtype=bool
    )


def answers_of(runs: Sequence[Run]) -> tuple[list[Answers], list[str]]:
    """The answers of all runs that left them, and why those of the others cannot be had."""
    found, faults = [], []
    for run in runs:
        try:
            found.append(read_answers(run))
        except MedsegError as error:
            faults.append(str(error))
    return found, faults


def grouped(answers: Sequence[Answers], of: str, order: Sequence[str]) -> dict[str, dict[str, list[Answers]]]:
    """Data set -> contestant -> the answers of its runs; contestants in the given order, others last.

    Runs of other classes than the first of their data set are left out: their answers are to another question.
    """
    found: dict[str, dict[str, list[Answers]]] = {}
    for dataset in sorted({one.run.keys["dataset"] for one in answers}):
        mine = [one for one in answers if one.run.keys["dataset"] == dataset]
        mine = [one for one in mine if one.classes == mine[0].classes]
        names = list(dict.fromkeys([*order, *(one.run.keys[of] for one in mine)]))
        runs = {name: [one for one in mine if one.run.keys[of] == name] for name in names}
        found[dataset] = {name: some for name, some in runs.items() if some}
    return found
