"""Reliability diagrams: how often predictions of each confidence are right, over the histogram of confidences."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medseg.errors import MedsegError
from medseg.ranking.plots import BAR, INK
from medseg.report.figures.canvas import WIDTH, Drawing, canvas, clip, entitle, plural, short, shown, styled

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

PER_ROW = 4
#: letters above a quarter of the page, and above a third
HEADING, LONGEST = 17, 24


@styled
def draw_reliability(
    bins: pd.DataFrame, errors: pd.DataFrame, dataset: str, of: str = "loss", multilabel: bool = False
) -> Drawing:
    """Draw accuracy against confidence with a histogram below, one panel per contestant of a data set.

    Args:
        bins: ``contestant low high claims confidence accuracy``, in reading order.
        errors: ``contestant value low high``, the expected calibration errors.
        dataset: the data set.
        of: the factor whose levels compete.
        multilabel: confidence is the probability of a label, and accuracy how many images have it.

    Raises:
        MedsegError: there is no bin.
    """
    names = list(dict.fromkeys(bins["contestant"]))
    if not names:
        raise MedsegError("there are no predictions to bin")
    per_row = min(PER_ROW if max(map(len, names)) <= HEADING else PER_ROW - 1, len(names))
    lines = -(-len(names) // per_row)
    figure = canvas(
        0.95 + lines * 2.75, min(WIDTH, max(4.6, 0.4 + (1.75 if per_row == PER_ROW else 2.25) * per_row))
    )
    panels = figure.subplots(2 * lines, per_row, squeeze=False, sharex=True, height_ratios=[3, 1] * lines)
    for place in range(lines * per_row):
        row, column = divmod(place, per_row)
        above, below = panels[2 * row, column], panels[2 * row + 1, column]
        if place >= len(names):
            above.set_axis_off()
            below.set_axis_off()
            continue
        mine = bins[bins["contestant"] == names[place]]
        _diagram(above, mine, multilabel)
        _histogram(below, mine, last=place + per_row >= len(names))
        error = errors[errors["contestant"] == names[place]].iloc[0]
        above.set_title(f"{clip(shown(names[place]), LONGEST)}\n", fontweight="bold")
        above.text(0, 1.03, f"ECE {_said(error)}", transform=above.transAxes, fontsize=8)
        if column:
            above.tick_params(axis="y", labelleft=False)
        else:
            above.set_ylabel("share with the label" if multilabel else "accuracy")
            below.set_ylabel("share", labelpad=8)
    title = f"Reliability on {dataset}, {plural(len(names), of)}"
    across = "probability of a label" if multilabel else "probability of the predicted class"
    caption = (
        f"Across: {across}, in 15 bins. Above: dots on the diagonal are as often right as they claim, dots below it "
        "are overconfident; the larger, the more predictions. Below: how many have that confidence."
    )
    entitle(figure, title, caption)
    return Drawing(f"reliability_{of}_{dataset}", title, _alt(errors, names, dataset), figure)


def _diagram(axes: Axes, bins: pd.DataFrame, multilabel: bool) -> None:
    axes.plot([0, 1], [0, 1], ":", color="#9a9a9a", linewidth=1)
    x, y = bins["confidence"].to_numpy(), bins["accuracy"].to_numpy()
    share = bins["claims"].to_numpy() / bins["claims"].sum()
    # the gaps, of which the error is the weighted mean
    axes.vlines(x, np.minimum(x, y), np.maximum(x, y), color="#d55e00", linewidth=1.2)
    axes.plot(x, y, color=BAR, linewidth=1)
    axes.scatter(x, y, s=6 + 60 * np.sqrt(share), color=BAR, edgecolor="white", linewidth=0.6, zorder=3)
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.tick_params(axis="x", labelbottom=False)
    axes.grid(color="#ececec", linewidth=0.6)
    axes.set_axisbelow(True)


def _histogram(axes: Axes, bins: pd.DataFrame, last: bool) -> None:
    share = bins["claims"] / bins["claims"].sum()
    width = bins["high"] - bins["low"]
    axes.bar(
        bins["low"], share, width=width * 0.92, align="edge", color="#b7cde6", edgecolor=INK, linewidth=0.3
    )
    axes.set_ylim(0, 1)
    axes.set_yticks([0, 1], ["0", "1"])
    axes.tick_params(axis="x", labelbottom=True)
    if last:
        axes.set_xlabel("confidence")


def _said(error: pd.Series) -> str:
    if error["low"] != error["low"] or error["high"] != error["high"]:
        return short(error["value"])
    return f"{short(error['value'])} ({short(error['low'])} to {short(error['high'])})"


def _alt(errors: pd.DataFrame, names: list[str], dataset: str) -> str:
    values = errors.set_index("contestant").loc[names, "value"]
    best, worst = values.idxmin(), values.idxmax()
    more = f", the largest {short(values[worst])} ({shown(str(worst))})" if len(names) > 1 else ""
    return (
        f"Reliability diagrams of {plural(len(names), 'contestant')} on {dataset}: the smallest expected calibration "
        f"error is {short(values[best])} ({shown(str(best))}){more}."
    )
