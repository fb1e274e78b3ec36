"""Weights of images, one set of them per draw, kept as weights of groups as long as possible."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

#: no more weights than these are held as float64 at a time
WEIGHTS_HELD = 1 << 20


class Draws:
    """How often each group of images was drawn.

    Args:
        groups: the weight of each group in each draw, of any type of number.
        codes: which group each image is of.

    Shape:
        groups ``(D, G)``, codes ``(N,)``.
    """

    def __init__(self, groups: np.ndarray, codes: np.ndarray) -> None:
        self.groups = groups
        self.codes = codes

    def __len__(self) -> int:
        return len(self.groups)

    def sums(self, terms: np.ndarray) -> np.ndarray:
        """The weighted sums over images of terms ``(N, S)``, as ``(D, S)``: added by group first."""
        count = self.groups.shape[1]
        of_group = np.zeros((count, terms.shape[1]))
        for place, column in enumerate(terms.T):
            of_group[:, place] = np.bincount(self.codes, column, count)
        sums = np.empty((len(self), terms.shape[1]))
        for rows in blocks(len(self), count):
            sums[rows] = self.groups[rows].astype(np.float64) @ of_group
        return sums

    def of(self, order: np.ndarray) -> np.ndarray:
        """The weights of images in some order, ``(D, len(order))`` float64."""
        return self.groups.astype(np.float64).take(self.codes[order], axis=1)


def blocks(draws: int, weights: int) -> Iterator[slice]:
    """The draws in pieces of which each holds at most ``WEIGHTS_HELD`` weights, of so many in a draw."""
    step = max(1, WEIGHTS_HELD // max(weights, 1))
    return (slice(start, start + step) for start in range(0, draws, step))


def drawn(weights: np.ndarray | Draws | None, count: int) -> Draws:
    """The weights of ``count`` images as draws: none is one draw of them all, ``(N,)`` one draw."""
    if isinstance(weights, Draws):
        return weights
    if weights is None:
        return Draws(np.ones((1, 1)), np.zeros(count, dtype=np.int64))
    return Draws(np.atleast_2d(weights), np.arange(count))


def shaped(values: np.ndarray, weights: np.ndarray | Draws | None) -> np.ndarray | float:
    """The values ``(D,)`` of a metric as its caller expects them: a number unless there are several draws."""
    several = isinstance(weights, Draws) or (weights is not None and np.ndim(weights) == 2)
    return values if several else float(values[0])


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """A ratio that is NaN where its denominator is 0."""
    return np.divide(
        numerator, denominator, out=np.full(np.shape(denominator), np.nan), where=denominator > 0
    )


def macro(values: np.ndarray, part: np.ndarray) -> np.ndarray:
    """The mean ``(D,)`` of ``(D, K)`` over the classes that take part; NaN where none does."""
    return ratio(np.where(part, values, 0).sum(1), part.sum(1).astype(np.float64))
