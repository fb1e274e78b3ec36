"""The results tables: their columns, atomic writing, reading, and collecting them from bundles."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from medseg.errors import MedsegError

if TYPE_CHECKING:
    import pandas as pd

#: what a run is keyed by, in this order, wherever runs are named
RUN_KEYS = ("dataset", "model", "loss", "preprocess", "augment", "split", "repeat")
#: the tidy table that ranking reads: one row per measurement
COLUMNS = (*RUN_KEYS, "case", "group", "metric", "better", "value")
#: what stands in a column of numbers for no value
NO_NUMBER = ("", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "-nan", "NULL", "null", "None")


@contextmanager
def atomic_write(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open ``path`` for writing so that readers see the old file or the whole new one, never a part.

    The text goes to a temporary file beside ``path``, is flushed to disk, and replaces ``path`` on a clean exit.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        encoding = None if "b" in mode else "utf-8"
        with os.fdopen(handle, mode, encoding=encoding) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Write a table as CSV, atomically, without its index."""
    with atomic_write(path) as file:
        frame.to_csv(file, index=False, lineterminator="\n")


def read_csv(path: Path) -> pd.DataFrame:
    """Read a CSV table, keeping empty text as empty text (a preprocess of none is ``""``), numbers exactly.

    Raises:
        MedsegError: the file is missing or is no table.
    """
    import pandas as pd

    # keys stay text: case 001 is not case 1, and an empty preprocess is "" and not a missing value
    text = {c: str.strip for c in COLUMNS if c not in ("repeat", "value")}
    # pandas up to 3.0 misses the last bit of every third number unless asked; 3.1 never does, and warns if asked
    exact = tuple(map(int, pd.__version__.split(".")[:2])) >= (3, 1)
    precision: Any = None if exact else "round_trip"
    options: dict[str, Any] = {"skipinitialspace": True, "converters": text, "keep_default_na": False}
    try:
        # from pandas 3.1 on even what a converter returned can become a missing value: only numbers are missed
        missing = {c: NO_NUMBER for c in pd.read_csv(path, nrows=0, **options).columns if c not in text}
        frame = pd.read_csv(path, na_values=missing, float_precision=precision, **options)
    except FileNotFoundError:
        raise MedsegError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise MedsegError(f"{path}: not a readable CSV table ({error})") from None
    return frame


def tidy(wide: pd.DataFrame, better: dict[str, str]) -> pd.DataFrame:
    """Turn a ``cases.csv`` table (one row per case, one column per metric) into one row per measurement.

    Args:
        wide: columns ``RUN_KEYS``, ``case``, ``group`` and one per metric.
        better: metric name -> ``higher`` or ``lower``; other columns are left out.
    """
    keys = [c for c in COLUMNS if c in wide.columns and c not in better]
    metrics = [c for c in wide.columns if c in better]
    long = wide.melt(id_vars=keys, value_vars=metrics, var_name="metric", value_name="value")
    long["better"] = long["metric"].map(better)
    return long[[c for c in COLUMNS if c in long.columns]]


def case_files(bundles: Path) -> list[Path]:
    """Every finished repeat's ``cases.csv`` below a folder of bundles, in name order."""
    return sorted(bundles.glob("*/repeats/*/cases.csv"))


def collect(bundles: Path, better: dict[str, str]) -> pd.DataFrame:
    """The tidy table of every finished repeat below a folder of bundles.

    Raises:
        MedsegError: there is no finished repeat.
    """
    import pandas as pd

    files = case_files(bundles)
    if not files:
        raise MedsegError(
            f"{bundles}: no finished run (repeats/<k>/cases.csv); train one with 'medseg bundle run'"
        )
    return pd.concat([tidy(read_csv(file), better) for file in files], ignore_index=True)
