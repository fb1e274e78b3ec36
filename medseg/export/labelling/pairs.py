"""Images with their corrected labels, checked and held at the network's size."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from medseg.data.faults import FileFault
from medseg.errors import MedsegError
from medseg.export.labelling.labels import read_label
from medseg.export.labelling.slices import read_slices
from medseg.transforms.normalize import normalized, unit_range
from medseg.transforms.picture import Picture
from medseg.transforms.steps import build_steps

logger = logging.getLogger(__name__)


class Pairs(Dataset):
    """Images and labels for fine-tuning, read once; a pair that cannot be used is named in the log and left out.

    Args:
        data: ``{"image": path, "label": path}`` each; a volume gives one sample per slice.
        channels: 1 or 3.
        classes: channels of the network's logits.
        names: the preprocess list of the bundle.
        arguments: of the steps, by name.
        image_size: height and width of the network's input, in pixels.
        mirror: turn every other sample, drawn anew each time, left to right.

    Raises:
        MedsegError: there are pairs, and none of them can be used; the first fault is told.
    """

    def __init__(
        self,
        data: Sequence[Mapping[str, str]] | None,
        channels: int,
        classes: int,
        names: Sequence[str],
        arguments: Mapping[str, Mapping[str, Any]] | None,
        image_size: tuple[int, int],
        mirror: bool = False,
    ) -> None:
        self.channels, self.classes, self.mirror = channels, classes, mirror
        self.steps = build_steps(names, arguments, image_size)
        self.samples: list[tuple[np.ndarray, np.ndarray]] = []
        faults = []
        for pair in data or ():
            try:
                self.samples += self._read(pair)
            except MedsegError as fault:
                logger.warning("left out of training: %s", fault)
                faults.append(fault)
        if faults and not self.samples:
            raise MedsegError(f"none of {len(faults)} labelled images can be trained on; {faults[0]}")

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """``image`` (C, h, w) float32 and ``label`` (K, h, w) uint8 of 0 and 1, one-hot of several classes."""
        pixels, mask = self.samples[index]
        image = normalized(torch.from_numpy(unit_range(Picture.of(pixels)))[None], self.steps.normalization)[
            0
        ]
        planes = mask[None] if self.classes == 1 else mask == np.arange(self.classes)[:, None, None]
        label = torch.from_numpy(planes.astype(np.uint8))
        if self.mirror and torch.rand(()) < 0.5:
            image, label = image.flip(-1), label.flip(-1)
        return {"image": image, "label": label}

    def _read(self, pair: Mapping[str, str]) -> list[tuple[np.ndarray, np.ndarray]]:
        pictures, place = read_slices(pair["image"], self.channels)
        masks = read_label(Path(pair["label"]), self.classes, place.path)
        sizes = (len(pictures), *pictures[0].values.shape[1:])
        if masks.shape != sizes:
            seen = (
                f"the label is {masks.shape}, its image {place.path.name} is {sizes} (slices, height, width)"
            )
            raise FileFault(Path(pair["label"]), seen, "save it on the grid of its image")
        made = []
        for picture, mask in zip(pictures, masks, strict=True):
            ready, fitted = self.steps.apply(picture, np.ascontiguousarray(mask))
            made.append((ready.values, fitted))
        return made


def batches(pairs: Pairs, batch_size: int, shuffle: bool = False) -> DataLoader:
    """Batches of pairs; while shuffling none of a single sample, which networks with image pooling cannot train on.

    Args:
        pairs: the samples.
        batch_size: samples per batch, at least 2 to train.
        shuffle: draw a new order in each epoch; for training.

    Raises:
        MedsegError: there is nothing to train on.
    """
    if not shuffle:
        return DataLoader(pairs, batch_size=batch_size)
    if not len(pairs):
        raise MedsegError("no image has a final label yet; save labels first, then train")
    size = max(2, batch_size)
    if len(pairs) == 1:
        return DataLoader(torch.utils.data.ConcatDataset([pairs, pairs]), batch_size=2)
    alone = len(pairs) % size == 1 and len(pairs) > size
    return DataLoader(pairs, batch_size=size, shuffle=True, drop_last=alone)
