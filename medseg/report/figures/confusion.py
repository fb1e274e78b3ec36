"""Confusion matrices: how often each class was taken for each, one panel per contestant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from medseg.errors import MedsegError
from medseg.report.figures.canvas import (
    WIDTH,
    Drawing,
    canvas,
    clip,
    entitle,
    ink_on,
    plural,
    shown,
    styled,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: classes up to which a cell has its number of images, and up to which its share is written
COUNTED, WRITTEN = 6, 12
#: letters of a class's name, and of a contestant's above a quarter of the page
LETTERS, HEADING = 16, 17
#: inches of a bold letter
LETTER = 0.09


def shares(matrix: np.ndarray) -> np.ndarray:
    """Each row of a confusion matrix as shares of the true class; NaN where it has no images.

    Shape:
        ``(K, K)``, result the same, float64.
    """
    total = matrix.sum(1, keepdims=True)
    return np.divide(matrix, total, out=np.full(matrix.shape, np.nan), where=total > 0)


@styled
def draw_confusion(
    matrices: Mapping[str, np.ndarray], classes: Sequence[str], dataset: str, of: str = "loss"
) -> Drawing:
    """Draw the confusion matrices of one data set: rows are the truth, columns the prediction.

    Args:
        matrices: contestant -> ``(K, K)`` numbers of images.
        classes: their names.
        dataset: the data set.
        of: the factor whose levels compete.

    Raises:
        MedsegError: there is no matrix.
    """
    if not matrices:
        raise MedsegError("there is no confusion matrix to draw")
    number = len(classes)
    fitting = 4 if number <= 2 and max(map(len, matrices)) <= HEADING else 3 if number <= 4 else 2
    per_row = min(len(matrices), fitting if number <= 8 else 1)
    lines = -(-len(matrices) // per_row)
    longest = min(LETTERS, max(len(name) for name in classes))
    side = min((WIDTH - 0.3 - 0.07 * longest) / per_row, 1.3 + 0.32 * number)
    turned = side / number < 0.085 * longest
    below = 0.07 * longest if turned else 0.15
    figure = canvas(
        0.95 + below + lines * (side + 0.3), min(WIDTH, max(4.6, 0.5 + 0.07 * longest + per_row * side))
    )
    panels = figure.subplots(lines, per_row, squeeze=False, sharex=True, sharey=True)
    for axes in panels.flat[len(matrices) :]:
        axes.set_axis_off()
    for place, (axes, (name, matrix)) in enumerate(zip(panels.flat, matrices.items(), strict=False)):
        _panel(axes, matrix)
        axes.set_title(clip(shown(name), int(side / LETTER)), fontweight="bold")
        axes.tick_params(length=0, labelbottom=place + per_row >= len(matrices))
        axes.tick_params(axis="x", rotation=90 if turned else 0)
    ticks = [clip(name, LETTERS) for name in classes]
    panels[0, 0].set_xticks(range(number), ticks)
    panels[0, 0].set_yticks(range(number), ticks)
    figure.supylabel("truth", fontsize=9)
    title = f"Confusion matrices of {dataset}, {plural(len(matrices), of)}"
    caption = "Rows: the true class; columns: the predicted one. Each row sums to 100%."
    caption += " Below: images, of all runs together." if number <= COUNTED else ""
    entitle(figure, title, caption)
    return Drawing(f"confusion_{of}_{dataset}", title, _alt(matrices, classes, dataset), figure)


def _panel(axes: Axes, matrix: np.ndarray) -> None:
    from matplotlib import colormaps

    part, number = shares(matrix), len(matrix)
    colours = colormaps["Blues"]
    axes.imshow(np.nan_to_num(part), cmap=colours, vmin=0, vmax=1, aspect="equal")
    for (row, column), value in np.ndenumerate(part) if number <= WRITTEN else ():
        if value != value:
            continue
        text = f"{value:.0%}" + (f"\n{matrix[row, column]}" if number <= COUNTED else "")
        ink = ink_on(colours(float(value)))
        axes.text(column, row, text, ha="center", va="center", fontsize=8 if number <= 4 else 7, color=ink)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _alt(matrices: Mapping[str, np.ndarray], classes: Sequence[str], dataset: str) -> str:
    said = []
    for name, matrix in list(matrices.items())[:3]:
        wrong = shares(matrix)
        np.fill_diagonal(wrong, np.nan)
        if np.isnan(wrong).all() or np.nanmax(wrong) == 0:
            said.append(f"{shown(name)} confuses none")
            continue
        row, column = divmod(int(np.nanargmax(wrong)), len(classes))
        share = f"{wrong[row, column]:.0%} of {classes[row]} for {classes[column]}"
        said.append(f"{shown(name)} takes {share}, its most frequent fault")
    rest = len(matrices) - len(said)
    return f"Confusion matrices of {dataset}: {'; '.join(said)}{f'; and {rest} more' if rest else ''}."
