"""A picture of a classifier's test cases: the surest that are right, the least sure, and the surest that are wrong."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medseg.data.outline import show
from medseg.results import atomic_write

PER_ROW = 5


def draw(
    part: Any,
    found: np.ndarray,
    truth: np.ndarray,
    classes: Sequence[str],
    title: str,
    path: Path,
    multilabel: bool = False,
) -> None:
    """Write a PNG of up to three rows of images with their true and predicted classes.

    Args:
        part: prepared part; ``part[i]`` gives one sample's image ``(C, H, W)``.
        found: probabilities, ``(N, K)``.
        truth: ``(N, K)``, 0 or 1.
        classes: their names.
        title: what stands above.
        path: the PNG file.
        multilabel: whether an image may have several classes or none.
    """
    from matplotlib.figure import Figure

    rows = chosen(found, truth, multilabel)
    columns = max(len(cases) for cases in rows.values())
    figure = Figure(figsize=(2.2 * columns, 2.75 * len(rows) + 0.5), layout="constrained")
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for line, (name, cases) in zip(axes, rows.items(), strict=True):
        for axis in line:
            axis.set_axis_off()
        for axis, case in zip(line, cases, strict=False):
            show(axis, part[int(case)]["image"].cpu().numpy())
            said = _said(found[case], truth[case], classes, multilabel)
            axis.set_title(f"{name}\n{part.cases[case]}\n{said}", fontsize=7, parse_math=False)
    figure.suptitle(title, fontsize=10)
    with atomic_write(path, "wb") as file:
        figure.savefig(file, format="png", dpi=110)


def chosen(found: np.ndarray, truth: np.ndarray, multilabel: bool) -> dict[str, np.ndarray]:
    """The cases of each row: a row for which there is none is left out.

    How sure an answer is, is the probability of the likeliest class, or of the least decided of several labels.
    """
    if multilabel:
        right = ((found >= 0.5) == (truth != 0)).all(1)
        sure = np.maximum(found, 1 - found).min(1)
    else:
        right = found.argmax(1) == truth.argmax(1)
        sure = found.max(1)
    order = np.argsort(-sure, kind="stable")
    rows = {
        "surest, right": order[right[order]][:PER_ROW],
        "least sure": order[::-1][:PER_ROW],
        "surest, wrong": order[~right[order]][:PER_ROW],
    }
    return {name: cases for name, cases in rows.items() if len(cases)}


def _said(found: np.ndarray, truth: np.ndarray, classes: Sequence[str], multilabel: bool) -> str:
    true = " | ".join(classes[k] for k in np.flatnonzero(truth).tolist()) or "none"
    answer = np.flatnonzero(found >= 0.5).tolist() if multilabel else [int(found.argmax())]
    told = " | ".join(f"{classes[k]} {found[k]:.2f}" for k in answer) or f"none (at most {found.max():.2f})"
    return f"is {true}\nsaid {told}"
