"""The fast path: every pixel decoded and resized once, then memory-mapped by each run with these settings.

``prepared/<dataset>/arrays/<key>/`` holds ``images.npy`` (N, C, H, W) of the pixels' own depth, ``masks.npy``
(N, 1, H, W) ``uint8`` of 0 and 1, and ``cases.json``; classes stand in the index, so that such sets have no masks.
The key is a hash of the index and the settings, so other images or another size make other arrays, and equal ones
are shared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from medseg.data.arrays import Settings, open_arrays
from medseg.data.batches import BatchSampler, PreparedPart, loader
from medseg.data.index import Progress
from medseg.data.index_file import Index
from medseg.data.spec import PARTS, Label
from medseg.data.splits_file import Splits
from medseg.data.store import external_name, open_index, open_splits
from medseg.errors import MedsegError
from medseg.transforms.steps import build_steps

__all__ = ["BatchSampler", "Prepared", "PreparedPart", "loader", "prepare"]


@dataclass(frozen=True)
class Prepared:
    """The arrays of one data set at one size, and the parts of one repeat.

    Args:
        index: the data set.
        images: ``(N, C, H, W)`` of the pixels' own depth, memory-mapped.
        targets: ``uint8`` of 0 and 1: the masks ``(N, 1, H, W)``, memory-mapped, or the classes ``(N, K)``.
        folder: where the arrays lie.
        fingerprint: hash of the index and the settings.
        splits: the split.
        repeat: number of the repeat.
        normalization: name of the transform that batches still need, on the device; None for 0 to 1.
        external: the arrays of the data set that an external split tests on.
    """

    index: Index
    images: np.ndarray = field(repr=False)
    targets: np.ndarray = field(repr=False)
    folder: Path
    fingerprint: str
    splits: Splits = field(repr=False)
    repeat: int
    normalization: str | None = None
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
        """The structures of the masks, or the classes."""
        return self.index.labels

    @property
    def task(self) -> str:
        """``segmentation`` or ``classification``."""
        return self.index.task

    @property
    def multilabel(self) -> bool:
        """Whether an image may have several classes, or none."""
        return self.index.multilabel

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
            source.targets,
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
    preprocess_arguments: Mapping[str, Mapping[str, Any]] | None = None,
    progress: Progress | None = None,
) -> Prepared:
    """Make what is missing of index, split and arrays, and open the arrays.

    Args:
        dataset: a registered name, or a name under which ``medseg data index`` indexed a folder.
        dataset_dir: the data set's folder; ``None`` for where it was indexed, or for a built-in set.
        prepared_dir: folder of all prepared data sets.
        split: name of the split; ``holdout``, ``kfold5``, ``official`` and their like are made when missing.
        repeat: number of the repeat.
        image_size: height and width, or one number for both, in pixels.
        channels: 1 or 3; as indexed if not given.
        preprocess: names of transforms, applied in order; images are stretched last unless one resizes them.
        preprocess_arguments: of the transforms, by name.
        progress: told after each image that is decoded.

    Raises:
        MedsegError: a name or folder is wrong, files changed after indexing, or the split does not fit.
    """
    height, width = (image_size, image_size) if isinstance(image_size, int) else map(int, image_size)
    if min(height, width) < 1:
        raise MedsegError(f"image_size is {height} x {width}; both must be at least 1")
    steps = build_steps(preprocess, preprocess_arguments or {}, (height, width))
    settings = Settings(steps, channels)
    prepared_dir = Path(prepared_dir)
    index = open_index(dataset, Path(dataset_dir) if dataset_dir else None, prepared_dir, progress)
    test_on = external_name(split, dataset, prepared_dir)
    test_index = open_index(test_on, None, prepared_dir, progress) if test_on else None
    splits = open_splits(index, split, prepared_dir, test_index)
    splits.items(repeat)
    settings = settings.complete(index)
    external = None
    if test_index is not None:
        images, targets, folder = open_arrays(test_index, settings, prepared_dir, progress)
        key = settings.key(test_index)
        external = Prepared(test_index, images, targets, folder, key, splits, repeat, steps.normalization)
    images, targets, folder = open_arrays(index, settings, prepared_dir, progress)
    key = settings.key(index)
    return Prepared(index, images, targets, folder, key, splits, repeat, steps.normalization, external)
