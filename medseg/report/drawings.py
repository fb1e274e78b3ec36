"""Which figures a report has, in what order, with their captions; and why one is left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.errors import MedsegError
from medseg.ranking.evidence import Evidence
from medseg.ranking.podium import OVERALL
from medseg.report import figures
from medseg.report.content import Picture
from medseg.report.figures import Drawing
from medseg.report.figures.canvas import plural
from medseg.report.page import picture
from medseg.report.runs import monitored, without_paths

if TYPE_CHECKING:
    import pandas as pd

    from medseg.ranking.findings import Findings

CAPTIONS = {
    "means": "Bars: the mean of each metric over cases, repeats, other factors and data sets. Lines: its interval.",
    "heatmap": (
        "Each cell is a mean; the darker, the nearer to the best of its column. The first three places of a column are "
        "named; the bars beside are the 3-2-1 points, with the mean rank."
    ),
    "critical_difference": (
        "Mean ranks over {blocks}, the best to the left or right end of 1. Those joined by a bar are not told apart by "
        "Nemenyi's test at {level:.0%} (Demšar 2006)."
    ),
    "places": (
        "How often each contestant takes each place when data sets, repeats and cases are drawn anew. A row with one "
        "dark cell is a sure place, a pale row an open one."
    ),
    "distributions": (
        "Each dot is a case of a run; the box holds the middle half, its line is the median. Means hide what is seen "
        "here: whether one contestant is better everywhere or fails less often."
    ),
    "sizes": (
        "Each dot is a case, in the mean over its runs; the line is the median of cases of like size, the band its "
        "interval. Grey: the others. Small lesions lose more Dice for the same pixels."
    ),
    "curves": (
        "Mean over the runs that still train; where lines are few, the band is their range. A line that still rises at "
        "its end was stopped too early."
    ),
    "cost": (
        "To the left is cheaper, the joined dots are beaten by nobody in both. The ringed one is the cheapest that is "
        "not shown to be worse than the best."
    ),
    "binarised": (
        "{dataset}: the same test cases under each {of} ({setting}; {cases}). Output: the probability of each pixel. "
        "Below it the mask at 0.5, by which all values of this report are computed, and the mask of what is above the "
        "output's own mean, which shows what the network has seen even if its level is off."
    ),
    "failures": "{what} Blue: the reference; orange: the prediction, at 0.5.",
    "confusion": (
        "Read along a row: what became of the images of a class. The diagonal is each class's sensitivity; a dark cell "
        "beside it is a pair of classes that is confused."
    ),
    "roc": (
        "Each point is a threshold: what share of the class is found, for what share of false alarms among the rest. "
        "The interval is of whole groups (patients, slides) drawn anew for the networks as they were trained.{over}"
    ),
    "reliability": (
        "Whether a probability may be taken at its word: of the predictions made with 80%, 80% should be right. Dots "
        "are of all runs together; ECE is the mean distance from the diagonal, in the mean over runs."
    ),
    "surest_errors": (
        "The wrong answers that each {of} is surest of, by the mean of its runs' probabilities: traps, or faulty "
        "labels."
    ),
    "least_sure": "The images of which the mean probability over all contestants and runs says least.",
    "failed_by_all": (
        "Images whose class no {of} finds, by the mean of its runs' probabilities: {number} in all, the surest errors "
        "first. Numbers in the titles are means over all."
    ),
}


@dataclass
class Album:
    """Collects pictures, and the reasons of those that could not be drawn.

    Args:
        folder: where the files of the figures go.
        pictures: section -> its pictures.
        left_out: what is missing and why, one sentence each.
    """

    folder: Path
    pictures: dict[str, list[Picture]] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    def add(
        self,
        section: str,
        what: str,
        draw: Callable[[], Drawing],
        caption: str,
        *,
        name: str = "",
        photographs: bool = False,
    ) -> None:
        """Draw a figure and keep it, or why it cannot be drawn.

        Args:
            section: where it stands.
            what: what it is called if it is left out.
            draw: makes it.
            caption: what it shows and how to read it.
            name: of its files, if not the drawing's own.
            photographs: whether it holds images.
        """
        try:
            drawing = draw()
        except MedsegError as error:
            self.leave_out(what, str(error))
            return
        drawing = replace(drawing, name=name) if name else drawing
        shown = picture(drawing, self.folder, caption, photographs=photographs)
        self.pictures.setdefault(section, []).append(shown)

    def leave_out(self, what: str, reason: str) -> None:
        """Note why a figure is missing."""
        self.left_out.append(f"{what}: {without_paths(reason)}")


def draw_rankings(album: Album, findings: Findings, evidence: Mapping[str, Evidence]) -> None:
    """Means of all metrics, and a heat map of each grouping; of all combinations only if there is nothing else."""
    if evidence:
        album.add("ranking", "means of each metric", lambda: figures.draw_means(evidence), CAPTIONS["means"])
    else:
        album.leave_out("means of each metric", "there is no evidence to draw intervals from")
    shown = [by for by in findings.rankings if by != OVERALL] or list(findings.rankings)
    for by in shown:
        ranking = findings.rankings[by]
        draw = _later(figures.draw_heatmap, ranking)
        album.add("ranking", f"heat map by {by}", draw, CAPTIONS["heatmap"])


def draw_evidence(album: Album, evidence: Evidence | None) -> None:
    """Critical-difference diagrams, and the probability of each place."""
    if evidence is None:
        album.leave_out("critical differences and probabilities of places", "nothing was judged")
        return
    if not len(evidence.places) or evidence.places.isna().all(axis=None):
        album.leave_out("probabilities of places", "nothing can be drawn anew from this table")
    else:
        album.add(
            "evidence", "probabilities of places", _later(figures.draw_places, evidence), CAPTIONS["places"]
        )
    for by, tests in evidence.groupings.items():
        what = f"critical differences ({by})"
        if tests.critical_difference != tests.critical_difference:
            album.leave_out(what, "Nemenyi's test needs three contestants and two blocks")
            continue
        number = len(tests.values)
        blocks = f"{number} combinations of the other factors" if by == OVERALL else plural(number, by)
        caption = CAPTIONS["critical_difference"].format(blocks=blocks, level=evidence.level)
        album.add("evidence", what, _later(figures.draw_critical_difference, evidence, by), caption)


def draw_cases(
    album: Album,
    table: pd.DataFrame,
    of: str,
    metric: str,
    order: list[str],
    image_px: Mapping[str, int] | None,
) -> None:
    """Values per case: their distributions, and against lesion size."""
    if "case" not in table.columns:
        album.leave_out("distributions over cases, lesion sizes", "the table has no values per case")
        return
    table = table[table["case"] != ""]
    by = "dataset" if "dataset" in table.columns else ""
    if by:
        draw = _later(figures.draw_distributions, table, of, metric, by, order)
        album.add("cases", "distributions over cases", draw, CAPTIONS["distributions"])
    else:
        album.leave_out("distributions over cases", "the table names no data set")
    if "reference_px" not in table.columns:
        album.leave_out(f"{metric} against lesion size", "the table has no column reference_px")
        return
    draw = _later(figures.draw_sizes, table, of, metric, image_px, order)
    album.add("cases", f"{metric} against lesion size", draw, CAPTIONS["sizes"])


def draw_training(
    album: Album,
    curves: pd.DataFrame,
    costs: pd.DataFrame,
    evidence: Evidence | None,
    of: str,
    order: list[str],
) -> None:
    """Learning curves, and cost against quality."""
    if not len(curves):
        album.leave_out("learning curves", "no curves.csv of these runs is at hand")
    else:
        by = "dataset" if of != "dataset" else "model"
        for value in (*monitored(curves), "train_loss"):
            draw = _later(figures.draw_curves, curves, of, by, value, order)
            album.add("training", f"learning curves ({value})", draw, CAPTIONS["curves"])
    if evidence is None or not len(costs):
        album.leave_out("cost against quality", "no run.json of these runs is at hand")
        return
    album.add(
        "training", "training time", _later(figures.draw_cost, evidence, costs, "seconds"), CAPTIONS["cost"]
    )
    if evidence.of == "model":
        for cost in ("parameters", "macs"):
            draw = _later(figures.draw_cost, evidence, costs, cost)
            album.add("training", f"{cost} against quality", draw, CAPTIONS["cost"])


def draw_class_cases(album: Album, table: pd.DataFrame, of: str, metric: str, order: list[str]) -> None:
    """Distributions of values per image; of the Brier score where the metric has none, or is but right and wrong."""
    album.leave_out("lesion sizes and masks", "these runs classify images and draw no mask")
    if "case" not in table.columns or "dataset" not in table.columns:
        album.leave_out("distributions over cases", "the table has no values per case, or names no data set")
        return
    table = table[table["case"] != ""]
    values = table.loc[table["metric"] == metric, "value"]
    if not len(values) or values.isin((0, 1)).all():
        reason = "an image is right or wrong" if len(values) else "it has no value per image"
        album.leave_out(f"distribution of {metric} over cases", f"{reason}; the Brier score is drawn instead")
        metric = "brier"
    if metric not in set(table["metric"]):
        album.leave_out("distribution of the Brier score over cases", "the table has no column brier")
        return
    draw = _later(figures.draw_distributions, table, of, metric, "dataset", order)
    album.add("cases", "distributions over cases", draw, CAPTIONS["distributions"])


def _later(draw: Callable[..., Drawing], *arguments: Any) -> Callable[[], Drawing]:
    return lambda: draw(*arguments)
