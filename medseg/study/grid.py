"""The cells of a study: its axes multiplied, less what is skipped, and whether each can be run at all."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from medseg.bundle.choice import Choice
from medseg.bundle.settings import Settings, settings_from
from medseg.errors import MedsegError
from medseg.study.spec import Cell, Study, shown

#: axes from the outermost to the innermost: a study that is cut short has whole repeats of everything
ORDER = ("repeat", "dataset", "model", "loss", "preprocess", "augment")
#: how many faults are told one by one
MOST = 40


def combinations(axes: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    """Every combination of levels as axis -> level, in the order in which they are run."""
    for levels in itertools.product(*(axes[axis] for axis in ORDER)):
        yield dict(zip(ORDER, levels, strict=True))


def matches(where: Mapping[str, Sequence[Any]], levels: Mapping[str, Any]) -> bool:
    """Whether levels meet all conditions of a ``where`` or ``skip``."""
    return all(levels[axis] in wanted for axis, wanted in where.items())


def cells(study: Study) -> list[Cell]:
    """The runs of a study: axes multiply, ``skip`` removes, repeats are outermost.

    Arguments of steps and augmentations that a run does not have are left out of its settings, so that other
    levels of the study do not touch it.

    Raises:
        MedsegError: a setting is wrong, or no run is left.
    """
    made = [
        _cell(study, levels)
        for levels in combinations(study.axes)
        if not any(matches(where, levels) for where in study.skip)
    ]
    if not made:
        raise MedsegError(f"study {study.name}: no run is left; look at its axes and skips")
    return made


def _cell(study: Study, levels: Mapping[str, Any]) -> Cell:
    values = dict(study.fixed)
    for rule in study.rules:
        if matches(rule["where"], levels):
            values |= rule["set"]
    choice = Choice(
        levels["dataset"], levels["model"], levels["loss"], levels["augment"], tuple(levels["preprocess"])
    )
    return Cell(choice, levels["repeat"], _own(choice, settings_from(values)))


def _own(choice: Choice, settings: Settings) -> Settings:
    """The settings with the arguments of only those steps and augmentations that the choice has."""
    if settings.preprocess_arguments:
        given = settings.preprocess_arguments.items()
        own = {name: value for name, value in given if name in choice.preprocess}
        settings = replace(settings, preprocess_arguments=own)
    if settings.augment_arguments:
        from medseg.study.names import augment_names

        names = augment_names(choice.augment)
        own = {name: value for name, value in settings.augment_arguments.items() if name in names}
        settings = replace(settings, augment_arguments=own)
    return settings


def check(cells: Sequence[Cell], prepared: Path, split: str = "holdout") -> None:
    """Raise if a cell cannot be run: each kind of fault is told once, with the number of runs that have it.

    Nothing is read but the records of data sets, and a network is built once for each way of building it, without
    weights: thousands of cells take no longer than their dozen networks.

    Args:
        cells: the runs.
        prepared: folder of indexes and splits.
        split: name of the split that the repeats are of.

    Raises:
        MedsegError: the faults of all cells.
    """
    faults: dict[str, list[Cell]] = {}
    told: dict[Any, str | None] = {}
    known: dict[str, dict[str, Any]] = {}
    repeats = 1 + max((cell.repeat for cell in cells), default=0)
    for cell in cells:
        for reason in dict.fromkeys(_reasons(cell, prepared, (split, repeats), known, told)):
            if reason:
                faults.setdefault(reason, []).append(cell)
    if not faults:
        return
    lines = [_line(reason, of) for reason, of in list(faults.items())[:MOST]]
    lines += [f"and {len(faults) - MOST} more"] if len(faults) > MOST else []
    if len(lines) == 1:
        raise MedsegError(lines[0])
    bad = {cell.name for of in faults.values() for cell in of}
    listed = "\n".join(f"  {line}" for line in lines)
    raise MedsegError(f"{len(bad)} of {len(cells)} runs are impossible\n{listed}")


def _line(reason: str, of: Sequence[Cell]) -> str:
    return f"{reason} ({len(of)} run{'s'[: len(of) > 1]}, {'such as ' if len(of) > 1 else ''}{of[0].name})"


def _reasons(
    cell: Cell,
    prepared: Path,
    split: tuple[str, int],
    known: dict[str, dict[str, Any]],
    told: dict[Any, str | None],
) -> Iterator[str | None]:
    """What is wrong with a cell, each question asked once for all cells that it is the same for."""
    from medseg.bundle import compose
    from medseg.bundle.describe import dataset_facts

    choice, settings, dataset = cell.choice, cell.settings, cell.choice.dataset

    def ask(question: Callable[[], object], *of: Any) -> str | None:
        key = repr(of)
        if key not in told:
            told[key] = _fault(question, *of)
        return told[key]

    def learn() -> None:
        known[dataset] = dataset_facts(dataset, prepared)

    fault = ask(learn, "dataset", dataset)
    yield fault
    if fault:
        return
    facts = known[dataset]
    kind = (facts["task"], facts["multilabel"])
    yield ask(
        lambda: compose.check_augment(choice, settings, facts),
        "augment",
        choice.augment,
        settings.augment_arguments,
        *kind,
    )
    mixes = () if facts["task"] == "segmentation" else (choice.augment,)
    yield ask(
        lambda: compose.check_loss(choice, settings, facts),
        "loss",
        choice.loss,
        settings.loss_arguments,
        *kind,
        *mixes,
    )
    shape = (*kind, facts["channels"], len(facts["labels"]), settings.image_size)
    steps = (choice.preprocess, settings.preprocess_arguments)
    yield ask(lambda: compose.check_preprocess(choice, settings, facts), "preprocess", *steps, *shape)
    trains = (settings.learning_rate, settings.layer_decay, settings.frozen_stages, settings.batch_size)
    begins = (settings.pretrained, settings.pretrained_data, settings.sampling)
    network = (choice.model, settings.model_arguments, *trains, *begins)
    yield ask(lambda: compose.check_model(choice, settings, facts), "model", *network, *shape)
    yield ask(lambda: check_weights(choice, settings), "weights", choice.model, settings.pretrained)
    name, repeats = split
    yield ask(
        lambda: check_repeat(dataset, name, cell.repeat, prepared, repeats), "repeat", dataset, cell.repeat
    )


def _fault(question: Callable[[], object], kind: str, name: Any, *more: Any) -> str | None:
    """Why a question is answered with an error; None if it is not."""
    from medseg.bundle.verify import root_cause

    try:
        question()
    except MedsegError as error:
        return str(error)
    except Exception as error:  # whatever a network makes of arguments that it takes by name
        given = f" with {more[0]}" if more and more[0] else ""
        return f"{kind} {shown(name)!r}{given}: {root_cause(error)}"
    return None


def check_weights(choice: Choice, settings: Settings) -> None:
    """Raise if local weights to begin with are not there."""
    from medseg.study.key import weights_of

    weights_of(choice, settings)


def check_repeat(dataset: str, split: str, repeat: int, prepared: Path, repeats: int) -> None:
    """Raise if a split has not so many repeats, or cannot be made by its name.

    Args:
        dataset: of the run.
        split: name of the split.
        repeat: of the run.
        prepared: folder of indexes and splits.
        repeats: how many the whole study needs.

    Raises:
        MedsegError: what is wrong, and the command that makes the split.
    """
    number = repeats_of(dataset, split, prepared)
    if repeat >= number:
        kind = re.match("[a-z]+", split)
        enough = (
            f"the number of folds is that of repeats: name another split, such as kfold{repeats}"
            if split.startswith("kfold")
            else f"make more with 'medseg data split {dataset} --kind {kind[0] if kind else split}"
            f" --repeats {repeats}{' --ungrouped' if split.endswith('-ungrouped') else ''}'"
        )
        raise MedsegError(
            f"split {split} of {dataset} has repeats 0 to {number - 1}, not {repeats - 1}; {enough}"
        )


def repeats_of(dataset: str, split: str, prepared: Path) -> int:
    """How many repeats a split has, or will have when it is made by its name.

    Raises:
        MedsegError: there is no such split, and its name says not how to make it.
    """
    from inspect import signature

    from medseg.data.documents import read_document
    from medseg.data.splits import make_splits, parse_split_name
    from medseg.data.splits_file import split_path

    path = split_path(dataset, prepared, split)
    if path.is_file():
        return int(read_document(path, "make it again with 'medseg data split'").get("repeats", 0))
    arguments = parse_split_name(split)
    if split.removesuffix("-ungrouped") == f"external-{dataset}":
        raise MedsegError(f"an external test of {dataset} needs another data set, not itself")
    of = "folds" if arguments["kind"] == "kfold" else "repeats"
    return int(arguments.get(of, signature(make_splits).parameters[of].default))


def counted(cells: Iterable[Cell], axis: str) -> dict[str, int]:
    """How many runs each level of an axis has, in the order of the runs."""
    counts: dict[str, int] = {}
    for cell in cells:
        level = str(cell.repeat) if axis == "repeat" else cell.choice.facts()[axis] or "none"
        counts[level] = counts.get(level, 0) + 1
    return counts
