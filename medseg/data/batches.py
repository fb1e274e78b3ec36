"""Batches of prepared arrays: one fancy index each, no Python per sample."""

from __future__ import annotations

from collections.abc import Callable
from os import cpu_count
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from medseg.data.sampling import SAMPLINGS, Batch, BatchSampler
from medseg.errors import MedsegError, unknown

__all__ = ["AugmentedPart", "Batch", "BatchSampler", "PreparedPart", "loader"]


class PreparedPart(Dataset):
    """One part of a data set; its items are batches.

    ``part[[3, 1, 4]]`` is ``{"image": (3, C, H, W), "label": (3, K, H, W)}``, for classification with a label
    ``(3, K)``; ``part[3]`` is one sample without the first axis. Images keep the pixels' own depth (``uint8`` or
    ``uint16``), labels are ``uint8``, 0 or 1.

    Args:
        images: ``(N, C, H, W)``, all images of the data set.
        targets: the masks ``(N, K, H, W)``, or the classes ``(N, K)``.
        positions: where this part's cases lie in them.
        cases: name of each case of this part.
        groups: group of each.
    """

    def __init__(
        self,
        images: np.ndarray | torch.Tensor,
        targets: np.ndarray | torch.Tensor,
        positions: np.ndarray,
        cases: list[str],
        groups: list[str],
    ) -> None:
        self.images = images
        self.targets = targets
        self.positions = positions
        self.cases = cases
        self.groups = groups

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def device(self) -> torch.device:
        """Where the batches come from; the CPU for memory-mapped arrays."""
        return self.images.device if isinstance(self.images, torch.Tensor) else torch.device("cpu")

    def __getitem__(self, item: int | list[int]) -> dict[str, torch.Tensor]:
        where = self.positions[item]
        return {"image": _taken(self.images, where), "label": _taken(self.targets, where)}

    def resident(self, device: torch.device | str) -> PreparedPart:
        """This part with its arrays in the memory of ``device``, if they fit in half of what is free there.

        If they do not, or for the CPU, the part itself, whose memory-mapped arrays all processes share.
        """
        device = torch.device(device)
        if device.type == "cpu" or self._bytes() > _free_bytes(device) / 2:
            return self
        order = np.arange(len(self))
        images, targets = (_taken(array, self.positions).to(device) for array in (self.images, self.targets))
        return PreparedPart(images, targets, order, self.cases, self.groups)

    def classes(self) -> np.ndarray:
        """Which classes each sample has: ``(n, K)`` ``uint8`` of 0 and 1.

        Raises:
            MedsegError: the samples have masks, not classes.
        """
        if len(self.targets.shape) != 2:
            raise MedsegError(
                "the samples of a segmentation set have masks, not classes to count or to balance"
            )
        return _taken(self.targets, self.positions).cpu().numpy()

    def class_counts(self) -> np.ndarray:
        """Number of samples of each class, ``(K,)`` ``int64``.

        Raises:
            MedsegError: the samples have masks, not classes.
        """
        return self.classes().sum(axis=0, dtype=np.int64)

    def _bytes(self) -> int:
        one = [array[:1] for array in (self.images, self.targets)]
        return len(self) * sum(array.nbytes for array in one)


def _taken(array: np.ndarray | torch.Tensor, where: Any) -> torch.Tensor:
    if not isinstance(array, torch.Tensor):
        # a plain view: np.memmap's own indexing copies twice
        plain = np.asarray(array)
        return torch.from_numpy(np.array(plain[where]) if np.ndim(where) == 0 else plain[where])
    if np.ndim(where) == 0:
        return array[int(where)]
    indices = torch.as_tensor(where)
    if array.is_cuda:
        # from page-locked memory the copy is queued, so that the host does not wait for the GPU in every step
        indices = indices.pin_memory().to(array.device, non_blocking=True)
    # CUDA has no kernel that indexes uint16; the bits are the same as int16's
    deep = array.dtype == torch.uint16
    return array.view(torch.int16)[indices].view(torch.uint16) if deep else array[indices]


def _free_bytes(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return 0.0  # nothing known of other devices: stay in the memory of the host


Augmentation = Callable[..., tuple[np.ndarray, "np.ndarray | None"]]


class AugmentedPart(PreparedPart):
    """A part whose samples are changed anew in every epoch.

    A draw is a function of (seed, epoch, sample) alone, so it is the same whatever the number of workers, the
    order of the samples, or where a killed run resumes. A sample that comes several times in an epoch is changed
    anew each time.

    Args:
        part: the part as it lies on disk.
        augmentation: ``(image (C, H, W), mask (K, H, W), rng, key) -> (image, mask)``, numpy arrays; for
            classification the mask is None.
        seed: of the draws.
    """

    def __init__(self, part: PreparedPart, augmentation: Augmentation, seed: int) -> None:
        super().__init__(part.images, part.targets, part.positions, part.cases, part.groups)
        self.augmentation = augmentation
        self.seed = seed

    def __getitem__(self, item: int | list[int]) -> dict[str, torch.Tensor]:
        if isinstance(item, int):
            return {name: values[0] for name, values in self[[item]].items()}
        epoch = getattr(item, "epoch", 0)
        turns = getattr(item, "turns", [0] * len(item))
        changed = [self._draw(i, epoch, turn) for i, turn in zip(item, turns, strict=True)]
        images, targets = (torch.from_numpy(np.stack(arrays)) for arrays in zip(*changed, strict=True))
        return {"image": images, "label": targets}

    def _draw(self, index: int, epoch: int, turn: int) -> tuple[np.ndarray, np.ndarray]:
        where = int(self.positions[index])
        image, target = (np.array(array[where]) for array in (self.images, self.targets))
        rng = np.random.default_rng((self.seed, epoch, index, turn) if turn else (self.seed, epoch, index))
        mask = target if target.ndim == 3 else None
        image, mask = self.augmentation(image, mask, rng, key=where)
        return image, target if mask is None else mask

    def resident(self, device: torch.device | str) -> PreparedPart:
        """The part itself: what changes on the CPU cannot lie ready on a device."""
        return self


def loader(
    part: PreparedPart,
    batch_size: int,
    shuffle: bool = False,
    seed: int = 0,
    drop_last: bool = False,
    workers: int | None = None,
    rank: int = 0,
    world_size: int = 1,
    pin_memory: bool = False,
    sampling: str = "natural",
) -> DataLoader:
    """A ``DataLoader`` over whole batches of a part; its ``sampler`` has ``set_epoch``.

    Args:
        part: what to load.
        batch_size: samples per batch.
        shuffle: draw a new order in each epoch.
        seed: of the orders.
        drop_last: leave a smaller last batch out.
        workers: processes that read and augment ahead; of no use for a part that is resident on a device. If not
            given, none, but where a part is augmented for a GPU its share of the cores, at most 8.
        rank: number of this process.
        world_size: number of processes.
        pin_memory: put batches in page-locked memory, for a part in the host's memory that trains on a GPU.
        sampling: ``natural`` takes each sample once in an epoch; ``balanced`` draws as many with replacement, each
            class equally often, and is for shuffled classification.

    Raises:
        MedsegError: a number is not possible, or a part without classes is to be balanced.
    """
    if sampling not in SAMPLINGS:
        raise unknown("sampling", sampling, SAMPLINGS)
    if workers is not None and workers < 0:
        raise MedsegError(f"workers is {workers}; give 0 or more")
    classes = part.classes() if sampling == "balanced" else None
    sampler = BatchSampler(len(part), batch_size, shuffle, seed, drop_last, rank, world_size, classes)
    on_host = part.device.type == "cpu"
    if workers is None:
        busy = isinstance(part, AugmentedPart) and torch.cuda.is_available()
        workers = min(8, (cpu_count() or 1) // world_size) if busy else 0
    if workers and on_host:
        _leave_opencv_one_thread()
    return DataLoader(
        part,
        sampler=sampler,
        batch_size=None,
        num_workers=workers if on_host else 0,
        persistent_workers=workers > 0 and on_host,
        pin_memory=pin_memory and on_host,
    )


def _leave_opencv_one_thread() -> None:
    """Workers share the cores already; and one that is forked while OpenCV has threads waits for them for ever."""
    import cv2

    cv2.setNumThreads(1)
