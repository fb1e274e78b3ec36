"""A picture of the best, median and worst cases: image, reference and prediction outlined."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from medseg.data.outline import PREDICTION, REFERENCE, outline, show
from medseg.results import atomic_write

PER_ROW = 4


def draw(part: Any, predictions: np.ndarray, dice: np.ndarray, title: str, path: Path) -> None:
    """Write a PNG with three rows: the best, the median and the worst cases by Dice.

    Args:
        part: prepared part; ``part[i]`` gives one sample's image (C, H, W) and label (K, H, W).
        predictions: (N, K, H, W), 0 or 1.
        dice: (N,), 0 to 1.
        title: what stands above.
        path: the PNG file.
    """
    from matplotlib.figure import Figure

    order = np.argsort(-dice, kind="stable")
    columns = min(PER_ROW, len(order))
    middle = max(0, (len(order) - columns) // 2)
    rows = {
        "best": order[:columns],
        "median": order[middle : middle + columns],
        "worst": order[len(order) - columns :],
    }
    figure = Figure(figsize=(2.2 * columns, 7.6), layout="constrained")
    axes = figure.subplots(3, columns, squeeze=False)
    for row, (name, cases) in zip(axes, rows.items(), strict=True):
        for axis, case in zip(row, cases, strict=True):
            sample = part[int(case)]
            _case(axis, sample, predictions[case])
            lesion = "" if sample["label"].any() else ", no lesion"
            axis.set_title(f"{name}: {part.cases[case]}\nDice {dice[case]:.3f}{lesion}", fontsize=8)
    figure.suptitle(f"{title}\nblue: reference, orange: prediction", fontsize=10)
    with atomic_write(path, "wb") as file:
        figure.savefig(file, format="png", dpi=110)


def _case(axis: Any, sample: dict[str, Any], prediction: np.ndarray) -> None:
    show(axis, sample["image"].cpu().numpy())
    outline(axis, sample["label"].any(0).cpu().numpy(), REFERENCE)
    outline(axis, np.asarray(prediction.any(0)), PREDICTION)
