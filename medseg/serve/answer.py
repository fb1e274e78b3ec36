"""What is told of a prediction: classes, or measures, pictures, and masks in the format of the file that came in."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.errors import MedsegError
from medseg.explain.classes import ClassExplainer, ClassQuestion
from medseg.predict.certainty import answer as answer_of
from medseg.predict.certainty import certainty
from medseg.predict.inputs import Item
from medseg.predict.measures import measure
from medseg.predict.overlay import COLOURS, displayed
from medseg.serve.guard import Refused
from medseg.serve.pictures import encode, levels
from medseg.serve.shelf import Answer, Frame
from medseg.serve.upload import Upload, reason

if TYPE_CHECKING:
    from medseg.bundle.open import Bundle
    from medseg.data.sample import Label
    from medseg.predict.predictor import Predictor

#: what nobody should forget
NOTE = "Research use only. Not for diagnosis or treatment."


def describe(bundle: Bundle, predictor: Predictor, max_bytes: int) -> dict[str, Any]:
    """What the page says of a bundle before there is a file."""
    recipe = predictor.recipe
    return {
        "name": bundle.name,
        "task": recipe.task,
        "multilabel": recipe.multilabel,
        "labels": legend(recipe.labels),
        "channels": recipe.channels,
        "image_size": list(recipe.image_size),
        "networks": len(predictor.networks),
        "threshold": predictor.settings.threshold,
        "max_bytes": max_bytes,
        "note": NOTE,
    }


def legend(labels: tuple[Label, ...]) -> list[dict[str, Any]]:
    """Number, name and colour of each label."""
    return [
        {"number": number, "name": label.name, "colour": COLOURS[(number - 1) % len(COLOURS)]}
        for number, label in enumerate(labels, 1)
    ]


def answer(upload: Upload, bundle: Bundle, predictor: Predictor, check: Callable[[], None]) -> Answer:
    """Predict every frame of a file.

    Args:
        upload: the file; what is written lies beside it.
        bundle: for the description of masks.
        predictor: of the bundle.
        check: is called before each frame, and may raise to stop.

    Raises:
        Refused: the file cannot be read.
    """
    item = Item("image", (upload.path,), upload.kind)
    folder = upload.path.parent
    classifies = predictor.recipe.task == "classification"
    try:
        one = partial(_class_frame, ClassExplainer(predictor, ClassQuestion())) if classifies else _frame
        told = [one(item, number, predictor, check) for number in range(upload.frames)]
    except MedsegError as error:
        raise Refused(422, reason(error, folder)) from None
    finally:
        _forget(upload.kind)
    frames, measures, masks = (tuple(part) for part in zip(*told, strict=True))
    files, notes = ({}, []) if classifies else _files(item, masks, bundle, predictor)
    facts = {
        "kind": upload.kind,
        "task": predictor.recipe.task,
        "labels": legend(predictor.recipe.labels),
        "frames": list(measures),
        "files": ["displayed.png", "cam.png"]
        if classifies
        else [*files, "mask.png", "overlay.png", "probability.png"],
        "notes": notes,
    }
    return Answer(facts, frames, files)


def _frame(
    item: Item, number: int, predictor: Predictor, check: Callable[[], None]
) -> tuple[Frame, dict[str, Any], np.ndarray]:
    """One frame's pictures, measures and mask."""
    check()
    picture = item.read(number, predictor.recipe.channels)
    prediction = predictor([picture])[0]
    spacing = item.spacing(number)
    shown = displayed(picture)
    frame = Frame(
        encode(shown),
        encode(prediction.mask),
        tuple(encode(levels(plane)) for plane in prediction.probabilities),
    )
    measures = [
        {"label": k, **{name: _plain(value) for name, value in measure(prediction, k, spacing).items()}}
        for k in range(1, len(prediction.probabilities) + 1)
    ]
    facts = {
        "height": shown.shape[0],
        "width": shown.shape[1],
        "spacing": None if spacing is None else spacing._asdict(),
        "measures": measures,
    }
    return frame, facts, prediction.mask


def _class_frame(
    explainer: ClassExplainer, item: Item, number: int, predictor: Predictor, check: Callable[[], None]
) -> tuple[Frame, dict[str, Any], None]:
    """One frame's picture, classes, and what speaks for the likeliest by the first network."""
    check()
    picture = item.read(number, predictor.recipe.channels)
    [prediction] = predictor.classify([picture])
    recipe, threshold = predictor.recipe, predictor.settings.threshold
    explanation = explainer(picture)
    shown = displayed(picture)
    facts = {
        "height": shown.shape[0],
        "width": shown.shape[1],
        "spacing": _spacing(item, number),
        "predicted": [int(k) + 1 for k in np.flatnonzero(answer_of(prediction, recipe, threshold))],
        "probabilities": [float(value) for value in prediction.probabilities],
        **certainty(prediction, recipe, threshold),
        "cam": {"label": explanation.channel + 1, "reason": explanation.reason},
    }
    return Frame(encode(shown), cam=encode(levels(explanation.heat))), facts, None


def _spacing(item: Item, number: int) -> dict[str, Any] | None:
    """The spacing of a frame, by which it is shown in its proportions; a class needs none."""
    try:
        spacing = item.spacing(number)
    except MedsegError:
        return None
    return None if spacing is None else spacing._asdict()


def _plain(value: float | int | None) -> float | int | None:
    """A number as JSON has it: nothing for what is not finite."""
    return None if value is None or not math.isfinite(value) else value


def _files(
    item: Item, masks: tuple[np.ndarray, ...], bundle: Bundle, predictor: Predictor
) -> tuple[dict[str, bytes], list[str]]:
    """Masks of the file's own kind, and why there is none."""
    source = item.files[0]
    stacked = np.stack(masks) if len({mask.shape for mask in masks}) == 1 else None
    try:
        if item.kind == "dicom" and stacked is not None:
            from medseg.predict.dicom_seg import write_dicom_seg

            out = source.with_name("mask.dcm")
            write_dicom_seg(stacked, [source], predictor.recipe.labels, out, bundle=bundle)
            return {out.name: out.read_bytes()}, []
        if item.kind == "nifti" and stacked is not None:
            from medseg.data.nifti import write_mask

            out = source.with_name("mask.nii.gz")
            write_mask(stacked, source, out)
            return {out.name: out.read_bytes()}, []
    except MedsegError as error:
        kind = "DICOM SEG" if item.kind == "dicom" else "NIfTI"
        return {}, [f"There is no {kind} file of this mask: {reason(error, source.parent)}."]
    finally:
        _forget(item.kind)
    return {}, []


def _forget(kind: str) -> None:
    """What the readers keep for the next frame is of a patient too."""
    if kind == "dicom":
        from medseg.data.dicom import frame

        frame.forget()
    elif kind == "nifti":
        from medseg.data import nifti

        nifti.forget()
