"""Effect sizes: how large a difference is, beside whether it is there."""

from __future__ import annotations

import numpy as np

from medseg.ranking.cells import Array


def cliffs_delta(values: Array, dataset: Array) -> Array:
    """Cliff's delta (1993, doi:10.1037/0033-2909.114.3.494) of each pair of columns.

    The chance that a value of the first is larger than one of the second, less the chance that it is smaller, from -1
    to 1; Vargha and Delaney's (2000) A12 is ``(1 + delta) / 2``. Values are compared within a data set only, and
    the data sets averaged, so that easy and hard data sets do not hide the difference.

    Shape:
        values ``(n, K)``, dataset ``(n,)``, result ``(K (K - 1) / 2,)`` in the order of ``numpy.triu_indices``.
    """
    one, two = np.triu_indices(values.shape[1], 1)
    levels = np.unique(dataset)
    result = np.zeros(len(one))
    for level in levels:
        mine = np.sort(values[dataset == level], axis=0)
        for pair, (a, b) in enumerate(zip(one, two, strict=True)):
            below = np.searchsorted(mine[:, b], mine[:, a], "left")
            above = len(mine) - np.searchsorted(mine[:, b], mine[:, a], "right")
            result[pair] += (below.sum() - above.sum()) / len(mine) ** 2
    return result / len(levels)


def cohens_dz(differences: Array) -> Array:
    """Cohen's d of paired differences (1988): their mean over their standard deviation (n - 1).

    Shape:
        differences ``(n, pairs)``, result ``(pairs,)``: NaN with fewer than two, or where all are 0; infinite where
        all are the same and not 0.
    """
    if len(differences) < 2:
        return np.full(differences.shape[1], np.nan)
    mean, spread = differences.mean(0), differences.std(0, ddof=1)
    constant = np.ptp(differences, axis=0) == 0
    certain = np.where(mean == 0, np.nan, np.copysign(np.inf, mean))
    return np.divide(mean, spread, out=certain, where=~constant)


def wins(differences: Array, rope: float) -> list[str]:
    """Of each pair the blocks in which a is better by more than the region, neither is, and b is: ``5/1/0``.

    Shape:
        differences ``(blocks, pairs)``.
    """
    better, worse = (differences > rope).sum(0), (differences < -rope).sum(0)
    return [f"{w}/{len(differences) - w - n}/{n}" for w, n in zip(better, worse, strict=True)]
