"""The picture of a ranking: a heat map of contestants and contests, with the points beside it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.errors import MedsegError
from medseg.ranking.record import Ranking, number
from medseg.results import atomic_write

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = (".png", ".svg", ".pdf")
INK, FAINT, BAR = "#1a1a1a", "#8a8a8a", "#3b6ea8"


def plot(ranking: Ranking, path: Path) -> None:
    """Draw a ranking into a ``.png``, ``.svg`` or ``.pdf`` file.

    Raises:
        MedsegError: another extension.
    """
    if path.suffix.lower() not in FORMATS:
        raise MedsegError(f"{path}: a plot is written as {', '.join(FORMATS)}")
    figure = draw(ranking)
    with atomic_write(path, "wb") as file:
        figure.savefig(file, format=path.suffix.lower()[1:], dpi=200, facecolor="white")


def draw(ranking: Ranking) -> Figure:
    """Draw the heat map and the bars of points.

    A cell is the darker the nearer it is to the best of its contest (a column); the gap that is drawn white
    is the widest of that metric. Badges mark the first three places; an incomplete contest is hatched and
    has none.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows, columns = len(ranking.table), ranking.contests["contest"].nunique()
    width = max(8.0, 3.6 + 0.85 * columns)
    figure = Figure(figsize=(width, 1.75 + 0.36 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    heat, bars = figure.subplots(1, 2, sharey=True, width_ratios=[max(columns, 2), max(columns * 0.3, 1.2)])
    _heat(heat, ranking)
    _bars(bars, ranking)
    figure.suptitle(_title(ranking), fontsize=11, color=INK, x=0.01, ha="left", fontweight="bold")
    figure.supxlabel(_caption(ranking), fontsize=8, color="#555555", x=0.01, ha="left")
    return figure


def _title(ranking: Ranking) -> str:
    contests = ranking.contests.loc[ranking.contests["complete"], "contest"].nunique()
    metrics = ", ".join(ranking.metrics)
    return f"{ranking.of} ranked by {metrics} over {contests} contest{'s' * (contests != 1)} ({ranking.by})"


def _caption(ranking: Ranking) -> str:
    gap = gaps(ranking.contests)
    widest = ", ".join(f"{number(gap[ranking.contests['metric'] == m].max())} {m}" for m in ranking.metrics)
    caption = f"Dark: at the best of its column; palest: {widest} behind. Badges: 1st, 2nd, 3rd place."
    incomplete = not ranking.contests["complete"].all()
    return caption + (" Hatched: incomplete, not counted." if incomplete else "")


def _grid(ranking: Ranking, column: str) -> Any:
    wide = ranking.contests.pivot(index="contestant", columns="contest", values=column)
    order = list(ranking.contests["contest"].unique())
    return wide.loc[ranking.table["contestant"], order].astype(float).to_numpy(copy=True)


def gaps(contests: pd.DataFrame) -> pd.Series:
    """How far each mean is from the best of its contest, in the metric's unit; nothing where incomplete."""
    best = contests.sort_values("rank").groupby("contest")["mean"].transform("first")
    return (contests["mean"] - best).abs().where(contests["complete"])


def closeness(ranking: Ranking) -> Any:
    """How near each contestant is to the best of its contest: 1 the best, 0 the widest gap of that metric."""
    contests = ranking.contests
    gap = gaps(contests)
    widest = gap.groupby(contests["metric"]).transform("max")
    near = Ranking(
        **{**vars(ranking), "contests": contests.assign(near=1 - gap / widest.where(widest > 0, 1))}
    )
    return _grid(near, "near")


def _heat(axes: Axes, ranking: Ranking) -> None:
    import matplotlib

    near, means, places = closeness(ranking), _grid(ranking, "mean"), _grid(ranking, "place")
    complete = _grid(ranking, "complete")[0].astype(bool)
    # the upper end is left out so that black text would still be told from the darkest cell
    shades = matplotlib.colormaps["Blues"](np.nan_to_num(near) * 0.78 + 0.02)
    shades[np.isnan(near)] = (1, 1, 1, 1)
    axes.imshow(shades, aspect="auto")
    for (row, column), mean in np.ndenumerate(means):
        dark = near[row, column] > 0.62
        best = places[row, column] == 1
        axes.text(
            column - 0.06 * (places[row, column] <= 3),
            row,
            number(mean) or "missing",
            ha="center",
            va="center",
            fontsize=9,
            color="white" if dark else INK if mean == mean else FAINT,
            fontweight="bold" if best else "normal",
        )
        if places[row, column] <= 3:
            _badge(axes, column, row, int(places[row, column]))
    for column in np.flatnonzero(~complete):
        axes.axvspan(
            column - 0.5, column + 0.5, facecolor="none", edgecolor="#cccccc", hatch="///", zorder=0.5
        )
    _labels(axes, ranking)


def _badge(axes: Axes, column: int, row: int, place: int) -> None:
    axes.text(
        column + 0.36,
        row,
        str(place),
        ha="center",
        va="center",
        fontsize=7.5,
        fontweight="bold",
        color=INK,
        bbox={
            "boxstyle": "circle,pad=0.22",
            "facecolor": "#ffd24d" if place == 1 else "white",
            "edgecolor": INK,
            "linewidth": 0.6,
        },
    )


def _labels(axes: Axes, ranking: Ranking) -> None:
    names = ranking.contests.drop_duplicates("contest")
    labels = [level.replace("_", "_\n", 1) for level in names["level"]]
    if len(ranking.metrics) > 1:
        labels = [f"{level}\n{metric}" for level, metric in zip(names["level"], names["metric"], strict=True)]
    axes.set_xticks(range(len(names)), labels, fontsize=9, color=INK)
    axes.set_yticks(range(len(ranking.table)), ranking.table["contestant"], fontsize=9.5, color=INK)
    axes.tick_params(length=0, top=False, labeltop=True, bottom=False, labelbottom=False)
    axes.set_xticks(np.arange(len(names) - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(len(ranking.table) - 1) + 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="minor", length=0)
    axes.spines[:].set_visible(False)


def _bars(axes: Axes, ranking: Ranking) -> None:
    points = ranking.table["points"].to_numpy()
    axes.barh(range(len(points)), points, height=0.62, color=BAR)
    for row, (point, rank) in enumerate(zip(points, ranking.table["mean_rank"], strict=True)):
        axes.text(
            point + 0.02 * max(points),
            row,
            f" {point}",
            va="center",
            fontsize=9.5,
            color=INK,
            fontweight="bold",
        )
        axes.text(
            1.0,
            row,
            f"{rank:.2f}",
            va="center",
            ha="right",
            fontsize=9,
            color="#555555",
            transform=axes.get_yaxis_transform(),
        )
    axes.set_xlim(0, max(points) * 1.75)
    axes.set_xticks([])
    axes.set_title("points", fontsize=9, color=INK, loc="left")
    axes.set_title("mean rank", fontsize=9, color="#555555", loc="right")
    axes.tick_params(which="both", length=0, left=False, labelleft=False)
    axes.spines[:].set_visible(False)
