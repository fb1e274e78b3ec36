"""A split as a record and as ``splits/<name>.json``, one case per line and a MONAI datalist at once.

``load_decathlon_datalist(file, data_list_key="training_0", base_dir=<the data set's folder>)`` reads it, for
classification with ``is_segmentation=False``: the label is then the number of the class, from 0, or a list of 0 and
1 where an image may have several.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medseg.data.documents import digest, read_document, write_document
from medseg.data.index_file import Index
from medseg.data.spec import PARTS
from medseg.errors import MedsegError

FORMAT = 1


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
        repeats: one mapping of part -> items each; an item has ``image label case group``, paths relative to
            the data set's folder, ``classes`` for classification, and ``dataset`` where it is of another one.
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
            raise MedsegError(
                f"split {self.name} of {self.dataset} has repeats 0 to {len(self.repeats) - 1}, not {repeat}"
            )
        return self.repeats[repeat]


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
        training, validation, testing = splits.fractions
        splits = replace(splits, fractions=(training, validation, testing), left_out=tuple(splits.left_out))
        for k, repeat in enumerate(splits.repeats):
            _check_repeat(path, k, repeat, splits.grouped)
    except (KeyError, TypeError, ValueError) as error:
        raise MedsegError(f"{path}: not a whole split ({error}); {cure}") from None
    for made_from, now in ((splits.index_fingerprint, index), (splits.test_fingerprint, test_index)):
        if now is not None and made_from != now.fingerprint:
            raise MedsegError(
                f"{path}: made from another index of {now.dataset} (its images or groups changed); {cure}"
            )
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
                    raise MedsegError(
                        f"{path}: {kind} {item[kind]} lies in {seen[key]}_{k} and in {part}_{k}"
                    )
