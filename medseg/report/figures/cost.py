"""Cost against quality: the Pareto front, and the cheapest contestant that is tied with the best."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.errors import MedsegError, unknown
from medseg.ranking.evidence import TIED, Evidence
from medseg.ranking.plots import BAR, FAINT, INK
from medseg.report.figures.canvas import Drawing, canvas, entitle, listed, short, shown, styled
from medseg.report.figures.values import unit_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

#: column of costs -> what it is
COSTS = {
    "seconds": "training time",
    "epochs": "epochs",
    "parameters": "parameters",
    "macs": "multiply-accumulates per image",
}
LEADER = "#9a9a9a"
MULTIPLES = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def mean_costs(costs: pd.DataFrame, of: str, cost: str = "seconds") -> pd.Series:
    """The mean cost of a contestant's runs, by contestant.

    Args:
        costs: one row per run (or per contestant), with a column ``contestant`` or one named ``of``.
        of: the factor whose levels compete.
        cost: the column of the cost.

    Raises:
        MedsegError: a column is missing.
    """
    name = of if of in costs.columns else "contestant"
    for column in (name, cost):
        if column not in costs.columns:
            raise unknown("column", column, map(str, costs.columns))
    return costs.groupby(name, sort=False)[cost].mean().rename_axis("contestant")


def _priced(evidence: Evidence, costs: pd.DataFrame, cost: str) -> pd.Series:
    """The costs in the evidence's order.

    Raises:
        MedsegError: a contestant has none, or one that is not positive.
    """
    found = mean_costs(costs, evidence.of, cost).reindex(evidence.contestants)
    lacking = [str(name) for name in found.index[~(found.to_numpy(dtype=float) > 0)]]
    if lacking:
        raise MedsegError(f"no {cost} above 0 is known of {evidence.of} {listed(lacking)}")
    return found.astype(float)


def pareto(evidence: Evidence, costs: pd.DataFrame, cost: str = "seconds") -> list[str]:
    """The contestants that no other beats in cost or mean without losing in the other, the cheapest first."""
    price = _priced(evidence, costs, cost)
    sign = 1 if evidence.better == "lower" else -1
    mean = evidence.means.set_index("contestant")["mean"] * sign
    front = []
    for name in price.index:
        as_good = (price <= price[name]) & (mean <= mean[name])
        if not (as_good & ((price < price[name]) | (mean < mean[name]))).any():
            front.append(str(name))
    return sorted(front, key=lambda name: price[name])


def cheapest_tied(evidence: Evidence, costs: pd.DataFrame, cost: str = "seconds") -> str:
    """The cheapest contestant that is not shown to be worse than the best one (of equally cheap ones the better).

    Args:
        evidence: what the values say.
        costs: one row per run or contestant.
        cost: the column of the cost.

    Raises:
        MedsegError: the cost of a contestant is not known.
    """
    price = _priced(evidence, costs, cost)
    return min(evidence.tied_with_best(), key=lambda name: price[name])


def cost_words(evidence: Evidence, costs: pd.DataFrame, cost: str = "seconds") -> str:
    """What the figure says, in a sentence: which contestant to take if cost counts."""
    best, cheap = evidence.contestants[0], cheapest_tied(evidence, costs, cost)
    price, what = _priced(evidence, costs, cost), COSTS.get(cost, cost)
    if cheap == best:
        return (
            f"No {evidence.of} that may be as good as {shown(best)} costs less ({amount(price[best], cost)})."
        )
    means = evidence.means.set_index("contestant")["mean"]
    pairs = evidence.pairs
    verdict = pairs[(pairs["a"] == best) & (pairs["b"] == cheap)]["verdict"].tolist()
    tie = "is tied with" if verdict == [TIED] else "is not shown to be worse than"
    share = 100 * price[cheap] / price[best]
    return (
        f"{shown(cheap)} ({evidence.metric} {short(means[cheap])}) {tie} the best, {shown(best)} "
        f"({short(means[best])}), at {share:.0f} % of its {what}: {amount(price[cheap], cost)} "
        f"instead of {amount(price[best], cost)}."
    )


def amount(value: float, cost: str) -> str:
    """A cost as people say it.

    >>> amount(90, "seconds"), amount(5400, "seconds"), amount(31_400_000, "parameters"), amount(12, "epochs")
    ('90 s', '90 min', '31.4 M', '12')
    """
    if cost == "seconds":
        size, unit = time_unit(value)
    else:
        size, unit = next((u for u in MULTIPLES if value >= 0.9995 * u[0]), (1.0, ""))
    # three digits, without the powers of ten of the g format
    return f"{float(f'{value / size:.3g}'):g} {unit}".strip()


def time_unit(seconds: float) -> tuple[float, str]:
    """The unit in which a time is told, and its seconds: the largest of which there are two or more."""
    return next((u for u in ((3600.0, "h"), (60.0, "min")) if seconds >= 2 * u[0]), (1.0, "s"))


def spread(positions: np.ndarray, gap: float, low: float, high: float) -> np.ndarray:
    """Move sorted positions apart by at least a gap, as little as can be, within two bounds.

    Neighbours that would touch form a block around their mean (as isotonic regression does); if not all fit they
    share the room evenly.
    """
    count = len(positions)
    if count < 2:
        return np.clip(positions, low, high)
    gap = min(gap, (high - low) / (count - 1))
    # without the gaps the moved positions only need not fall: the pooled means are the nearest such
    blocks: list[list[float]] = []
    for value in positions - gap * np.arange(count):
        blocks.append([float(value), 1.0])
        while len(blocks) > 1 and blocks[-2][0] >= blocks[-1][0]:
            mean, size = blocks.pop()
            total = blocks[-1][1] + size
            blocks[-1] = [(blocks[-1][0] * blocks[-1][1] + mean * size) / total, total]
    moved = np.repeat([b[0] for b in blocks], [int(b[1]) for b in blocks])
    return np.clip(moved, low, high - gap * (count - 1)) + gap * np.arange(count)


@styled
def draw_cost(evidence: Evidence, costs: pd.DataFrame, cost: str = "seconds") -> Drawing:
    """Draw the mean of each contestant, with its interval, against what it costs.

    Args:
        evidence: what the values say.
        costs: one row per run or contestant.
        cost: the column of the cost: ``seconds``, ``epochs``, ``parameters`` or ``macs``.

    Raises:
        MedsegError: the cost of a contestant is not known.
    """
    price, means = _priced(evidence, costs, cost), evidence.means.set_index("contestant")
    front, cheap = pareto(evidence, costs, cost), cheapest_tied(evidence, costs, cost)
    # the axis counts in the unit of the dearest, so that its ticks are round
    scale, unit = time_unit(price.max()) if cost == "seconds" else (1.0, "")
    price = price / scale
    figure = canvas(max(3.6, 1.4 + 0.24 * len(price)))
    axes = figure.subplots()
    axes.vlines(price, means["low"], means["high"], color="#a9bfd9", linewidth=1.6, zorder=2)
    axes.plot(price[front], means["mean"][front], "-", color=INK, linewidth=1, zorder=1)
    for name in price.index:
        full = name in front
        face = BAR if full else "white"
        axes.plot(
            price[name], means["mean"][name], "o", markersize=6.5, color=BAR, markerfacecolor=face, zorder=3
        )
    ring: dict[str, Any] = {"markersize": 14, "color": INK, "markerfacecolor": "none", "markeredgewidth": 1.3}
    axes.plot(price[cheap], means["mean"][cheap], "o", zorder=4, **ring)
    _axis(axes, price, COSTS.get(cost, cost) + (f" ({unit})" if unit else ""))
    _names(axes, evidence, price, means["mean"], cheap, 0.2 / (figure.get_figheight() - 1.5))
    axes.set_ylabel(unit_of(evidence.metric))
    words = cost_words(evidence, costs, cost)
    title = f"{evidence.metric} against {COSTS.get(cost, cost)}"
    caption = (
        f"{words} Filled and joined: the Pareto front, which nobody beats in both; ringed: the cheapest that is not "
        f"shown to be worse than the best; lines: {evidence.level:.0%} intervals."
    )
    entitle(figure, title, caption)
    alt = f"{title}: on the Pareto front are {listed(front, limit=12)}. {words}"
    return Drawing(f"cost_{cost}_{evidence.of}", title, alt, figure)


def _axis(axes: Axes, price: pd.Series, label: str) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    axes.grid(color="#ececec", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel(label)
    if price.max() / price.min() >= 4:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: amount(x, "")))
    axes.margins(x=0.08)


def _names(
    axes: Axes, evidence: Evidence, price: pd.Series, means: pd.Series, cheap: str, gap: float
) -> None:
    """Names in a column on the right, in the order of the means, each led to by a thin line."""
    low, high = axes.get_ylim()
    order = means.sort_values(kind="stable").index
    fractions = np.array([(means[name] - low) / (high - low) for name in order])
    for name, y in zip(order, spread(fractions, gap, 0.0, 1.0), strict=True):
        axes.annotate(
            shown(str(name)),
            (price[name], means[name]),
            (1.05, y),
            textcoords="axes fraction",
            va="center",
            fontsize=9,
            fontweight="bold" if name in (cheap, evidence.contestants[0]) else "normal",
            arrowprops={
                "arrowstyle": "-",
                "color": LEADER,
                "linewidth": 0.6,
                "shrinkA": 1,
                "shrinkB": 5,
                "relpos": (0, 0.5),
            },
        )
    axes.spines["left"].set_color(FAINT)
