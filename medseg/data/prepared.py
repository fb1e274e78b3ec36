"""The fast path: every pixel decoded and resized once, then memory-mapped by each run that uses the same settings.

``prepared/<dataset>/arrays/<key>/`` holds ``images.npy`` (N, C, H, W) of the pixels' own depth, ``masks.npy``
(N, 1, H, W) ``uint8`` of 0 and 1, and ``cases.json``. The key is a hash of the index and the settings, so other
images or another size make other arrays, and equal ones are shared.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from medseg.data.batches import BatchSampler, PreparedPart, loader
from medseg.data.datasets import DATASETS
from medseg.data.documents import digest, read_document, write_document
from medseg.data.images import read_image, read_mask
from medseg.data.index import Progress, build_index, refreshed
from medseg.data.index_file import Index, IndexedSample, index_path, read_index, write_index
from medseg.data.spec import PARTS, Label
from medseg.data.splits import Splits, make_splits, parse_split_name, read_splits, split_path, write_splits
from medseg.errors import MedsegError
from medseg.transforms import TRANSFORMS
from medseg.transforms.resize import resize_image, resize_mask

__all__ = ["BatchSampler", "Prepared", "PreparedPart", "loader", "prepare"]
FORMAT = 1


@dataclass(frozen=True)
class Prepared:
    """The arrays of one data set at one size, and the parts of one repeat.

    Args:
        index: the data set.
        images: ``(N, C, H, W)`` of the pixels' own depth, memory-mapped.
        masks: ``(N, 1, H, W)`` ``uint8`` of 0 and 1, memory-mapped.
        folder: where the arrays lie.
        fingerprint: hash of the index and the settings.
        splits: the split.
        repeat: number of the repeat.
        external: the arrays of the data set that an external split tests on.
    """

    index: Index
    images: np.ndarray = field(repr=False)
    masks: np.ndarray = field(repr=False)
    folder: Path
    fingerprint: str
    splits: Splits = field(repr=False)
    repeat: int
    external: Prepared | None = None

    @property
    def cases(self) -> list[str]:
        """Name of each image, in the order of the arrays."""
        return [sample.case for sample in self.index.samples]

    @property
    def groups(self) -> list[str]:
        """Group of each image, in the order of the arrays."""
        return [sample.group for sample in self.index.samples]

    @property
    def labels(self) -> tuple[Label, ...]:
        """The structures of the masks."""
        return self.index.labels

    @property
    def channels(self) -> int:
        """Channels of the images."""
        return int(self.images.shape[1])

    @property
    def split_fingerprint(self) -> str:
        """Hash of the split's cases."""
        return self.splits.fingerprint

    def part(self, name: str, device: Any = None) -> PreparedPart:
        """The ``training``, ``validation`` or ``testing`` part of this repeat.

        Args:
            name: the part.
            device: where its arrays should lie, see ``PreparedPart.resident``; memory-mapped if not given.

        Raises:
            MedsegError: there is no such part.
        """
        if name not in PARTS:
            raise MedsegError(f"unknown part {name!r}. Known: {', '.join(PARTS)}")
        source = self.external if self.external and name == "testing" else self
        place = {case: i for i, case in enumerate(source.cases)}
        items = self.splits.items(self.repeat)[name]
        positions = np.array([place[item["case"]] for item in items], dtype=np.int64)
        groups = source.groups
        part = PreparedPart(
            source.images,
            source.masks,
            positions,
            [item["case"] for item in items],
            [groups[i] for i in positions],
        )
        return part if device is None else part.resident(device)


def prepare(
    dataset: str,
    dataset_dir: Path | str | None,
    prepared_dir: Path | str = "prepared",
    split: str = "holdout",
    repeat: int = 0,
    image_size: int | Sequence[int] = (224, 224),
    channels: int | None = None,
    preprocess: Sequence[str] = (),
    progress: Progress | None = None,
) -> Prepared:
    """Make what is missing of index, split and arrays, and open the arrays.

    Args:
        dataset: a registered name, or a name under which ``medseg data index`` indexed a folder.
        dataset_dir: the data set's folder; ``None`` for where it was indexed, or for a built-in set.
        prepared_dir: folder of all prepared data sets.
        split: name of the split; usual names such as ``holdout``, ``kfold5`` or ``official`` are made when missing.
        repeat: number of the repeat.
        image_size: height and width, or one number for both, in pixels.
        channels: 1 or 3; as indexed if not given.
        preprocess: names of transforms, applied in order before resizing.
        progress: told after each image that is decoded.

    Raises:
        MedsegError: a name or folder is wrong, files changed since the index was made, or the split does not fit.
    """
    height, width = (image_size, image_size) if isinstance(image_size, int) else map(int, image_size)
    if min(height, width) < 1:
        raise MedsegError(f"image_size is {height} x {width}; both must be at least 1")
    settings = Settings((height, width), channels, tuple(preprocess))
    prepared_dir = Path(prepared_dir)
    index = open_index(dataset, Path(dataset_dir) if dataset_dir else None, prepared_dir, progress)
    test_on = external_name(split, dataset, prepared_dir)
    test_index = open_index(test_on, None, prepared_dir, progress) if test_on else None
    splits = open_splits(index, split, prepared_dir, test_index)
    splits.items(repeat)
    settings = settings.complete(index)
    external = None
    if test_index is not None:
        images, masks, folder = _open_arrays(test_index, settings, prepared_dir, progress)
        external = Prepared(test_index, images, masks, folder, settings.key(test_index), splits, repeat)
    images, masks, folder = _open_arrays(index, settings, prepared_dir, progress)
    return Prepared(index, images, masks, folder, settings.key(index), splits, repeat, external)


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


def dataset_lock(dataset: str, prepared_dir: Path) -> FileLock:
    """The lock under which one process at a time writes below ``prepared/<dataset>/``."""
    folder = prepared_dir / dataset
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / ".lock")


def open_index(
    dataset: str, dataset_dir: Path | None, prepared_dir: Path, progress: Progress | None = None
) -> Index:
    """The index of a data set, checked against its files; a registered one is made when missing.

    Raises:
        MedsegError: there is no index and none can be made, or its files have changed.
    """
    path = index_path(dataset, prepared_dir)
    if not path.is_file():
        dataset_dir = source_folder(dataset, dataset_dir, prepared_dir)
    with dataset_lock(dataset, prepared_dir):
        if path.is_file():
            old = read_index(path)
            index = refreshed(old, dataset_dir)
            if index is not old:
                write_index(index, path)
            return index
        index = build_index(dataset, dataset_dir or Path(), progress=progress)
        write_index(index, path)
        return index


def source_folder(dataset: str, dataset_dir: Path | None, prepared_dir: Path) -> Path:
    """The folder to index: the one given, or where a built-in data set is drawn.

    Raises:
        MedsegError: none is given and the data set is not built in.
    """
    if dataset not in DATASETS and dataset_dir is not None:
        raise MedsegError(
            f"{dataset}: neither a registered data set ({', '.join(DATASETS.names())}) nor indexed in {prepared_dir}; "
            f"index your folder first: medseg data index {dataset} --data {dataset_dir} --images ... --masks ..."
        )
    if dataset_dir is not None:
        return dataset_dir
    if dataset in DATASETS and DATASETS.build(dataset).draw:
        return prepared_dir / dataset / "source"
    raise MedsegError(f"{dataset}: not indexed in {prepared_dir}; say where its folder is (--data DIR)")


def external_name(split: str, dataset: str, prepared_dir: Path) -> str | None:
    """The data set that a split tests on, if it is an external one."""
    path = split_path(dataset, prepared_dir, split)
    if path.is_file():
        return read_splits(path).test_dataset
    return split.removeprefix("external-").removesuffix("-ungrouped") if split.startswith("external-") else None


def open_splits(index: Index, name: str, prepared_dir: Path, test_index: Index | None = None) -> Splits:
    """A split of a data set; one with a usual name is made when missing.

    Raises:
        MedsegError: it fits another index, or has no usual name and was not made.
    """
    path = split_path(index.dataset, prepared_dir, name)
    with dataset_lock(index.dataset, prepared_dir):
        if not path.is_file():
            write_splits(make_splits(index, **parse_split_name(name), test_index=test_index), path)
        return read_splits(path, index, test_index)


def _open_arrays(
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
    except (OSError, ValueError) as error:
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


def _fill(index: Index, settings: Settings, steps: list[Step], folder: Path, progress: Progress | None) -> None:
    number, channels = len(index.samples), settings.channels or index.channels
    shape = (number, channels, *settings.size)
    images = np.lib.format.open_memmap(folder / "images.npy", mode="w+", dtype=np.dtype(index.depth), shape=shape)
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
