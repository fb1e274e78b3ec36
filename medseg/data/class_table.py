"""Classes from a table: one row per image, with the names of its classes or a column of 0 and 1 for each."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medseg.data.address import stem
from medseg.data.class_folders import case_name, official_part
from medseg.data.pairing import files_of
from medseg.data.sample import Sample
from medseg.data.volumes import expanded
from medseg.errors import MedsegError, unknown

#: what stands between the classes of one image
SEPARATOR = "|"
#: what a column of one class may hold
YES, NO = ("1", "1.0", "true", "yes"), ("0", "0.0", "false", "no", "")


@dataclass(frozen=True)
class Table:
    """A table of classes and what its columns are.

    Args:
        file: the table, CSV with a header; relative to the data folder, or absolute.
        image: column of the image's file: its path, its name, or its name without ending.
        classes: column of the names of its classes, joined by ``|``; several columns are one class each, 0 or 1.
        group: column of its patient, video or slide; each image is its own group if not given.
        part: column of its official part; none if not given.
    """

    file: str
    image: str
    classes: tuple[str, ...]
    group: str | None = None
    part: str | None = None

    @classmethod
    def revived(cls, item: Mapping[str, Any]) -> Table:
        """The record from its JSON."""
        return cls(**{**item, "classes": tuple(item["classes"])})

    @classmethod
    def found(
        cls,
        file: Path,
        folder: Path,
        image: str,
        classes: Sequence[str],
        group: str | None = None,
        part: str | None = None,
    ) -> Table:
        """The record of a table by its path, which stays right where the data folder moves with the table in it.

        Args:
            file: the table; where there is none, the one of that name in the data folder.
            folder: the data folder.
            image, classes, group, part: the columns.
        """
        whole = (file if file.is_file() else folder / file).resolve()
        inside = whole.is_relative_to(folder.resolve())
        name = whole.relative_to(folder.resolve()).as_posix() if inside else str(whole)
        return cls(name, image, tuple(classes), group, part)

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that are read."""
        return (self.image, *self.classes, *filter(None, (self.group, self.part)))


def from_csv(
    table: Table,
    images: str = "**/*",
    *,
    multilabel: bool = False,
    none: str | None = None,
    partial: bool = False,
    group: Callable[[str], str] | None = None,
) -> Callable[[Path], list[Sample]]:
    """An index function that reads the classes of images from a table.

    Rows whose image is not there become faults, unless the set is ``partial``; images that the table does not name
    are left alone.

    Args:
        table: the file and its columns.
        images: glob of the images, relative to the data folder.
        multilabel: a row may have several classes, or none.
        none: word of the table for no class, such as ``No Finding``.
        partial: rows whose image is not there are passed over.
        group: the group by the image's path, where the table has no column of it.
    """

    def index(folder: Path) -> list[Sample]:
        rows = _rows(folder / table.file, table)
        files = files_of(folder, images)
        found, stems = _by_name(files), Counter(map(stem, files))
        samples = []
        for number, row in enumerate(rows, 2):
            where = f"{table.file}, line {number}"
            name = row[table.image].strip()
            if not name:
                raise MedsegError(
                    f"{where}: column {table.image} is empty; name the image or remove the line"
                )
            image = _image_of(name, found, where)
            if partial and image is None:
                continue
            if image is None:
                samples.append(Sample(name, "", (name,), name))
                continue
            case = case_name(image, stems)
            samples.append(
                Sample(
                    case,
                    image,
                    (),
                    group(image) if group else _group(row, table, where) or case,
                    official_part(row[table.part], where) if table.part else None,
                    None,
                    _classes(row, table, multilabel, none, where),
                )
            )
        return [
            piece for sample in samples for piece in (expanded(sample, folder) if sample.image else [sample])
        ]

    return index


def _group(row: Mapping[str, str], table: Table, where: str) -> str:
    own = row[table.group].strip() if table.group else ""
    if table.group and not own:
        raise MedsegError(f"{where}: column {table.group} is empty; every image needs its group")
    return own


def _rows(file: Path, table: Table) -> list[dict[str, str]]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, restval="")
            header = [name.strip() for name in reader.fieldnames or ()]
            reader.fieldnames = header
            for column in table.columns:
                if column not in header:
                    raise unknown(f"column of {file}", column, header)
                if header.count(column) > 1:
                    raise MedsegError(
                        f"{file}: {header.count(column)} columns are called {column}; rename them"
                    )
            return list(reader)
    except FileNotFoundError:
        raise MedsegError(
            f"{file}: no such table; give its path, or one relative to the data folder"
        ) from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise MedsegError(f"{file}: not a readable CSV table ({error})") from None


def _by_name(files: list[str]) -> dict[str, list[str]]:
    """Every way in which a table may name a file, and the files that it means."""
    found: dict[str, list[str]] = {}
    for file in files:
        whole, last = file[: len(file) - len(file.rsplit("/", 1)[-1])] + stem(file), file.rsplit("/", 1)[-1]
        for name in {file, whole, last, stem(file)}:
            found.setdefault(name, []).append(file)
    return found


def _image_of(name: str, found: Mapping[str, list[str]], where: str) -> str | None:
    """The file that a table names, if there is one among the images of the data folder."""
    files = found.get(name.removeprefix("./"), [])
    if len(files) > 1:
        raise MedsegError(f"{where}: {name} may be {files[0]} or {files[1]}; name the image by its path")
    return files[0] if files else None


def _classes(
    row: Mapping[str, str], table: Table, multilabel: bool, none: str | None, where: str
) -> tuple[str, ...]:
    if len(table.classes) > 1:
        return tuple(column for column in table.classes if _is_set(row[column], column, where))
    names = [name.strip() for name in row[table.classes[0]].split(SEPARATOR)]
    if len(names) > 1 and not multilabel:
        raise MedsegError(
            f"{where}: column {table.classes[0]} names several classes, {row[table.classes[0]]!r}; if images may have"
            " several, say --multilabel"
        )
    return tuple(dict.fromkeys(name for name in names if name and name != none))


def _is_set(value: str, column: str, where: str) -> bool:
    word = value.strip().lower()
    if word not in (*YES, *NO):
        raise MedsegError(f"{where}: column {column} is {value!r}; a column of one class holds 0 or 1")
    return word in YES
