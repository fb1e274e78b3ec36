"""What is written of predictions."""

from __future__ import annotations

from dataclasses import dataclass, replace

from medseg.bundle.network import Recipe
from medseg.errors import MedsegError
from medseg.predict.masks import KINDS


@dataclass(frozen=True)
class Options:
    """What is written.

    Args:
        masks: of ``medseg.predict.masks.KINDS``.
        probabilities: write them as arrays too; those of classes are in the table.
        overlays: draw masks, or write classes, into pictures; None is yes for masks and no for classes.
        series: DICOM series become volumes.
        overwrite: forget what the folder holds.
    """

    masks: str = "auto"
    probabilities: bool = False
    overlays: bool | None = None
    series: bool = True
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.masks not in KINDS:
            raise MedsegError(f"masks must be one of {', '.join(KINDS)}; got {self.masks!r}")

    def of(self, recipe: Recipe) -> Options:
        """The options as a bundle's task has them.

        Raises:
            MedsegError: masks or arrays are asked for of a bundle that classifies.
        """
        classifies = recipe.task == "classification"
        if classifies and self.masks != "auto":
            raise MedsegError(f"masks={self.masks!r}: this bundle classifies whole images; leave it out")
        if classifies and self.probabilities:
            raise MedsegError(
                "probabilities of classes are columns of predictions.csv, not arrays; leave it out"
            )
        return replace(self, overlays=not classifies if self.overlays is None else self.overlays)
