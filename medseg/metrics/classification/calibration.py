"""Metrics of how far probabilities may be taken at their word."""

from __future__ import annotations

import numpy as np

from medseg.metrics.classification import CLASS_METRICS
from medseg.metrics.classification._draws import Draws, drawn, macro, ratio, shaped

#: bins of confidence, of equal width
BINS = 15


def bins(confidence: np.ndarray, count: int = BINS) -> np.ndarray:
    """The bin of each confidence: bin b holds those above b / count up to and with (b + 1) / count; 0 is in the first.

    Shape:
        any, result the same, int64.
    """
    return np.clip(np.ceil(confidence * count).astype(np.int64) - 1, 0, count - 1)


def claims(probabilities: np.ndarray, truth: np.ndarray, multilabel: bool) -> tuple[np.ndarray, np.ndarray]:
    """What is claimed with which confidence, and whether it came true.

    Returns:
        the likeliest class's probability and whether it is the true one, ``(N, 1)``; in a multi-label set the
        probability of each label and whether the image has it, ``(N, K)``.
    """
    if multilabel:
        return probabilities, truth
    likeliest = probabilities.argmax(1)[:, None]
    return np.take_along_axis(probabilities, likeliest, 1), np.take_along_axis(truth, likeliest, 1)


@CLASS_METRICS.register("ece", task="classification", better="lower", unit="", needs="set")
def ece(
    probabilities: np.ndarray,
    truth: np.ndarray,
    multilabel: bool = False,
    weights: np.ndarray | Draws | None = None,
) -> np.ndarray | float:
    r"""Expected calibration error, how far confidence lies from accuracy (Guo et al. 2017, arXiv:1706.04599).

    .. math:: \sum_{b=1}^{15} \frac{|B_b|}{n} \left| \mathrm{acc}(B_b) - \mathrm{conf}(B_b) \right|

    The bins :math:`B_b` are of equal width in the probability of the predicted class. Of a multi-label set it is the
    mean over labels, with bins of the label's probability and the part of images that has the label as accuracy.

    Shape:
        probabilities and truth ``(N, K)``, weights ``(N,)`` or ``(D, N)``, result a number or ``(D,)`` in [0, 1].
    """
    draws = drawn(weights, len(truth))
    confidence, came_true = claims(probabilities, truth, multilabel)
    binned = bins(confidence)[:, :, None] == np.arange(BINS)
    gaps = (confidence - came_true)[:, :, None] * binned
    total = draws.sums(np.ones((len(truth), 1)))
    columns = confidence.shape[1]
    sums = draws.sums(gaps.reshape(len(truth), columns * BINS)).reshape(len(draws), columns, BINS)
    values = ratio(np.abs(sums).sum(2), np.broadcast_to(total, sums.shape[:2]))
    return shaped(macro(values, ~np.isnan(values)), weights)
