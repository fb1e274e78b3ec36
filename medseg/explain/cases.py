"""Explanations of many inputs: maps, overlays and a table; what is bad is told, the rest goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from medseg.errors import MedsegError
from medseg.explain.explainer import Explainer
from medseg.explain.heat import heat_overlay
from medseg.predict.inputs import Item, find_items
from medseg.predict.names import plain, shown
from medseg.predict.overlay import displayed, write_picture
from medseg.results import atomic_write, write_csv

COLUMNS = (
    "file",
    "frame",
    "map",
    "method",
    "layer",
    "label",
    "region",
    "largest_activation",
    "energy_in_mask",
    "outcome",
    "reason",
)
Progress = Callable[[int, int], None]


def explain_all(
    explainer: Explainer,
    paths: Sequence[Path],
    out: Path,
    progress: Progress = lambda done, total: None,
    series: bool = True,
) -> list[dict[str, object]]:
    """Explain images, folders, series and volumes, and write ``maps/``, ``overlays/`` and ``explanations.csv``.

    A map is a ``.npy`` file of float32 ``(H, W)``, 0 to 1, at the input's own size; an overlay a PNG. Those that exist
    are replaced, each at once. The table is written last, and also when the work is broken off.

    Args:
        explainer: of a bundle.
        paths: files and folders.
        out: folder of what is written.
        progress: is told how many inputs of how many are done.
        series: join the slices of DICOM series.

    Returns:
        A row of ``COLUMNS`` per image, slice or frame: ``explained``, ``empty`` (the map is zero everywhere; the reason
        says why) or ``failed``.

    Raises:
        MedsegError: the table cannot be written.
    """
    import pandas as pd

    items, problems = find_items(paths, series, without=out)
    total, rows = len(items) + len(problems), []
    try:
        for problem in problems:
            rows.append(_row(explainer, problem.path, "", outcome="failed", reason=problem.reason))
        for done, item in enumerate(items, len(problems)):
            progress(done, total)
            rows.extend(_explained(explainer, item, out))
        progress(total, total)
    finally:
        write_csv(pd.DataFrame(rows, columns=list(COLUMNS)), out / "explanations.csv")
    return rows


def _explained(explainer: Explainer, item: Item, out: Path) -> Iterator[dict[str, object]]:
    """A row for each frame of an item, as it is done; one row where the item cannot be opened."""
    try:
        frames = item.frames()
    except (MedsegError, OSError) as error:
        yield _row(explainer, item.files[0], "", outcome="failed", reason=_text(error))
        return
    for frame in range(frames):
        file, number = item.place(frame)
        inside = number if frames > 1 and len(item.files) == 1 else ""
        name = item.name if frames == 1 else f"{item.name}_{frame:04d}"
        try:
            yield _row(explainer, file, inside, **_one(explainer, item, frame, name, out))
        except Exception as error:  # no closed list of what a decoder or a network raises on odd pixels
            yield _row(explainer, file, inside, outcome="failed", reason=_text(error))


def _one(explainer: Explainer, item: Item, frame: int, name: str, out: Path) -> dict[str, object]:
    picture = item.read(frame, explainer.predictor.recipe.channels)
    answer = explainer(picture, name)
    with atomic_write(out / "maps" / f"{name}.npy", "wb") as file:
        np.save(file, answer.heat)
    drawn = heat_overlay(displayed(picture), answer.heat, answer.predicted)
    write_picture(drawn, out / "overlays" / f"{name}.png")
    return {
        "map": f"{name}.npy",
        "largest_activation": answer.largest,
        "energy_in_mask": answer.energy,
        "outcome": "empty" if answer.reason else "explained",
        "reason": answer.reason,
    }


def _row(explainer: Explainer, file: Path, frame: int | str, **known: object) -> dict[str, object]:
    question = explainer.question
    asked = {
        "file": shown(file),
        "frame": frame,
        "method": question.method,
        "layer": explainer.layer.name if explainer.layer else "",
        "label": explainer.predictor.recipe.labels[explainer.label - 1].name,
        "region": str(question.region),
    }
    return {**dict.fromkeys(COLUMNS, None), **asked, **known}


def _text(error: BaseException) -> str:
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return "needs more memory than there is"
    if isinstance(error, OSError):
        return f"cannot be read or written ({error.strerror or error})"
    if isinstance(error, MedsegError):
        return plain(str(error))
    return plain(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
