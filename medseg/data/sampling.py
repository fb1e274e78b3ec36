"""Which samples each batch of an epoch has: in order, shuffled, or balanced over the classes; shared by processes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from torch.utils.data import Sampler

from medseg.errors import MedsegError

#: how the samples of an epoch are drawn
SAMPLINGS = ("natural", "balanced")


class Batch(list[int]):
    """The indices of one batch and what workers could not know otherwise.

    Args:
        indices: of the samples.
        epoch: that they are drawn for.
        turns: how often each sample came before in this epoch; never if not given.
    """

    def __init__(self, indices: Iterable[int], epoch: int, turns: Sequence[int] | None = None) -> None:
        super().__init__(indices)
        self.epoch = epoch
        self.turns = [0] * len(self) if turns is None else list(turns)

    def __reduce__(self) -> tuple[Any, ...]:
        return Batch, (list(self), self.epoch, self.turns)


class BatchSampler(Sampler[list[int]]):
    """Lists of indices, one per batch; the order is a pure function of seed and epoch.

    Args:
        size: number of samples.
        batch_size: samples per batch; the last batch may be smaller. When shuffling, a sample that would be left over
            alone joins the batch before: networks with image pooling cannot train on one image.
        shuffle: draw a new order in each epoch, see ``set_epoch``.
        seed: of the orders.
        drop_last: leave a smaller last batch out.
        rank: number of this process among ``world_size``; each gets its share of the samples.
        world_size: number of processes. When shuffling, samples from the start of the order are repeated so
            that all processes have the same number; otherwise none is repeated and shares may differ by one.
        classes: ``(size, K)`` of 0 and 1: when shuffling, draw with replacement, each class equally often, instead
            of each sample once. The samples of a multi-label set that have no class are one more class.

    Raises:
        MedsegError: a number is not possible, or classes are given without shuffling.
    """

    def __init__(
        self,
        size: int,
        batch_size: int,
        shuffle: bool = False,
        seed: int = 0,
        drop_last: bool = False,
        rank: int = 0,
        world_size: int = 1,
        classes: np.ndarray | None = None,
    ) -> None:
        if classes is not None and not shuffle:
            raise MedsegError("balanced sampling draws at random; it needs shuffle")
        if size < 1 or batch_size < 1:
            raise MedsegError(f"batch_size is {batch_size} for {size} samples; both must be at least 1")
        if not 0 <= rank < world_size:
            raise MedsegError(f"rank is {rank} of world size {world_size}; it counts from 0")
        self.size, self.batch_size, self.shuffle, self.seed = size, batch_size, shuffle, seed
        self.drop_last, self.rank, self.world_size = drop_last, rank, world_size
        self.pools = None if classes is None else _pools(classes)
        self.epoch = 0
        if not len(self):
            raise MedsegError(
                f"no batch of {batch_size}: process {rank} of {world_size} has {self._share} samples"
            )

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch; without it every epoch has the same."""
        self.epoch = epoch

    @property
    def _share(self) -> int:
        """Samples of this process."""
        if self.shuffle:
            return -(-self.size // self.world_size)
        return len(range(self.rank, self.size, self.world_size))

    def __len__(self) -> int:
        whole, over = divmod(self._share, self.batch_size)
        alone = over == 1 and whole > 0 and self.shuffle
        return whole if self.drop_last or alone else whole + (over > 0)

    def order(self) -> np.ndarray:
        """The indices of this process in the order of the epoch."""
        if not self.shuffle:
            return np.arange(self.rank, self.size, self.world_size)
        return self._orders()[self.rank :: self.world_size]

    def _orders(self) -> np.ndarray:
        """The indices of all processes, shuffled, one of each in turn."""
        rng = np.random.default_rng((self.seed, self.epoch))
        number = self._share * self.world_size
        if self.pools is None:
            return np.resize(rng.permutation(self.size), number)
        # the classes in turn, from a random one on, so that their numbers differ by one at most
        chosen = np.resize(rng.permutation(len(self.pools)), number)
        drawn = np.empty(number, dtype=np.int64)
        for k, pool in enumerate(self.pools):
            drawn[chosen == k] = rng.choice(pool, int((chosen == k).sum()))
        return rng.permutation(drawn)

    def _turns(self) -> np.ndarray:
        """How often each of this process's samples came before in the epoch, in any process."""
        if self.pools is None:
            return np.zeros(len(self.order()), dtype=np.int64)
        orders = self._orders()
        by_sample = np.argsort(orders, kind="stable")
        ordered = orders[by_sample]
        first = np.searchsorted(ordered, ordered)
        turns = np.empty(len(orders), dtype=np.int64)
        turns[by_sample] = np.arange(len(orders)) - first
        return turns[self.rank :: self.world_size]

    def __iter__(self) -> Iterator[list[int]]:
        order, turns = self.order(), self._turns()
        ends = [self.batch_size * (batch + 1) for batch in range(len(self))]
        if not self.drop_last:
            ends[-1] = len(order)
        for begin, end in zip([0, *ends], ends, strict=False):
            yield Batch(order[begin:end].tolist(), self.epoch, turns[begin:end].tolist())


def _pools(classes: np.ndarray) -> list[np.ndarray]:
    """The samples of each class that has some, and those without a class."""
    columns = np.concatenate([classes, classes.max(axis=1, keepdims=True) == 0], axis=1)
    return [np.flatnonzero(column) for column in columns.T if column.any()]
