"""Dividing samples into parts: groups whole, classes or lesion sizes spread alike; or a permutation."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence

import numpy as np

from medseg.data.index_file import IndexedSample
from medseg.errors import MedsegError

#: random orders tried before the best is taken
TRIES = 50
Seed = int | Sequence[int]


def strata(samples: Sequence[IndexedSample]) -> list[int]:
    """A number for each sample's category and lesion size; the size alone where no sample has a category.

    Sizes are 0 for empty, then 1, 2, 3 for the terciles of the lesion's share of the image.
    """
    sizes = _size_classes(samples)
    kinds = [(sample.category or "", size) for sample, size in zip(samples, sizes, strict=True)]
    if not any(category for category, _ in kinds):
        return sizes
    known = sorted(set(kinds))
    return [known.index(kind) for kind in kinds]


def _size_classes(samples: Sequence[IndexedSample]) -> list[int]:
    sizes = np.array([sample.lesion_fraction for sample in samples])
    if not (sizes > 0).any():
        return [0] * len(samples)
    edges = np.quantile(sizes[sizes > 0], [1 / 3, 2 / 3])
    return [0 if size == 0 else 1 + int(np.searchsorted(edges, size)) for size in sizes]


def partition(
    samples: Sequence[IndexedSample], shares: Sequence[float], seed: Seed, dataset: str
) -> list[list[IndexedSample]]:
    """Divide samples so that no group is in two parts and each part has its share of every stratum.

    Groups are taken in a random order, each to the part where it brings the counts nearest to their shares;
    of up to ``TRIES`` orders the one that ends nearest is kept.

    Args:
        samples: what to divide.
        shares: share of each part; they sum to 1.
        seed: of the random orders.
        dataset: name for messages.

    Raises:
        MedsegError: there are fewer groups than parts.
    """
    members: dict[str, list[int]] = defaultdict(list)
    for i, sample in enumerate(samples):
        members[sample.group].append(i)
    groups = list(members.values())
    if len(groups) < len(shares):
        raise MedsegError(
            f"{dataset}: {len(groups)} groups cannot fill {len(shares)} parts that share no group; "
            "use fewer parts, name finer groups, or split --ungrouped"
        )
    counts = _group_counts(groups, spread(samples))
    targets = np.outer(shares, counts.sum(axis=0))
    weights = _weights(samples, counts)
    rng = np.random.default_rng(seed)
    best: tuple[float, list[int]] | None = None
    for _ in range(TRIES):
        chosen, missing = _assign(counts, targets, rng.permutation(len(groups)), weights)
        cost = float((missing**2 * weights).sum())
        if best is None or cost < best[0]:
            best = cost, chosen
        if (missing**2).sum() <= missing.size:  # every count within about one sample of its share
            break
    part_of = best[1] if best else []
    parts = [
        [i for g, group in enumerate(groups) if part_of[g] == p for i in group] for p in range(len(shares))
    ]
    return [[samples[i] for i in sorted(part)] for part in parts]


def spread(samples: Sequence[IndexedSample]) -> np.ndarray:
    """What is spread alike over the parts: ``(N, S)`` of 0 and 1.

    Each class is a column of its own, so that an image with several counts for each, and the images without one
    are another; for segmentation, the columns are the strata.
    """
    if any(sample.classes for sample in samples):
        kinds: list[tuple[Hashable, ...]] = [sample.classes or (None,) for sample in samples]
    else:
        kinds = [(stratum,) for stratum in strata(samples)]
    known = sorted({kind for own in kinds for kind in own}, key=lambda kind: (kind is None, kind))
    column = {kind: k for k, kind in enumerate(known)}
    table = np.zeros((len(samples), len(known)))
    for i, own in enumerate(kinds):
        table[i, [column[kind] for kind in own]] = 1
    return table


def _group_counts(groups: list[list[int]], table: np.ndarray) -> np.ndarray:
    """Samples of each group, in all (first column) and by what is spread."""
    counts = np.zeros((len(groups), 1 + table.shape[1]))
    for g, group in enumerate(groups):
        counts[g, 0] = len(group)
        counts[g, 1:] = table[group].sum(axis=0)
    return counts


def _weights(samples: Sequence[IndexedSample], counts: np.ndarray) -> np.ndarray:
    """What a squared distance counts in each column: for classes less the commoner they are, or rare ones drown."""
    if any(sample.classes for sample in samples):
        return 1 / counts.sum(axis=0)
    return np.ones(counts.shape[1])


def _assign(
    counts: np.ndarray, targets: np.ndarray, order: np.ndarray, weights: np.ndarray
) -> tuple[list[int], np.ndarray]:
    """The part of each group, and how far the counts end from their targets."""
    missing = targets.copy()
    weighted = counts * weights
    own = (counts * weighted).sum(axis=1)
    chosen = [0] * len(counts)
    empty = set(range(len(targets)))
    for place, g in enumerate(order):
        # |missing - count|^2 - |missing|^2, the change in cost if the group goes to a part
        change = own[g] - 2 * missing @ weighted[g]
        # the last groups go where there is none yet
        open_to = sorted(empty) if len(order) - place <= len(empty) else range(len(targets))
        part = min(open_to, key=change.__getitem__)
        chosen[g] = part
        missing[part] -= counts[g]
        empty.discard(part)
    return chosen, missing


def permutation(
    samples: Sequence[IndexedSample], shares: Sequence[float], seed: Seed, dataset: str
) -> list[list[IndexedSample]]:
    """Divide a random permutation at the shares, whatever the groups.

    Raises:
        MedsegError: there are too few samples.
    """
    order = np.random.default_rng(seed).permutation(len(samples))
    edges = np.rint(np.cumsum(shares)[:-1] * len(samples)).astype(int)
    parts = np.split(order, edges)
    if not all(len(part) for part in parts):
        raise MedsegError(f"{dataset}: {len(samples)} images are too few for parts of {list(shares)}")
    return [[samples[i] for i in sorted(part)] for part in parts]
