"""Masks of many inputs: files of their own kind, overlays, and a row per label."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medseg.data.faults import FileFault
from medseg.predict.inputs import Item
from medseg.predict.masks import write_masks, write_probabilities
from medseg.predict.measures import measure
from medseg.predict.prediction import Prediction
from medseg.predict.record import Row
from medseg.predict.session import Pending, Session, rounded, said_of
from medseg.predict.spacing import Spacing
from medseg.transforms.picture import Picture


class MaskSession(Session):
    """Writes ``masks/``, and ``overlays/`` and ``probabilities/`` where asked for."""

    def _rows(self, item: Item, frame: int, prediction: Prediction) -> list[Row]:
        spacing, reason = _spacing(item, frame)
        said = {**said_of(item, frame, reason), "spacing": spacing.plane if spacing else ""}
        return [
            {**said, "label": label.name, **rounded(measure(prediction, number, spacing))}
            for number, label in enumerate(self.labels, 1)
        ]

    def _keep(self, pending: Pending, frame: int, picture: Picture, prediction: Prediction) -> None:
        pending.masks.append(prediction.mask)
        if self.options.probabilities:
            pending.probabilities.append(prediction.probabilities.astype(np.float16))
        if self.options.overlays:
            pending.sheet.add(frame, picture, prediction.mask)

    def _write(self, pending: Pending) -> list[Path]:
        item, masks = pending.item, np.stack(pending.masks)
        written = write_masks(item, masks, self.labels, self.out / "masks", self.bundle, self.options.masks)
        for frame, rows in enumerate(pending.rows):
            mask = written[min(frame, len(written) - 1)].relative_to(self.out).as_posix()
            for row in rows:
                row["mask"] = mask
        if self.options.probabilities:
            values = np.stack(pending.probabilities)
            written.append(write_probabilities(item, values, self.labels, self.out / "probabilities"))
        return written


def _spacing(item: Item, frame: int) -> tuple[Spacing | None, str]:
    """The spacing of a frame, and what is wrong with it: no reason to predict no mask."""
    try:
        return item.spacing(frame), ""
    except FileFault as fault:
        return None, f"spacing unknown: {fault.reason}"
