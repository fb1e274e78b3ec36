"""Many inputs through a predictor, batch by batch; a bad one never stops the rest."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from medseg.bundle.open import Bundle
from medseg.data.faults import FileFault
from medseg.errors import MedsegError
from medseg.predict.inputs import Item, Problem
from medseg.predict.names import shown
from medseg.predict.options import Options
from medseg.predict.overlay import write_picture
from medseg.predict.predictor import Predictor
from medseg.predict.record import Record, Row
from medseg.predict.sheet import Sheet
from medseg.transforms.picture import Picture

#: pixels of the pictures that wait for a batch to be full
WAITING = 1 << 24

Progress = Callable[[int, int], None]


@dataclass
class Pending:
    """An item some of whose frames are predicted."""

    item: Item
    frames: int
    sheet: Sheet
    masks: list[np.ndarray] = field(default_factory=list)
    probabilities: list[np.ndarray] = field(default_factory=list)
    rows: list[list[Row]] = field(default_factory=list)
    failed: bool = False


class Session(ABC):
    """Takes items through the predictor, and writes each as soon as its last frame is predicted.

    Args:
        predictor: of the bundle.
        bundle: that predicts.
        out: folder of the outputs.
        options: what is written.
        record: of what is predicted.
        progress: is told how many of how many images, slices and frames are done.
    """

    def __init__(
        self,
        predictor: Predictor,
        bundle: Bundle,
        out: Path,
        options: Options,
        record: Record,
        progress: Progress,
    ) -> None:
        self.predictor, self.bundle, self.out = predictor, bundle, out
        self.options, self.record, self.progress = options, record, progress
        self.labels = predictor.recipe.labels
        self._waiting: list[tuple[Pending, int, Picture]] = []
        self._done = self._total = 0

    def predict(self, items: Sequence[Item]) -> None:
        """Predict items; those that are done are kept, those that fail are noted."""
        self.record.order = [item.name for item in items]
        counted = [(item, self._frames(item)) for item in items]
        self._total = sum(frames for _, frames in counted)
        for item, frames in counted:
            if frames and not self._is_known(item):
                self._read(Pending(item, frames, Sheet(frames)))
            else:
                self._advance(frames)
        self._flush()

    def refuse(self, problems: Sequence[Problem]) -> None:
        """Note inputs that are no items."""
        for problem in problems:
            self.record.failed(f"{problem.path} ", _failure(problem.path, problem.reason))

    def _frames(self, item: Item) -> int:
        """How many frames an item has; 0 where it has failed at that."""
        pending = Pending(item, 0, Sheet(0))
        with self._noting(pending):
            return item.frames()
        return 0

    def _is_known(self, item: Item) -> bool:
        """Whether there is nothing to do: it is done, or its files have gone."""
        with self._noting(Pending(item, 0, Sheet(0))):
            return self.record.known(item) is not None
        return True

    def _read(self, pending: Pending) -> None:
        for frame in range(pending.frames):
            with self._noting(pending):
                self._waiting.append(
                    (pending, frame, pending.item.read(frame, self.predictor.recipe.channels))
                )
            if pending.failed:
                kept = [one for one in self._waiting if one[0] is not pending]
                self._advance(pending.frames - frame + len(self._waiting) - len(kept))
                self._waiting = kept
                return
            pixels = sum(picture.values[0].size for _, _, picture in self._waiting)
            if len(self._waiting) >= self.predictor.settings.batch_size or pixels >= WAITING:
                self._flush()

    def _flush(self) -> None:
        """Predict the pictures that wait; where a batch fails, one by one, to see which it was."""
        batch, self._waiting = self._waiting, []
        try:
            predictions: list[Any] = [*self.predictor([picture for _, _, picture in batch])]
        except (MedsegError, MemoryError, RuntimeError, ValueError):
            predictions = [None] * len(batch)
        for (pending, frame, picture), found in zip(batch, predictions, strict=True):
            if not pending.failed:
                with self._noting(pending):
                    self._take(pending, frame, picture, found or self.predictor([picture])[0])
            self._advance(1)

    def _take(self, pending: Pending, frame: int, picture: Picture, prediction: Any) -> None:
        """Keep what one frame gave, and write the item after its last."""
        pending.rows.append(self._rows(pending.item, frame, prediction))
        self._keep(pending, frame, picture, prediction)
        if frame == pending.frames - 1:
            written = self._write(pending)
            if self.options.overlays:
                path = self.out / "overlays" / f"{pending.item.name}.png"
                write_picture(pending.sheet.drawn(), path)
                written.append(path)
            self.record.done(pending.item, [row for rows in pending.rows for row in rows], written)

    @abstractmethod
    def _rows(self, item: Item, frame: int, prediction: Any) -> list[Row]:
        """The rows that tell of a frame."""

    @abstractmethod
    def _keep(self, pending: Pending, frame: int, picture: Picture, prediction: Any) -> None:
        """Keep of a frame what is written with its item."""

    @abstractmethod
    def _write(self, pending: Pending) -> list[Path]:
        """Write the files of an item whose frames are all predicted, but its overlay."""

    @contextmanager
    def _noting(self, pending: Pending) -> Iterator[None]:
        """Note what goes wrong with an item; the rest goes on."""
        try:
            yield
            return
        except FileFault as fault:
            place = "" if fault.path in pending.item.files[:1] else f"{fault.path.name}: "
            reason = f"{place}{fault.reason}; {fault.cure}"
        except MedsegError as error:
            reason = str(error)
        except MemoryError:
            reason = "needs more memory than there is; give --batch-size 1, or shrink it"
        except OSError as error:
            reason = f"cannot be read or written ({error.strerror or error})"
        except Exception as error:  # no closed list of what a decoder or a network raises on odd pixels
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        pending.failed = True
        if len(pending.item.files) > 1:
            reason += "; --no-series predicts the other slices"
        self.record.failed(pending.item.name, _failure(pending.item.files[0], reason))

    def _advance(self, frames: int) -> None:
        self._done += frames
        self.progress(self._done, self._total)


def said_of(item: Item, frame: int, *reasons: str) -> Row:
    """What every row of a predicted frame says."""
    return {
        "file": shown(item.place(frame)[0]),
        "frame": frame,
        "outcome": "predicted",
        "reason": "; ".join(filter(None, (item.note, *reasons))),
    }


def _failure(path: Path, reason: str) -> Row:
    return {"file": shown(path), "outcome": "failed", "reason": reason}


def rounded(measures: dict[str, float | int | None]) -> Row:
    """Numbers as a table has them: six decimals, and nothing for what is not known."""
    return {
        key: round(value, 6) if isinstance(value, float) else "" if value is None else value
        for key, value in measures.items()
    }
