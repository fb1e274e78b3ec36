"""Figures with images: the same cases under each contestant, and those that went wrong."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from medseg.errors import MedsegError
from medseg.report import figures
from medseg.report.drawings import CAPTIONS, Album
from medseg.report.figures import CasePicture, FailurePicture, failing_cases, worst_cases
from medseg.report.figures.canvas import listed, shown
from medseg.report.predictions import Predictions, departure, predict
from medseg.report.runs import Run
from medseg.report.scenes import Scene, scenes

if TYPE_CHECKING:
    import pandas as pd

#: cases that all contestants fail, and outlines on each of them
FAILING, OUTLINES = 8, 12
#: contestants up to which the cases of a data set share a figure
FEW = 5
#: what counts as failed, of metrics of overlap
BELOW = 0.5


def draw_images(
    album: Album,
    table: pd.DataFrame,
    runs: Sequence[Run],
    of: str,
    metric: str,
    order: Sequence[str],
    prepared: Path | None,
    count: int,
    device: str = "auto",
) -> None:
    """Predict the chosen cases anew, and draw them.

    Args:
        album: collects the pictures.
        table: a normalised table.
        runs: all runs that are at hand.
        of: the factor whose levels compete.
        metric: chooses cases.
        order: contestants, best first.
        prepared: folder of indexes, splits and arrays; None where no image can be read.
        count: cases of each data set, and worst cases of each contestant.
        device: where networks run.
    """
    what = "cases under each contestant, and failures"
    usable = [run for run in runs if run.weights]
    if prepared is None or "case" not in table.columns:
        album.leave_out(what, "only the table is known, not the images")
        return
    if of == "dataset":
        album.leave_out(what, "data sets have no cases in common")
        return
    if not usable:
        album.leave_out(what, f"none of {len(runs)} runs kept its weights" if runs else "no run is at hand")
        return
    models = _Models(album, table, prepared, device)
    found = scenes(table, usable, of, metric, order, count)
    if not found:
        album.leave_out(what, "no two contestants with weights were tested on the same cases")
    for scene in found:
        _draw_scene(album, models, scene, of)
    _draw_worst(album, models, table, usable, of, metric, order, count)
    _draw_failing(album, models, table, usable, of, metric)


class _Models:
    """Predicts cases, each once, and notes once what cannot be predicted."""

    def __init__(self, album: Album, table: pd.DataFrame, prepared: Path, device: str) -> None:
        self.album, self.table, self.prepared, self.device = album, table, prepared, device
        self.known: dict[tuple[Path, str], Predictions] = {}
        self.faulty: set[Path] = set()

    def predict(self, run: Run, cases: Sequence[str]) -> dict[str, Predictions]:
        """Case -> its prediction alone; empty if the run's model or images cannot be had."""
        new = [case for case in cases if (run.folder, case) not in self.known]
        if run.folder in self.faulty:
            return {}
        if new:
            try:
                found = predict(run, new, self.prepared, self.device)
            except MedsegError as error:
                self.faulty.add(run.folder)
                self.album.leave_out(f"images of {run.bundle.name} repeat {run.keys['repeat']}", str(error))
                return {}
            gap = departure(found, self._stored(run, new))
            if gap:
                self.album.leave_out(f"exact images of {run.bundle.name} repeat {run.keys['repeat']}", gap)
            for number, case in enumerate(new):
                self.known[run.folder, case] = _one(found, number)
        return {case: self.known[run.folder, case] for case in cases}

    def _stored(self, run: Run, cases: Sequence[str]) -> dict[str, float]:
        rows = self.table[(self.table["metric"] == "dice") & self.table["case"].isin(cases)]
        for key, level in run.keys.items():
            rows = rows[rows[key] == level]
        return dict(zip(rows["case"], rows["value"].astype(float), strict=True))


def _one(found: Predictions, number: int) -> Predictions:
    part = slice(number, number + 1)
    arrays = (found.images[part], found.references[part], found.probabilities[part], found.dice[part])
    return Predictions((found.cases[number],), *arrays)


def _draw_scene(album: Album, models: _Models, scene: Scene, of: str) -> None:
    outputs = {name: models.predict(run, list(scene.cases)) for name, run in scene.runs.items()}
    outputs = {name: found for name, found in outputs.items() if found}
    if not outputs:
        return
    first = next(iter(outputs.values()))
    pictures = []
    for case in scene.cases:
        same = {
            name: found[case].probabilities[0]
            for name, found in outputs.items()
            if found[case].probabilities.shape == first[case].probabilities.shape
        }
        pictures.append(CasePicture(case, first[case].images[0], first[case].references[0], same))
    # with many contestants a case fills a page of its own
    each = len(pictures) if len(outputs) <= FEW else 1
    for number, first_of in enumerate(range(0, len(pictures), each), 1):
        some = pictures[first_of : first_of + each]
        chosen = ", ".join(f"{one.name}: {scene.cases[one.name]}" for one in some)
        caption = CAPTIONS["binarised"].format(
            dataset=scene.dataset, of=of, setting=scene.setting, cases=chosen
        )
        name = f"binarised_{of}_{scene.dataset}" + (f"_{number}" if each < len(pictures) else "")
        what = f"cases of {scene.dataset}"
        album.add(
            "images", what, partial(figures.draw_binarised, some, of), caption, name=name, photographs=True
        )


def _draw_worst(
    album: Album,
    models: _Models,
    table: pd.DataFrame,
    runs: Sequence[Run],
    of: str,
    metric: str,
    order: Sequence[str],
    count: int,
) -> None:
    """The worst cases of each contestant, as its worst run with weights sees them."""
    worst = worst_cases(table, of, metric, count, order)
    pictures = []
    for row in worst.to_dict("records"):
        tested = _tested(
            table, runs, of, metric, str(row["contestant"]), row.get("dataset"), str(row["case"])
        )
        for run, value in tested[:1]:
            found = models.predict(run, [str(row["case"])]).get(str(row["case"]))
            if found:
                title = f"{shown(str(row['contestant']))}: {metric} {value:.3f}\n{run.keys['dataset']}\n{row['case']}"
                mask = found.probabilities[0] >= 0.5
                pictures.append(FailurePicture(title, found.images[0], found.references[0], {"": mask}))
    what = (
        f"The worst cases of each {of} by their mean {metric} over runs, shown as the worst of the runs whose weights "
        "were kept sees them; the value is that run's."
    )
    album.add(
        "images",
        f"worst cases of each {of}",
        lambda: figures.draw_failures(pictures, f"Worst cases of each {of}"),
        CAPTIONS["failures"].format(what=what),
        name=f"failures_worst_{of}",
        photographs=True,
    )


def _draw_failing(
    album: Album, models: _Models, table: pd.DataFrame, runs: Sequence[Run], of: str, metric: str
) -> None:
    """The cases that every contestant fails, with the outlines of all."""
    from medseg.metrics import METRICS

    if (
        metric not in METRICS
        or METRICS[metric].facts.get("unit")
        or METRICS[metric].facts["better"] != "higher"
    ):
        metric = "dice" if "dice" in set(table["metric"]) else metric
    if metric not in METRICS or METRICS[metric].facts.get("unit"):
        album.leave_out("cases that all fail", f"no threshold of {metric} says what failing is")
        return
    failing = failing_cases(table, of, metric, BELOW)
    if not len(failing):
        album.leave_out(
            "cases that all fail", f"each case has a {of} with a mean {metric} of {BELOW} or more"
        )
        return
    pictures = []
    for row in failing.head(FAILING).to_dict("records"):
        case, outlines, last = str(row["case"]), {}, None
        for name in dict.fromkeys(run.keys[of] for run in runs):
            for run, _ in _tested(table, runs, of, metric, name, row.get("dataset"), case)[:1]:
                found = models.predict(run, [case]).get(case)
                if found and (last is None or found.references[0].shape == last.references[0].shape):
                    outlines[name], last = found.probabilities[0] >= 0.5, last or found
        if last:
            title = f"{row.get('dataset', '')}\n{case}\nbest: {shown(str(row['by']))} {row['best']:.3f}"
            some = dict(list(outlines.items())[:OUTLINES])
            pictures.append(FailurePicture(title, last.images[0], last.references[0], some))
    what = (
        f"Cases of which no {of} reaches a mean {metric} of {BELOW}: {len(failing)} in all, the worst first. Each "
        f"outline is one {of} ({listed([str(n) for n in dict.fromkeys(run.keys[of] for run in runs)], 12)})."
    )
    album.add(
        "images",
        "cases that all fail",
        lambda: figures.draw_failures(pictures, f"Cases that every {of} fails"),
        CAPTIONS["failures"].format(what=what),
        name=f"failures_all_{of}",
        photographs=True,
    )


def _tested(
    table: pd.DataFrame,
    runs: Sequence[Run],
    of: str,
    metric: str,
    name: str,
    dataset: str | None,
    case: str,
) -> list[tuple[Run, float]]:
    """The runs of a contestant with weights that were tested on a case, with their values, the worst first."""
    from medseg.ranking.table import directions
    from medseg.results import RUN_KEYS

    rows = table[(table["metric"] == metric) & (table["case"] == case) & (table[of] == name)]
    if dataset is not None:
        rows = rows[rows["dataset"] == dataset]
    values = {
        key: float(value)
        for *key_parts, value in rows[[*RUN_KEYS, "value"]].itertuples(index=False, name=None)
        for key in [tuple(map(str, key_parts))]
    }
    sign = -1 if directions(table, [metric])[metric] == "lower" else 1
    mine = [(run, values[key]) for run in runs if (key := tuple(run.keys[k] for k in RUN_KEYS)) in values]
    return sorted(mine, key=lambda pair: sign * pair[1])
