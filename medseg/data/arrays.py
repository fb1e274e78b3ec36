"""Building and opening the arrays of a data set: decoded and resized once, whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medseg.data.documents import digest, read_document, write_document
from medseg.data.images import read_picture
from medseg.data.index import Progress
from medseg.data.index_file import Index, IndexedSample
from medseg.data.reading import read_sample
from medseg.data.store import dataset_lock
from medseg.errors import MedsegError
from medseg.transforms.steps import Steps

FORMAT = 2
#: the arrays of a folder; a classification set, whose index holds the classes, has no masks
ARRAYS = ("images", "masks")


@dataclass(frozen=True)
class Settings:
    """What the arrays depend on besides the index."""

    steps: Steps
    channels: int | None

    def complete(self, index: Index) -> Settings:
        """The settings with the index's channels where none were given."""
        if self.channels not in (None, 1, 3):
            raise MedsegError(f"channels is {self.channels}; images have 1 or 3")
        return Settings(self.steps, self.channels or index.channels)

    def record(self, index: Index) -> dict[str, Any]:
        """All that the arrays depend on, for the key and for people."""
        rules = {"grey_masks": index.rules.grey_masks, "mask_value": index.rules.mask_value}
        # the index knows the bytes of the masks, not how they are read; said only where it is not the usual way
        read = {"masks": rules} if any(value not in (None, False) for value in rules.values()) else {}
        return {
            "format": FORMAT,
            "index": index.fingerprint,
            "channels": self.channels,
            "preprocess": self.steps.record(),
            **read,
        }

    def key(self, index: Index) -> str:
        """Short hash, the name of the arrays' folder."""
        return digest(self.record(index))[:16]


def open_arrays(
    index: Index, settings: Settings, prepared_dir: Path, progress: Progress | None
) -> tuple[np.ndarray, np.ndarray, Path]:
    arrays = prepared_dir / index.dataset / "arrays"
    folder = arrays / settings.key(index)
    if not folder.is_dir():
        with dataset_lock(index.dataset, prepared_dir):
            if not folder.is_dir():
                _build_arrays(index, settings, folder, progress)
    images, targets = mapped(folder, index)
    cases = read_document(folder / "cases.json", f"delete {folder}")["cases"]
    if len(images) != len(index.samples) or cases != [sample.case for sample in index.samples]:
        raise MedsegError(f"{folder}: its cases are not those of the index; delete the folder")
    return images, targets, folder


def mapped(folder: Path, index: Index) -> tuple[np.ndarray, np.ndarray]:
    """The images of a folder of arrays, and the masks or classes to learn; what is in files is memory-mapped.

    Raises:
        MedsegError: they are broken.
    """
    if index.task == "classification":
        return _loaded(folder, "images"), index.targets()
    return _loaded(folder, "images"), _loaded(folder, "masks")


def _loaded(folder: Path, name: str) -> np.ndarray:
    try:
        return np.load(folder / f"{name}.npy", mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise MedsegError(f"{folder}: prepared arrays are broken ({error}); delete the folder") from None


def _build_arrays(index: Index, settings: Settings, folder: Path, progress: Progress | None) -> None:
    """Fill a temporary folder and rename it, so that the folder is whole whenever it exists."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    for stale in folder.parent.glob(".building-*"):  # of a process that was killed: the lock is ours now
        shutil.rmtree(stale, ignore_errors=True)
    temporary = Path(tempfile.mkdtemp(prefix=".building-", dir=folder.parent))
    try:
        _fill(index, settings, temporary, progress)
        record = settings.record(index) | {"cases": [sample.case for sample in index.samples]}
        record["sources"] = [_source(sample) for sample in index.samples]
        write_document(record, temporary / "cases.json")
        temporary.chmod(0o755)
        temporary.replace(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _fill(index: Index, settings: Settings, folder: Path, progress: Progress | None) -> None:
    channels = settings.channels or index.channels
    number = len(index.samples)
    old = _earlier(index, settings, folder.parent)
    first = old.get(_source(index.samples[0])) or _decoded(index, 0, channels, settings.steps)
    # images, and masks where there are some
    arrays = [
        np.lib.format.open_memmap(
            folder / f"{name}.npy", mode="w+", dtype=row.dtype, shape=(number, *row.shape)
        )
        for name, row in zip(ARRAYS, first, strict=False)
    ]
    old[_source(index.samples[0])] = first

    def place(i: int) -> None:
        rows = old.get(_source(index.samples[i])) or _decoded(index, i, channels, settings.steps)
        if rows[0].dtype != arrays[0].dtype:
            raise MedsegError(
                f"{index.samples[i].image}: its pixels are {rows[0].dtype} after preprocessing, those of"
                f" {index.samples[0].image} {arrays[0].dtype}; add the step 'window', which makes them alike"
            )
        for array, row in zip(arrays, rows, strict=True):
            array[i] = row

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for done, _ in enumerate(pool.map(place, range(number)), 1):
            if progress:
                progress(done, number)
    for array in arrays:
        array.flush()


def _earlier(index: Index, settings: Settings, arrays: Path) -> dict[str, tuple[np.ndarray, ...]]:
    """Source of a sample -> its rows in older arrays of the same settings, memory-mapped.

    When a file of a data set has changed, the others need not be decoded again.
    """
    wanted = settings.record(index)
    rows: dict[str, tuple[np.ndarray, ...]] = {}
    names = ARRAYS[: 1 if index.task == "classification" else 2]
    for file in sorted(arrays.glob("[!.]*/cases.json")):
        try:
            record = read_document(file, "")
            sources = record.pop("sources")
            if {**record, "index": wanted["index"], "cases": None} != {**wanted, "cases": None}:
                continue
            arrays_there = [_loaded(file.parent, name) for name in names]
        except (MedsegError, KeyError):  # of an earlier version, or broken: nothing to take from
            continue
        if all(len(array) == len(sources) for array in arrays_there):
            rows |= {source: tuple(array[i] for array in arrays_there) for i, source in enumerate(sources)}
    return rows


def _source(sample: IndexedSample) -> str:
    """What a row is read from; the slices of a volume have one content, so the names count as well."""
    return digest([sample.files, sample.content])[:16]


def _decoded(index: Index, i: int, channels: int, steps: Steps) -> tuple[np.ndarray, ...]:
    """Image ``(C, h, w)`` as the network gets it, and for segmentation the mask ``(1, h, w)``."""
    if index.task == "classification":
        picture, _ = steps.apply(read_picture(index.root / index.samples[i].image, channels))
        return (picture.stored(),)
    picture, mask = steps.apply(*read_sample(index, index.samples[i], channels))
    return picture.stored(), mask[None]
