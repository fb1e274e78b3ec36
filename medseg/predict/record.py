"""What a folder of predictions holds and how they were made, so that a stopped command can go on."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medseg.errors import MedsegError
from medseg.predict.inputs import Item
from medseg.predict.measures import MEASURES
from medseg.predict.names import plain
from medseg.results import atomic_write

FILE, TABLE = "predict.json", "predictions.csv"
#: of masks: one row per label of each image, slice or frame, and one for each input that failed
COLUMNS = ("file", "frame", "outcome", "reason", "label", *MEASURES, "spacing", "mask")
#: seconds between two writes; with many rows, at least so many times what a write takes
EVERY, PATIENCE = 2.0, 20

Row = dict[str, Any]


class Record:
    """The rows of what is predicted, written now and then, so that little is lost when the command is stopped.

    Args:
        folder: of the outputs.
        run: what the predictions depend on, of plain values.
        overwrite: forget what is there.
        columns: of the table.

    Raises:
        MedsegError: the folder holds predictions that were made otherwise, or a broken record.
    """

    def __init__(
        self,
        folder: Path,
        run: Mapping[str, Any],
        overwrite: bool = False,
        columns: Sequence[str] = COLUMNS,
    ) -> None:
        self.folder = folder
        self.columns = columns
        self.run = json.loads(json.dumps(run))
        self._before = {} if overwrite else self._read()
        self._items: dict[str, dict[str, Any]] = {}
        self.order: Sequence[str] = ()
        self._due = 0.0

    def known(self, item: Item) -> list[Row] | None:
        """The rows of an item that is done: its files are the same, and its outputs are there."""
        entry = self._before.get(item.name)
        if entry is None or entry["stamp"] != stamp(item):
            return None
        if not all((self.folder / output).is_file() for output in entry["outputs"]):
            return None
        self._items[item.name] = entry
        return list(entry["rows"])

    def done(self, item: Item, rows: Sequence[Row], outputs: Sequence[Path]) -> None:
        """Note an item whose outputs are written."""
        names = [path.relative_to(self.folder).as_posix() for path in outputs]
        self._note(item.name, {"stamp": stamp(item), "outputs": names, "rows": rows})

    def failed(self, name: str, row: Row) -> None:
        """Note an input that failed; the same command will try it again."""
        self._note(name, {"stamp": "", "outputs": [], "rows": [row]})

    def rows(self) -> list[Row]:
        """All rows so far: of the items as ``order`` names them, then of other inputs."""
        names = dict.fromkeys([*(name for name in self.order if name in self._items), *self._items])
        return [row for name in names for row in self._items[name]["rows"]]

    def forget(self) -> None:
        """Forget what is there, before any of it is replaced."""
        (self.folder / FILE).unlink(missing_ok=True)

    def write(self) -> None:
        """Write the table, then the record."""
        import csv

        started = time.monotonic()
        with atomic_write(self.folder / TABLE) as file:
            table = csv.DictWriter(file, self.columns, restval="", lineterminator="\n")
            table.writeheader()
            table.writerows(self.rows())
        with atomic_write(self.folder / FILE) as file:
            json.dump({"run": self.run, "items": {**self._before, **self._items}}, file, indent=1)
        now = time.monotonic()
        self._due = now + max(EVERY, PATIENCE * (now - started))

    def _note(self, name: str, entry: dict[str, Any]) -> None:
        rows = [
            {key: plain(value) if isinstance(value, str) else value for key, value in row.items()}
            for row in entry["rows"]
        ]
        self._items[name] = {**entry, "rows": rows}
        if time.monotonic() >= self._due:
            self.write()

    def _read(self) -> dict[str, dict[str, Any]]:
        path = self.folder / FILE
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            run, items = found["run"], dict(found["items"])
        except FileNotFoundError:
            return {}
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise MedsegError(f"{path}: not a record of predictions ({error}); give --overwrite") from None
        changed = [key for key in {**run, **self.run} if run.get(key) != self.run.get(key)]
        if changed:
            words = "; ".join(
                f"{key} {_shown(run.get(key))}, now {_shown(self.run.get(key))}" for key in changed
            )
            raise MedsegError(
                f"{self.folder}: holds predictions made otherwise ({words}); give another folder, or --overwrite"
            )
        return items


def stamp(item: Item) -> str:
    """A hash that changes with the files of an item: their places, sizes and times."""
    facts = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in item.files]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def file_hash(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
