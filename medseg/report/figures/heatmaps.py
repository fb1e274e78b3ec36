"""Heat maps of contestants and contests: the means, the first three places, points and mean rank beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.ranking.plots import BAR, INK, gaps
from medseg.ranking.record import Ranking
from medseg.report.figures.canvas import (
    GREY,
    MISSING,
    Drawing,
    canvas,
    entitle,
    ink_on,
    listed,
    plural,
    short,
    shown,
    styled,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

#: contests side by side; more go below
COLUMNS = 12
ORDINALS = {1: "1st", 2: "2nd", 3: "3rd"}
PODIUM = {1: "#ffd24d", 2: "#ffffff", 3: "#ffffff"}
#: share of the gaps that are told apart by their shade; those beyond are all palest
QUANTILE = 0.9


def cells(ranking: Ranking) -> pd.DataFrame:
    """What each cell shows: ``contest contestant mean place near text doubtful complete``.

    ``near`` is 1 for the best of a contest and 0 for what lies as far behind it as 90 % of all gaps of that metric
    do at most, or farther: one collapsed run does not make all others look alike. ``doubtful`` cells hold a
    suspicious run, and their text ends in ``?``.
    """
    contests = ranking.contests
    gap = gaps(contests)
    scale = gap.groupby(contests["metric"]).transform(lambda column: _scale(column.to_numpy()))
    doubtful = contests["suspicious"] > 0
    text = [short(mean) + "?" * doubt for mean, doubt in zip(contests["mean"], doubtful, strict=True)]
    return contests[["contest", "contestant", "mean", "place", "complete"]].assign(
        near=(1 - gap / scale).clip(0, 1), text=text, doubtful=doubtful
    )


def _scale(gap: Any) -> float:
    """The gap that is palest: none is negative, and the best cells, whose gap is 0, are not counted."""
    behind = gap[gap > 0]
    return float(np.quantile(behind, QUANTILE, method="higher")) if len(behind) else 1.0


@styled
def draw_heatmap(ranking: Ranking) -> Drawing:
    """Draw the means of a ranking, the darker the nearer to the best of their column, the first three named.

    Args:
        ranking: contestants are rows, contests columns; more than twelve contests go into further rows of columns.
    """
    every = cells(ranking)
    contests = list(every["contest"].unique())
    chunks = [contests[i : i + COLUMNS] for i in range(0, len(contests), COLUMNS)]
    rows, wide = len(ranking.table), min(len(contests), COLUMNS)
    label = 0.055 * max(len(shown(name)) for name in ranking.contests["level"])
    width = min(8.0, max(5.6, 2.9 + 0.62 * wide))
    figure = canvas(1.0 + len(chunks) * (0.3 + label + 0.4 * rows), width)
    name_width = 0.3 + 0.08 * max(map(len, ranking.table["contestant"]))
    heat_width = max(width - 1.5 - name_width, 0.5 * wide)
    panels = figure.subplots(len(chunks), 2, squeeze=False, width_ratios=[heat_width, 1.5])
    for number, (row, chunk) in enumerate(zip(panels, chunks, strict=True)):
        _heat(row[0], ranking, every[every["contest"].isin(chunk)], chunk, heat_width)
        if number == 0:
            _points(row[1], ranking)
        else:
            row[1].set_axis_off()
    metrics = listed(list(ranking.metrics))
    title = f"Mean {metrics} of {plural(rows, ranking.of)} by {shown_factor(ranking.by)}"
    entitle(figure, title, _caption(ranking, every))
    return Drawing(f"heatmap_{ranking.of}_by_{ranking.by}", title, _alt(ranking, title), figure)


def shown_factor(factor: str) -> str:
    """A factor in a sentence."""
    return {
        "dataset": "data set",
        "overall": "setting",
        "augment": "augmentation",
        "preprocess": "preprocessing",
    }.get(factor, factor)


def _caption(ranking: Ranking, every: pd.DataFrame) -> str:
    gap = gaps(ranking.contests)
    palest = ", ".join(
        f"{short(_scale(gap[ranking.contests['metric'] == m].to_numpy()))} {m} or more behind"
        for m in ranking.metrics
    )
    caption = f"Darkest: the best of its column; palest: {palest}. Points: 3, 2, 1 for the first three."
    if ranking.disagreements():
        caption += " !: points and mean rank disagree."
    if not every["complete"].all():
        caption += " Hatched: incomplete, without places."
    return caption + (" ?: holds a suspicious run." if every["doubtful"].any() else "")


def _heat(axes: Axes, ranking: Ranking, every: pd.DataFrame, chunk: list[str], room: float) -> None:
    import matplotlib

    names = list(ranking.table["contestant"])
    near = every.pivot(index="contestant", columns="contest", values="near").loc[names, chunk]
    # the darkest quarter of the scale is left out: the marks stand out from it
    shades = matplotlib.colormaps["Blues"](np.nan_to_num(near.astype(float).to_numpy()) * 0.74 + 0.02)
    shades[np.isnan(near.astype(float).to_numpy())] = (1, 1, 1, 1)
    axes.imshow(shades, aspect="auto")
    rows, columns = {name: i for i, name in enumerate(names)}, {name: i for i, name in enumerate(chunk)}
    for _, cell in every.iterrows():
        row, column = rows[cell["contestant"]], columns[cell["contest"]]
        _cell(axes, column, row, cell, ink_on(shades[row, column]))
    levels = ranking.contests.drop_duplicates("contest").set_index("contest")
    labels = [shown(levels.loc[c, "level"]) for c in chunk]
    if len(ranking.metrics) > 1:
        labels = [f"{label} {levels.loc[c, 'metric']}" for label, c in zip(labels, chunk, strict=True)]
    fits = 0.085 * max(map(len, labels)) < room / len(chunk)
    turned: dict[str, Any] = {} if fits else {"rotation": 40, "ha": "left", "rotation_mode": "anchor"}
    axes.set_xticks(range(len(chunk)), labels, **turned)
    axes.set_yticks(range(len(names)), [shown(name) for name in names], fontsize=9)
    axes.tick_params(length=0, top=False, labeltop=True, bottom=False, labelbottom=False)
    axes.set_xticks(np.arange(len(chunk) - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(len(names) - 1) + 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="minor", length=0, top=False, bottom=False)
    axes.spines[:].set_visible(False)


def _cell(axes: Axes, column: int, row: int, cell: pd.Series, ink: str) -> None:
    place = _place(cell["place"])
    if not cell["complete"]:
        corner = (column - 0.5, row - 0.5)
        from matplotlib.patches import Rectangle

        axes.add_patch(
            Rectangle(corner, 1, 1, facecolor="none", edgecolor="#cccccc", hatch="///", linewidth=0)
        )
    axes.text(
        column,
        row - 0.2 * (place > 0),
        cell["text"],
        ha="center",
        va="center",
        fontsize=8.5,
        color=ink if cell["mean"] == cell["mean"] else GREY,
        fontweight="bold" if place == 1 else "normal",
    )
    if place:
        box = {"boxstyle": "round,pad=0.12,rounding_size=0.6", "facecolor": PODIUM[place], "edgecolor": INK}
        axes.text(
            column,
            row + 0.23,
            ORDINALS[place],
            ha="center",
            va="center",
            fontsize=8,
            fontweight="bold" if place == 1 else "normal",
            bbox={**box, "linewidth": 0.5},
        )


def _place(place: Any) -> int:
    """The place if it is one of the first three, else 0; a contest without places has missing ones."""
    import pandas as pd

    return 0 if pd.isna(place) or int(place) > 3 else int(place)


def _points(axes: Axes, ranking: Ranking) -> None:
    points, count = ranking.table["points"].to_numpy(), len(ranking.table)
    most = max(int(points.max()), 1)
    axes.barh(range(count), points, height=0.55, color=BAR)
    swapped = {name for pair in ranking.disagreements() for name in pair}
    columns = ranking.table[["contestant", "points", "mean_rank"]].itertuples(index=False, name=None)
    for row, (name, point, rank) in enumerate(columns):
        axes.text(point + 0.05 * most, row, str(point), va="center", fontweight="bold")
        axes.text(
            1.0,
            row,
            MISSING if rank != rank else f"{rank:.2f}" + " !" * (name in swapped),
            va="center",
            ha="right",
            color=GREY,
            transform=axes.get_yaxis_transform(),
        )
    axes.set_xlim(0, most * 2.6)
    axes.set_ylim(count - 0.5, -0.5)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title("points", fontsize=8.5)
    axes.set_title("mean rank", fontsize=8.5, color=GREY, loc="right")
    axes.spines[:].set_visible(False)


def _alt(ranking: Ranking, title: str) -> str:
    table = ranking.table
    leaders = [
        f"{shown(row.contestant)} with {plural(row.points, 'point')}" for row in table.head(3).itertuples()
    ]
    closest = shown(table.sort_values("mean_rank", kind="stable")["contestant"].iloc[0])
    return f"Heat map, {title[0].lower()}{title[1:]}: {listed(leaders)}; the best mean rank has {closest}."
