"""The critical-difference diagram (Demšar 2006, JMLR 7, 1-30): mean ranks on an axis, cliques joined."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medseg.errors import unknown
from medseg.ranking.evidence import Evidence, Omnibus
from medseg.ranking.plots import INK
from medseg.report.figures.canvas import GREY, WIDTH, Drawing, canvas, entitle, listed, plural, shown, styled

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

#: inches: between names, between the bars of cliques, from the axis to the first of them
ROW, BAND, FIRST = 0.24, 0.13, 0.16


def cliques(mean_ranks: pd.Series, critical_difference: float) -> list[list[str]]:
    """The largest groups of contestants whose mean ranks all lie closer than the critical difference.

    Groups within another one are left out, and so is who is alone; the best come first.

    Args:
        mean_ranks: by contestant.
        critical_difference: of mean ranks; NaN joins nobody.
    """
    ranks = mean_ranks.sort_values(kind="stable")
    names, found, reached = [str(name) for name in ranks.index], [], 0
    for first in range(len(names)):
        near = [
            i for i in range(first, len(names)) if ranks.iloc[i] - ranks.iloc[first] < critical_difference
        ]
        last = near[-1] if near else first
        if last > first and last > reached:
            found.append(names[first : last + 1])
            reached = last
    return found


@styled
def draw_critical_difference(evidence: Evidence, grouping: str) -> Drawing:
    """Draw the mean ranks of one grouping; who is joined by a bar is not told apart by Nemenyi's test.

    Args:
        evidence: what the values say.
        grouping: ``dataset``, ``model`` or ``overall``.

    Raises:
        MedsegError: the evidence has no such grouping.
    """
    if grouping not in evidence.groupings:
        raise unknown("grouping", grouping, evidence.groupings)
    test = evidence.groupings[grouping]
    groups = cliques(test.mean_ranks, test.critical_difference)
    half = -(-len(test.mean_ranks) // 2)
    below = FIRST + BAND * len(groups) + 0.2 + ROW * half
    top = 0.62 if test.critical_difference == test.critical_difference else 0.3
    figure = canvas(0.83 + top + below)
    axes = figure.subplots()
    _diagram(axes, test, groups, half, (below, top))
    count, blocks = len(test.mean_ranks), len(test.values)
    where = plural(blocks, grouping if grouping != "overall" else "setting")
    title = f"Mean ranks of {plural(count, evidence.of)} over {where} ({evidence.metric})"
    entitle(figure, title, _caption(test, evidence.level))
    return Drawing(
        f"critical_difference_{evidence.of}_{grouping}", title, _alt(test, groups, evidence, where), figure
    )


def _diagram(
    axes: Axes, test: Omnibus, groups: list[list[str]], half: int, room: tuple[float, float]
) -> None:
    ranks = test.mean_ranks.sort_values(kind="stable")
    count = len(ranks)
    # the axis keeps to the middle, the names to both sides
    margin = 0.95 + 0.066 * max(len(shown(str(name))) for name in ranks.index)
    inch = (count - 1) / (WIDTH - 0.2 - 2 * margin)
    axes.set_xlim(1 - margin * inch, count + margin * inch)
    axes.set_ylim(-room[0], room[1])
    axes.set_axis_off()
    axes.hlines(0, 1, count, color=INK, linewidth=1)
    for place in range(1, count + 1):
        axes.vlines(place, 0, 0.06, color=INK, linewidth=1)
        axes.text(place, 0.09, str(place), ha="center", va="bottom", fontsize=8.5)
    if test.critical_difference == test.critical_difference:
        end = min(1 + test.critical_difference, count + margin * inch)
        axes.plot([1, end], [0.36, 0.36], color=INK, linewidth=2, marker="|", markersize=7)
        text = f"critical difference {test.critical_difference:.2f}"
        axes.text(1, 0.43, text, ha="left", va="bottom", fontsize=8.5)
    for number, group in enumerate(groups):
        y = -FIRST - BAND * number
        pad = 0.05 * inch
        axes.hlines(y, ranks[group[0]] - pad, ranks[group[-1]] + pad, color=INK, linewidth=3.5)
    start = FIRST + BAND * len(groups) + 0.08
    for number, (name, rank) in enumerate(ranks.items()):
        left = number < half
        row = number if left else count - 1 - number
        y = -start - ROW * row
        side = 1 - 0.1 * inch if left else count + 0.1 * inch
        axes.plot([rank, rank, side], [0, y, y], color=GREY, linewidth=0.9)
        text = f"{shown(str(name))}  {rank:.2f}" if left else f"{rank:.2f}  {shown(str(name))}"
        gap = -0.05 * inch if left else 0.05 * inch
        axes.text(side + gap, y, text, ha="right" if left else "left", va="center", fontsize=9)


def _caption(test: Omnibus, level: float) -> str:
    if test.friedman_p != test.friedman_p:
        return "Rank 1 is best. Too few contestants or blocks for Friedman's test."
    p = "p\u00a0<\u00a00.0001" if test.friedman_p < 1e-4 else f"p\u00a0=\u00a0{test.friedman_p:.4f}"
    return (
        f"Rank 1 is best; who is joined by a bar is not told apart (Nemenyi, level {1 - level:.2g}). "
        f"Friedman: chi²\u00a0=\u00a0{test.friedman:.2f}, {p}."
    )


def _alt(test: Omnibus, groups: list[list[str]], evidence: Evidence, where: str) -> str:
    ranks = test.mean_ranks.sort_values(kind="stable")
    best = str(ranks.index[0])
    if test.critical_difference != test.critical_difference:
        told = "no critical difference can be computed"
    elif groups and best in groups[0]:
        told = f"not told apart from the best are {listed(groups[0][1:], limit=12)}"
    else:
        told = "the best is told apart from all others"
    return (
        f"Critical-difference diagram over {where}: the best mean rank of {evidence.metric} has "
        f"{shown(best)} ({ranks.iloc[0]:.2f}), the worst {shown(str(ranks.index[-1]))} "
        f"({ranks.iloc[-1]:.2f}); {told}."
    )
