"""ROC curves: sensitivity against false alarms at every threshold, one panel per data set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from medseg.errors import MedsegError
from medseg.report.figures.canvas import (
    Drawing,
    canvas,
    clip,
    entitle,
    line_style,
    plural,
    short,
    shown,
    styled,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

Curve = tuple[np.ndarray, np.ndarray]
#: lines that a legend names, letters of a name in it
NAMED, LETTERS = 8, 22


@styled
def draw_roc(curves: Mapping[str, Mapping[str, Curve]], areas: pd.DataFrame, of: str = "loss") -> Drawing:
    """Draw ROC curves, with the area below each and its interval in the legend.

    Args:
        curves: data set -> contestant -> false- and true-positive rates, ``(T,)`` each.
        areas: ``dataset contestant value low high``, the areas.
        of: the factor whose levels compete.

    Raises:
        MedsegError: there is no curve.
    """
    drawn = {dataset: {n: c for n, c in some.items() if len(c[0])} for dataset, some in curves.items()}
    drawn = {dataset: some for dataset, some in drawn.items() if some}
    if not drawn:
        raise MedsegError("no class has images with and without it: there is no ROC curve")
    known = areas.set_index(["dataset", "contestant"])[["value", "low", "high"]]
    per_row = min(2, len(drawn))
    lines = -(-len(drawn) // per_row)
    most = min(NAMED + 1, max(len(some) for some in drawn.values()))
    figure = canvas(0.95 + lines * (3.35 + 0.17 * most), 7.2 if per_row == 2 else 4.6)
    panels = figure.subplots(lines, per_row, squeeze=False)
    names = list(dict.fromkeys(name for some in drawn.values() for name in some))
    for axes in panels.flat[len(drawn) :]:
        axes.set_axis_off()
    for axes, (dataset, some) in zip(panels.flat, drawn.items(), strict=False):
        _panel(axes, some, names, {name: known.loc[(dataset, name)] for name in some})
        axes.set_title(shown(dataset), fontweight="bold")
    title = f"ROC curves of {plural(len(names), of)}"
    entitle(figure, title, "Dotted: chance. In the legend: the area below, and its interval.")
    return Drawing(f"roc_{of}", title, _alt(drawn, known), figure)


def _panel(axes: Axes, curves: Mapping[str, Curve], names: list[str], areas: Mapping[str, pd.Series]) -> None:
    axes.plot([0, 1], [0, 1], ":", color="#9a9a9a", linewidth=1)
    best = sorted(curves, key=lambda name: -float(np.nan_to_num(areas[name]["value"], nan=-1)))
    for name in best:
        x, y = curves[name]
        label = f"{clip(shown(name), LETTERS)} {_said(areas[name])}" if name in best[:NAMED] else None
        axes.plot(x, y, linewidth=1.4, label=label, **line_style(names.index(name)))
    if len(best) > NAMED:
        axes.plot([], [], " ", label=f"and {len(best) - NAMED} more")
    axes.set_xlim(-0.01, 1.01)
    axes.set_ylim(-0.01, 1.01)
    axes.set_aspect("equal")
    axes.set_xlabel("1 - specificity")
    axes.set_ylabel("sensitivity")
    axes.grid(color="#ececec", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.legend(
        loc="upper left", bbox_to_anchor=(-0.02, -0.17), borderaxespad=0, handlelength=2.2, fontsize=8
    )


def _said(area: pd.Series) -> str:
    if area["low"] != area["low"] or area["high"] != area["high"]:
        return short(area["value"])
    return f"{short(area['value'])} ({short(area['low'])} to {short(area['high'])})"


def _alt(curves: Mapping[str, Mapping[str, Curve]], areas: pd.DataFrame) -> str:
    said = []
    for dataset, some in curves.items():
        values = areas.loc[dataset].loc[list(some), "value"]
        best, worst = str(values.idxmax()), str(values.idxmin())
        one = f"{shown(best)} has the area {short(values[best])}"
        more = f", {shown(worst)} {short(values[worst])}" if len(values) > 1 else ""
        said.append(f"on {dataset} {one}{more}")
    return f"ROC curves: {'; '.join(said)}."
