"""Images that grow offline: the originals and one copy per transform, made once and memory-mapped."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from os import cpu_count
from pathlib import Path
from typing import Any

import numpy as np

from medseg.augmentations import build_augments, copies
from medseg.data.arrays import ARRAYS, mapped
from medseg.data.documents import digest, write_document
from medseg.data.index import Progress
from medseg.data.prepared import Prepared
from medseg.data.store import dataset_lock
from medseg.errors import MedsegError

FORMAT = 1
#: between an image's name and the transform that made its copy
COPY = "~"


@dataclass(frozen=True)
class Growth:
    """How a set of images grows: the originals, and one copy per transform.

    Args:
        names: augmentations, joined by ``-``.
        arguments: of them, by name.
        seed: a copy is a function of (seed, case, transform) alone.
    """

    names: str
    arguments: Mapping[str, Mapping[str, Any]]
    seed: int

    def open(
        self, samples: Prepared, positions: np.ndarray, progress: Progress | None = None
    ) -> tuple[np.ndarray, np.ndarray, list[str], list[int], str]:
        """The grown arrays of some cases of a data set, made once and cached beside its arrays.

        Args:
            samples: the prepared data set.
            positions: which of its images grow.
            progress: told after each image.

        Returns:
            images ``(n * (1 + transforms), C, H, W)``, masks or classes, the name of each, the position
            of the image that it came from, and the fingerprint.
        """
        augments = build_augments(self.names, self.arguments)
        if not augments:
            raise MedsegError(f"augment {self.names!r} makes no copies")
        cases = [samples.cases[i] for i in positions]
        key = digest([FORMAT, samples.fingerprint, self._record(augments), cases])[:16]
        names = [name for case in cases for name in _grown_names(case, [a.name for a in augments])]
        folder = samples.folder / "grown" / key
        if not folder.is_dir():
            with dataset_lock(samples.index.dataset, samples.folder.parents[2]):
                if not folder.is_dir():
                    self._build(samples, positions, augments, names, folder, progress)
        origins = np.repeat(positions, len(augments) + 1)
        images, targets = mapped(folder, samples.index)
        if samples.task == "classification":
            targets = samples.targets[origins]
        return images, targets, names, origins.tolist(), key

    def _record(self, augments: Sequence[Any]) -> dict[str, Any]:
        arguments = {name: dict(values) for name, values in self.arguments.items()}
        return {
            "augment": self.names,
            "arguments": arguments,
            "seed": self.seed,
            "transforms": [repr(a) for a in augments],
        }

    def _build(
        self,
        samples: Prepared,
        positions: np.ndarray,
        augments: Sequence[Any],
        names: list[str],
        folder: Path,
        progress: Progress | None,
    ) -> None:
        """Fill a temporary folder and rename it, so that the folder is whole whenever it exists."""
        folder.parent.mkdir(parents=True, exist_ok=True)
        for stale in folder.parent.glob(".building-*"):  # of a process that was killed: the lock is ours now
            shutil.rmtree(stale, ignore_errors=True)
        temporary = Path(tempfile.mkdtemp(prefix=".building-", dir=folder.parent))
        try:
            self._fill(samples, positions, augments, temporary, progress)
            write_document(
                {"format": FORMAT, **self._record(augments), "cases": names}, temporary / "cases.json"
            )
            temporary.chmod(0o755)
            temporary.replace(folder)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise

    def _fill(
        self,
        samples: Prepared,
        positions: np.ndarray,
        augments: Sequence[Any],
        folder: Path,
        progress: Progress | None,
    ) -> None:
        each, number = len(augments) + 1, len(positions)
        # images, and masks where there are some: classes are those of the originals
        sources = [samples.images, *([samples.targets] if samples.task == "segmentation" else [])]
        grown = [
            np.lib.format.open_memmap(
                folder / f"{name}.npy",
                mode="w+",
                dtype=source.dtype,
                shape=(number * each, *source.shape[1:]),
            )
            for name, source in zip(ARRAYS, sources, strict=False)
        ]

        def place(i: int) -> None:
            image = np.array(samples.images[positions[i]])
            mask = np.array(samples.targets[positions[i]]) if len(sources) > 1 else None
            case = int(digest([samples.cases[positions[i]]])[:12], 16)
            made = copies(augments, image, mask, (self.seed, case))
            for j, (_, *rows) in enumerate([("", image, mask), *made]):
                for array, row in zip(grown, rows, strict=False):
                    array[i * each + j] = row

        with one_cv_thread(), ThreadPoolExecutor(cpu_count()) as pool:
            for done, _ in enumerate(pool.map(place, range(number)), 1):
                if progress:
                    progress(done, number)
        for array in grown:
            array.flush()


@contextmanager
def one_cv_thread() -> Iterator[None]:
    """OpenCV with one thread per call, where many calls run side by side."""
    import cv2

    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def _grown_names(case: str, transforms: Sequence[str]) -> list[str]:
    return [case, *(f"{case}{COPY}{name}" for name in transforms)]
