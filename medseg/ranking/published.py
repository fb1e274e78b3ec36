"""Values that others have published: read from a table, and told what medseg calls their data sets and models."""

from __future__ import annotations

import csv
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from medseg.errors import MedsegError, unknown
from medseg.ranking.table import number_column, text_column
from medseg.results import RUN_KEYS, read_csv

if TYPE_CHECKING:
    import pandas as pd

#: the number or name of the table that a value stands in
TABLE = "table"
#: what a published value may be keyed by, besides its table and metric
FACTORS = tuple(key for key in RUN_KEYS if key != "repeat")
#: what other tables call our columns
COLUMNS = {
    "augmentation": "augment",
    "preprocessing": "preprocess",
    "network": "model",
    "architecture": "model",
    "data_set": "dataset",
    "data": "dataset",
}
#: what medseg calls published levels that it has under another name
LEVELS = {
    ("model", "efficientnetv2"): ("efficientnetv2_s",),
    ("dataset", "busi"): ("busi_lesions",),
    ("augment", "geometric"): ("breast_geometric",),
}


@dataclass(frozen=True)
class Aliases:
    """What medseg calls the levels of a published table.

    Args:
        given: (column, published level) -> our level, as the user says; these are taken whatever we have.
        known: likewise with several of ours, taken where we have none of the published name.
    """

    given: Mapping[tuple[str, str], str] = field(default_factory=dict)
    known: Mapping[tuple[str, str], tuple[str, ...]] = field(default_factory=lambda: dict(LEVELS))

    def ours(self, column: str, theirs: str, levels: Collection[str]) -> tuple[str, ...]:
        """Our levels for a published one; empty where we have none.

        Args:
            column: such as ``model``.
            theirs: the published level.
            levels: those of our table.
        """
        said = self.given.get((column, theirs))
        if said is not None:
            return (said,) if said in levels else ()
        if theirs in levels:
            return (theirs,)
        return tuple(name for name in self.known.get((column, theirs), ()) if name in levels)

    def check(self, published: pd.DataFrame) -> None:
        """Raise MedsegError if an alias is of a column or level that is not published."""
        for column, theirs in self.given:
            known = [c for c in (*FACTORS, "metric") if c in published.columns]
            if column not in known:
                raise unknown("column of an alias", column, known)
            if theirs not in set(published[column]):
                raise unknown(f"published {column}", theirs, published[column].unique())


def read_published(
    path: Path,
    columns: Mapping[str, str] | None = None,
    tables: Sequence[str] = (),
    metrics: Collection[str] = (),
    percent: bool = False,
) -> pd.DataFrame:
    """Read published values: one row per value (columns ``metric`` and ``value``), or a column per metric.

    Args:
        path: a CSV file with the columns ``dataset model loss augment ...``, as far as the values are told apart by
            them, and perhaps ``table``.
        columns: one of these columns or a metric -> what the file calls it.
        tables: only the values of these tables; all by default.
        metrics: names of metrics, besides those that medseg knows, that are columns of a table without ``value``.
        percent: the values are percentages and are divided by 100.

    Returns:
        ``table`` (empty where the file has none), those of ``FACTORS`` that it has, ``metric`` and ``value``.

    Raises:
        MedsegError: a column is missing, a value is no number, a table holds a value twice, or there is no such table.
    """
    frame = _read(path, columns or {})
    rows = len(frame)
    frame = frame if "value" in frame.columns else _melted(frame, path, metrics)
    if "metric" not in frame.columns:
        raise MedsegError(f"{path}: there is a column 'value' but none 'metric'; name the metric of each row")
    keys = [c for c in (TABLE, *FACTORS) if c in frame.columns]
    if not {"dataset", "model", "loss", "augment"} & set(keys):
        raise MedsegError(
            f"{path}: nothing says what was measured; name columns with --column, as --column model=network "
            f"(it has {', '.join(frame.columns)})"
        )
    values = number_column(frame, str(path), rows)
    frame = frame[[*keys, "metric"]].apply(text_column).assign(value=values / (100 if percent else 1))
    frame = frame if TABLE in keys else frame.assign(**{TABLE: ""})
    frame = frame[frame["value"].notna()].reset_index(drop=True)
    frame = _of_tables(frame, tables, path)
    _check_twice(frame, path)
    return frame[[TABLE, *(c for c in FACTORS if c in keys), "metric", "value"]]


def _read(path: Path, columns: Mapping[str, str]) -> pd.DataFrame:
    frame = read_csv(path, renamed={theirs: ours for ours, theirs in columns.items()})
    with path.open(encoding="utf-8-sig", newline="") as lines:
        header = [name.strip() for name in next(csv.reader(lines), [])]
    for theirs in columns.values():
        if theirs not in header:
            raise MedsegError(f"{path}: {unknown('column', theirs, header)}")
    present = set(frame.columns)
    known = {theirs: ours for theirs, ours in COLUMNS.items() if theirs in present and ours not in present}
    return frame.rename(columns=known)


def _melted(frame: pd.DataFrame, path: Path, metrics: Collection[str]) -> pd.DataFrame:
    from medseg.metrics import BETTER

    keys = [c for c in frame.columns if c in (TABLE, *FACTORS)]
    found = [c for c in frame.columns if c in {*BETTER, *metrics} and c not in keys]
    if not found:
        raise MedsegError(
            f"{path}: neither the columns 'metric' and 'value' nor one named after a metric; it has "
            f"{', '.join(frame.columns)} (--column dice=NAME says that one holds a metric)"
        )
    return frame.melt(id_vars=keys, value_vars=found, var_name="metric", value_name="value")


def _of_tables(frame: pd.DataFrame, tables: Sequence[str], path: Path) -> pd.DataFrame:
    present = list(frame[TABLE].unique())
    for name in tables:
        if name not in present:
            raise MedsegError(f"{path}: {unknown('table', name, filter(None, present))}")
    return frame[frame[TABLE].isin(list(tables))].reset_index(drop=True) if tables else frame


def _check_twice(frame: pd.DataFrame, path: Path) -> None:
    if not len(frame):
        raise MedsegError(f"{path}: no value is published there")
    keys = [c for c in frame.columns if c != "value"]
    twice = frame.duplicated(keys)
    if twice.any():
        row = frame[twice.to_numpy()].iloc[0]
        said = " ".join(f"{key}={row[key]}" for key in keys if row[key])
        raise MedsegError(
            f"{path}: {int(twice.sum())} value(s) given twice, first: {said}; a column 'table' tells them apart, or "
            "--column names one of " + ", ".join(c for c in FACTORS if c not in keys)
        )
