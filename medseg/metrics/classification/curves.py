"""Metrics of the set that go through every threshold: the areas under the ROC and precision-recall curves."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from medseg.metrics.classification import CLASS_METRICS
from medseg.metrics.classification._draws import Draws, drawn, macro, shaped


def hits(
    scores: np.ndarray, positive: np.ndarray, weights: np.ndarray | Draws | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The weight of true and of false positives at each threshold, from the highest score to the lowest.

    Equal scores share a threshold; without weights every image counts 1.

    Shape:
        scores and positive ``(N,)``, weights ``(N,)`` or ``(D, N)``, results ``(D, T)``.
    """
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.diff(scores[order], append=np.nan) != 0)
    counted = drawn(weights, len(scores)).of(order)
    every = counted.cumsum(1).take(last, axis=1)
    counted *= positive[order]
    true = counted.cumsum(1, out=counted).take(last, axis=1)
    return true, every - true


def area_under_roc(tp: np.ndarray, fp: np.ndarray) -> np.ndarray:
    """The area under the ROC curve by trapezoids, ``(D,)``, in units of positives times negatives."""
    steps = np.diff(fp, axis=1, prepend=0)
    steps *= 2 * tp - np.diff(tp, axis=1, prepend=0)
    return steps.sum(1) / 2 / (tp[:, -1] * fp[:, -1])


def average_precision(tp: np.ndarray, fp: np.ndarray) -> np.ndarray:
    """The mean precision at the true positives, ``(D,)``."""
    steps = np.diff(tp, axis=1, prepend=0)
    # thresholds above the first image that was drawn have no precision, and no step
    steps *= tp / np.maximum(tp + fp, np.finfo(np.float64).tiny)
    return steps.sum(1) / tp[:, -1]


def _area(
    measure: Callable[[np.ndarray, np.ndarray], np.ndarray],
    probabilities: np.ndarray,
    truth: np.ndarray,
    multilabel: bool,
    weights: np.ndarray | Draws | None,
) -> np.ndarray | float:
    """An area of the last of two classes, else the mean over classes that have images with and without them."""
    draws, classes = drawn(weights, len(truth)), truth.shape[1]
    chosen = range(1, 2) if classes == 2 and not multilabel else range(classes)
    values = np.full((len(draws), len(chosen)), np.nan)
    for column, k in enumerate(chosen):
        if len(truth):
            tp, fp = hits(probabilities[:, k], truth[:, k], draws)
            both = (tp[:, -1] > 0) & (fp[:, -1] > 0)
            values[both, column] = measure(tp[both], fp[both])
    return shaped(macro(values, ~np.isnan(values)), weights)


@CLASS_METRICS.register("roc_auc", task="classification", better="higher", unit="", needs="set", sorts=True)
def roc_auc(
    probabilities: np.ndarray,
    truth: np.ndarray,
    multilabel: bool = False,
    weights: np.ndarray | Draws | None = None,
) -> np.ndarray | float:
    """Area under the ROC curve (Hanley and McNeil 1982, doi:10.1148/radiology.143.1.7063747).

    It is the chance that an image with the class is given a higher probability of it than one without; equal
    probabilities count half. Of two classes it is that of the last; of more, and of labels, the mean of each against
    the rest.

    Shape:
        probabilities and truth ``(N, K)``, weights ``(N,)`` or ``(D, N)``, result a number or ``(D,)`` in [0, 1].
    """
    return _area(area_under_roc, probabilities, truth, multilabel, weights)


@CLASS_METRICS.register("pr_auc", task="classification", better="higher", unit="", needs="set", sorts=True)
def pr_auc(
    probabilities: np.ndarray,
    truth: np.ndarray,
    multilabel: bool = False,
    weights: np.ndarray | Draws | None = None,
) -> np.ndarray | float:
    r"""Average precision, the area under precision and recall (Davis & Goadrich 2006, doi:10.1145/1143844.1143874).

    .. math:: \sum_t (R_t - R_{t-1}) P_t

    over the thresholds :math:`t` from the highest; nothing is interpolated. Chance gives the class's prevalence. Of two
    classes it is that of the last; of more, and of labels, the mean of each against the rest.

    Shape:
        probabilities and truth ``(N, K)``, weights ``(N,)`` or ``(D, N)``, result a number or ``(D,)`` in [0, 1].
    """
    return _area(average_precision, probabilities, truth, multilabel, weights)
