"""What a classifier says of an image, and how sure it is."""

from __future__ import annotations

import numpy as np

from medseg.bundle.network import Recipe
from medseg.predict.prediction import ClassPrediction

#: what ``certainty`` tells, in this order
CERTAINTY = ("confidence", "uncertainty", "disagreement")


def answer(prediction: ClassPrediction, recipe: Recipe, threshold: float = 0.5) -> np.ndarray:
    """Which classes an image is said to have: the likeliest, or all from a threshold on where it may have several.

    Shape:
        ``(K,)`` boolean.
    """
    found = prediction.probabilities
    if recipe.multilabel:
        return found >= threshold
    return np.arange(len(found)) == found.argmax()


def answer_names(prediction: ClassPrediction, recipe: Recipe, threshold: float = 0.5) -> str:
    """The names of these classes, several joined by ``|``; empty for none."""
    from medseg.engine.classes import class_names

    said = answer(prediction, recipe, threshold)[None]
    return class_names(said, [label.name for label in recipe.labels])[0]


def certainty(prediction: ClassPrediction, recipe: Recipe, threshold: float = 0.5) -> dict[str, float | None]:
    """How sure an answer is.

    - ``confidence``: the probability of the class that is told, or, where there may be several, the probability of
      what is told of the least sure class;
    - ``uncertainty``: see :func:`entropy`, of the mean probabilities;
    - ``disagreement``: by how much that is more than the members' own mean uncertainty, the mutual information of
      answer and member (Houlsby et al. 2011, arXiv:1112.5745): 0 where all give the same; None for a single member.

    Args:
        prediction: of the image.
        recipe: of the bundle.
        threshold: of its answer, see :func:`answer`.
    """
    found, several = prediction.probabilities.astype(np.float64), recipe.multilabel
    said = answer(prediction, recipe, threshold)
    whole = float(entropy(found, several))
    alone = entropy(prediction.members.astype(np.float64), several)
    return {
        "confidence": float(np.where(said, found, 1 - found).min() if several else found[said][0]),
        "uncertainty": whole,
        "disagreement": max(0.0, whole - float(alone.mean())) if len(alone) > 1 else None,
    }


def entropy(probabilities: np.ndarray, multilabel: bool) -> np.ndarray:
    """The predictive entropy in bits: 0 where the answer is sure, at most the binary logarithm of the classes.

    Where an image may have several classes, the mean over them of the entropy of yes and no, at most 1.

    Shape:
        ``(..., K)`` to ``(...)``.
    """
    p = probabilities.clip(0, 1)
    return (_bits(p) + _bits(1 - p)).mean(-1) if multilabel else _bits(p).sum(-1)


def _bits(p: np.ndarray) -> np.ndarray:
    """``-p log2 p``, which is 0 for a probability of 0."""
    return p * np.abs(np.log2(np.where(p > 0, p, 1)))
