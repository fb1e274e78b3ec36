"""The results of a study: the cases of its done runs as one table, and what is missing of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from medseg.errors import MedsegError
from medseg.results import RUN_KEYS, read_cases
from medseg.study.folder import StudyFolder
from medseg.study.ledger import Ledger, Row

if TYPE_CHECKING:
    import pandas as pd


def study_files(root: Path) -> list[Path]:
    """The ``cases.csv`` of every done run, which lies beside what else is left of it.

    Only runs that the ledger knows as done count; results that lie beside them are of other settings or code.

    Args:
        root: the study's folder.

    Raises:
        MedsegError: there is no study, no run is done, or results are gone.
    """
    folder = StudyFolder(root)
    done = [row for row in rows_of(folder) if row.state == "done"]
    files = [place(folder, row) / "cases.csv" for row in done]
    if not files:
        raise MedsegError(f"{root}: no run is done; 'medseg study status' says how far it is")
    gone = [file for file in files if not file.is_file()]
    if gone:
        raise MedsegError(
            f"{gone[0]}: the results of {len(gone)} done runs are gone; 'medseg study run' makes them again"
        )
    return files


def study_table(root: Path) -> pd.DataFrame:
    """Every case of every done run: ``RUN_KEYS``, ``case``, ``group``, a column per metric, facts of the predictions.

    Args:
        root: the study's folder.

    Raises:
        MedsegError: as for ``study_files``, or a file is no table.
    """
    return read_cases(study_files(root))


def missing(root: Path) -> pd.DataFrame:
    """The runs that have no results: ``RUN_KEYS``, ``state`` and ``reason``."""
    import pandas as pd

    rows = [row for row in rows_of(StudyFolder(root)) if row.state != "done"]
    records = [{**keys_of(row), "state": row.state, "reason": row.error} for row in rows]
    return pd.DataFrame(records, columns=[*RUN_KEYS, "state", "reason"])


def notes(root: Path) -> list[str]:
    """What a reader of the table must know: runs that are missing and why, and other versions of the code."""
    rows = rows_of(StudyFolder(root))
    said = []
    for state, word in (("failed", "failed"), ("running", "still run"), ("waiting", "have not run yet")):
        number = sum(row.state == state for row in rows)
        said += [f"{number} of {len(rows)} runs {word}"] if number else []
    said += [f"{row.name} failed: {row.error}" for row in rows if row.state == "failed"]
    versions: dict[str, int] = {}
    for row in rows:
        if row.state == "done":
            versions[row.code] = versions.get(row.code, 0) + 1
    if len(versions) > 1:
        parts = ", ".join(f"{number} of {code}" for code, number in versions.items())
        said.append(f"the runs are of {len(versions)} versions of the code: {parts}")
    return said


def rows_of(folder: StudyFolder) -> list[Row]:
    """The runs of the study's plan.

    Raises:
        MedsegError: the folder holds no study.
    """
    if not folder.ledger.is_file():
        raise MedsegError(f"{folder.root}: no study here ({folder.ledger.name} is missing)")
    return Ledger(folder.ledger).rows()


def place(folder: StudyFolder, row: Row) -> Path:
    """The folder of a run."""
    return folder.run_folder(row.name.rpartition("/")[0], row.repeat, row.split)


def keys_of(row: Row) -> dict[str, str | int]:
    """A run's ``RUN_KEYS``."""
    return {key: getattr(row, key) for key in RUN_KEYS}
