"""What workers share: index, split, arrays and grown copies, made once before the first run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.data.index import Progress
from medseg.errors import MedsegError
from medseg.study.spec import Cell

if TYPE_CHECKING:
    from medseg.data.prepared import Prepared
    from medseg.data.splits_file import Splits


@dataclass(frozen=True)
class Facts:
    """What of a data set is part of its runs' keys.

    Args:
        index: the index's fingerprint.
        splits: the split.
    """

    index: str
    splits: Splits


def prepare_all(
    cells: Sequence[Cell],
    split: str,
    prepared: Path,
    data: Mapping[str, Path],
    progress: Callable[[str], Progress | None],
) -> dict[str, Facts]:
    """Make what is missing of index, split, arrays and grown copies of every data set and configuration.

    Args:
        cells: the runs.
        split: name of the split.
        prepared: where it all goes.
        data: folders of images by data set, where they are not where the index says.
        progress: gives for a title what is told after each image.

    Returns:
        For each data set what its runs' keys are made of.

    Raises:
        MedsegError: data sets that cannot be prepared, all of them.
    """
    facts: dict[str, Facts] = {}
    faults: dict[str, str] = {}
    for cell in _distinct(cells, _arrays_of):
        dataset = cell.choice.dataset
        if dataset in faults:
            continue
        try:
            samples = _samples(cell, split, prepared, data, progress)
            facts[dataset] = Facts(samples.index.fingerprint, samples.splits)
            for repeat in {c.repeat for c in cells if c.choice.dataset == dataset}:
                samples.splits.items(repeat)
        except (MedsegError, OSError) as error:
            faults[dataset] = told(error)
    _grow_all(cells, split, prepared, data, progress, faults)
    lines = [f"{name}: {fault.removeprefix(f'{name}: ')}" for name, fault in faults.items()]
    if len(lines) == 1:
        raise MedsegError(lines[0])
    if lines:
        raise MedsegError("\n  ".join([f"{len(lines)} data sets cannot be prepared", *lines]))
    return facts


def told(error: MedsegError | OSError) -> str:
    """An error in one line: of the system's, which file it is about."""
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename else str(error)
    return str(error)


def _grow_all(
    cells: Sequence[Cell],
    split: str,
    prepared: Path,
    data: Mapping[str, Path],
    progress: Callable[[str], Progress | None],
    faults: dict[str, str],
) -> None:
    """Make the copies of augmentations that grow a data set before training."""
    from medseg.augmentations.protocol import parse_augment
    from medseg.data.protocols import protocol_samples, training_part

    for cell in _distinct([c for c in cells if parse_augment(c.choice.augment)[1] != "online"], _copies_of):
        choice, settings = cell.choice, cell.settings
        if choice.dataset in faults:
            continue
        tell = progress(f"augmenting {choice.dataset}")
        own = (choice.augment, settings.augment_arguments, settings.seed)
        try:
            samples = _samples(cell, split, prepared, data, progress, cell.repeat)
            training_part(protocol_samples(samples, *own, tell), *own, progress=tell)
        except (MedsegError, OSError) as error:
            faults[choice.dataset] = told(error)


def _samples(
    cell: Cell,
    split: str,
    prepared: Path,
    data: Mapping[str, Path],
    progress: Callable[[str], Progress | None],
    repeat: int = 0,
) -> Prepared:
    """The arrays of a cell, with the arguments that its bundle's config has."""
    from medseg.bundle.describe import dataset_facts
    from medseg.data.prepared import prepare

    dataset, settings = cell.choice.dataset, cell.settings
    return prepare(
        dataset,
        data.get(dataset),
        prepared,
        split=split,
        repeat=repeat,
        image_size=settings.image_size,
        channels=dataset_facts(dataset, prepared)["channels"],
        preprocess=cell.choice.preprocess,
        preprocess_arguments=settings.preprocess_arguments,
        progress=progress(f"reading {dataset}"),
    )


def _arrays_of(cell: Cell) -> str:
    choice, settings = cell.choice, cell.settings
    return repr((choice.dataset, settings.image_size, choice.preprocess, settings.preprocess_arguments))


def _copies_of(cell: Cell) -> str:
    settings = cell.settings
    return repr(
        (_arrays_of(cell), cell.choice.augment, settings.augment_arguments, settings.seed, cell.repeat)
    )


def _distinct(cells: Iterable[Cell], of: Callable[[Cell], Any]) -> Iterator[Cell]:
    """The first cell of each kind."""
    first: dict[Any, Cell] = {}
    for cell in cells:
        first.setdefault(of(cell), cell)
    return iter(first.values())
