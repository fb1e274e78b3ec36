"""The tidy results table: read, checked, filtered, and its holes found."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medseg.errors import MedsegError, unknown
from medseg.metrics import BETTER, entry
from medseg.results import (
    BOUNDS,
    COLUMNS,
    FACTS,
    RUN_KEYS,
    read_cases,
    read_csv,
    read_sets,
    tidy,
)

if TYPE_CHECKING:
    import pandas as pd

    from medseg.registry import Entry

DIRECTIONS = ("higher", "lower")
#: columns of numbers; all others are text
NUMBERS = ("value", "reference_px", "predicted_px", *BOUNDS)
#: the metric of a table when nobody names one: the first that the table has
USUAL = ("dice", "accuracy")
#: before the name of a class, in a column of its probabilities
PROBABILITY = "p_"
NOTHING = ("", "nan", "na", "none", "<na>")


def load(
    paths: Iterable[Path],
    better: Mapping[str, str] | None = None,
    columns: Mapping[str, str] | None = None,
    metrics: Collection[str] = (),
    say: Callable[[str], None] | None = None,
    rows: Mapping[str, Sequence[str]] | None = None,
) -> pd.DataFrame:
    """Read tidy or wide CSV tables and put them below each other.

    Args:
        paths: CSV files; each is checked by :func:`normalise`.
        better: metric -> ``higher`` or ``lower``, for metrics that neither a table nor the registry knows.
        columns: one of medseg's columns (``case``, ``loss``, ``value``, ...) or metrics -> what the tables call it.
        metrics: read only these of a wide table, if it has them all.
        say: is told, in one sentence a table, which columns are not read.
        rows: column -> its levels in the rows to read; of columns that are not read otherwise.

    Raises:
        MedsegError: a file is missing, is no results table, lacks a column or level of ``columns`` or ``rows``, or two
            rows are the same measurement.
    """
    return together([_read(path, better or {}, columns or {}, metrics, say, rows or {}) for path in paths])


def together(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Put normalised tables below each other; a key that one lacks is empty there.

    Raises:
        MedsegError: two of them hold the same measurement.
    """
    import pandas as pd

    if len(tables) == 1:
        return tables[0]
    whole = pd.concat(tables, ignore_index=True)
    keys = [c for c in whole.columns if c not in NUMBERS]
    whole[keys] = whole[keys].fillna("")
    _check_duplicates(whole, "the tables together", ())
    return whole


def _read(
    path: Path,
    better: Mapping[str, str],
    columns: Mapping[str, str],
    metrics: Collection[str],
    say: Callable[[str], None] | None,
    rows: Mapping[str, Sequence[str]],
) -> pd.DataFrame:
    for ours in columns:
        if ours not in (*COLUMNS, *BETTER, *better):
            raise unknown("column", ours, (*COLUMNS, *BETTER))
    frame = read_csv(path, renamed={theirs: ours for ours, theirs in columns.items()})
    for ours, theirs in columns.items():
        if ours not in frame.columns:
            try:
                raise unknown("column", theirs, frame.columns)
            except MedsegError as error:
                raise MedsegError(f"{path}: {error}") from None
    left = unread(frame, better, metrics)
    left = [column for column in left if column not in rows]
    table = normalise(_having(frame, rows, path), str(path), better, metrics)
    if left and say:
        say(f"{path}: columns not read: {', '.join(left)} (--column KEY=NAME reads one as a key)")
    return table


def _having(frame: pd.DataFrame, rows: Mapping[str, Sequence[str]], path: Path) -> pd.DataFrame:
    for column, levels in rows.items():
        if column not in frame.columns:
            raise MedsegError(f"{path}: {unknown('column', column, frame.columns)}")
        text = text_column(frame[column])
        for level in levels:
            if not (text == level).any():
                raise MedsegError(f"{path}: {unknown(column, level, text.unique())}")
        frame = frame[text.isin(list(levels))]
    return frame


def unread(
    frame: pd.DataFrame, better: Mapping[str, str] | None = None, metrics: Collection[str] = ()
) -> list[str]:
    """The columns of a table that :func:`normalise` leaves out."""
    read = {*COLUMNS, *FACTS, *BOUNDS, *_probabilities(frame)}
    if "value" not in frame.columns:
        read |= set(_directions_of(frame, better or {}, metrics))
    return [str(c) for c in frame.columns if c not in read]


def _probabilities(frame: pd.DataFrame) -> list[str]:
    """The columns of a classification's probabilities."""
    classified = "predicted" in frame.columns
    return [c for c in frame.columns if classified and str(c).startswith(PROBABILITY)]


def read_runs(
    files: Sequence[Path],
    source: str = "table",
    better: Mapping[str, str] | None = None,
    metrics: Collection[str] = (),
) -> pd.DataFrame:
    """The normalised table of finished runs: every case, and the metrics that runs have of whole test parts only.

    A row of the latter (``metrics.csv`` beside ``cases.csv``) has an empty ``case``, and ``low`` and ``high``, the
    interval that the run itself gives.

    Args:
        files: every run's ``cases.csv``.
        source: name of the table in messages.
        better: metric -> ``higher`` or ``lower``, for metrics that medseg does not know.
        metrics: keep only these, if the runs have them all.

    Raises:
        MedsegError: a file is missing or is no such table, or no column of it is a metric.
    """
    wide = read_cases(files)
    if metrics and set(metrics) <= set(wide.columns):
        return normalise(wide, source, better, metrics)
    table = normalise(wide, source, better)
    sets = read_sets(files, {**BETTER, **(better or {})})
    if len(sets):
        table = together([table, normalise(sets, source)])
    kept = table["metric"].isin(list(metrics))
    return table[kept].reset_index(drop=True) if set(metrics) <= set(table["metric"]) and metrics else table


def usual_metric(table: pd.DataFrame) -> str:
    """The metric to rank by when nobody names one: the Dice coefficient of masks, or the accuracy of classes.

    Raises:
        MedsegError: the table has neither.
    """
    present = set(table["metric"])
    for metric in USUAL:
        if metric in present:
            return metric
    if len(present) == 1:
        return str(present.pop())
    raise MedsegError(
        f"the table has neither {' nor '.join(USUAL)}; name a metric with --metric: {', '.join(sorted(present))}"
    )


def of_sets(table: pd.DataFrame) -> np.ndarray:
    """The rows whose value is of a whole test part, in a table that has cases; shape ``(rows,)``, boolean."""
    if "case" not in table.columns:
        return np.zeros(len(table), bool)
    return (table["case"] == "").to_numpy()


def normalise(
    frame: pd.DataFrame,
    source: str = "table",
    better: Mapping[str, str] | None = None,
    metrics: Collection[str] = (),
) -> pd.DataFrame:
    """Check a tidy table (columns ``metric``, ``value``) or a wide one (a column per metric); make it tidy.

    The result has text columns for whatever of ``RUN_KEYS``, ``case``, ``group`` and ``better`` the table
    has, ``metric``, and numeric ``value``; and of ``FACTS`` what it has, which each metric of a case repeats, and of
    ``BOUNDS``. Columns that are none of these are not read. In a table with cases, a row without one is of the run's
    whole test part.

    Args:
        frame: the table; its index is not read.
        source: name of the table in messages, such as its path.
        better: metric -> ``higher`` or ``lower`` of unregistered metrics (also names the columns of a wide
            table).
        metrics: keep only these of a wide table, if it has them all.

    Raises:
        MedsegError: a column is missing, a value is not a number, or two rows are the same measurement.
    """
    frame, rows = frame.reset_index(drop=True), len(frame)
    ignored = [str(c) for c in frame.columns if c not in (*COLUMNS, *FACTS, *BOUNDS)]
    wide = "value" not in frame.columns
    if wide:
        frame = _from_wide(frame, source, better or {}, metrics)
    elif "metric" not in frame.columns:
        raise MedsegError(
            f"{source}: there is a column 'value' but none 'metric'; name the metric of each row"
        )
    frame = frame[[c for c in (*COLUMNS, *FACTS, *BOUNDS) if c in frame.columns]].copy()
    frame["value"] = number_column(frame, source, rows)
    for column in frame.columns.drop("value"):
        frame[column] = _areas(frame[column]) if column in NUMBERS else text_column(frame[column])
    if not len(frame):
        raise MedsegError(f"{source}: the table has no rows")
    _check_duplicates(frame, source, () if wide else ignored)
    return frame


def _from_wide(
    frame: pd.DataFrame, source: str, better: Mapping[str, str], metrics: Collection[str]
) -> pd.DataFrame:
    known = _directions_of(frame, better, metrics)
    if not known:
        raise MedsegError(
            f"{source}: neither the columns 'metric' and 'value' nor one named after a metric; "
            f"it has {', '.join(map(str, frame.columns))} (--column dice=NAME says that one holds a metric, or "
            "--metric NAME --better NAME=higher)"
        )
    wanted = metrics if set(metrics) <= set(known) else ()
    return tidy(frame, {name: way for name, way in known.items() if name in wanted or not wanted})


def _directions_of(
    frame: pd.DataFrame, better: Mapping[str, str], metrics: Collection[str]
) -> dict[str, str]:
    """The metrics among a wide table's columns, and which direction is better."""
    known = {**BETTER, **better}
    other = {*COLUMNS, *FACTS, *BOUNDS, *_probabilities(frame), *known}
    strange = [c for c in frame.columns if c not in other]
    if strange and not (metrics and set(metrics) <= set(known)):
        # only now is the registry asked: its metrics import torch, which takes seconds
        found = {name: registered(name) for name in strange}
        known = {**{name: one.facts["better"] for name, one in found.items() if one}, **known}
    return {name: way for name, way in known.items() if name in frame.columns}


def text_column(column: pd.Series) -> pd.Series:
    """Keys as text, a repeat of ``1.0`` as ``1``, nothing as the empty text."""
    import pandas as pd

    if isinstance(column.dtype, pd.StringDtype):
        return column.fillna("")
    if pd.api.types.is_float_dtype(column) and (column.dropna() % 1 == 0).all():
        column = column.astype("Int64")
    codes, levels = pd.factorize(column)
    # nothing has the code -1, the last level
    return pd.Series([*map(str, levels), ""]).iloc[codes].set_axis(column.index)


def _areas(column: pd.Series) -> pd.Series:
    """Areas in pixels; what is no number is not known."""
    import pandas as pd

    return pd.to_numeric(column, errors="coerce").astype(float)


def number_column(frame: pd.DataFrame, source: str, rows: int = 0) -> pd.Series:
    """The column ``value`` as floats; ``rows`` is the file's number of rows, repeated per metric by a wide table.

    Raises:
        MedsegError: a value is text.
    """
    import pandas as pd

    values = pd.to_numeric(frame["value"], errors="coerce")
    # an empty or nan value is a hole of the grid and is named by missing(); other text is a mistake
    wrong = [
        r for r in np.flatnonzero(values.isna()) if str(frame["value"].iloc[r]).strip().lower() not in NOTHING
    ]
    if wrong:
        row = wrong[0]
        raise MedsegError(
            f"{source}: row {row % (rows or len(frame)) + 2}: value {frame['value'].iloc[row]!r} is not a number "
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


def registered(name: str) -> Entry | None:
    """The metric of that name, None if there is none; it imports torch."""
    try:
        return entry(name)
    except MedsegError:
        return None


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
    told = table.loc[table["metric"] == metric, "better"].unique() if "better" in table.columns else ()
    said = {way for way in told if way}
    if not said:
        said = {BETTER[metric]} if metric in BETTER else set()
    # a registered metric that BETTER lacks, unless its direction is given: this imports torch
    mine = None if said or given else registered(metric)
    if mine:
        said = {mine.facts["better"]}
    said |= {given} if given else set()
    if len(said) != 1 or not said <= set(DIRECTIONS):
        fault = f"is said to be better {' and '.join(sorted(said))}" if said else "has no known direction"
        raise MedsegError(
            f"metric {metric!r} {fault}; the column 'better' (or --better {metric}=...) says higher or lower"
        )
    return said.pop()
