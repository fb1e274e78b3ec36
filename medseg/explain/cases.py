"""Explanations of many inputs: maps, overlays and a table; what is bad is told, the rest goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medseg.errors import MedsegError
from medseg.explain.classes import ClassExplainer
from medseg.explain.explainer import Explainer
from medseg.explain.masks import Masks
from medseg.predict.inputs import Item, find_items
from medseg.predict.names import plain, shown
from medseg.predict.overlay import write_picture
from medseg.results import atomic_write, write_csv

#: what explains the bundles of either task
AnyExplainer = Explainer | ClassExplainer
Progress = Callable[[int, int], None]


def explain_all(
    explainer: AnyExplainer,
    paths: Sequence[Path],
    out: Path,
    progress: Progress = lambda done, total: None,
    series: bool = True,
    masks: str = "",
) -> list[dict[str, object]]:
    """Explain images, folders, series and volumes, and write ``maps/``, ``overlays/`` and ``explanations.csv``.

    A map is a ``.npy`` file of float32 ``(H, W)``, 0 to 1, at the input's own size; an overlay a PNG. Those that exist
    are replaced, each at once. The table is written last, and also when the work is broken off.

    Args:
        explainer: of a bundle of either task.
        paths: files and folders.
        out: folder of what is written.
        progress: is told how many inputs of how many are done.
        series: join the slices of DICOM series.
        masks: pattern of the masks with which a classifier's maps are compared, see ``Masks``; files that it finds are
            no inputs.

    Returns:
        A row of the explainer's ``columns`` per image, slice or frame: ``explained``, ``empty`` (the map is zero
        everywhere; the reason says why) or ``failed``.

    Raises:
        MedsegError: the table cannot be written, or the pattern of masks is not usable.
    """
    import pandas as pd

    items, problems = find_items(paths, series, without=out)
    known = Masks(masks, items) if masks else None
    items = known.images(items) if known else items
    total, rows = len(items) + len(problems), []
    try:
        for problem in problems:
            rows.append(_row(explainer, problem.path, "", outcome="failed", reason=problem.reason))
        for done, item in enumerate(items, len(problems)):
            progress(done, total)
            rows.extend(_explained(explainer, item, out, known))
        progress(total, total)
    finally:
        write_csv(pd.DataFrame(rows, columns=list(explainer.columns)), out / "explanations.csv")
    return rows


def _explained(
    explainer: AnyExplainer, item: Item, out: Path, masks: Masks | None
) -> Iterator[dict[str, object]]:
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
            yield _row(explainer, file, inside, **_one(explainer, item, frame, name, out, masks))
        except Exception as error:  # no closed list of what a decoder or a network raises on odd pixels
            yield _row(explainer, file, inside, outcome="failed", reason=_text(error))


def _one(
    explainer: Any, item: Item, frame: int, name: str, out: Path, masks: Masks | None
) -> dict[str, object]:
    picture = item.read(frame, explainer.predictor.recipe.channels)
    asked = () if masks is None else (masks.read(item, frame, picture.values.shape[1:]),)
    answer = explainer(picture, name, *asked)
    with atomic_write(out / "maps" / f"{name}.npy", "wb") as file:
        np.save(file, answer.heat)
    write_picture(explainer.drawn(picture, answer), out / "overlays" / f"{name}.png")
    return {
        "map": f"{name}.npy",
        **explainer.told(answer),
        "outcome": "empty" if answer.reason else "explained",
        "reason": answer.reason,
    }


def _row(explainer: AnyExplainer, file: Path, frame: int | str, **known: object) -> dict[str, object]:
    asked = {"file": shown(file), "frame": frame, **explainer.asked()}
    return {**dict.fromkeys(explainer.columns), **asked, **known}


def _text(error: BaseException) -> str:
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return "needs more memory than there is"
    if isinstance(error, OSError):
        return f"cannot be read or written ({error.strerror or error})"
    if isinstance(error, MedsegError):
        return plain(str(error))
    return plain(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
