"""The same cases under each contestant: the output as it is, thresholded at 0.5, and binarised at its own mean."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.data.outline import REFERENCE, outline, show
from medseg.errors import MedsegError
from medseg.report.figures.canvas import (
    WIDTH,
    Drawing,
    canvas,
    clip,
    entitle,
    listed,
    plural,
    shown,
    styled,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: pictures side by side: the case itself and five contestants, and six below
PER_LINE = 6
ROWS = ("output", "at 0.5", "at its mean")


@dataclass(frozen=True)
class CasePicture:
    """A test image with what contestants make of it.

    Args:
        name: what stands beside it, such as data set and case.
        image: (C, H, W), any type.
        reference: (H, W), true where the lesion is.
        probabilities: contestant -> (H, W), 0 to 1.

    Raises:
        MedsegError: the sizes differ, or a probability lies outside 0 to 1.
    """

    name: str
    image: np.ndarray
    reference: np.ndarray
    probabilities: Mapping[str, np.ndarray]

    def __post_init__(self) -> None:
        size = self.image.shape[1:]
        for what, plane in (("reference", self.reference), *self.probabilities.items()):
            if plane.shape != size:
                raise MedsegError(f"{self.name}: {what} has the shape {plane.shape}, its image {size}")
        for what, plane in self.probabilities.items():
            if not (np.isfinite(plane).all() and plane.min() >= 0 and plane.max() <= 1):
                raise MedsegError(
                    f"{self.name}: the output of {what} is no probability, 0 to 1, at every pixel"
                )


def binarise(probability: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The masks of an output ``(H, W)``: where it is at least 0.5, and where it is above its own mean.

    The second shows how a network ranks pixels whatever the level of its output; of an output that is the same
    everywhere nothing is above the mean.
    """
    return probability >= 0.5, probability > probability.mean(dtype=np.float64)


def overlap(prediction: np.ndarray, reference: np.ndarray) -> float:
    """The Dice of two masks ``(H, W)`` as :mod:`medseg.metrics` has it: 1 if both are empty."""
    from medseg.metrics.overlap import confusion, dice

    masks = (np.asarray(mask, dtype=bool)[None, None] for mask in (prediction, reference))
    return float(dice(confusion(*masks)).item())


@styled
def draw_binarised(cases: Sequence[CasePicture], of: str = "loss") -> Drawing:
    """Draw cases under each contestant, three pictures below each other: the output and its two masks.

    Args:
        cases: of the same contestants, best first.
        of: the factor whose levels compete.

    Raises:
        MedsegError: there is no case, or no contestant.
    """
    if not cases or not all(case.probabilities for case in cases):
        raise MedsegError("there is no case with an output to draw")
    most = max(len(case.probabilities) for case in cases)
    columns = min(PER_LINE, 1 + most)
    lines = -(-(1 + most) // columns)
    width = min(WIDTH, 0.3 + 1.3 * columns) if columns > 3 else 0.3 + 1.7 * columns
    ratio = max(case.image.shape[1] / case.image.shape[2] for case in cases)
    cell = (width - 0.3) / columns * ratio + 0.2
    figure = canvas(0.9 + len(cases) * lines * 3 * cell, width)
    panels = figure.subplots(len(cases) * lines * 3, columns, squeeze=False)
    for axes in panels.flat:
        axes.set_axis_off()
    for number, case in enumerate(cases):
        _case(panels[number * lines * 3 : (number + 1) * lines * 3], case, columns)
    names = list(cases[0].probabilities)
    title = f"{plural(len(cases), 'case')} under {plural(most, of)}"
    caption = (
        "Output: dark 0, bright 1. Masks: at least 0.5, and above the output's own mean, with their Dice. "
    )
    entitle(figure, title, caption + "Blue: outline of the reference.")
    return Drawing(f"binarised_{of}", title, _alt(cases, names), figure)


def _case(panels: Any, case: CasePicture, columns: int) -> None:
    lines = textwrap.wrap(case.name, 18, break_long_words=False, break_on_hyphens=False)
    show(panels[0, 0], case.image)
    panels[0, 0].set_title("\n".join(clip(line, 18) for line in lines[:3]), fontsize=8, fontweight="bold")
    show(panels[1, 0], case.image)
    outline(panels[1, 0], case.reference.astype(bool))
    panels[1, 0].set_title("reference", fontsize=8)
    for slot, (name, probability) in enumerate(case.probabilities.items(), start=1):
        line, column = divmod(slot, columns)
        stack = panels[3 * line : 3 * line + 3, column]
        stack[0].imshow(probability, cmap="cividis", vmin=0, vmax=1)
        stack[0].set_title(shown(name), fontsize=8, fontweight="bold")
        for axes, mask in zip(stack[1:], binarise(probability), strict=True):
            axes.imshow(mask, cmap="gray", vmin=0, vmax=1)
            axes.set_title(f"Dice {overlap(mask, case.reference):.3f}", fontsize=8)
        for axes in stack:
            outline(axes, case.reference.astype(bool), REFERENCE, 0.9)
        if column == (1 if line == 0 else 0):
            for axes, row in zip(stack, ROWS, strict=True):
                _row_name(axes, row)


def _row_name(axes: Axes, name: str) -> None:
    axes.text(-0.05, 0.5, name, transform=axes.transAxes, rotation=90, ha="right", va="center", fontsize=8)


def _alt(cases: Sequence[CasePicture], names: list[str]) -> str:
    best = []
    for case in cases:
        scores = {
            name: overlap(binarise(output)[0], case.reference) for name, output in case.probabilities.items()
        }
        lead = max(scores, key=lambda name: scores[name])
        best.append(f"{case.name} is best under {shown(lead)} (Dice {scores[lead]:.3f} at 0.5)")
    return f"Outputs of {listed(names, limit=12)} and their masks: {listed(best)}."
