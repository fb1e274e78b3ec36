"""Prediction of many inputs into one folder: masks or classes, overlays, a table; a bad file never stops the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from medseg import __version__
from medseg.bundle.network import Recipe, read_recipe, weights_of
from medseg.bundle.open import Bundle
from medseg.errors import MedsegError
from medseg.predict.class_session import ClassSession, columns_of
from medseg.predict.inputs import find_items
from medseg.predict.mask_session import MaskSession
from medseg.predict.options import Options
from medseg.predict.predictor import Predictor
from medseg.predict.record import COLUMNS, Record, Row, file_hash
from medseg.predict.session import Progress
from medseg.predict.settings import OF_MASKS, Settings, demand_meaning

__all__ = ["Options", "Settings", "predict"]

#: settings that change how fast a prediction is, not what it is
SPEED = ("device", "batch_size", "amp")


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

    Writes ``predictions.csv`` and ``predict.json``; of a bundle that segments ``masks/``, ``overlays/`` and
    ``probabilities/`` where asked for, of one that classifies ``overlays/`` where asked for.
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
        a row of ``medseg.predict.record.COLUMNS`` per label of each image, slice or frame, and per failure; of a bundle
        that classifies a row of ``medseg.predict.class_session.columns_of`` per image, slice or frame.

    Raises:
        MedsegError: the bundle cannot predict, a setting or option is not of its task, ``out`` is an input, or holds
            predictions that were made otherwise.
    """
    recipe, settings = read_recipe(bundle), settings or Settings()
    options = (options or Options()).of(recipe)
    demand_meaning(recipe, settings)
    repeats = list(dict.fromkeys(repeats))  # one that is given twice counts once
    classifies = recipe.task == "classification"
    columns = columns_of(recipe.labels) if classifies else COLUMNS
    run = _run(bundle, recipe, inputs, settings, repeats, options)
    record = Record(out, run, options.overwrite, columns)
    items, problems = find_items(inputs, options.series, without=out)
    kind = ClassSession if classifies else MaskSession
    session = kind(Predictor.of(bundle, settings, repeats), bundle, out, options, record, progress)
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
    bundle: Bundle,
    recipe: Recipe,
    inputs: Sequence[Path],
    settings: Settings,
    repeats: Sequence[str],
    options: Options,
) -> dict[str, object]:
    """All that the outputs depend on."""
    weights = [weights_of(bundle, name) for name in repeats] or [weights_of(bundle)]
    foreign = (*OF_MASKS, "masks", "probabilities") if recipe.task == "classification" else ()
    how = {**asdict(settings), **asdict(options)}
    return {
        "medseg": __version__,
        "bundle": bundle.name,
        "version": bundle.metadata.get("version"),
        "labels": [[label.name, label.code] for label in recipe.labels],
        "weights": [file_hash(path) for path in weights],
        "config": file_hash(bundle.config("inference")),
        "repeats": list(repeats),
        "inputs": [str(path) for path in inputs],
        **{key: value for key, value in how.items() if key not in (*SPEED, "overwrite", *foreign)},
    }
