"""The ledger's file: its tables, one transaction at a time, and rows as records."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

from medseg.bundle.choice import Choice
from medseg.bundle.settings import Settings
from medseg.errors import MedsegError
from medseg.study.entry import Row
from medseg.study.process import Process
from medseg.study.spec import Cell

#: of the tables below; a ledger of another version is not touched
VERSION = 1
#: seconds to wait for others to let go of the file
BUSY = 60.0

SCHEMA = """
CREATE TABLE runs (
    key TEXT PRIMARY KEY, base TEXT NOT NULL, code TEXT NOT NULL, position INTEGER NOT NULL,
    name TEXT NOT NULL, dataset TEXT NOT NULL, model TEXT NOT NULL, loss TEXT NOT NULL, preprocess TEXT NOT NULL,
    augment TEXT NOT NULL, split TEXT NOT NULL, repeat INTEGER NOT NULL, cell TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'waiting', failures INTEGER NOT NULL DEFAULT 0,
    deaths INTEGER NOT NULL DEFAULT 0, unseen INTEGER NOT NULL DEFAULT 0, reached INTEGER NOT NULL DEFAULT 0,
    error TEXT NOT NULL DEFAULT '', began REAL, ended REAL, seconds REAL NOT NULL DEFAULT 0,
    token TEXT, host TEXT, space TEXT, pid INTEGER, started INTEGER, beats INTEGER, beat REAL
);
CREATE INDEX runs_by_state ON runs (state, failures, position);
CREATE TABLE attempts (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL, token TEXT NOT NULL, host TEXT NOT NULL, pid INTEGER NOT NULL,
    began REAL NOT NULL, ended REAL, outcome TEXT NOT NULL DEFAULT '', reason TEXT NOT NULL DEFAULT '', epochs INTEGER
);
CREATE INDEX attempts_by_key ON attempts (key);
"""


@contextmanager
def transaction(path: Path, write: bool = True) -> Iterator[sqlite3.Connection]:
    """A connection of its own with a transaction that is committed on a clean exit; tables are made when missing.

    Args:
        path: the file. On a shared folder it needs working POSIX locks.
        write: whether more than looking is meant.

    Raises:
        MedsegError: the file cannot be used, or is of another version.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        connection = sqlite3.connect(path, timeout=BUSY, isolation_level=None)
    except sqlite3.Error as error:
        raise MedsegError(f"{path}: cannot be opened ({error})") from None
    connection.row_factory = sqlite3.Row
    try:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
        _check(connection, path)
        yield connection
        connection.execute("COMMIT")
    except sqlite3.DatabaseError as error:
        raise MedsegError(f"{path}: the ledger cannot be used ({error})") from error
    finally:
        connection.close()  # takes back what was not committed


def _check(connection: sqlite3.Connection, path: Path) -> None:
    """Make the tables of a fresh file; refuse those of another version."""
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version not in (0, VERSION):
        raise MedsegError(
            f"{path}: written by another version of medseg (format {version}, not {VERSION}); use that one"
        )
    if version == 0:
        # who only meant to read must not turn writer with an old view of the file
        connection.execute("COMMIT")
        connection.execute("BEGIN IMMEDIATE")
        if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
            for statement in SCHEMA.split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {VERSION}")


#: every column of ``Row``
ROWS = "SELECT *, (SELECT count(*) FROM attempts WHERE attempts.key = runs.key) AS attempts FROM runs"


def as_row(row: sqlite3.Row) -> Row:
    """A row of ``ROWS`` as a record."""
    owner = owner_of(row) if row["host"] else None
    known: dict[str, Any] = {
        "owner": owner.name if owner else "",
        "host": row["host"] or "",
        "process": owner,
    }
    return Row(**known, **{f.name: row[f.name] for f in fields(Row) if f.name not in known})


def owner_of(row: sqlite3.Row) -> Process:
    """The process that has or had a run."""
    return Process(row["host"], row["space"], row["pid"], row["started"])


def cell_of(row: sqlite3.Row) -> Cell:
    """The run itself."""
    content = json.loads(row["cell"])
    choice, settings = content["choice"], content["settings"]
    return Cell(
        Choice(**{**choice, "preprocess": tuple(choice["preprocess"])}),
        row["repeat"],
        Settings(**{**settings, "image_size": tuple(settings["image_size"])}),
    )
