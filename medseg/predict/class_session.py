"""Classes of many inputs: a row per image, slice or frame, and pictures with their class where asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medseg.data.sample import Label
from medseg.predict.certainty import CERTAINTY, answer_names, certainty
from medseg.predict.inputs import Item
from medseg.predict.prediction import ClassPrediction
from medseg.predict.record import Row
from medseg.predict.session import Pending, Session, rounded, said_of
from medseg.transforms.picture import Picture


def columns_of(labels: Sequence[Label]) -> tuple[str, ...]:
    """Those of the table: one row per image, slice or frame, and one for each input that failed."""
    chances = (f"p_{label.name}" for label in labels)
    return ("file", "frame", "outcome", "reason", "predicted", *CERTAINTY, *chances)


class ClassSession(Session):
    """Writes rows, and ``overlays/`` where asked for."""

    def _rows(self, item: Item, frame: int, prediction: ClassPrediction) -> list[Row]:
        recipe, threshold = self.predictor.recipe, self.predictor.settings.threshold
        chances = {
            f"p_{label.name}": float(value)
            for label, value in zip(self.labels, prediction.probabilities, strict=True)
        }
        return [
            {
                **said_of(item, frame),
                "predicted": answer_names(prediction, recipe, threshold),
                **rounded({**certainty(prediction, recipe, threshold), **chances}),
            }
        ]

    def _keep(self, pending: Pending, frame: int, picture: Picture, prediction: ClassPrediction) -> None:
        if self.options.overlays:
            [row] = pending.rows[-1]
            words = f"{row['predicted'].replace('|', ' | ') or 'none'}  {row['confidence']:.2f}"
            pending.sheet.caption(frame, picture, words)

    def _write(self, pending: Pending) -> list[Path]:
        return []
