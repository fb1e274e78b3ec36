"""Metrics with a value per image, whose mean is that of the set."""

from __future__ import annotations

import numpy as np

from medseg.metrics.classification import CLASS_METRICS
from medseg.metrics.classification._arrays import answers

#: the smallest probability that a logarithm is taken of, as in scikit-learn
SMALLEST = float(np.finfo(np.float64).eps)


@CLASS_METRICS.register("accuracy", task="classification", better="higher", unit="", needs="case")
def accuracy(probabilities: np.ndarray, truth: np.ndarray, multilabel: bool = False) -> np.ndarray:
    """Accuracy: 1 where the likeliest class is the true one; of a multi-label image the part of labels that is right.

    Shape:
        probabilities and truth ``(N, K)``, result ``(N,)`` in [0, 1].
    """
    right = answers(probabilities, multilabel) == truth
    return (right.mean(1) if multilabel else right.all(1)).astype(np.float64)


@CLASS_METRICS.register("brier", task="classification", better="lower", unit="", needs="case")
def brier(probabilities: np.ndarray, truth: np.ndarray, multilabel: bool = False) -> np.ndarray:
    r"""Brier score, the squared distance of probabilities and truth (Brier 1950, Mon. Weather Rev. 78).

    .. math:: \frac{1}{2} \sum_{k=1}^{K} (p_k - y_k)^2

    Half of Brier's sum: for two classes it is then the binary form :math:`(p - y)^2` of the medical literature, and
    for any number it lies between 0 and 1. Of a multi-label image it is the mean of the labels' binary forms.

    Shape:
        probabilities and truth ``(N, K)``, result ``(N,)`` in [0, 1].
    """
    squares = (probabilities - truth) ** 2
    return squares.mean(1) if multilabel else squares.sum(1) / 2


@CLASS_METRICS.register(
    "log_loss", task="classification", better="lower", unit="", needs="case", bounded=False
)
def log_loss(probabilities: np.ndarray, truth: np.ndarray, multilabel: bool = False) -> np.ndarray:
    r"""Log loss, :math:`-\ln p` of the true class, in nats (Good 1952, J. R. Stat. Soc. B 14).

    A probability below :math:`2.2 \cdot 10^{-16}` counts as that, so that no image costs more than 36.04. Of a
    multi-label image it is the mean over labels, :math:`p` being the probability of what is true of the label.

    Shape:
        probabilities and truth ``(N, K)``, result ``(N,)``, 0 or more.
    """
    if multilabel:
        of_truth = np.where(truth, probabilities, 1 - probabilities)
        return -np.log(of_truth.clip(SMALLEST, 1)).mean(1)
    return -np.log(np.where(truth, probabilities, 0).sum(1).clip(SMALLEST, 1))
