"""The failure gallery: the worst cases of each contestant, and those that every contestant fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medseg.data.outline import PREDICTION, REFERENCE, outline, show
from medseg.errors import MedsegError
from medseg.ranking.table import directions
from medseg.report.figures.canvas import WIDTH, Drawing, canvas, clip, entitle, listed, plural, styled
from medseg.report.figures.values import of_metric, ordered

if TYPE_CHECKING:
    import pandas as pd

PER_ROW = 4
#: letters that fit above a picture
LETTERS = 24


@dataclass(frozen=True)
class FailurePicture:
    """A case that went wrong.

    Args:
        title: lines above the picture, such as data set, case and value.
        image: (C, H, W), any type.
        reference: (H, W), true where the lesion is.
        predictions: name -> mask (H, W); of several all are outlined.

    Raises:
        MedsegError: a mask is not of the image's size.
    """

    title: str
    image: np.ndarray
    reference: np.ndarray
    predictions: Mapping[str, np.ndarray]

    def __post_init__(self) -> None:
        for what, mask in (("reference", self.reference), *self.predictions.items()):
            if mask.shape != self.image.shape[1:]:
                raise MedsegError(
                    f"{self.title!r}: {what} has the shape {mask.shape}, its image {self.image.shape[1:]}"
                )


def case_means(table: pd.DataFrame, of: str, metric: str = "dice") -> pd.DataFrame:
    """The mean of each contestant on each distinct case over its runs: ``contestant dataset case group value runs``.

    Raises:
        MedsegError: the table has no such metric or column, or no cases.
    """
    rows = of_metric(table, metric, of, "case")
    keys = [key for key in ("dataset", "case", "group") if key in rows.columns]
    means = rows.groupby([of, *keys], sort=False)["value"].agg(value="mean", runs="size").reset_index()
    return means.rename(columns={of: "contestant"})


def worst_cases(
    table: pd.DataFrame,
    of: str = "loss",
    metric: str = "dice",
    count: int = 3,
    order: Sequence[str] | None = None,
) -> pd.DataFrame:
    """The worst cases of each contestant, the worst first; ties are in the order of data set and case.

    Args:
        table: a normalised table with a column ``case``.
        of: the factor whose levels compete.
        metric: the metric, by its mean over a contestant's runs.
        count: cases of each contestant.
        order: contestants; best mean first if not given.

    Returns:
        The columns of :func:`case_means`.
    """
    means = case_means(table, of, metric)
    lower = directions(table, [metric])[metric] == "lower"
    rows = of_metric(table, metric, of)
    position = {name: at for at, name in enumerate(ordered(rows, of, metric, order))}
    names = [key for key in ("dataset", "case") if key in means.columns]
    means = means.assign(position=means["contestant"].map(position))
    means = means.sort_values(
        ["position", "value", *names], ascending=[True, not lower, *[True] * len(names)], kind="stable"
    )
    return means.groupby("position", sort=False).head(count).drop(columns="position").reset_index(drop=True)


def failing_cases(
    table: pd.DataFrame, of: str = "loss", metric: str = "dice", below: float = 0.5
) -> pd.DataFrame:
    """The cases that every contestant fails: none reaches the threshold, in the mean over its runs.

    Of a metric of which lower is better, none stays as low as the threshold. Cases that some contestant of their data
    set was not tested on are not judged.

    Args:
        table: a normalised table with a column ``case``.
        of: the factor whose levels compete.
        metric: the metric.
        below: the threshold.

    Returns:
        ``dataset case group contestants best by mean``: how many were tested, the best value and whose it is, and the
        mean over contestants; the worst first.
    """
    means = case_means(table, of, metric)
    lower = directions(table, [metric])[metric] == "lower"
    keys = [key for key in ("dataset", "case", "group") if key in means.columns]
    means = means.sort_values(["value", "contestant"], ascending=[lower, True], kind="stable")
    found = means.groupby(keys, sort=False).agg(
        contestants=("contestant", "nunique"),
        best=("value", "first"),
        by=("contestant", "first"),
        mean=("value", "mean"),
    )
    found = found.reset_index()
    if "dataset" in keys:
        entered = found["dataset"].map(means.groupby("dataset")["contestant"].nunique())
    else:
        entered = means["contestant"].nunique()
    failed = found["best"] > below if lower else found["best"] < below
    found = found[failed & (found["contestants"] == entered)]
    by = ["mean", *[key for key in keys if key != "group"]]
    return found.sort_values(by, ascending=[not lower, *[True] * (len(by) - 1)], kind="stable").reset_index(
        drop=True
    )


@styled
def draw_failures(pictures: Sequence[FailurePicture], title: str = "Worst cases") -> Drawing:
    """Draw cases in rows of four, the reference and the predictions outlined.

    Args:
        pictures: what to draw.
        title: what stands above.

    Raises:
        MedsegError: there is no picture.
    """
    if not pictures:
        raise MedsegError("there is no failure to draw")
    columns = min(PER_ROW, max(2, len(pictures)))
    lines = -(-len(pictures) // columns)
    texts = ["\n".join(clip(line, LETTERS) for line in p.title.splitlines()) for p in pictures]
    above = max(text.count("\n") + 1 for text in texts)
    ratio = max(p.image.shape[1] / p.image.shape[2] for p in pictures)
    width = WIDTH if columns == PER_ROW else 0.2 + 2.2 * columns
    figure = canvas(0.85 + lines * (width / columns * ratio + 0.14 * above + 0.06), width)
    panels = figure.subplots(lines, columns, squeeze=False)
    for axes in panels.flat:
        axes.set_axis_off()
    for axes, picture, text in zip(panels.flat, pictures, texts, strict=False):
        show(axes, picture.image)
        thin = len(picture.predictions) > 1
        for mask in picture.predictions.values():
            outline(axes, np.asarray(mask, dtype=bool), PREDICTION, 0.7 if thin else 1.3)
        # the reference is drawn thick, so that it is told from the predictions in grey too
        outline(axes, np.asarray(picture.reference, dtype=bool), REFERENCE, 2.0)
        if not np.any(picture.reference):
            text += "\n(no lesion)"
        axes.set_title(text, fontsize=8, loc="center")
    entitle(figure, title, "Thick, blue: outline of the reference; thin, orange: of the prediction.")
    alt = f"{title}, {plural(len(pictures), 'picture')}: {listed([p.title.replace(chr(10), ', ') for p in pictures])}."
    return Drawing("failures", title, alt, figure)
