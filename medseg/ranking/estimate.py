"""A mean with its interval, and the difference of two means of independent runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medseg.ranking.bootstrap import take_apart, variances
from medseg.ranking.cells import Array
from medseg.ranking.table import of_sets
from medseg.results import BOUNDS

if TYPE_CHECKING:
    import pandas as pd

#: the level of the intervals in a run's ``metrics.csv``
OWN_LEVEL = 0.95
ONE_REPEAT = (
    "Of one repeat the interval is of test cases alone: what another training would change is not known."
)


@dataclass(frozen=True)
class Estimate:
    """A mean over the cases of runs, then over repeats, then over settings, then over data sets.

    Args:
        mean: NaN where a value is not finite.
        variance: of the mean, NaN where nothing tells of chance.
        df: degrees of freedom of the variance; may be infinite.
        bounded: every value lies in 0 to 1, and so does the mean.
        cases: test cases, each counted once however many runs it was tested in; 0 where only runs' values are known.
        groups: groups of cases (patients, videos), likewise.
        repeats: the largest number of repeats of a setting.
    """

    mean: float
    variance: float
    df: float
    bounded: bool
    cases: int
    groups: int
    repeats: int

    def interval(self, level: float) -> tuple[float, float]:
        """The lower and the upper bound; NaN where nothing tells of chance."""
        half = quantile(self.df, level) * math.sqrt(self.variance)
        low, high = self.mean - half, self.mean + half
        return (max(low, 0.0), min(high, 1.0)) if self.bounded and low == low else (low, high)


def quantile(df: float, level: float) -> float:
    """Student's factor of a two-sided interval; the normal one for infinite degrees of freedom."""
    from scipy.special import ndtri, stdtrit

    tail = 1 - (1 - level) / 2
    return float(ndtri(tail) if math.isinf(df) else stdtrit(df, tail))


def estimate(rows: pd.DataFrame, settings: Sequence[str] = ()) -> Estimate:
    """The mean of one metric, as the verdicts of a ranking compute it, on these data sets.

    Repeats and groups of cases are what chance draws (see :mod:`medseg.ranking.bootstrap`). A metric of whole test
    parts has no cases: its variance is that of the repeats, but never less than what the runs' own intervals leave to
    their mean; with one repeat it is that of the run's own interval.

    Args:
        rows: of one metric of a normalised table, perhaps of several data sets.
        settings: the columns whose combinations are averaged over.
    """
    values = rows["value"].to_numpy(float)
    dataset, repeat, group = codes(rows, "dataset"), codes(rows, "repeat"), group_codes(rows)
    setting = _joined([codes(rows, column) for column in settings if column != "dataset"], len(rows))
    counts = (*_counts(rows, dataset, group), _most(_joined([dataset, setting], len(rows)), repeat))
    if not len(rows) or not np.isfinite(values).all():
        return Estimate(math.nan, math.nan, math.nan, False, *counts)
    mine = [np.flatnonzero(dataset == code) for code in np.unique(dataset)]
    parts = [take_apart(0, values[i, None], setting[i], repeat[i], group[i]) for i in mine]
    spread = variances(parts, between=False)
    variance, df = float(spread.total[0]), float(spread.df[0])
    own = _own(rows)
    means = [float(own[i].mean()) / len(part.repeats) for i, part in zip(mine, parts, strict=True)]
    least = sum(means) / len(parts) ** 2
    if least == least and not variance >= least:
        variance, df = least, math.inf
    mean = float(np.mean([part.mean[0] for part in parts]))
    bounded = bool(values.min() >= 0 and values.max() <= 1)
    return Estimate(mean, variance, df, bounded, *counts)


def codes(rows: pd.DataFrame, column: str) -> Array:
    """The levels of a column as numbers in their order; one for all where there is no such column."""
    import pandas as pd

    if column not in rows.columns:
        return np.zeros(len(rows), np.int64)
    return pd.factorize(rows[column].to_numpy(object), sort=True)[0]


def group_codes(rows: pd.DataFrame) -> Array:
    """The group of each row as a number: the case itself where no group is given, one for all without cases."""
    import pandas as pd

    if "group" not in rows.columns or "case" not in rows.columns:
        return codes(rows, "case")
    group, case = (rows[column].to_numpy(object) for column in ("group", "case"))
    # a name that no group has, so that a case is never taken for one
    return pd.factorize(np.where(group == "", "\x01" + case, group), sort=True)[0]


def _joined(parts: Sequence[Array], length: int) -> Array:
    """One number for each combination of codes."""
    joined = np.zeros(length, np.int64)
    for part in parts:
        joined = joined * (int(part.max(initial=0)) + 1) + part
    return joined


def _own(rows: pd.DataFrame) -> Array:
    """The variance of each value by its run's own interval, NaN where there is none.

    Settings were tested on the same cases, so that a mean over them is no surer than one of them.
    """
    if not of_sets(rows).all() or not set(BOUNDS) <= set(rows.columns):
        return np.full(len(rows), np.nan)
    width = (rows["high"] - rows["low"]).to_numpy(float)
    return np.square(width / (2 * quantile(math.inf, OWN_LEVEL)))


def _counts(rows: pd.DataFrame, dataset: Array, group: Array) -> tuple[int, int]:
    """Cases and groups, of each data set those that differ."""
    if "case" not in rows.columns:
        return 0, 0
    tested = ~of_sets(rows)
    found = (_joined([dataset, each], len(rows))[tested] for each in (codes(rows, "case"), group))
    cases, groups = (len(np.unique(each)) for each in found)
    return cases, groups


def _most(setting: Array, repeat: Array) -> int:
    """The largest number of repeats that a setting has."""
    runs = np.unique(np.stack([setting, repeat]), axis=1)
    return int(np.bincount(np.unique(runs[0], return_inverse=True)[1]).max(initial=0))


def difference(one: Estimate, other: Estimate, level: float) -> tuple[float, float, float]:
    """One mean less the other, with Welch's interval (1947, doi:10.1093/biomet/34.1-2.28) for independent runs.

    Args:
        one: an estimate.
        other: one of other runs.
        level: of the interval.

    Returns:
        the difference and its bounds, which are NaN where nothing tells of chance.
    """
    gap, total = one.mean - other.mean, one.variance + other.variance
    if total != total:
        return gap, math.nan, math.nan
    terms = [e.variance**2 / e.df for e in (one, other) if e.variance > 0 and not math.isinf(e.df)]
    df = total**2 / sum(terms) if terms else math.inf
    half = quantile(df, level) * math.sqrt(total)
    reach = 1.0 if one.bounded and other.bounded else math.inf
    return gap, max(gap - half, -reach), min(gap + half, reach)
