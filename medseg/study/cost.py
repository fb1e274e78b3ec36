"""What runs will take: time, memory and disk, from finished runs where there are some, else from a probe."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from statistics import mean
from typing import Any

from medseg.augmentations import build_augments
from medseg.augmentations.protocol import parse_augment
from medseg.bundle.describe import dataset_facts
from medseg.data.datasets import DATASETS
from medseg.data.index_file import index_path, read_index
from medseg.data.splits import FRACTIONS, parse_split_name
from medseg.data.splits_file import read_splits, split_path
from medseg.errors import MedsegError
from medseg.models import MODELS
from medseg.study.probe import Measured, Setup
from medseg.study.spec import Cell

#: bytes of a weight, float32
WEIGHT = 4
#: a checkpoint holds the weights, the best ones, and Adam's two moments
CHECKPOINT = 4
#: of a training step, what a forward pass takes where none was measured
FORWARD = 1 / 3
#: seconds of a run besides its steps: composing, opening, testing, drawing; measured on two cores
BESIDES = 4.0
#: seconds until a command and its workers have imported and checked all; measured on two cores
START = 15.0
#: bytes of one value of an image
PIXEL = {"uint8": 1, "uint16": 2, "float32": 4}


@dataclass(frozen=True)
class Images:
    """How many images each part of a repeat has.

    Args:
        training, validation, testing: images.
        basis: where that is from: ``split``, ``index`` (shares of its images), or ``published`` (shares of the number
            that the data set officially has).
    """

    training: int
    validation: int
    testing: int
    basis: str

    @property
    def all(self) -> int:
        """Images of all parts."""
        return self.training + self.validation + self.testing


@dataclass(frozen=True)
class Estimate:
    """What one run will take, at most: no early stopping.

    Args:
        seconds: of a worker; None where nothing tells.
        memory: most main memory, in bytes; 0 where nothing tells.
        gpu_memory: most memory of the GPU, in bytes.
        parameters: of the model; 0 where nothing tells.
        basis: what it is from.
        fault: why the probe has nothing, or not all.
    """

    seconds: float | None = None
    memory: int = 0
    gpu_memory: int = 0
    parameters: int = 0
    basis: str = "nothing yet"
    fault: str = ""


def images_of(dataset: str, split: str, repeat: int, prepared: Path) -> Images | None:
    """The images of a repeat's parts, from the best there is; None for a data set that nothing is known of."""
    path = split_path(dataset, prepared, split)
    if path.is_file():
        items = read_splits(path).items(repeat)
        return Images(len(items["training"]), len(items["validation"]), len(items["testing"]), "split")
    training, validation, testing = _shares(split)
    own = index_path(dataset, prepared)
    if own.is_file():
        number, basis = len(read_index(own).samples), "index"
    elif dataset in DATASETS and DATASETS.build(dataset).expected:
        number, basis = DATASETS.build(dataset).expected, "published"
    else:
        return None
    return Images(round(number * training), round(number * validation), round(number * testing), basis)


def _shares(split: str) -> tuple[float, float, float]:
    """The shares of the parts of a split that is not made yet."""
    training, validation, testing = FRACTIONS
    try:
        arguments = parse_split_name(split)
    except MedsegError:
        return FRACTIONS
    if arguments["kind"] == "kfold":
        testing = 1 / arguments["folds"]
    rest = (1 - testing) / (training + validation)
    return training * rest, validation * rest, testing


class Costs:
    """Estimates of runs.

    Args:
        prepared: folder of indexes and splits.
        split: name of the split.
        device: what it was measured on.
        threads: CPU threads of a run.
        code: fingerprint of the code.
        measured: key of a setup -> what its probe found.
        finished: seconds of finished runs by ``like(cell)``.
    """

    def __init__(
        self,
        prepared: Path,
        split: str,
        device: str,
        threads: int,
        code: str,
        measured: dict[str, Measured] | None = None,
        finished: dict[tuple[str, ...], list[float]] | None = None,
    ) -> None:
        self.prepared, self.split = prepared, split
        self.device, self.threads, self.code = device, threads, code
        self.measured = measured or {}
        self.finished = finished or {}
        self._facts: Callable[[str], dict[str, Any]] = lru_cache(lambda d: dataset_facts(d, prepared))
        self.images: Callable[[str, int], Images | None] = lru_cache(
            lambda dataset, repeat: images_of(dataset, split, repeat, prepared)
        )

    def setup(self, cell: Cell) -> Setup:
        """What a probe for a run builds."""
        settings, facts = cell.settings, self._facts(cell.choice.dataset)
        return Setup(
            cell.choice.model,
            cell.choice.loss,
            settings.image_size,
            settings.batch_size,
            facts["channels"],
            len(facts["labels"]),
            settings.frozen_stages,
            settings.model_arguments,
            settings.loss_arguments,
        )

    def setups(self, cells: Iterable[Cell]) -> list[Setup]:
        """The distinct setups of runs."""
        made: dict[str, Setup] = {}
        for cell in cells:
            setup = self.setup(cell)
            made.setdefault(setup.key(self.device, self.threads, self.code), setup)
        return list(made.values())

    def estimate(self, cell: Cell) -> Estimate:
        """What a run will take."""
        found = self.measured.get(self.setup(cell).key(self.device, self.threads, self.code), Measured())
        known = Estimate(
            memory=found.memory,
            gpu_memory=found.gpu_memory,
            parameters=found.parameters or _parameters(cell),
            fault=found.fault,
        )
        seconds = self.finished.get(like(cell))
        if seconds:
            basis = f"{len(seconds)} finished run{'s'[: len(seconds) > 1]}"
            return replace(known, seconds=mean(seconds), basis=basis)
        probed = self._probed(cell, found)
        return known if probed is None else replace(known, seconds=probed, basis="probe")

    def _probed(self, cell: Cell, found: Measured) -> float | None:
        """Seconds of all epochs, of the test and of what is besides, from those of a step."""
        images = self.images(cell.choice.dataset, cell.repeat)
        if images is None or found.train_seconds is None:
            return None
        training, validation, testing = (
            math.ceil(number / cell.settings.batch_size)
            for number in (images.training * growth(cell), images.validation, images.testing)
        )
        forward = found.train_seconds * FORWARD if found.eval_seconds is None else found.eval_seconds
        epoch = training * found.train_seconds + validation * forward
        return BESIDES + cell.settings.epochs * epoch + testing * forward

    def arrays(self, cells: Iterable[Cell]) -> int:
        """Bytes of the arrays of all data sets and settings, with the copies of offline augmentation."""
        total = 0
        seen: set[tuple[object, ...]] = set()
        for cell in cells:
            settings, choice = cell.settings, cell.choice
            images = self.images(choice.dataset, cell.repeat)
            facts = self._facts(choice.dataset)
            key = (
                choice.dataset,
                choice.preprocess,
                repr(settings.preprocess_arguments),
                settings.image_size,
            )
            pixel = PIXEL.get(facts["depth"], WEIGHT) * facts["channels"] + 1
            each = settings.image_size[0] * settings.image_size[1] * pixel
            if images is None:
                continue
            if key not in seen:
                total += images.all * each
                seen.add(key)
            grown = (*key, choice.augment, repr(settings.augment_arguments), settings.seed, cell.repeat)
            if growth(cell) > 1 and grown not in seen:
                total += images.training * growth(cell) * each
                seen.add(grown)
        return total

    def weights(self, cells: Sequence[Cell], keep: str, workers: int) -> int:
        """Bytes of weights and checkpoints: of every run kept, of every bundle's best, and of the runs that go on."""
        bundles = {cell.choice.name: self.estimate(cell).parameters for cell in cells}
        of_runs = [bundles[cell.choice.name] for cell in cells]
        best = sum(bundles.values())
        kept = {"all": sum(of_runs) + best, "best": 2 * best, "none": 0}[
            keep
        ]  # a bundle has a copy of its best
        going_on = max(of_runs, default=0) * CHECKPOINT * workers
        return WEIGHT * (kept + going_on)


def like(cell: Cell) -> tuple[str, ...]:
    """What runs have in common that take alike long: their loss and repeat may differ."""
    settings = cell.settings
    decides = (settings.image_size, settings.epochs, settings.batch_size, settings.model_arguments)
    return (cell.choice.dataset, cell.choice.model, cell.choice.augment, repr(decides))


def growth(cell: Cell) -> int:
    """What the number of training images is multiplied by: 1, or 1 and the number of transforms that make copies."""
    names, protocol = parse_augment(cell.choice.augment)
    if protocol == "online":
        return 1
    return 1 + len(build_augments(names, cell.settings.augment_arguments))


def _parameters(cell: Cell) -> int:
    """Parameters of a model with its usual arguments, by its facts; 0 with others."""
    if cell.settings.model_arguments or cell.choice.model not in MODELS:
        return 0
    return int(MODELS[cell.choice.model].facts.get("parameters", 0))
