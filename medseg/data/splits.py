"""Which case trains, validates or tests in each repeat: ``prepared/<dataset>/splits/<name>.json``.

Splits are grouped and stratified by default: a group (patient, video, set of duplicates) never lies in two
parts, and images without a lesion and with small, middle and large ones, or for classification each class, are
spread alike. The file is also a MONAI datalist, see ``splits_file``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from medseg.data.index_file import Index, IndexedSample
from medseg.data.partition import partition, permutation
from medseg.data.spec import PARTS
from medseg.data.splits_file import Splits
from medseg.errors import MedsegError

KINDS = ("holdout", "kfold", "official", "external")
FRACTIONS = (0.6, 0.2, 0.2)


def split_name(kind: str, *, folds: int = 5, ungrouped: bool = False, test_on: str | None = None) -> str:
    """The usual name of a split: ``holdout``, ``kfold5``, ``external-<dataset>``, ``holdout-ungrouped``."""
    name = {"kfold": f"kfold{folds}", "external": f"external-{test_on}"}.get(kind, kind)
    return f"{name}-ungrouped" if ungrouped else name


def parse_split_name(name: str) -> dict[str, Any]:
    """The arguments of ``make_splits`` that a name such as ``kfold5-ungrouped`` stands for.

    Raises:
        MedsegError: it stands for none.
    """
    match = re.fullmatch(
        r"(holdout|official|kfold(?P<folds>\d+)|external-(?P<on>[a-z0-9_]+))(?P<un>-ungrouped)?", name
    )
    if not match:
        known = "holdout, kfold<k>, official or external-<dataset>, each also with -ungrouped"
        raise MedsegError(f"split {name!r}: neither made by 'medseg data split' nor one of {known}")
    kind = re.match("[a-z]+", name)
    arguments: dict[str, Any] = {"kind": kind[0] if kind else "", "ungrouped": bool(match["un"])}
    if match["folds"]:
        arguments["folds"] = int(match["folds"])
    return arguments


def make_splits(
    index: Index,
    kind: str = "holdout",
    *,
    repeats: int = 5,
    folds: int = 5,
    seed: int = 42,
    fractions: tuple[float, float, float] = FRACTIONS,
    ungrouped: bool = False,
    test_index: Index | None = None,
    name: str | None = None,
) -> Splits:
    """Divide a data set.

    Args:
        index: the data set.
        kind: ``holdout`` draws the three parts anew in each repeat; ``kfold`` tests each fold once;
            ``official`` keeps the data set's own parts; ``external`` tests on all of another data set. Where
            validation is not given, it is drawn from what is not tested, in the proportion of ``fractions``.
        repeats: number of repeats (``kfold`` has one per fold).
        folds: number of folds of ``kfold``.
        seed: repeat k draws from (seed, k), so it does not depend on the number of repeats.
        fractions: shares of training, validation and testing.
        ungrouped: a plain random permutation that knows neither groups nor sizes, as in the loss study.
        test_index: the data set of an ``external`` test.
        name: name of the split, if not the usual one.

    Raises:
        MedsegError: an argument does not fit, or there are too few groups.
    """
    _check(index, kind, repeats, folds, fractions, test_index)
    if name is not None and not re.fullmatch(r"[a-z0-9]+([_-][a-z0-9]+)*", name):
        raise MedsegError(f"split name {name!r}: use a-z, 0-9 and single '-' or '_', as in holdout-seed7")
    draw = _Draw(index, fractions, ungrouped)
    left_out: list[dict[str, str]] = []
    if kind == "holdout":
        drawn = [draw.parts(index.samples, fractions, (seed, k)) for k in range(repeats)]
    elif kind == "kfold":
        drawn = draw.folds(folds, seed)
    elif kind == "official":
        fixed, left_out = _official(index, ungrouped)
        drawn = [draw.completed(fixed, (seed, k)) for k in range(repeats)]
    else:
        other = _present(test_index)
        own, left_out = _unseen(index, other)
        drawn = [[*draw.carved(own, (seed, k)), list(other.samples)] for k in range(repeats)]
    tested_on = test_index.dataset if test_index and kind == "external" else None
    return Splits(
        index.dataset,
        kind,
        name or split_name(kind, folds=folds, ungrouped=ungrouped, test_on=tested_on),
        seed,
        not ungrouped,
        fractions,
        index.fingerprint,
        tuple(_items(parts, index, tested_on) for parts in drawn),
        tuple(left_out),
        tested_on,
        test_index.fingerprint if test_index and tested_on else None,
    )


def _check(
    index: Index, kind: str, repeats: int, folds: int, fractions: tuple[float, ...], test_index: Index | None
) -> None:
    if kind not in KINDS:
        raise MedsegError(f"unknown split kind {kind!r}. Known: {', '.join(KINDS)}")
    if len(fractions) != 3 or min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-6:
        raise MedsegError(
            f"fractions {fractions}: three shares above 0 that sum to 1 are needed, as 0.6,0.2,0.2"
        )
    if repeats < 1:
        raise MedsegError(f"repeats is {repeats}; at least 1 is needed")
    if kind == "kfold" and folds < 3:
        raise MedsegError(
            f"folds is {folds}; at least 3 are needed, so that each of the three parts has data"
        )
    if kind == "external":
        _different(index, _present(test_index))


def _present(test_index: Index | None) -> Index:
    if test_index is None:
        raise MedsegError("an external split needs the data set to test on (--test-on), indexed before")
    return test_index


def _different(index: Index, test_index: Index) -> None:
    if index.dataset == test_index.dataset:
        raise MedsegError(f"an external test of {index.dataset} needs another data set, not itself")
    if (index.task, index.multilabel) != (test_index.task, test_index.multilabel):
        kinds = [f"{i.task}{' with several labels' if i.multilabel else ''}" for i in (index, test_index)]
        raise MedsegError(f"{index.dataset} is {kinds[0]}, {test_index.dataset} {kinds[1]}: tasks differ")
    names = [label.name for label in index.labels], [label.name for label in test_index.labels]
    if index.task == "classification" and names[0] != names[1]:
        raise MedsegError(
            f"{index.dataset} has classes {names[0]}, {test_index.dataset} {names[1]}: an external test needs the"
            " same, in the same order"
        )
    if len(names[0]) != len(names[1]):
        raise MedsegError(
            f"{index.dataset} has labels {names[0]}, {test_index.dataset} {names[1]}: numbers differ"
        )


Parts = list[list[IndexedSample]]


@dataclass(frozen=True)
class _Draw:
    """Random parts of one index, grouped and stratified or as a plain permutation."""

    index: Index
    fractions: tuple[float, float, float]
    ungrouped: bool

    def parts(
        self, samples: tuple[IndexedSample, ...] | list[IndexedSample], shares: Any, seed: Any
    ) -> Parts:
        divide = permutation if self.ungrouped else partition
        return divide(samples, shares, seed, self.index.dataset)

    def carved(self, samples: list[IndexedSample], seed: Any) -> Parts:
        """Training and validation."""
        training, validation, _ = self.fractions
        whole = training + validation
        return self.parts(samples, (training / whole, validation / whole), seed)

    def folds(self, number: int, seed: int) -> list[Parts]:
        folds = self.parts(self.index.samples, (1 / number,) * number, (seed,))
        drawn = []
        for k, testing in enumerate(folds):
            rest = [sample for j, fold in enumerate(folds) if j != k for sample in fold]
            drawn.append([*self.carved(rest, (seed, k)), testing])
        return drawn

    def completed(self, fixed: Parts, seed: Any) -> Parts:
        """Official parts, validation drawn from training where the set has none."""
        training, validation, testing = fixed
        return fixed if validation else [*self.carved(training, seed), testing]


def _official(index: Index, ungrouped: bool) -> tuple[Parts, list[dict[str, str]]]:
    """The data set's own parts; where it has no labelled test part, its validation part is the test.

    A case whose group (a duplicate, a patient) also lies in a later part is left out of the earlier one.
    """
    parts = [[sample for sample in index.samples if sample.part == part] for part in PARTS]
    if not parts[2]:
        parts = [parts[0], [], parts[1]]
    if not parts[0] or not parts[2]:
        raise MedsegError(
            f"{index.dataset} has no official training and test part in {index.root}; use another kind"
        )
    left_out: list[dict[str, str]] = []
    later: set[str] = set()
    for part in (2, 1, 0):
        if not ungrouped:
            shared = [sample for sample in parts[part] if sample.group in later]
            left_out += [
                _left(sample, f"its group {sample.group} is also in a later part") for sample in shared
            ]
            parts[part] = [sample for sample in parts[part] if sample.group not in later]
        later |= {sample.group for sample in parts[part]}
    return parts, left_out


def _unseen(index: Index, test_index: Index) -> tuple[list[IndexedSample], list[dict[str, str]]]:
    """The samples whose picture is not in the test data set; its others are left out."""
    tested = {sample.pixels: sample.case for sample in test_index.samples}
    left_out = [
        _left(sample, f"the same picture as {tested[sample.pixels]} of {test_index.dataset}")
        for sample in index.samples
        if sample.pixels in tested
    ]
    return [sample for sample in index.samples if sample.pixels not in tested], left_out


def _left(sample: IndexedSample, reason: str) -> dict[str, str]:
    return {"case": sample.case, "image": sample.image, "reason": reason}


def _items(parts: Parts, index: Index, tested_on: str | None) -> dict[str, list[dict[str, Any]]]:
    def item(sample: IndexedSample) -> dict[str, Any]:
        told = _masked(sample) if index.task == "segmentation" else _classed(sample, index)
        return {"image": sample.image, **told, "case": sample.case, "group": sample.group}

    items = {name: [item(sample) for sample in samples] for name, samples in zip(PARTS, parts, strict=True)}
    if tested_on:
        items["testing"] = [{**item, "dataset": tested_on} for item in items["testing"]]
    return items


def _masked(sample: IndexedSample) -> dict[str, Any]:
    return {"label": sample.masks[0] if len(sample.masks) == 1 else list(sample.masks)}


def _classed(sample: IndexedSample, index: Index) -> dict[str, Any]:
    """The number of the class, or 0 or 1 for each of several; names may be folders, which MONAI would make paths of."""
    numbers = [int(label.name in sample.classes) for label in index.labels]
    return {"label": numbers if index.multilabel else numbers.index(1), "classes": list(sample.classes)}
