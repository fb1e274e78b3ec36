"""Metrics of the set that are functions of its confusion counts."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from medseg.metrics.classification import CLASS_METRICS
from medseg.metrics.classification._arrays import answers
from medseg.metrics.classification._draws import Draws, drawn, macro, ratio, shaped


class Counts(NamedTuple):
    """The weight of images by truth and prediction, of each class against the rest, ``(D, K)`` each."""

    tp: np.ndarray
    fp: np.ndarray
    fn: np.ndarray
    tn: np.ndarray

    @property
    def part(self) -> np.ndarray:
        """Which classes have images with and without them, and so take part in a mean over classes."""
        return (self.tp + self.fn > 0) & (self.tn + self.fp > 0)

    @property
    def recall(self) -> np.ndarray:
        """The part of the images of a class that is found."""
        return ratio(self.tp, self.tp + self.fn)

    @property
    def rejection(self) -> np.ndarray:
        """The part of the images without a class that is found to be without it."""
        return ratio(self.tn, self.tn + self.fp)


def count(
    probabilities: np.ndarray, truth: np.ndarray, multilabel: bool, weights: np.ndarray | Draws | None
) -> Counts:
    """Count the images by truth and prediction."""
    draws = drawn(weights, len(truth))
    found = answers(probabilities, multilabel)
    kinds = (found & truth, found & ~truth, ~found & truth, ~found & ~truth)
    sums = draws.sums(np.concatenate(kinds, 1).astype(np.float64))
    return Counts(*np.split(sums, 4, 1))


def _of_classes(
    values: np.ndarray, part: np.ndarray, multilabel: bool, weights: np.ndarray | Draws | None
) -> np.ndarray | float:
    """The value of the last of two classes, else the mean over classes."""
    positive = values.shape[1] == 2 and not multilabel
    return shaped(values[:, 1] if positive else macro(values, part), weights)


@CLASS_METRICS.register("sensitivity", task="classification", better="higher", unit="", needs="set")
def sensitivity(
    probabilities: np.ndarray,
    truth: np.ndarray,
    multilabel: bool = False,
    weights: np.ndarray | Draws | None = None,
) -> np.ndarray | float:
    r"""Sensitivity, or recall: the part of the images with a class that is found.

    .. math:: \frac{TP}{TP + FN}

    Of two classes it is that of the last; of more, and of labels, the mean of each against the rest.

    Shape:
        probabilities and truth ``(N, K)``, weights ``(N,)`` or ``(D, N)``, result a number or ``(D,)`` in [0, 1].
    """
    counts = count(probabilities, truth, multilabel, weights)
    return _of_classes(counts.recall, counts.part, multilabel, weights)


@CLASS_METRICS.register("specificity", task="classification", better="higher", unit="", needs="set")
def specificity(
    probabilities: np.ndarray,
    truth: np.ndarray,
    multilabel: bool = False,
    weights: np.ndarray | Draws | None = None,
) -> np.ndarray | float:
    r"""Specificity: the part of the images without a class that is found to be without it.

    .. math:: \frac{TN}{TN + FP}

    Of two classes it is that of the last; of more, and of labels, the mean of each against the rest.

    Shape:
        probabilities and truth ``(N, K)``, weights ``(N,)`` or ``(D, N)``, result a number or ``(D,)`` in [0, 1].
    """
    counts = count(probabilities, truth, multilabel, weights)
    return _of_classes(counts.rejection, counts.part, multilabel, weights)


@CLASS_METRICS.register("balanced_accuracy", task="classification", better="higher", unit="", needs="set")
def balanced_accuracy(
    probabilities: np.ndarray,
    truth: np.ndarray,
    multilabel: bool = False,
    weights: np.ndarray | Draws | None = None,
) -> np.ndarray | float:
    """Balanced accuracy, the mean sensitivity of the classes (Brodersen et al. 2010, doi:10.1109/ICPR.2010.764).

    In a multi-label set it is the mean over labels of the mean of sensitivity and specificity.

    Shape:
        probabilities and truth ``(N, K)``, weights ``(N,)`` or ``(D, N)``, result a number or ``(D,)`` in [0, 1].
    """
    counts = count(probabilities, truth, multilabel, weights)
    values = (counts.recall + counts.rejection) / 2 if multilabel else counts.recall
    return shaped(macro(values, counts.part), weights)


@CLASS_METRICS.register("macro_f1", task="classification", better="higher", unit="", needs="set")
def macro_f1(
    probabilities: np.ndarray,
    truth: np.ndarray,
    multilabel: bool = False,
    weights: np.ndarray | Draws | None = None,
) -> np.ndarray | float:
    r"""Macro F1, the mean over classes of the harmonic mean of precision and recall (van Rijsbergen 1979).

    .. math:: \frac{1}{K} \sum_k \frac{2 TP_k}{2 TP_k + FP_k + FN_k}

    Shape:
        probabilities and truth ``(N, K)``, weights ``(N,)`` or ``(D, N)``, result a number or ``(D,)`` in [0, 1].
    """
    counts = count(probabilities, truth, multilabel, weights)
    return shaped(macro(ratio(2 * counts.tp, 2 * counts.tp + counts.fp + counts.fn), counts.part), weights)
