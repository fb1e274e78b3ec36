"""The picture of a comparison: our means with their intervals against the published values."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from medseg.errors import MedsegError
from medseg.ranking.comparison import COMPARED, Comparison
from medseg.ranking.plots import FAINT, FORMATS, INK
from medseg.ranking.protocols import PROTOCOL
from medseg.results import atomic_write

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

#: told apart by people who see no red or no green (Okabe and Ito 2008)
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def check_format(path: Path) -> None:
    """Raise MedsegError unless a picture can be written to a file of that name."""
    if path.suffix.lower() not in FORMATS:
        raise MedsegError(f"{path}: a plot is written as {', '.join(FORMATS)}")


def plot(found: Comparison, path: Path) -> None:
    """Draw a comparison into a ``.png``, ``.svg`` or ``.pdf`` file.

    Raises:
        MedsegError: another extension.
    """
    check_format(path)
    figure = draw(found)
    with atomic_write(path, "wb") as file:
        figure.savefig(file, format=path.suffix.lower()[1:], dpi=150, facecolor="white")


def draw(found: Comparison) -> Figure:
    """Draw one panel per metric: a point is a cell, its bar our interval; on the diagonal both agree.

    Colours are splits and protocols, markers data sets.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = found.of(COMPARED)
    metrics = list(rows["metric"].unique())
    figure = Figure(figsize=(1.2 + 4.2 * len(metrics), 4.9), layout="constrained")
    FigureCanvasAgg(figure)
    kinds = {kind: COLOURS[i % len(COLOURS)] for i, kind in enumerate(dict.fromkeys(_kinds(rows)))}
    sets = {name: MARKERS[i % len(MARKERS)] for i, name in enumerate(dict.fromkeys(_datasets(rows)))}
    for axes, metric in zip(figure.subplots(1, len(metrics), squeeze=False)[0], metrics, strict=True):
        _panel(axes, rows[rows["metric"] == metric], metric, kinds, sets)
    handles, labels = _legend(kinds, sets)
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=2 * len(metrics),
        fontsize=8,
        frameon=False,
        labelcolor=INK,
    )
    title = f"Ours against published, {found.level:.0%} intervals"
    figure.suptitle(title, fontsize=11, color=INK, x=0.01, ha="left", fontweight="bold")
    return figure


def _kinds(rows: pd.DataFrame) -> list[str]:
    pairs = zip(rows["split"], rows[PROTOCOL], strict=True)
    return [", ".join(filter(None, (split, protocol or "not augmented"))) for split, protocol in pairs]


def _datasets(rows: pd.DataFrame) -> list[str]:
    return list(rows["dataset"]) if "dataset" in rows.columns else [""] * len(rows)


def _panel(axes: Axes, rows: pd.DataFrame, metric: str, kinds: dict[str, str], sets: dict[str, str]) -> None:
    from matplotlib.transforms import ScaledTranslation

    low, high = rows["low"].fillna(rows["ours"]), rows["high"].fillna(rows["ours"])
    ends = (min(low.min(), rows["published"].min()), max(high.max(), rows["published"].max()))
    margin = 0.05 * (ends[1] - ends[0]) or 0.05
    ends = (ends[0] - margin, ends[1] + margin)
    axes.plot(ends, ends, color=FAINT, linewidth=0.8, zorder=0)
    named = zip(rows.to_dict("records"), _kinds(rows), _datasets(rows), low, high, strict=True)
    places = {kind: number - (len(kinds) - 1) / 2 for number, kind in enumerate(kinds)}
    for row, kind, dataset, bottom, top in named:
        # kinds that meet one published value stand a little apart
        apart = ScaledTranslation(3 * places[kind] / 72, 0, axes.figure.dpi_scale_trans)
        axes.errorbar(
            row["published"],
            row["ours"],
            yerr=[[row["ours"] - bottom], [top - row["ours"]]],
            fmt=sets[dataset],
            color=kinds[kind],
            markersize=5,
            elinewidth=1,
            capsize=2,
            alpha=0.85,
            transform=axes.transData + apart,
        )
    axes.set(xlim=ends, ylim=ends, aspect="equal")
    axes.set_title(metric, fontsize=10, color=INK, loc="left")
    axes.set_xlabel("published", fontsize=9, color=INK)
    axes.set_ylabel("ours", fontsize=9, color=INK)
    axes.tick_params(labelsize=8, colors=INK)
    axes.spines[["top", "right"]].set_visible(False)


def _legend(kinds: dict[str, str], sets: dict[str, str]) -> tuple[list[Line2D], list[str]]:
    from matplotlib.lines import Line2D

    shown = [Line2D([], [], color=colour, marker="o", linestyle="") for colour in kinds.values()]
    named = [name for name in sets if name] if len(sets) > 1 else []
    shown += [Line2D([], [], color=FAINT, marker=sets[name], linestyle="") for name in named]
    return shown, [*kinds, *named]
