"""Building and opening the arrays of a data set: decoded and resized once, whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medseg.data.documents import digest, read_document, write_document
from medseg.data.images import read_image, read_mask
from medseg.data.index import Progress
from medseg.data.index_file import Index, IndexedSample
from medseg.data.store import dataset_lock
from medseg.errors import MedsegError
from medseg.transforms import TRANSFORMS
from medseg.transforms.resize import resize_image, resize_mask

FORMAT = 1


@dataclass(frozen=True)
class Settings:
    """What the arrays depend on besides the index."""

    size: tuple[int, int]
    channels: int | None
    preprocess: tuple[str, ...]

    def complete(self, index: Index) -> Settings:
        """The settings with the index's channels where none were given."""
        if self.channels not in (None, 1, 3):
            raise MedsegError(f"channels is {self.channels}; images have 1 or 3")
        return Settings(self.size, self.channels or index.channels, self.preprocess)

    def record(self, index: Index) -> dict[str, Any]:
        """All that the arrays depend on, for the key and for people."""
        return {
            "format": FORMAT,
            "index": index.fingerprint,
            "image_size": list(self.size),
            "channels": self.channels,
            "preprocess": list(self.preprocess),
            "resize": "stretch: images bilinear with antialiasing, masks nearest",
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
    try:
        images = np.load(folder / "images.npy", mmap_mode="r")
        masks = np.load(folder / "masks.npy", mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise MedsegError(f"{folder}: prepared arrays are broken ({error}); delete the folder") from None
    cases = read_document(folder / "cases.json", f"delete {folder}")["cases"]
    if len(images) != len(index.samples) or cases != [sample.case for sample in index.samples]:
        raise MedsegError(f"{folder}: its cases are not those of the index; delete the folder")
    return images, masks, folder


def _build_arrays(index: Index, settings: Settings, folder: Path, progress: Progress | None) -> None:
    """Fill a temporary folder and rename it, so that the folder is whole whenever it exists."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    for stale in folder.parent.glob(".building-*"):  # of a process that was killed: the lock is ours now
        shutil.rmtree(stale, ignore_errors=True)
    steps = preprocessing(settings.preprocess)
    temporary = Path(tempfile.mkdtemp(prefix=".building-", dir=folder.parent))
    try:
        _fill(index, settings, steps, temporary, progress)
        record = settings.record(index) | {"cases": [sample.case for sample in index.samples]}
        write_document(record, temporary / "cases.json")
        temporary.chmod(0o755)
        temporary.replace(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


Step = Callable[[np.ndarray], np.ndarray]


def preprocessing(names: Sequence[str]) -> list[Step]:
    """The transforms of a preprocess list.

    Raises:
        MedsegError: a name is unknown, or the transform changes the size.
    """
    for name in names:
        if not TRANSFORMS[name].facts.get("keeps_size", True):
            raise MedsegError(f"preprocess: {name!r} changes the size of the image; image_size does that")
    return [TRANSFORMS.build(name) for name in names]


def _fill(
    index: Index, settings: Settings, steps: list[Step], folder: Path, progress: Progress | None
) -> None:
    number, channels = len(index.samples), settings.channels or index.channels
    shape = (number, channels, *settings.size)
    images = np.lib.format.open_memmap(
        folder / "images.npy", mode="w+", dtype=np.dtype(index.depth), shape=shape
    )
    masks = np.lib.format.open_memmap(
        folder / "masks.npy", mode="w+", dtype=np.uint8, shape=(number, 1, *settings.size)
    )

    def place(i: int) -> None:
        images[i], masks[i, 0] = _decoded(index, index.samples[i], settings.size, channels, steps)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for done, _ in enumerate(pool.map(place, range(number)), 1):
            if progress:
                progress(done, number)
    images.flush()
    masks.flush()


def _decoded(
    index: Index, sample: IndexedSample, size: tuple[int, int], channels: int, steps: list[Step]
) -> tuple[np.ndarray, np.ndarray]:
    image = read_image(index.root / sample.image, channels)
    mask = read_mask([index.root / name for name in sample.masks], index.rules.grey_masks, empty_ok=True)
    for step in steps:
        image = step(image)
    return resize_image(image, size), resize_mask(mask, size)
