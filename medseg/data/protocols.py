"""The training part and the whole data set as an augmentation's protocol wants them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from medseg.augmentations import Pipeline, build_augments
from medseg.augmentations.protocol import leaks, parse_augment
from medseg.data.batches import AugmentedPart, PreparedPart
from medseg.data.documents import digest
from medseg.data.growth import Growth
from medseg.data.index import Progress
from medseg.data.prepared import Prepared
from medseg.data.splits import make_splits
from medseg.data.splits_file import read_splits, split_path, write_splits
from medseg.data.store import dataset_lock
from medseg.errors import MedsegError


def training_part(
    samples: Prepared,
    augment: str = "vanilla",
    arguments: Mapping[str, Mapping[str, Any]] | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> PreparedPart:
    """The training part as a protocol wants it.

    Args:
        samples: the prepared data, of :func:`protocol_samples` where the protocol is ``augment-then-split``.
        augment: augmentations joined by ``-``, with the protocol's ending, such as ``filter-offline``.
        arguments: of the augmentations, by name.
        seed: of every draw.
        device: where arrays should lie that no longer change.
        progress: told after each image that is augmented offline.
    """
    names, protocol = parse_augment(augment)
    part = samples.part("training")
    augments = build_augments(names, arguments or {})
    if protocol == "augment-then-split" or (protocol == "online" and not augments):
        return part.resident(device)
    if protocol == "online":
        return AugmentedPart(part, Pipeline(augments), seed)
    growth = Growth(names, arguments or {}, seed)
    images, targets, cases, _, _ = growth.open(samples, part.positions, progress)
    groups = np.repeat(part.groups, len(cases) // len(part)).tolist()
    return PreparedPart(images, targets, np.arange(len(cases)), cases, groups).resident(device)


def protocol_samples(
    samples: Prepared,
    augment: str = "vanilla",
    arguments: Mapping[str, Mapping[str, Any]] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Prepared:
    """The data set as it is, or for a leaking protocol grown and then split at random, copies and all.

    The split has the kind, seed, shares and repeats of the one that it takes the place of.

    Args:
        samples: the prepared data set.
        augment: as for :func:`training_part`.
        arguments: as there.
        seed: of every draw.
        progress: told after each image that is augmented.

    Raises:
        MedsegError: a leaking protocol is to split in a way that is not at random.
    """
    if not leaks(augment):
        return samples
    usual = samples.splits
    if usual.kind not in ("holdout", "kfold"):
        raise MedsegError(f"augment {augment!r} splits at random; split {usual.name} does not")
    growth = Growth(parse_augment(augment)[0], arguments or {}, seed)
    images, targets, cases, origins, key = growth.open(samples, np.arange(len(samples.cases)), progress)
    grown = tuple(
        replace(samples.index.samples[i], case=case) for i, case in zip(origins, cases, strict=True)
    )
    index = replace(samples.index, samples=grown, duplicates=())
    drawn: dict[str, Any] = {"kind": usual.kind, "seed": usual.seed, "fractions": usual.fractions}
    drawn |= {"folds" if usual.kind == "kfold" else "repeats": len(usual.repeats)}
    name = f"{usual.name.removesuffix('-ungrouped')}-leaking-{digest([key, drawn])[:16]}"
    prepared_dir = samples.folder.parents[2]
    path = split_path(index.dataset, prepared_dir, name)
    with dataset_lock(index.dataset, prepared_dir):
        if not path.is_file():
            write_splits(make_splits(index, **drawn, ungrouped=True, name=name), path)
        splits = read_splits(path, index)
    splits.items(samples.repeat)
    return replace(samples, index=index, images=images, targets=targets, fingerprint=key, splits=splits)
