"""Images that were classified: the surest errors, the least sure answers, and what everyone gets wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from medseg.errors import MedsegError
from medseg.report import figures
from medseg.report.class_tables import Grouped
from medseg.report.classes import Answers
from medseg.report.drawings import CAPTIONS, Album
from medseg.report.figures import ClassPicture
from medseg.report.figures.canvas import shown
from medseg.report.predictions import testing_part
from medseg.report.runs import Run

#: images that all contestants get wrong which are shown
FAILING = 8


@dataclass(frozen=True)
class Mean:
    """The answers of one or more contestants in the mean over their runs, one row per case.

    Args:
        classes: their names.
        multilabel: an image has any number of them.
        runs: case -> a run that was tested on it.
        cases: in the order of their names.
        probabilities: ``(N, K)``.
        truth: ``(N, K)`` boolean.
    """

    classes: tuple[str, ...]
    multilabel: bool
    runs: Mapping[str, Run]
    cases: tuple[str, ...]
    probabilities: np.ndarray = field(repr=False)
    truth: np.ndarray = field(repr=False)

    @property
    def wrong(self) -> np.ndarray:
        """Which cases are not answered right in every class, ``(N,)``."""
        from medseg.metrics.classification import answers

        return (answers(self.probabilities, self.multilabel) != self.truth).any(1)

    @property
    def surest(self) -> np.ndarray:
        """How sure the answer is, ``(N,)``: as the likeliest class is, or of several labels the least decided."""
        if self.multilabel:
            return np.maximum(self.probabilities, 1 - self.probabilities).min(1)
        return self.probabilities.max(1)

    @property
    def error(self) -> np.ndarray:
        """How sure the worst error of an answer is, ``(N,)``."""
        gap = np.abs(self.probabilities - self.truth)
        return gap.max(1) if self.multilabel else self.probabilities.max(1)

    def said(self, row: int) -> str:
        """Two lines: what the image is, and what was said of it."""
        from medseg.metrics.classification import answers

        chances = self.probabilities[row]
        given = np.flatnonzero(answers(self.probabilities[[row]], self.multilabel)[0])
        true = ", ".join(self.classes[k] for k in np.flatnonzero(self.truth[row])) or "no label"
        told = ", ".join(f"{self.classes[k]} {chances[k]:.2f}" for k in given)
        return f"is {true}\nsaid {told or f'no label (at most {chances.max():.2f})'}"


def averaged(answers: Sequence[Answers]) -> Mean:
    """The mean of several runs' answers for each case that any of them was tested on."""
    import pandas as pd

    names = np.concatenate([np.array(one.cases, dtype=object) for one in answers])
    code, cases = pd.factorize(names, sort=True)
    _, first = np.unique(code, return_index=True)
    number = np.bincount(code)
    chances = np.concatenate([one.probabilities for one in answers])
    mean = np.stack([np.bincount(code, column) / number for column in chances.T], 1)
    truth = np.concatenate([one.truth for one in answers])[first]
    owner = np.repeat(np.arange(len(answers)), [len(one.cases) for one in answers])[first]
    runs = {case: answers[k].run for case, k in zip(cases, owner, strict=True)}
    return Mean(answers[0].classes, answers[0].multilabel, runs, tuple(cases), mean, truth)


class _Images:
    """Images of test cases as the networks got them, and a note once of each run whose images cannot be had."""

    def __init__(self, album: Album, prepared: Path) -> None:
        self.album, self.prepared = album, prepared
        self.parts: dict[Path, Any] = {}

    def get(self, run: Run, case: str) -> np.ndarray | None:
        """The image ``(C, H, W)`` of a case."""
        if run.folder not in self.parts:
            self.parts[run.folder] = self._part(run)
        part = self.parts[run.folder]
        if part is None or case not in part[1]:
            return None
        return part[0][part[1][case]]["image"].numpy()

    def _part(self, run: Run) -> Any:
        try:
            part = testing_part(run, self.prepared)[0]
        except MedsegError as error:
            self.album.leave_out(f"images of {run.bundle.name} repeat {run.keys['repeat']}", str(error))
            return None
        return part, {case: place for place, case in enumerate(part.cases)}


def draw_class_gallery(album: Album, groups: Grouped, of: str, prepared: Path | None, count: int) -> None:
    """Draw images of test cases with what they are and what was said of them.

    Args:
        album: collects the pictures.
        groups: data set -> contestant -> answers of its runs.
        of: the factor whose levels compete.
        prepared: folder of indexes, splits and arrays; None where no image can be read.
        count: images of each contestant, and of each data set.
    """
    if prepared is None or not groups:
        reason = (
            "only the table is known, not the images" if prepared is None else "no run left its probabilities"
        )
        album.leave_out("images that were classified", reason)
        return
    images = _Images(album, prepared)
    _surest_errors(album, images, groups, of, count)
    _least_sure(album, images, groups, count)
    _failed_by_all(album, images, groups, of)


def _surest_errors(album: Album, images: _Images, groups: Grouped, of: str, count: int) -> None:
    names = list(dict.fromkeys(name for some in groups.values() for name in some))
    pictures = []
    for name in names:
        rows = []
        for dataset, some in groups.items():
            if name in some:
                mean = averaged(some[name])
                rows += [(-mean.error[row], dataset, row, mean) for row in np.flatnonzero(mean.wrong)]
        for _, dataset, row, mean in sorted(rows, key=lambda one: one[:3])[:count]:
            pictures += _picture(images, mean, int(row), f"{shown(name)}\n{dataset}")
    _add(
        album,
        pictures,
        f"Surest errors of each {of}",
        f"errors_{of}",
        CAPTIONS["surest_errors"].format(of=of),
    )


def _least_sure(album: Album, images: _Images, groups: Grouped, count: int) -> None:
    pictures = []
    for dataset, some in groups.items():
        mean = averaged([one for runs in some.values() for one in runs])
        for row in np.argsort(mean.surest, kind="stable")[:count]:
            pictures += _picture(images, mean, int(row), dataset)
    _add(album, pictures, "Least sure answers", "unsure", CAPTIONS["least_sure"])


def _failed_by_all(album: Album, images: _Images, groups: Grouped, of: str) -> None:
    found = []
    for dataset, some in groups.items():
        means = {name: averaged(runs) for name, runs in some.items()}
        wrong = [{mean.cases[row] for row in np.flatnonzero(mean.wrong)} for mean in means.values()]
        every = averaged([one for runs in some.values() for one in runs])
        place = {case: row for row, case in enumerate(every.cases)}
        found += [
            (-every.error[place[case]], dataset, place[case], every) for case in set.intersection(*wrong)
        ]
    found.sort(key=lambda one: (*one[:2], one[3].cases[one[2]]))
    pictures = [p for _, dataset, row, mean in found[:FAILING] for p in _picture(images, mean, row, dataset)]
    caption = CAPTIONS["failed_by_all"].format(of=of, number=len(found))
    if not found:
        album.leave_out("images that all get wrong", f"each image has a {of} that gets it right")
        return
    _add(album, pictures, f"Images that every {of} gets wrong", f"failures_all_{of}", caption)


def _picture(images: _Images, mean: Mean, row: int, above: str) -> list[ClassPicture]:
    case = mean.cases[row]
    image = images.get(mean.runs[case], case)
    return [] if image is None else [ClassPicture(f"{above}\n{case}\n{mean.said(row)}", image)]


def _add(album: Album, pictures: Sequence[ClassPicture], title: str, name: str, caption: str) -> None:
    what = title[0].lower() + title[1:]
    album.add(
        "images",
        what,
        lambda: figures.draw_class_images(pictures, title),
        caption,
        name=name,
        photographs=True,
    )
