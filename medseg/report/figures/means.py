"""The mean of each metric per contestant with its interval; of losses, single ones apart from compound ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from medseg.ranking.evidence import Evidence
from medseg.ranking.plots import BAR, FAINT, INK
from medseg.report.figures.canvas import Drawing, canvas, entitle, listed, plural, short, shown, styled
from medseg.report.figures.values import is_share, unit_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

SINGLE, COMPOUND = "single", "compound"
#: rows left free between single and compound losses
GAP = 0.7


def kind_of(name: str) -> str:
    """Whether a loss is ``compound``: registered as a sum of parts, or named after two registered losses.

    >>> kind_of("dice"), kind_of("dice_bce"), kind_of("focal_lin2017")
    ('single', 'compound', 'single')
    """
    from medseg.losses import LOSSES

    if name in LOSSES:
        return COMPOUND if LOSSES[name].facts.get("parts") else SINGLE
    words = name.split("_")
    halves = (("_".join(words[:i]), "_".join(words[i:])) for i in range(1, len(words)))
    return COMPOUND if any(a in LOSSES and b in LOSSES for a, b in halves) else SINGLE


def mean_rows(evidence: Mapping[str, Evidence]) -> pd.DataFrame:
    """Mean and interval of every metric and contestant: ``metric contestant kind row mean low high``.

    ``row`` is where a contestant stands: in the order of the first metric's means, the single losses above the
    compound ones if there are both. Of other factors than the loss, ``kind`` is empty.
    """
    import pandas as pd

    first = next(iter(evidence.values()))
    names = list(dict.fromkeys(name for one in evidence.values() for name in one.contestants))
    kinds = {name: kind_of(name) if first.of == "loss" else "" for name in names}
    names.sort(key=lambda name: kinds[name] == COMPOUND)
    gap = GAP if len(set(kinds.values())) > 1 else 0.0
    rows = {name: at + gap * (kinds[name] == COMPOUND) for at, name in enumerate(names)}
    parts = []
    for metric, one in evidence.items():
        means = one.means.set_index("contestant").reindex(names)[["mean", "low", "high"]].reset_index()
        means.insert(0, "metric", metric)
        means.insert(2, "kind", means["contestant"].map(kinds))
        means.insert(3, "row", means["contestant"].map(rows))
        parts.append(means)
    return pd.concat(parts, ignore_index=True)


@styled
def draw_means(evidence: Mapping[str, Evidence]) -> Drawing:
    """Draw bars of the mean of each metric, a panel each, with the intervals of the evidence.

    Args:
        evidence: metric -> evidence of the same factor; two panels stand side by side.
    """
    rows = mean_rows(evidence)
    first = next(iter(evidence.values()))
    count = rows["contestant"].nunique()
    lines = -(-len(evidence) // 2)
    columns = min(2, len(evidence))
    compound = set(rows["kind"]) == {SINGLE, COMPOUND}
    figure = canvas(1.0 + lines * (0.55 + 0.235 * (rows["row"].max() + 1)))
    panels = figure.subplots(lines, columns, sharey=True, squeeze=False)
    for axes in panels.flat[len(evidence) :]:
        axes.set_axis_off()
    for axes, (metric, one) in zip(panels.flat, evidence.items(), strict=False):
        _panel(axes, rows[rows["metric"] == metric], one)
    title = f"Mean of {listed(list(evidence))} of {plural(count, first.of)}"
    caption = f"Lines: {first.level:.0%} intervals."
    if compound:
        caption += " Plain: single losses; hatched: compound losses, sums of two."
    entitle(figure, title, caption)
    return Drawing(f"means_{first.of}", title, _alt(rows, evidence), figure)


def _panel(axes: Axes, rows: pd.DataFrame, evidence: Evidence) -> None:
    at, mean = rows["row"].to_numpy(), rows["mean"].to_numpy()
    low, high = rows["low"].to_numpy(), rows["high"].to_numpy()
    if is_share(evidence.metric):
        # an interval around a mean near 1 can reach beyond what is possible
        low, high = low.clip(0, 1), high.clip(0, 1)
    for kind, colour, hatch in ((COMPOUND, "#b7cde6", "////"), (SINGLE, BAR, ""), ("", BAR, "")):
        mine = (rows["kind"] == kind).to_numpy()
        axes.barh(at[mine], mean[mine], height=0.7, color=colour, edgecolor=BAR, linewidth=0.6, hatch=hatch)
    ends = np.fmax(mean, high)
    top = 1.0 if np.nanmax(np.append(ends, 0)) <= 1 else float(np.nanmax(ends))
    axes.hlines(at, low, high, color=INK, linewidth=1.4)
    for row, value, end in zip(at, mean, ends, strict=True):
        text = short(value) if value == value else "missing"
        axes.text((0.0 if end != end else end) + 0.02 * top, row, text, va="center", fontsize=8, color=INK)
    axes.set_xlim(0, top * 1.2)
    if top == 1.0:
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "0.25", "0.5", "0.75", "1"])
    axes.set_yticks(at, [shown(name) for name in rows["contestant"]])
    # set and not toggled: the panels share this axis
    axes.set_ylim(at.max() + 0.6, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_color(FAINT)
    way = "" if evidence.better == "higher" else ", lower is better"
    axes.set_title(unit_of(evidence.metric) + way, fontweight="bold")


def _alt(rows: pd.DataFrame, evidence: Mapping[str, Evidence]) -> str:
    parts = []
    for metric, one in evidence.items():
        best = one.means.iloc[0]
        parts.append(f"{metric} is best for {shown(best['contestant'])} ({short(best['mean'])})")
    return f"Bars of the means of {plural(rows['contestant'].nunique(), one.of)}: {'; '.join(parts)}."
