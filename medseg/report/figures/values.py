"""The values that figures are drawn from: one metric of a tidy table, its contestants in order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from medseg.errors import MedsegError, unknown
from medseg.ranking.table import check_column, directions

if TYPE_CHECKING:
    import pandas as pd


def of_metric(table: pd.DataFrame, metric: str, *columns: str) -> pd.DataFrame:
    """The rows of one metric that have a finite value.

    Args:
        table: a normalised table (see :func:`medseg.ranking.table.normalise`).
        metric: the metric.
        columns: key columns that the figure needs.

    Raises:
        MedsegError: the metric or a column is not in the table, or no value is finite.
    """
    for column in columns:
        check_column(table, column)
    if metric not in set(table["metric"]):
        raise unknown("metric", metric, table["metric"].unique())
    rows = table[(table["metric"] == metric) & np.isfinite(table["value"])]
    if not len(rows):
        raise MedsegError(f"no value of {metric} in the table is finite: there is nothing to draw")
    return rows.reset_index(drop=True)


def ordered(table: pd.DataFrame, of: str, metric: str, order: Sequence[str] | None = None) -> list[str]:
    """The contestants of a table of one metric, best mean first, or in the order given.

    Contestants that an order does not name come last, so that nobody is left out.
    """
    means = table.groupby(of, sort=True)["value"].mean()
    best = means.sort_values(ascending=directions(table, [metric])[metric] == "lower", kind="stable")
    given = [name for name in order or () if name in best.index]
    return [*given, *(str(name) for name in best.index if name not in given)]


def unit_of(metric: str) -> str:
    """The metric with its unit, such as ``hd95 (px)``."""
    from medseg.ranking.table import registered

    known = registered(metric)
    unit = known.facts.get("unit") if known else ""
    return f"{metric} ({unit})" if unit else metric


def is_share(metric: str) -> bool:
    """Whether a metric is one of medseg's that lie within 0 and 1: those without a unit but one that has no bound."""
    from medseg.ranking.table import registered

    known = registered(metric)
    return known is not None and not known.facts.get("unit") and known.facts.get("bounded", True)
