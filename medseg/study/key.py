"""What makes a run the run it is: configuration, data, split, weights and code, as one short hash."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import medseg
from medseg.bundle.choice import Choice
from medseg.bundle.settings import Settings
from medseg.data.documents import digest
from medseg.data.spec import PARTS
from medseg.data.splits_file import Splits
from medseg.errors import MedsegError
from medseg.study.spec import Cell

#: rooms whose sources decide numbers
ROOMS = ("bundle", "data", "transforms", "augmentations", "models", "losses", "metrics", "engine")
#: kinds of files that count: templates are YAML
SOURCES = (".py", ".yaml")
FORMAT = 1


@lru_cache(maxsize=1)
def code_fingerprint() -> str:
    """SHA-256 over the sources that decide numbers, 12 hex digits; the same wherever medseg is installed."""
    return fingerprint_of(Path(medseg.__file__).parent)


def fingerprint_of(package: Path) -> str:
    """The fingerprint of the sources below a package's folder: their names and bytes."""
    files = [package / "registry.py"]
    for room in ROOMS:
        files += [path for path in (package / room).rglob("*") if path.suffix in SOURCES]
    total = hashlib.sha256()
    for path in sorted(files, key=lambda file: file.relative_to(package).as_posix()):
        total.update(path.relative_to(package).as_posix().encode() + b"\0")
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()[:12]


def run_key(
    cell: Cell, *, index_fingerprint: str, split_fingerprint: str, weights: str, code: str, split: str
) -> str:
    """The key of a run in the ledger, 16 hex digits.

    Args:
        cell: choice, repeat and settings.
        index_fingerprint: of the data set.
        split_fingerprint: of the parts of this repeat, see :func:`split_fingerprint`.
        weights: what the backbone begins with, see :func:`weights_of`.
        code: see :func:`code_fingerprint`.
        split: name of the split.
    """
    content = {
        "format": FORMAT,
        **cell.choice.facts(),
        "split": split,
        "repeat": cell.repeat,
        "settings": _plain(cell.settings),
        "index": index_fingerprint,
        "parts": split_fingerprint,
        "weights": weights,
        "code": code,
    }
    return digest(content)[:16]


def _plain(settings: Settings) -> dict[str, Any]:
    """Settings for hashing: 1 and 1.0 are the same rate; of weights counts what they are, not where they lie."""
    usual = asdict(Settings())
    values = {name: value for name, value in asdict(settings).items() if name != "pretrained"}
    if values["sampling"] == usual["sampling"]:
        del values["sampling"]  # runs of before there was a choice keep their keys
    return {name: float(value) if type(usual[name]) is float else value for name, value in values.items()}


def split_fingerprint(splits: Splits, repeat: int) -> str:
    """SHA-256 over the cases of one repeat's parts, in order; more repeats leave it as it is.

    Raises:
        MedsegError: there is no such repeat.
    """
    parts = splits.items(repeat)
    cases = [[[item.get("dataset", ""), item["case"]] for item in parts[part]] for part in PARTS]
    return digest([splits.index_fingerprint, splits.test_fingerprint, cases])


def weights_of(choice: Choice, settings: Settings) -> str:
    """What a model's backbone begins with: ``none``, the names of published weights, or SHA-256 of local ones.

    Raises:
        MedsegError: a local file or folder of weights is not there.
    """
    from medseg.bundle.compose import pretrained
    from medseg.models import MODELS

    begins = pretrained(choice, settings)
    names = tuple(MODELS[choice.model].facts.get("pretrained") or ())
    if begins is False:
        return "none"
    if begins is True:
        return " + ".join(names)
    return " + ".join(_hashed(file) for file in _local_files(Path(begins).expanduser(), names, choice.model))


def _local_files(place: Path, names: tuple[str, ...], model: str) -> list[Path]:
    """The file itself; of a folder those of the model's weights, or all where it has others than the usual ones."""
    from medseg.models._pretrained import ENDINGS

    if place.is_file():
        return [place]
    files = sorted(path for path in place.glob("*") if path.suffix in ENDINGS)
    if not files:
        raise MedsegError(f"{model}: no file or folder of weights {place}; give one, or pretrained: false")
    own = [path for path in files if path.stem in names]
    return own or files


def _hashed(path: Path) -> str:
    stamp = path.stat()
    return _sha256(path, stamp.st_mtime_ns, stamp.st_size)


@lru_cache(maxsize=256)
def _sha256(path: Path, changed: int, size: int) -> str:
    # time and size are there so that a file that changed is read again
    with path.open("rb") as file:
        total = hashlib.sha256()
        while block := file.read(1 << 20):
            total.update(block)
    return total.hexdigest()
