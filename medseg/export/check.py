"""What the check of an exported file found: how far its answers are from PyTorch's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medseg.bundle.network import Recipe
from medseg.errors import MedsegError

#: told where the images cannot show whether two networks are the same
DECIDED = "every probability is 0 or 1 on these images, which shows little; give others with --inputs"


class Mismatch(MedsegError):
    """What was written answers otherwise than PyTorch."""


@dataclass(frozen=True)
class Difference:
    """How far two networks' answers to the same images are apart.

    Args:
        probabilities: largest absolute difference of a label's probability, 0 to 1.
        pixels: share of the pixels whose mask differs, 0 to 1; of a classifier, of the images whose classes do.
        logits: largest absolute difference of a logit; None where the other side tells no logits.
        unit: what is counted as different: ``mask pixels``, or ``images' classes``.
    """

    probabilities: float
    pixels: float
    logits: float | None = None
    unit: str = "mask pixels"


@dataclass(frozen=True)
class Check:
    """What was written, and how far its answers are from PyTorch's on the same images.

    Args:
        target: name of the exporter.
        path: the file or folder that was written.
        inputs: number of images that were compared.
        source: where the images came from, in words, such as ``files given`` or ``synthetic images``.
        difference: of the answers.
        tolerance: the largest difference of a probability that passes.
        notes: what else a user should know, one sentence each.
    """

    target: str
    path: Path
    inputs: int
    source: str
    difference: Difference
    tolerance: float
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether something was compared and every probability agrees within the tolerance."""
        return self.inputs > 0 and self.difference.probabilities <= self.tolerance

    def demand(self) -> Check:
        """The check itself, where it passed.

        Raises:
            Mismatch: it did not; the figures are named.
        """
        if self.passed:
            return self
        raise Mismatch(
            f"{self.target}: the written {self.path.name} differs from PyTorch by "
            f"{self.difference.probabilities:.3g} in a probability and in {self.difference.pixels:.3%} of the "
            f"{self.difference.unit} on {self.inputs} image(s) ({self.source}); the tolerance is {self.tolerance:g}, "
            "so it is not kept"
        )

    def row(self) -> dict[str, Any]:
        """The check as one row of a table."""
        return {
            "target": self.target,
            "path": str(self.path),
            "inputs": self.inputs,
            "source": self.source,
            "max logit diff": self.difference.logits,
            "max probability diff": self.difference.probabilities,
            f"{self.difference.unit} differing": self.difference.pixels,
            "tolerance": self.tolerance,
            "notes": "; ".join(self.notes),
        }


def compare(
    expected: np.ndarray, given: np.ndarray, threshold: float = 0.5, recipe: Recipe | None = None
) -> Difference:
    """How far logits are from those of PyTorch.

    Args:
        expected: PyTorch's, ``(N, C, H, W)``, of several channels the first is the background; or ``(N, K)``.
        given: the other side's.
        threshold: a pixel is of a label, and an image has one of several possible classes, from this probability on.
        recipe: of the bundle; needed where it classifies.

    Raises:
        Mismatch: the shapes differ, or a value is not finite.
    """
    from medseg.predict.predictor import label_map

    if expected.shape != given.shape:
        raise Mismatch(f"the written network answers {given.shape}, PyTorch {expected.shape}")
    for side, logits in (("PyTorch's network", expected), ("the written network", given)):
        if not np.isfinite(logits).all():
            raise Mismatch(f"{side} answers values that are not finite; look at the bundle's weights")
    ours, theirs = (probabilities(logits.astype(np.float64), recipe) for logits in (expected, given))
    if recipe is not None and recipe.task == "classification":
        told = [one >= threshold if recipe.multilabel else one.argmax(1)[:, None] for one in (ours, theirs)]
        differs, unit = (told[0] != told[1]).any(1), "images' classes"
    else:
        differs, unit = label_map(ours, threshold) != label_map(theirs, threshold), "mask pixels"
    return Difference(
        float(np.abs(ours - theirs).max(initial=0)),
        float(differs.mean()),
        float(np.abs(expected.astype(np.float64) - given).max(initial=0)),
        unit,
    )


def undecided(logits: np.ndarray, recipe: Recipe | None = None) -> bool:
    """Whether some probability of these logits is neither 0 nor 1, so that comparing them can tell networks apart."""
    told = probabilities(logits.astype(np.float64), recipe)
    return bool(((told > 1e-3) & (told < 1 - 1e-3)).any())


def probabilities(logits: np.ndarray, recipe: Recipe | None = None) -> np.ndarray:
    """The probability of each label or class, as prediction takes it.

    Shape:
        ``(N, C, H, W)`` to ``(N, K, H, W)``, or ``(N, K)`` to ``(N, K)`` of a classifier.
    """
    import torch

    from medseg.metrics.classification import probabilities as of_classes
    from medseg.predict.predictor import foreground

    values = torch.from_numpy(logits)
    if recipe is not None and recipe.task == "classification":
        return of_classes(values, recipe.activation).numpy()
    return foreground(values).numpy()
