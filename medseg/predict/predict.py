"""Prediction of many inputs into one folder: masks, overlays, a table; a bad file never stops the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from medseg import __version__
from medseg.bundle.network import read_labels, weights_of
from medseg.bundle.open import Bundle
from medseg.data.faults import FileFault
from medseg.errors import MedsegError
from medseg.predict.inputs import Item, Problem, find_items
from medseg.predict.masks import KINDS, write_masks, write_probabilities
from medseg.predict.measures import measure
from medseg.predict.names import shown
from medseg.predict.overlay import write_picture
from medseg.predict.prediction import Prediction
from medseg.predict.predictor import Predictor, Settings
from medseg.predict.record import Record, Row, file_hash
from medseg.predict.sheet import Sheet
from medseg.predict.spacing import Spacing
from medseg.transforms.picture import Picture

#: pixels of the pictures that wait for a batch to be full
WAITING = 1 << 24
#: settings that change how fast a prediction is, not what it is
SPEED = ("device", "batch_size", "amp")

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Options:
    """What is written.

    Args:
        masks: of ``medseg.predict.masks.KINDS``.
        probabilities: write them as arrays too.
        overlays: draw masks into pictures.
        series: DICOM series become volumes.
        overwrite: forget what the folder holds.
    """

    masks: str = "auto"
    probabilities: bool = False
    overlays: bool = True
    series: bool = True
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.masks not in KINDS:
            raise MedsegError(f"masks must be one of {', '.join(KINDS)}; got {self.masks!r}")


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


def predict(
    bundle: Bundle,
    inputs: Sequence[Path],
    out: Path,
    settings: Settings | None = None,
    repeats: Sequence[str] = (),
    options: Options | None = None,
    progress: Progress = lambda done, total: None,
) -> list[Row]:
    """Predict all images of files and folders.

    Writes ``masks/``, ``overlays/`` and ``probabilities/`` where asked for, ``predictions.csv`` and ``predict.json``.
    Given again, the command goes on where it was stopped, and tries again what failed.

    Args:
        bundle: trained.
        inputs: images, DICOM files, NIfTI volumes, and folders of them.
        out: folder of the outputs.
        settings: how the network predicts.
        repeats: names of the repeats whose probabilities are averaged; none for the released weights.
        options: what is written.
        progress: is told how many of how many images, slices and frames are done.

    Returns:
        a row of ``medseg.predict.record.COLUMNS`` per label of each image, slice or frame, and per failure.

    Raises:
        MedsegError: the bundle cannot predict, ``out`` is an input, or holds predictions that were made otherwise.
    """
    settings, options = settings or Settings(), options or Options()
    repeats = list(dict.fromkeys(repeats))  # one that is given twice counts once
    record = Record(out, _run(bundle, inputs, settings, repeats, options), options.overwrite)
    items, problems = find_items(inputs, options.series, without=out)
    session = Session(Predictor.of(bundle, settings, repeats), bundle, out, options, record, progress)
    try:
        try:
            if options.overwrite:
                record.forget()
            session.predict(items)
            session.refuse(problems)
        finally:
            record.write()
    except OSError as error:
        raise MedsegError(f"{out}: cannot be written ({error.strerror or error})") from error
    return record.rows()


def _run(
    bundle: Bundle, inputs: Sequence[Path], settings: Settings, repeats: Sequence[str], options: Options
) -> dict[str, object]:
    """All that the outputs depend on."""
    weights = [weights_of(bundle, name) for name in repeats] or [weights_of(bundle)]
    return {
        "medseg": __version__,
        "bundle": bundle.name,
        "version": bundle.metadata.get("version"),
        "labels": [[label.name, label.code] for label in read_labels(bundle)],
        "weights": [file_hash(path) for path in weights],
        "config": file_hash(bundle.config("inference")),
        "repeats": list(repeats),
        "inputs": [str(path) for path in inputs],
        **{key: value for key, value in asdict(settings).items() if key not in SPEED},
        **{key: value for key, value in asdict(options).items() if key != "overwrite"},
    }


class Session:
    """Takes items through the predictor, batch by batch, and writes each as soon as its last frame is predicted."""

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
            predictions: list[Prediction | None] = [*self.predictor([picture for _, _, picture in batch])]
        except (MedsegError, MemoryError, RuntimeError, ValueError):
            predictions = [None] * len(batch)
        for (pending, frame, picture), found in zip(batch, predictions, strict=True):
            if not pending.failed:
                with self._noting(pending):
                    prediction = found or self.predictor([picture])[0]
                    self._take(pending, frame, picture, prediction)
            self._advance(1)

    def _take(self, pending: Pending, frame: int, picture: Picture, prediction: Prediction) -> None:
        pending.masks.append(prediction.mask)
        pending.rows.append(self._rows(pending.item, frame, prediction))
        if self.options.probabilities:
            pending.probabilities.append(prediction.probabilities.astype(np.float16))
        if self.options.overlays:
            pending.sheet.add(frame, picture, prediction.mask)
        if frame == pending.frames - 1:
            self._write(pending)

    def _rows(self, item: Item, frame: int, prediction: Prediction) -> list[Row]:
        spacing, reason = _spacing(item, frame)
        said = {
            "file": shown(item.place(frame)[0]),
            "frame": frame,
            "outcome": "predicted",
            "reason": "; ".join(filter(None, (item.note, reason))),
            "spacing": spacing.plane if spacing else "",
        }
        return [
            {**said, "label": label.name, **_rounded(measure(prediction, number, spacing))}
            for number, label in enumerate(self.labels, 1)
        ]

    def _write(self, pending: Pending) -> None:
        item, masks = pending.item, np.stack(pending.masks)
        written = write_masks(item, masks, self.labels, self.out / "masks", self.bundle, self.options.masks)
        for frame, rows in enumerate(pending.rows):
            mask = written[min(frame, len(written) - 1)].relative_to(self.out).as_posix()
            for row in rows:
                row["mask"] = mask
        if self.options.probabilities:
            values = np.stack(pending.probabilities)
            written.append(write_probabilities(item, values, self.labels, self.out / "probabilities"))
        if self.options.overlays:
            path = self.out / "overlays" / f"{item.name}.png"
            write_picture(pending.sheet.drawn(), path)
            written.append(path)
        self.record.done(item, [row for rows in pending.rows for row in rows], written)

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


def _failure(path: Path, reason: str) -> Row:
    return {"file": shown(path), "outcome": "failed", "reason": reason}


def _spacing(item: Item, frame: int) -> tuple[Spacing | None, str]:
    """The spacing of a frame, and what is wrong with it: no reason to predict no mask."""
    try:
        return item.spacing(frame), ""
    except FileFault as fault:
        return None, f"spacing unknown: {fault.reason}"


def _rounded(measures: dict[str, float | int | None]) -> Row:
    return {
        key: round(value, 6) if isinstance(value, float) else "" if value is None else value
        for key, value in measures.items()
    }
