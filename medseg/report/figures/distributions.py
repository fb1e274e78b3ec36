"""The values per case of each contestant: quartiles as boxes, and the cases as dots below them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.ranking.plots import BAR, FAINT, INK
from medseg.ranking.table import directions
from medseg.report.figures.canvas import Drawing, canvas, entitle, plural, short, shown, styled
from medseg.report.figures.heatmaps import shown_factor
from medseg.report.figures.values import of_metric, ordered, unit_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

QUANTILES = {"low": 0.05, "lower": 0.25, "median": 0.5, "upper": 0.75, "high": 0.95}
#: dots of one strip at most
DOTS = 200
#: the golden ratio's part after the point: its multiples modulo 1 fill an interval evenly
GOLDEN = 0.6180339887498949


def summaries(table: pd.DataFrame, of: str, metric: str, by: str = "dataset") -> pd.DataFrame:
    """Quantiles of all values of each contestant at each level: ``level contestant low lower median upper high n``.

    They are of the values per case and run, 5, 25, 50, 75 and 95 %, interpolated linearly.
    """
    import pandas as pd

    rows = of_metric(table, metric, of, by)
    parts = [
        {"level": level, "contestant": name, **_quantiles(values), "n": len(values)}
        for (level, name), values in rows.groupby([by, of], sort=False)["value"]
    ]
    return pd.DataFrame(parts)


def _quantiles(values: pd.Series) -> dict[str, float]:
    found = np.quantile(values.to_numpy(), list(QUANTILES.values()))
    return dict(zip(QUANTILES, map(float, found), strict=True))


def dots(values: Any, most: int = DOTS) -> np.ndarray:
    """At most so many of the values, taken evenly from the sorted ones, the least and the greatest included."""
    values = np.sort(np.asarray(values, dtype=float))
    if len(values) <= most:
        return values
    return values[np.linspace(0, len(values) - 1, most).round().astype(int)]


@styled
def draw_distributions(
    table: pd.DataFrame,
    of: str = "loss",
    metric: str = "dice",
    by: str = "dataset",
    order: Sequence[str] | None = None,
) -> Drawing:
    """Draw the distribution of a metric over cases, one panel per level of ``by``, one row per contestant.

    Args:
        table: a normalised table with a column ``case``.
        of: the factor whose levels compete.
        metric: the metric.
        by: the factor of the panels.
        order: contestants from top to bottom; best mean first if not given.

    Raises:
        MedsegError: the table has no such column or metric.
    """
    rows = of_metric(table, metric, of, by, "case")
    names, levels = ordered(rows, of, metric, order), list(rows[by].unique())
    boxes = summaries(rows, of, metric, by)
    columns = min(2, len(levels))
    lines = -(-len(levels) // columns)
    figure = canvas(1.0 + lines * (0.5 + 0.27 * len(names)))
    panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    for axes in panels.flat[len(levels) :]:
        axes.set_axis_off()
    for axes, level in zip(panels.flat, levels, strict=False):
        _panel(axes, rows[rows[by] == level], boxes[boxes["level"] == level], of, names)
        axes.set_title(shown(level), fontweight="bold")
        axes.tick_params(axis="x", labelbottom=True)
    # the values of a metric without a unit are shares: all of 0 to 1 is shown
    if rows["value"].between(0, 1).all():
        panels[0, 0].set_xlim(-0.02, 1.02)
    metric_of = unit_of(metric)
    title = (
        f"{metric_of[:1].upper()}{metric_of[1:]} per case of {plural(len(names), of)} by {shown_factor(by)}"
    )
    caption = (
        "Box: quartiles and median; line: 5 to 95%; dots: cases, at most 200 of each, evenly from the sorted."
    )
    entitle(figure, title, caption)
    return Drawing(f"distributions_{of}_by_{by}", title, _alt(rows, boxes, of, metric, by), figure)


def _panel(axes: Axes, rows: pd.DataFrame, boxes: pd.DataFrame, of: str, names: list[str]) -> None:
    values = {name: group.to_numpy() for name, group in rows.groupby(of, sort=False)["value"]}
    for box in boxes.to_dict("records"):
        at = names.index(box["contestant"])
        y = at - 0.13
        axes.hlines(y, box["low"], box["high"], color=INK, linewidth=0.9)
        axes.barh(y, box["upper"] - box["lower"], left=box["lower"], height=0.36, color="#b7cde6", zorder=2)
        axes.vlines(box["median"], y - 0.2, y + 0.2, color=INK, linewidth=1.8, zorder=3)
        x = dots(values[box["contestant"]])
        jitter = (np.arange(1, len(x) + 1) * GOLDEN) % 1 - 0.5
        style: dict[str, Any] = {"markersize": 1.6, "markeredgewidth": 0, "alpha": 0.55, "rasterized": True}
        axes.plot(x, at + 0.25 + 0.2 * jitter, "o", color=BAR, clip_on=False, **style)
    axes.set_yticks(range(len(names)), [shown(name) for name in names])
    axes.set_ylim(len(names) - 0.45, -0.55)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_color(FAINT)
    axes.grid(axis="x", color="#e4e4e4", linewidth=0.6)
    axes.set_axisbelow(True)


def _alt(rows: pd.DataFrame, boxes: pd.DataFrame, of: str, metric: str, by: str) -> str:
    lower = directions(rows, [metric])[metric] == "lower"
    found = boxes.sort_values("median", ascending=lower, kind="stable")
    best, worst = found.iloc[0], found.iloc[-1]
    return (
        f"Distributions of {metric} over cases of {plural(boxes['contestant'].nunique(), of)} by "
        f"{shown_factor(by)}: the best median is {short(best['median'])} ({shown(best['contestant'])}, "
        f"{shown(best['level'])}), the worst {short(worst['median'])} ({shown(worst['contestant'])}, "
        f"{shown(worst['level'])})."
    )
