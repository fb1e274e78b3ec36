"""A mean with its interval, and the difference of two means of independent runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medseg.ranking.bootstrap import Part, take_apart, variances
from medseg.ranking.cells import Array
from medseg.ranking.table import of_sets
from medseg.results import BOUNDS

if TYPE_CHECKING:
    import pandas as pd

#: the level of the intervals in a run's ``metrics.csv``
OWN_LEVEL = 0.95
#: how the splits begin that have one test part for all repeats
ONE_TEST_PART = ("official", "external")
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
    """The mean of one metric, as a ranking computes it, with what chance there is about it on these data sets.

    Groups of cases and repeats are what chance draws; their variances are those of :mod:`medseg.ranking.bootstrap`. A
    metric of whole test parts has no cases: what these say is then read off the runs' own intervals.

    The degrees of freedom are Satterthwaite's (1946, doi:10.2307/3002019) of two parts: the cases, and what repeats
    vary beyond them. A ranking's verdicts are more careful with few repeats, whose agreement may be chance.

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
    own, fixed = _own(rows), _tested_alike(rows)
    means, variance, uncertain = [], 0.0, 0.0
    for code in np.unique(dataset):
        mine = np.flatnonzero(dataset == code)
        part = take_apart(0, values[mine, None], setting[mine], repeat[mine], group[mine])
        one, df = _variance(part, float(own[mine].mean()), bool(fixed[mine].all()))
        means.append(float(part.mean[0]))
        variance += one
        uncertain += one**2 / df
    df = variance**2 / uncertain if uncertain > 0 else math.inf
    bounded = bool(values.min() >= 0 and values.max() <= 1)
    return Estimate(float(np.mean(means)), variance / len(means) ** 2, df, bounded, *counts)


def _variance(part: Part, own: float, fixed: bool) -> tuple[float, float]:
    """The variance of a data set's mean and its degrees of freedom; NaN where nothing varies.

    Args:
        part: the data set's values.
        own: the variance of a run's value by its own interval, NaN where it has none.
        fixed: whether all repeats were tested on the same cases.
    """
    count, groups = len(part.repeats), len(part.group_codes)
    found = variances([part], between=False)
    repeats, shared, cases, freedom = (
        *(float(level[0]) for level in (found.repeats, found.shared, found.cases)),
        max(groups - 1.0, 1.0),
    )
    if own == own:
        cases = own if fixed else own / count
        shared, freedom = 0.0 if fixed else cases, math.inf
    elif not found.known:
        return math.nan, math.nan
    beyond = max(0.0, repeats - shared) if count > 1 else 0.0
    total = cases + beyond
    uncertain = beyond**2 / max(count - 1, 1) + cases**2 / freedom
    return total, total**2 / uncertain if uncertain > 0 else math.inf


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


def _tested_alike(rows: pd.DataFrame) -> Array:
    """Whether a row's split has one test part for all its repeats."""
    if "split" not in rows.columns:
        return np.zeros(len(rows), bool)
    return rows["split"].str.startswith(ONE_TEST_PART).to_numpy(bool)


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
