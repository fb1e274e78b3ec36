"""The check at the door of the classification metrics, and the answers that probabilities stand for."""

from __future__ import annotations

import numpy as np

from medseg.errors import MedsegError

#: how far a probability may lie beyond 0 or 1
ROUNDING = 1e-6


def checked(
    probabilities: np.ndarray, truth: np.ndarray, multilabel: bool, groups: list[object] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities in float64, 0 to 1 or NaN, and the truth as booleans.

    Shape:
        ``(N, K)``, groups ``(N,)``.

    Raises:
        MedsegError: the shapes differ, a probability lies beyond 0 to 1, the truth is not 0 and 1, or does not have
            one class per image where it should.
    """
    probabilities, truth = np.asarray(probabilities, dtype=np.float64), np.asarray(truth)
    if probabilities.shape != truth.shape or truth.ndim != 2:
        raise MedsegError(
            "classification metrics take probabilities and truth of the same shape (N, K);"
            f" got {probabilities.shape} and {truth.shape}"
        )
    beyond = (probabilities < -ROUNDING) | (probabilities > 1 + ROUNDING)
    if beyond.any():
        worst = probabilities[beyond][0]
        raise MedsegError(
            f"a probability is {worst:g}; they must lie between 0 and 1 (logits need probabilities())"
        )
    marked = truth.astype(bool)
    if (truth != marked).any():
        raise MedsegError("the truth of classification metrics must be 0 and 1")
    if not multilabel and (marked.sum(1) != 1).any():
        row = int(np.flatnonzero(marked.sum(1) != 1)[0])
        raise MedsegError(
            f"image {row} has {marked[row].sum()} of the classes; it must have one, or the set be multi-label"
        )
    if groups is not None and len(groups) != len(truth):
        raise MedsegError(f"there are {len(truth)} images, but groups of {len(groups)}")
    return probabilities.clip(0, 1), marked


def answers(probabilities: np.ndarray, multilabel: bool) -> np.ndarray:
    """Which classes are predicted: the likeliest, or in a multi-label set those of at least 0.5.

    Shape:
        ``(N, K)``, result the same, boolean.
    """
    if multilabel:
        return probabilities >= 0.5
    return probabilities.argmax(1)[:, None] == np.arange(probabilities.shape[1])
