"""The tidy results table: read, checked, filtered, and its holes found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medseg.errors import MedsegError, unknown
from medseg.results import COLUMNS, RUN_KEYS, read_csv, tidy

if TYPE_CHECKING:
    import pandas as pd

DIRECTIONS = ("higher", "lower")
NOTHING = ("", "nan", "na", "none", "<na>")


def load(paths: Iterable[Path], better: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Read tidy or wide CSV tables and put them below each other.

    Args:
        paths: CSV files; each is checked by :func:`normalise`.
        better: metric -> ``higher`` or ``lower``, for metrics that neither a table nor the registry knows.

    Raises:
        MedsegError: a file is missing, is no results table, or two rows are the same measurement.
    """
    import pandas as pd

    tables = [normalise(read_csv(path), source=str(path), better=better) for path in paths]
    if len(tables) == 1:
        return tables[0]
    whole = pd.concat(tables, ignore_index=True)
    keys = [c for c in whole.columns if c != "value"]
    whole[keys] = whole[keys].fillna("")
    _check_duplicates(whole, "the tables together", ())
    return whole


def normalise(
    frame: pd.DataFrame, source: str = "table", better: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """Check a tidy table (columns ``metric``, ``value``) or a wide one (a column per metric); make it tidy.

    The result has text columns for whatever of ``RUN_KEYS``, ``case``, ``group`` and ``better`` the table
    has, ``metric``, and numeric ``value``. Columns that are none of these are not read.

    Args:
        frame: the table; its index is not read.
        source: name of the table in messages, such as its path.
        better: metric -> ``higher`` or ``lower`` of unregistered metrics (also names the columns of a wide
            table).

    Raises:
        MedsegError: a column is missing, a value is not a number, or two rows are the same measurement.
    """
    frame, rows = frame.reset_index(drop=True), len(frame)
    ignored = [str(c) for c in frame.columns if c not in COLUMNS]
    wide = "value" not in frame.columns
    if wide:
        frame = _from_wide(frame, source, dict(better or {}))
    elif "metric" not in frame.columns:
        raise MedsegError(
            f"{source}: there is a column 'value' but none 'metric'; name the metric of each row"
        )
    frame = frame[[c for c in COLUMNS if c in frame.columns]].copy()
    frame["value"] = _numbers(frame, source, rows)
    for column in frame.columns.drop("value"):
        frame[column] = _text(frame[column])
    if not len(frame):
        raise MedsegError(f"{source}: the table has no rows")
    _check_duplicates(frame, source, () if wide else ignored)
    return frame


def _from_wide(frame: pd.DataFrame, source: str, better: dict[str, str]) -> pd.DataFrame:
    from medseg.metrics import METRICS

    known = {**better, **{e.name: e.facts["better"] for e in METRICS if e.name in frame.columns}}
    if not set(known) & set(frame.columns):
        raise MedsegError(
            f"{source}: neither the columns 'metric' and 'value' nor one named after a metric; "
            f"it has {', '.join(map(str, frame.columns))}"
        )
    return tidy(frame, known)


def _text(column: pd.Series) -> pd.Series:
    """Keys as text, a repeat of ``1.0`` as ``1``, nothing as the empty text."""
    import pandas as pd

    if pd.api.types.is_float_dtype(column) and (column.dropna() % 1 == 0).all():
        column = column.astype("Int64")
    codes, levels = pd.factorize(column)
    # nothing has the code -1, the last level
    return pd.Series(np.array([*map(str, levels), ""], dtype=object)[codes], index=column.index)


def _numbers(frame: pd.DataFrame, source: str, rows: int) -> pd.Series:
    """The values as floats; ``rows`` is the file's number of rows, repeated per metric by a wide table."""
    import pandas as pd

    values = pd.to_numeric(frame["value"], errors="coerce")
    # an empty or nan value is a hole of the grid and is named by missing(); other text is a mistake
    wrong = [
        r for r in np.flatnonzero(values.isna()) if str(frame["value"].iloc[r]).strip().lower() not in NOTHING
    ]
    if wrong:
        row = wrong[0]
        raise MedsegError(
            f"{source}: row {row % rows + 2}: value {frame['value'].iloc[row]!r} is not a number "
            f"({describe(frame.iloc[row])})" + (f"; {len(wrong) - 1} more like it" if len(wrong) > 1 else "")
        )
    return values.astype(float)


def _check_duplicates(frame: pd.DataFrame, source: str, ignored: Sequence[str]) -> None:
    keys = [c for c in (*RUN_KEYS, "case", "metric") if c in frame.columns]
    twice = frame.duplicated(keys)
    if twice.any():
        row = int(twice.to_numpy().argmax())
        hint = f"; columns not read: {', '.join(ignored)}" if ignored else ""
        free = ", ".join(c for c in (*RUN_KEYS, "case") if c not in keys) or "keys"
        raise MedsegError(
            f"{source}: {int(twice.sum())} measurement(s) given twice, first: {describe(frame.iloc[row])}; "
            f"tell them apart by a column named one of {free}, or drop one{hint}"
        )


def describe(row: pd.Series) -> str:
    """A row of the table in words: ``dataset=kvasir_seg loss=bce repeat=1``, empty keys left out."""
    keys = [c for c in (*RUN_KEYS, "case", "metric") if c in row.index]
    return " ".join(f"{c}={row[c]}" for c in keys if str(row[c]) not in ("", "nan"))


def where(table: pd.DataFrame, conditions: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """The rows whose columns have one of the given levels.

    Raises:
        MedsegError: the table has no such column or level.
    """
    for column, levels in conditions.items():
        check_column(table, column)
        present = table[column].unique()
        for level in levels:
            if level not in present:
                raise unknown(column, level, present)
        table = table[table[column].isin(list(levels))]
        if not len(table):
            raise MedsegError("no row of the table fulfils all the conditions of 'where'")
    return table


def check_column(table: pd.DataFrame, column: str) -> None:
    """Raise MedsegError unless ``column`` is a key column of the table."""
    keys = [c for c in (*RUN_KEYS, "case", "group") if c in table.columns]
    if column not in keys:
        raise unknown("column", column, keys)


def directions(
    table: pd.DataFrame, metrics: Sequence[str], better: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Whether ``higher`` or ``lower`` is better, of each metric: from the table, the registry, or ``better``.

    Raises:
        MedsegError: a metric is not in the table, or its direction is unknown or contradicts itself.
    """
    present = list(table["metric"].unique())
    for metric in metrics:
        if metric not in present:
            raise unknown("metric", metric, present)
    return {metric: _direction(table, metric, (better or {}).get(metric)) for metric in metrics}


def _direction(table: pd.DataFrame, metric: str, given: str | None) -> str:
    said = (
        {d for d in table.loc[table["metric"] == metric, "better"] if d}
        if "better" in table.columns
        else set()
    )
    if not said:
        from medseg.metrics import METRICS

        said = {METRICS[metric].facts["better"]} if metric in METRICS else set()
    said |= {given} if given else set()
    if len(said) != 1 or not said <= set(DIRECTIONS):
        fault = f"is said to be better {' and '.join(sorted(said))}" if said else "has no known direction"
        raise MedsegError(
            f"metric {metric!r} {fault}; the column 'better' (or --better {metric}=...) says higher or lower"
        )
    return said.pop()
