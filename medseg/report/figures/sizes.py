"""A metric against the size of the lesion: small lesions are where contestants differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.errors import MedsegError
from medseg.ranking.plots import BAR
from medseg.report.figures.canvas import (
    GREY,
    Drawing,
    canvas,
    entitle,
    label_lowest,
    plural,
    short,
    shown,
    styled,
)
from medseg.report.figures.distributions import dots as evenly
from medseg.report.figures.values import of_metric, ordered, unit_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

#: bins of size at most, and cases in each of them at least
BINS, LEAST = 7, 8
AREA = "reference_px"
PER_ROW = 3


def by_size(
    table: pd.DataFrame, of: str, metric: str = "dice", image_px: int | Mapping[str, int] | None = None
) -> pd.DataFrame:
    """One row per contestant and distinct case: ``contestant dataset case size value``.

    A case's value is its mean over the runs in which it was tested, so that every lesion counts once. Cases whose
    lesion's area is not known are left out.

    Args:
        table: a normalised table with ``case`` and ``reference_px``, the lesion's area in pixels.
        of: the factor whose levels compete.
        metric: the metric.
        image_px: pixels of an image, of all data sets or of each; then ``size`` is in per cent of the image, else in
            pixels. 0 are cases without a lesion.

    Raises:
        MedsegError: the table lacks a column or any area, or a data set has no image size.
    """
    rows = of_metric(table, metric, of, "case")
    if AREA not in rows.columns or rows[AREA].isna().all():
        raise MedsegError(f"the table has no {AREA}: how large the lesions are is not known")
    rows = rows[rows[AREA].notna()]
    where = rows["dataset"] if "dataset" in rows.columns else ""
    rows = rows.assign(contestant=rows[of], dataset=where)
    means = rows.groupby(["contestant", "dataset", "case"], sort=False).agg(
        size=(AREA, "mean"), value=("value", "mean")
    )
    means = means.reset_index()
    if image_px is not None:
        means["size"] *= 100.0 / means["dataset"].map(_areas(means["dataset"].unique(), image_px))
    return means


def _areas(datasets: Sequence[str], image_px: int | Mapping[str, int]) -> dict[str, int]:
    if isinstance(image_px, int):
        return dict.fromkeys(datasets, image_px)
    lacking = [name for name in datasets if name not in image_px]
    if lacking:
        raise MedsegError(
            f"image_px has no size for {', '.join(map(repr, lacking))}; give pixels of an image each"
        )
    return {name: image_px[name] for name in datasets}


def binned(points: pd.DataFrame, level: float = 0.95) -> pd.DataFrame:
    """Medians within bins of size: ``contestant bin size median low high n``, cases without a lesion left out.

    The edges are quantiles of all cases' sizes, the same for every contestant, with at least eight cases in a bin;
    ``size`` is the median size within the bin. The interval of a median rests on order statistics alone (Conover
    1999, *Practical Nonparametric Statistics*, 3.2) and is missing where there are too few cases for one.

    Args:
        points: of :func:`by_size`.
        level: of the intervals.
    """
    import pandas as pd
    from scipy.stats import quantile_test

    lesions = points[points["size"] > 0]
    sizes = lesions.drop_duplicates(["dataset", "case"])["size"].to_numpy()
    count = max(1, min(BINS, len(sizes) // LEAST))
    edges = np.unique(np.quantile(sizes, np.linspace(0, 1, count + 1)))[1:-1] if len(sizes) else sizes
    at = np.searchsorted(edges, lesions["size"].to_numpy(), side="right")
    parts = []
    for (name, number), rows in lesions.assign(bin=at).groupby(["contestant", "bin"], sort=False):
        values = rows["value"].to_numpy()
        low, high = quantile_test(values, q=0.0, p=0.5).confidence_interval(level)
        middle = {"median": float(np.median(values)), "low": float(low), "high": float(high)}
        size = float(rows["size"].median())
        parts.append({"contestant": name, "bin": int(number), "size": size, **middle, "n": len(rows)})
    columns = ["contestant", "bin", "size", "median", "low", "high", "n"]
    return pd.DataFrame(parts, columns=columns).sort_values(["contestant", "bin"]).reset_index(drop=True)


def without_lesion(points: pd.DataFrame) -> pd.DataFrame:
    """The cases whose reference is empty: ``contestant n mean``; none of them has a place on an axis of size."""
    grouped = points[points["size"] == 0].groupby("contestant", sort=False)["value"]
    return grouped.agg(n="size", mean="mean").reset_index()


@styled
def draw_sizes(
    table: pd.DataFrame,
    of: str = "loss",
    metric: str = "dice",
    image_px: int | Mapping[str, int] | None = None,
    order: Sequence[str] | None = None,
) -> Drawing:
    """Draw a metric against lesion size, a panel per contestant, the others' medians in grey behind.

    Args:
        table: a normalised table with ``case`` and ``reference_px``, the lesion's area in pixels.
        of: the factor whose levels compete.
        metric: the metric.
        image_px: pixels of an image (of each data set), for sizes in per cent of it.
        order: contestants in reading order; best mean first if not given.

    Raises:
        MedsegError: the table lacks a column, or holds no lesion.
    """
    points = by_size(table, of, metric, image_px)
    medians, empty = binned(points), without_lesion(points).set_index("contestant")
    if not len(medians):
        raise MedsegError(f"every {AREA} is 0: there is no lesion whose size could be drawn")
    rows = of_metric(table, metric, of)
    names = ordered(rows[rows[of].isin(points["contestant"])], of, metric, order)
    columns = min(PER_ROW, len(names))
    lines = -(-len(names) // columns)
    figure = canvas(1.1 + 1.65 * lines)
    panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    for axes, name in zip(panels.flat, names, strict=False):
        _panel(axes, name, points, medians)
        axes.set_title(shown(name), fontweight="bold", pad=16 if len(empty) else 6)
        if name in empty.index:
            note = f"{empty.loc[name, 'n']} without lesion: mean {short(empty.loc[name, 'mean'])}"
            axes.text(0, 1.03, note, transform=axes.transAxes, fontsize=8, color=GREY)
    label_lowest(panels, len(names))
    _scale(panels[0, 0], points, image_px is not None)
    figure.supylabel(unit_of(metric), fontsize=9)
    title = f"{metric} against lesion size, {plural(len(names), of)}"
    share = "per cent of the image" if image_px is not None else "pixels"
    caption = (
        f"Across: lesion size in {share}. Line: median of equally large bins, with its 95% interval; grey: the "
        "other contestants; dots: cases, each the mean of its runs."
    )
    entitle(figure, title, caption)
    return Drawing(f"sizes_{of}", title, _alt(medians, of, metric, share), figure)


def _panel(axes: Axes, name: str, points: pd.DataFrame, medians: pd.DataFrame) -> None:
    for other, line in medians.groupby("contestant", sort=False):
        if other != name:
            axes.plot(line["size"], line["median"], color="#c4c4c4", linewidth=0.8, zorder=1)
    mine = points[(points["contestant"] == name) & (points["size"] > 0)].sort_values(["size", "value"])
    kept = evenly(np.arange(len(mine))).astype(int)
    style: dict[str, Any] = {"markersize": 2, "markeredgewidth": 0, "alpha": 0.35, "rasterized": True}
    axes.plot(mine["size"].iloc[kept], mine["value"].iloc[kept], "o", color=BAR, **style)
    line = medians[medians["contestant"] == name]
    axes.vlines(line["size"], line["low"], line["high"], color=BAR, linewidth=1.3, zorder=3)
    axes.plot(line["size"], line["median"], "o-", color=BAR, linewidth=1.6, markersize=4, zorder=4)
    axes.grid(color="#ececec", linewidth=0.6)
    axes.set_axisbelow(True)


def _scale(axes: Axes, points: pd.DataFrame, percent: bool) -> None:
    """The shared axes: sizes by powers of ten, in numbers as people write them."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    sizes = points.loc[points["size"] > 0, "size"]
    wide = sizes.max() / sizes.min() > 20
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}{' %' * percent}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    if points["value"].between(0, 1).all():
        axes.set_ylim(-0.03, 1.03)


def _alt(medians: pd.DataFrame, of: str, metric: str, share: str) -> str:
    first, last = medians["bin"].min(), medians["bin"].max()
    ends = {at: medians[medians["bin"] == at] for at in (first, last)}
    words = [
        f"{short(rows['median'].min())} to {short(rows['median'].max())} for lesions of about "
        f"{float(format(rows['size'].median(), '.2g')):g} {share}"
        for rows in ends.values()
    ]
    names = plural(medians["contestant"].nunique(), of)
    return f"Median {metric} of {names} against lesion size: {', and '.join(words)}."
