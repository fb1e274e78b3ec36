"""Metrics: one value per case, never only a mean; each states which direction is better.

The convention for empty masks, the same in losses, metrics and ranking, so that no case is ever dropped:

- A case whose reference and prediction are both empty is perfect: every overlap metric is 1, the Hausdorff
  distance 0 and the surface Dice 1. (Where a metric speaks of the background, as specificity and mean IoU do,
  the same holds for a background that is empty in both.)
- Any other ratio whose denominator is 0 is 0: the recall of an empty mask met by a false positive, the
  precision of an empty prediction of a lesion.
- When exactly one of the two is empty, the Hausdorff distance is the image's diagonal in pixels, the worst
  possible, and the surface Dice 0.

Facts of an entry: ``better`` (``higher`` or ``lower``), ``unit`` (empty or ``px``) and ``needs``: a metric
that needs ``counts`` is a function of the confusion counts ``(..., 4)``, one that needs ``masks`` of two
masks ``(N, K, H, W)``.

The metrics of classification are a room of their own, :mod:`medseg.metrics.classification`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from medseg.errors import unknown
from medseg.registry import Entry, Registry

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

METRICS = Registry("metric", __name__)
build = METRICS.build

#: which direction is better, of the metrics here and of those of classification; it stands here so that reading a
#: results table need not import torch. A metric that it lacks is asked of the registries.
BETTER = {
    "accuracy": "higher",
    "balanced_accuracy": "higher",
    "brier": "lower",
    "dice": "higher",
    "ece": "lower",
    "hd95": "lower",
    "iou": "higher",
    "log_loss": "lower",
    "macro_f1": "higher",
    "mean_iou": "higher",
    "nsd": "higher",
    "pr_auc": "higher",
    "precision": "higher",
    "recall": "higher",
    "roc_auc": "higher",
    "sensitivity": "higher",
    "specificity": "higher",
}


def entry(name: str, task: str | None = None) -> Entry:
    """The metric of that name, whichever room it is of.

    Args:
        name: of the metric.
        task: ``segmentation`` or ``classification``, for a name that both have; masks come first without it.

    Raises:
        MedsegError: there is none; the nearest names are given.
    """
    from medseg.metrics.classification import CLASS_METRICS

    rooms = [room for room in (METRICS, CLASS_METRICS) if name in room.names(task)]
    if not rooms:
        raise unknown("metric", name, {*METRICS.names(task), *CLASS_METRICS.names(task)})
    return rooms[0][name]


def per_case(
    prediction: Tensor | np.ndarray, target: Tensor | np.ndarray, names: Iterable[str] | None = None
) -> dict[str, np.ndarray]:
    """The value of each metric for each case, in float64.

    With more than one channel the first is the background, which is left out, and the lesion channels are
    averaged.

    Args:
        prediction: the predicted mask, boolean or 0 and 1.
        target: the reference mask, likewise.
        names: the metrics to compute; all by default. Those of one kind share one count of pixels.

    Shape:
        both masks ``(N, K, H, W)``, each result ``(N,)``.

    Raises:
        MedsegError: a metric is unknown, the shapes differ, or a mask is not one.
    """
    from medseg.metrics._masks import lesions
    from medseg.metrics.overlap import confusion

    entries = [METRICS[name] for name in (METRICS.names() if names is None else names)]
    prediction, target = lesions(prediction, target)
    counts = (
        confusion(prediction, target).cpu() if any(e.facts["needs"] == "counts" for e in entries) else None
    )
    values = {}
    for entry in entries:
        value = entry.build(counts) if entry.facts["needs"] == "counts" else entry.build(prediction, target)
        values[entry.name] = value.mean(1).numpy()
    return values
