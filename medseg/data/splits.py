"""Which case trains, validates or tests in each repeat: ``prepared/<dataset>/splits/<name>.json``.

Splits are grouped and stratified by default: a group (patient, video, set of duplicates) never lies in two parts,
and images without a lesion and with small, middle and large ones are spread alike. The file is also a MONAI
datalist: ``load_decathlon_datalist(file, data_list_key="training_0", base_dir=<the data set's folder>)``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medseg.data.documents import digest, read_document, write_document
from medseg.data.index_file import Index, IndexedSample
from medseg.data.partition import partition, permutation
from medseg.data.spec import PARTS
from medseg.errors import MedsegError

FORMAT = 1
KINDS = ("holdout", "kfold", "official", "external")
FRACTIONS = (0.6, 0.2, 0.2)


@dataclass(frozen=True)
class Splits:
    """The parts of every repeat.

    Args:
        dataset: name of the data set.
        kind: one of ``KINDS``.
        name: what a run calls it, such as ``holdout`` or ``kfold5``.
        seed: of the random draws.
        grouped: whether groups stay together and sizes of lesions are spread alike.
        fractions: shares of training, validation and testing.
        index_fingerprint: of the index that the cases come from.
        repeats: one mapping of part -> items each; an item has ``image label case group``, paths relative to the
            data set's folder, and ``dataset`` where it is of another one.
        left_out: cases that are in no part of some repeat, with the reason.
        test_dataset: the data set that an external test comes from.
        test_fingerprint: of that data set's index.
    """

    dataset: str
    kind: str
    name: str
    seed: int
    grouped: bool
    fractions: tuple[float, float, float]
    index_fingerprint: str
    repeats: tuple[dict[str, list[dict[str, Any]]], ...]
    left_out: tuple[dict[str, str], ...] = ()
    test_dataset: str | None = None
    test_fingerprint: str | None = None

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the cases of every part, in order."""
        parts = [[[item["case"] for item in repeat[part]] for part in PARTS] for repeat in self.repeats]
        return digest([FORMAT, self.index_fingerprint, self.test_fingerprint, parts])

    def items(self, repeat: int) -> dict[str, list[dict[str, Any]]]:
        """The parts of one repeat.

        Raises:
            MedsegError: there is no such repeat.
        """
        if not 0 <= repeat < len(self.repeats):
            raise MedsegError(f"split {self.name} of {self.dataset} has repeats 0 to {len(self.repeats) - 1}, not {repeat}")
        return self.repeats[repeat]


def split_name(kind: str, *, folds: int = 5, ungrouped: bool = False, test_on: str | None = None) -> str:
    """The name of a split: ``holdout``, ``holdout-ungrouped``, ``kfold5``, ``official``, ``external-<dataset>``."""
    name = {"kfold": f"kfold{folds}", "external": f"external-{test_on}"}.get(kind, kind)
    return f"{name}-ungrouped" if ungrouped else name


def parse_split_name(name: str) -> dict[str, Any]:
    """The arguments of ``make_splits`` that a name such as ``kfold5-ungrouped`` stands for.

    Raises:
        MedsegError: it stands for none.
    """
    match = re.fullmatch(r"(holdout|official|kfold(?P<folds>\d+)|external-(?P<on>[a-z0-9_]+))(?P<un>-ungrouped)?", name)
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
        kind: ``holdout`` draws the three parts anew in each repeat; ``kfold`` tests each fold once; ``official`` keeps
            the data set's own parts; ``external`` tests on all of another data set. Where validation is not given, it
            is drawn from what is not tested, in the proportion of ``fractions``.
        repeats: number of repeats (``kfold`` has one per fold).
        folds: number of folds of ``kfold``.
        seed: repeat k draws from (seed, k), so it does not depend on the number of repeats.
        fractions: shares of training, validation and testing.
        ungrouped: the loss study's literal protocol: a plain random permutation that knows neither groups nor sizes.
        test_index: the data set of an ``external`` test.
        name: name of the split, if not the usual one.

    Raises:
        MedsegError: an argument does not fit, or there are too few groups.
    """
    _check(index, kind, repeats, folds, fractions, test_index)
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
        tuple(_items(parts, tested_on) for parts in drawn),
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
        raise MedsegError(f"fractions {fractions}: three shares above 0 that sum to 1 are needed, as 0.6,0.2,0.2")
    if repeats < 1:
        raise MedsegError(f"repeats is {repeats}; at least 1 is needed")
    if kind == "kfold" and folds < 3:
        raise MedsegError(f"folds is {folds}; at least 3 are needed, so that each of the three parts has data")
    if kind == "external":
        _different(index, _present(test_index))


def _present(test_index: Index | None) -> Index:
    if test_index is None:
        raise MedsegError("an external split needs the data set to test on (--test-on), indexed before")
    return test_index


def _different(index: Index, test_index: Index) -> None:
    if index.dataset == test_index.dataset:
        raise MedsegError(f"an external test of {index.dataset} needs another data set, not itself")
    names = [label.name for label in index.labels], [label.name for label in test_index.labels]
    if len(names[0]) != len(names[1]):
        raise MedsegError(f"{index.dataset} has labels {names[0]}, {test_index.dataset} {names[1]}: numbers differ")


Parts = list[list[IndexedSample]]


@dataclass(frozen=True)
class _Draw:
    """Random parts of one index, grouped and stratified or as a plain permutation."""

    index: Index
    fractions: tuple[float, float, float]
    ungrouped: bool

    def parts(self, samples: tuple[IndexedSample, ...] | list[IndexedSample], shares: Any, seed: Any) -> Parts:
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
        raise MedsegError(f"{index.dataset} has no official training and test part in {index.root}; use another kind")
    left_out: list[dict[str, str]] = []
    later: set[str] = set()
    for part in (2, 1, 0):
        if not ungrouped:
            shared = [sample for sample in parts[part] if sample.group in later]
            left_out += [_left(sample, f"its group {sample.group} is also in a later part") for sample in shared]
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


def _items(parts: Parts, tested_on: str | None) -> dict[str, list[dict[str, Any]]]:
    items = {name: [_item(sample) for sample in samples] for name, samples in zip(PARTS, parts, strict=True)}
    if tested_on:
        items["testing"] = [{**item, "dataset": tested_on} for item in items["testing"]]
    return items


def _item(sample: IndexedSample) -> dict[str, Any]:
    label = sample.masks[0] if len(sample.masks) == 1 else list(sample.masks)
    return {"image": sample.image, "label": label, "case": sample.case, "group": sample.group}


def split_path(dataset: str, prepared_dir: Path, name: str) -> Path:
    """Where a split lies: ``prepared/<dataset>/splits/<name>.json``."""
    return prepared_dir / dataset / "splits" / f"{name}.json"


def write_splits(splits: Splits, path: Path) -> None:
    """Write a split, one case per line, under flat keys such as ``training_0``."""
    keys = ("dataset", "kind", "name", "seed", "grouped", "fractions", "index_fingerprint")
    document: dict[str, Any] = {"format": FORMAT, **{key: getattr(splits, key) for key in keys}}
    document |= {"test_dataset": splits.test_dataset, "test_fingerprint": splits.test_fingerprint}
    document |= {"repeats": len(splits.repeats), "left_out": list(splits.left_out)}
    for k, parts in enumerate(splits.repeats):
        document |= {f"{part}_{k}": parts[part] for part in PARTS}
    write_document(document, path)


def read_splits(path: Path, index: Index | None = None, test_index: Index | None = None) -> Splits:
    """Read a split and check it.

    Args:
        path: the file.
        index: the data set it must fit.
        test_index: the data set of its external test, which it must fit.

    Raises:
        MedsegError: it is missing, broken, made from another index, or a case or group lies in two parts.
    """
    cure = "make it again with 'medseg data split'"
    document = read_document(path, cure)
    try:
        if document.pop("format") != FORMAT:
            raise MedsegError(f"{path}: written by another version of medseg; {cure}")
        number = document.pop("repeats")
        parts = tuple({part: document.pop(f"{part}_{k}") for part in PARTS} for k in range(number))
        splits = Splits(**document, repeats=parts)
        splits = replace(splits, fractions=tuple(splits.fractions), left_out=tuple(splits.left_out))
        for k, repeat in enumerate(splits.repeats):
            _check_repeat(path, k, repeat, splits.grouped)
    except (KeyError, TypeError) as error:
        raise MedsegError(f"{path}: not a whole split ({error}); {cure}") from None
    for made_from, now in ((splits.index_fingerprint, index), (splits.test_fingerprint, test_index)):
        if now is not None and made_from != now.fingerprint:
            raise MedsegError(f"{path}: made from another index of {now.dataset} (its images or groups changed); {cure}")
    return splits


def _check_repeat(path: Path, k: int, repeat: dict[str, list[dict[str, Any]]], grouped: bool) -> None:
    seen: dict[tuple[str, str, str], str] = {}
    for part in PARTS:
        if not repeat[part]:
            raise MedsegError(f"{path}: {part}_{k} is empty")
        for item in repeat[part]:
            dataset = item.get("dataset", "")
            kinds = ["case", "group"] if grouped else ["case"]
            for kind in kinds:
                key = (kind, dataset, item[kind])
                if seen.setdefault(key, part) != part:
                    raise MedsegError(f"{path}: {kind} {item[kind]} lies in {seen[key]}_{k} and in {part}_{k}")
