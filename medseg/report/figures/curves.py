"""Learning curves: what each contestant reached in each epoch, and where its runs stopped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.engine.monitor import MONITORED
from medseg.errors import MedsegError, unknown
from medseg.report.figures.canvas import (
    Drawing,
    canvas,
    entitle,
    label_lowest,
    line_style,
    listed,
    plural,
    short,
    shown,
    styled,
)
from medseg.report.figures.heatmaps import shown_factor
from medseg.results import RUN_KEYS

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

PER_ROW = 3
#: panels with more lines than this have no bands
BANDS = 3


def curve_means(curves: pd.DataFrame, of: str, by: str | None, value: str = "val_dice") -> pd.DataFrame:
    """Mean and range over the runs that still train: ``contestant level epoch mean low high runs of_runs``.

    A mean over the last few runs is one over the slowest: epochs that fewer than half of the runs reached are left
    out, so that a curve ends where the median run stopped.

    Args:
        curves: one row per run and epoch: run keys, ``epoch`` and the values.
        of: the factor whose levels compete.
        by: the factor whose levels are the lines; None for one line of all runs.
        value: the column drawn.

    Raises:
        MedsegError: a column is missing, or no value is finite.
    """
    for column in [of, "epoch", value, *([by] if by else [])]:
        if column not in curves.columns:
            raise unknown("column", column, map(str, curves.columns))
    keys = [key for key in RUN_KEYS if key in curves.columns]
    rows = curves[np.isfinite(curves[value].astype(float))]
    if not len(rows):
        raise MedsegError(f"no {value} of the curves is finite: there is nothing to draw")
    rows = rows.assign(contestant=rows[of], level=rows[by] if by else "")
    line = ["contestant", "level"]
    runs = rows.drop_duplicates(keys).groupby(line, sort=False).size().rename("of_runs").reset_index()
    epochs = rows.groupby([*line, "epoch"], sort=False)[value].agg(
        mean="mean", low="min", high="max", runs="size"
    )
    merged = epochs.reset_index().merge(runs, on=line)
    merged = merged[2 * merged["runs"] >= merged["of_runs"]]
    return merged.sort_values([*line, "epoch"], kind="stable").reset_index(drop=True)


def stops(curves: pd.DataFrame, of: str) -> pd.DataFrame:
    """Where the runs of each contestant stopped: ``contestant runs first median last`` (epochs)."""
    keys = [key for key in RUN_KEYS if key in curves.columns]
    last = curves.groupby(keys, sort=False)["epoch"].max().reset_index()
    grouped = last.groupby(of, sort=False)["epoch"]
    found = grouped.agg(runs="size", first="min", median="median", last="max").reset_index()
    return found.rename(columns={of: "contestant"})


@styled
def draw_curves(
    curves: pd.DataFrame,
    of: str = "loss",
    by: str | None = "dataset",
    value: str = "val_dice",
    order: Sequence[str] | None = None,
) -> Drawing:
    """Draw learning curves, one panel per contestant, one line per level of ``by``.

    Training losses of different kinds cannot be compared, so each panel of ``train_loss`` has a scale of its own.

    Args:
        curves: one row per run and epoch: run keys, ``epoch`` and the values.
        of: the factor whose levels compete.
        by: the factor whose levels are the lines; None for one line of all runs.
        value: the column drawn, such as ``val_dice`` or ``train_loss``.
        order: contestants in reading order; by the last mean of their curves if not given.

    Raises:
        MedsegError: a column is missing, or no value is finite.
    """
    means = curve_means(curves, of, by, value)
    ends = means.groupby(["contestant", "level"], sort=False).tail(1)
    last = ends.groupby("contestant", sort=True)["mean"].mean()
    best = last.sort_values(ascending=_lower(value), kind="stable").index
    names = [n for n in order or () if n in best]
    names += [n for n in best if n not in names]
    levels = list(dict.fromkeys(means["level"]))
    columns = min(PER_ROW, len(names))
    lines = -(-len(names) // columns)
    longest = max(len(shown(level)) for level in levels)
    per_line = max(1, min(len(levels), int(84 / (longest + 8))))
    legend = 0.19 * -(-len(levels) // per_line) if by else 0.0
    figure = canvas(1.1 + 1.5 * lines + legend)
    grid = figure.add_gridspec(1 + lines, columns, height_ratios=[max(legend, 1e-3), *[1.5] * lines])
    if by:
        axes = figure.add_subplot(grid[0, :])
        axes.set_axis_off()
        axes.legend(
            handles=_legend(levels), loc="center left", ncols=per_line, borderaxespad=0, handlelength=2.4
        )
    panels = (
        grid[1:, :]
        .subgridspec(lines, columns)
        .subplots(sharex=True, sharey=value != "train_loss", squeeze=False)
    )
    label_lowest(panels, len(names))
    found = stops(curves, of).set_index("contestant")
    for axes, name in zip(panels.flat, names, strict=False):
        _panel(axes, means[means["contestant"] == name], levels)
        axes.set_title(shown(name), fontweight="bold")
        axes.text(
            0.98,
            0.05 if value != "train_loss" else 0.9,
            f"stopped at {_stopped(found.loc[name])}",
            transform=axes.transAxes,
            ha="right",
            fontsize=8,
        )
    what = _named(value)
    figure.supylabel(what, fontsize=9)
    title = f"{what[0].upper()}{what[1:]} by epoch, {plural(len(names), of)}"
    entitle(figure, title, _caption(levels))
    alt = _alt(means, found, what, of, by)
    return Drawing(f"curves_{value}_{of}" + (f"_by_{by}" if by else ""), title, alt, figure)


def _named(value: str) -> str:
    """A column of curves in words: ``validation Dice``."""
    if value == "train_loss":
        return "training loss"
    metric = value.removeprefix("val_")
    return f"validation {MONITORED.get(metric, metric)}" if metric != value else value


def _lower(value: str) -> bool:
    from medseg.metrics import BETTER

    return value == "train_loss" or BETTER.get(value.removeprefix("val_")) == "lower"


def _legend(levels: list[str]) -> list[Any]:
    from matplotlib.lines import Line2D

    return [
        Line2D([], [], linewidth=1.5, label=shown(level), **line_style(position))
        for position, level in enumerate(levels)
    ]


def _stopped(found: pd.Series) -> str:
    if found["first"] == found["last"]:
        return f"{found['last']:g}"
    return f"{found['median']:g} ({found['first']:g} to {found['last']:g})"


def _panel(axes: Axes, means: pd.DataFrame, levels: list[str]) -> None:
    for level, line in means.groupby("level", sort=False):
        style = line_style(levels.index(str(level)))
        axes.plot(line["epoch"], line["mean"], linewidth=1.3, **style)
        end = line.iloc[-1]
        axes.plot(end["epoch"], end["mean"], "o", markersize=3.5, color=style["color"])
        if len(levels) <= BANDS:
            axes.fill_between(
                line["epoch"], line["low"], line["high"], color=style["color"], alpha=0.18, linewidth=0
            )
    axes.locator_params(axis="x", integer=True, nbins=6)
    axes.grid(color="#ececec", linewidth=0.6)
    axes.set_axisbelow(True)


def _caption(levels: list[str]) -> str:
    caption = (
        "Across: epochs. Line: mean of the runs that still train, up to the dot, where the median run stopped"
    )
    caption += "; band: their range." if len(levels) <= BANDS else "."
    return f"{caption} In words: the median epoch in which runs stopped, and the first and last."


def _alt(means: pd.DataFrame, found: pd.DataFrame, what: str, of: str, by: str | None) -> str:
    ends = means.groupby(["contestant", "level"], sort=False).tail(1)["mean"]
    over = f" by {shown_factor(by)}" if by else ""
    slow = found["median"].idxmax()
    longest = found["median"].max()
    return (
        f"Learning curves of {plural(means['contestant'].nunique(), of)}{over}: the mean {what} ends between "
        f"{short(ends.min())} and {short(ends.max())}; {listed([str(slow)])} trained longest "
        f"(median {longest:g} epochs)."
    )
