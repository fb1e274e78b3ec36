"""Tests over blocks: Friedman, Iman-Davenport, Nemenyi, and Wilcoxon's signed-rank test with Holm's correction."""

from __future__ import annotations

import itertools
import math
import warnings
from typing import TYPE_CHECKING

import numpy as np

from medseg.ranking.bayes import signed_rank
from medseg.ranking.evidence import Omnibus

if TYPE_CHECKING:
    import pandas as pd

Array = np.ndarray
#: up to here the signed-rank test's p value is exact
EXACT = 50


def rounded(values: Array, like: Array | None = None) -> Array:
    """Values to 12 digits of the largest of ``values`` (or of ``like``), so that sums in another order stay ties."""
    largest = np.abs(values if like is None else like).max(initial=0)
    return np.round(values, 11 - int(np.floor(np.log10(largest)))) if largest > 0 else values


def friedman(values: Array) -> tuple[float, float, float, float]:
    """Friedman's test (1937) of no difference, and Iman and Davenport's (1980) sharper form of it.

    With k contestants in N blocks the chi-squared, corrected for ties, has k - 1 degrees of freedom, and
    ``F = (N - 1) chi2 / (N (k - 1) - chi2)`` has k - 1 and (k - 1)(N - 1). Where all blocks have the same ranks F has
    no bound, and its p is the chance of that: all others have the order of the first, of as many as there are.

    Args:
        values: any direction; only the order within a block matters.

    Shape:
        values ``(N, k)``.

    Returns:
        chi-squared, its p, F, its p; NaN with fewer than three contestants or two blocks, or when every block is
        tied throughout.
    """
    from scipy import stats

    blocks, count = values.shape
    if count < 3 or blocks < 2 or (np.ptp(values, axis=1) == 0).all():
        return (float("nan"),) * 4
    chi2, p = stats.friedmanchisquare(*values.T)
    left = blocks * (count - 1) - chi2
    # nothing is left where all blocks agree
    if left <= 1e-9 * chi2:
        ties = np.unique(values[0], return_counts=True)[1]
        orders = math.factorial(count) / math.prod(math.factorial(int(tie)) for tie in ties)
        return float(chi2), float(p), float("inf"), orders ** (1.0 - blocks)
    f = (blocks - 1) * chi2 / left
    return float(chi2), float(p), float(f), float(stats.f.sf(f, count - 1, (count - 1) * (blocks - 1)))


def nemenyi(mean_ranks: Array, blocks: int, level: float = 0.95) -> tuple[float, Array]:
    """Nemenyi's (1963) critical difference of mean ranks and p values, as Demšar (2006, JMLR 7:1-30) gives them.

    ``CD = q sqrt(k (k + 1) / (6 N))`` with q of the studentised range for infinite degrees of freedom over sqrt(2).

    Args:
        mean_ranks: of the k contestants.
        blocks: N.
        level: one minus the error of the whole family.

    Shape:
        mean_ranks ``(k,)``, p values ``(k, k)`` with ones on the diagonal.

    Returns:
        the critical difference and the p values; NaN with fewer than three contestants or two blocks.
    """
    from scipy.stats import studentized_range

    count = len(mean_ranks)
    if count < 3 or blocks < 2:
        return float("nan"), np.full((count, count), np.nan)
    error = np.sqrt(count * (count + 1) / (6 * blocks))
    critical = studentized_range.ppf(level, count, np.inf) / np.sqrt(2) * error
    upper = np.triu_indices(count, 1)
    gaps = np.abs(mean_ranks[upper[0]] - mean_ranks[upper[1]])
    p = np.ones((count, count))
    p[upper] = p.T[upper] = studentized_range.sf(gaps / error * np.sqrt(2), count, np.inf)
    return float(critical), p


def wilcoxon(differences: Array) -> tuple[Array, Array]:
    """Wilcoxon's signed-rank test (1945) of each column against a median of 0.

    Differences of 0 are ranked, and their ranks go half to either side (``zsplit``, as in Demšar 2006). p is exact
    for up to 50 differences, also with ties and zeros, where it is the permutation test of the signs; then normal.

    Shape:
        differences ``(n, columns)``, results ``(columns,)``.

    Returns:
        the smaller of the two rank sums, and p of two sides; NaN without differences.
    """
    from scipy import stats

    if not len(differences):
        return np.full(differences.shape[1], np.nan), np.full(differences.shape[1], np.nan)
    # what stays where all differences are 0
    count = len(differences)
    statistic, p = np.full((2, differences.shape[1]), [[count * (count + 1) / 4], [1.0]])
    moves = differences.any(0)
    clean = np.array([(d != 0).all() and len(np.unique(np.abs(d))) == len(d) for d in differences.T], bool)
    for method, columns in (("exact", moves & clean), ("approx", moves & ~clean)):
        if not columns.any():
            continue
        method = "approx" if count > EXACT else method
        with warnings.catch_warnings():
            # older versions of scipy warn of few differences with ties, which are done exactly below
            warnings.simplefilter("ignore", UserWarning)
            found = stats.wilcoxon(differences[:, columns], zero_method="zsplit", method=method, axis=0)
        statistic[columns], p[columns] = found.statistic, found.pvalue
    if count <= EXACT:
        for column in np.flatnonzero(moves & ~clean):
            statistic[column], p[column] = _sign_permutation(differences[:, column])
    return statistic, p


def _sign_permutation(differences: Array) -> tuple[float, float]:
    """The signed-rank test over all signs that the differences other than 0 might have had.

    The numbers of sign patterns that give each rank sum are counted by adding one rank after another; ranks of ties are
    halves, hence the doubling.
    """
    from scipy.stats import rankdata

    ranks = np.rint(2 * rankdata(np.abs(differences))).astype(int)
    zeros = ranks[differences == 0].sum() / 2
    free = ranks[differences != 0]
    ways = np.zeros(free.sum() + 1)
    ways[0] = 1
    for rank in free:
        ways[rank:] = ways[rank:] + ways[:-rank]
    ways /= ways.sum()
    plus = int(ranks[differences > 0].sum())
    p = 2 * min(ways[: plus + 1].sum(), ways[plus:].sum())
    return float(min(plus, free.sum() - plus) + zeros) / 2, float(min(1.0, p))


def holm(p: Array) -> Array:
    """Holm's step-down correction (1979) for a family of tests; NaN where a test could not be made.

    Shape:
        ``(tests,)`` both.
    """
    order = np.argsort(p, kind="stable")
    known = int((~np.isnan(p)).sum())
    adjusted = np.full_like(p, np.nan)
    steps = p[order[:known]] * (known - np.arange(known))
    adjusted[order[:known]] = np.minimum(1, np.maximum.accumulate(steps))
    return adjusted


def omnibus(
    blocks: str, values: pd.DataFrame, better: str, rope: float, level: float = 0.95, seed: int = 0
) -> Omnibus:
    """All tests over the blocks of one grouping.

    Args:
        blocks: what a block is: ``dataset``, ``model`` or ``overall``.
        values: one row per block, one column per contestant, no value missing.
        better: ``higher`` or ``lower``.
        rope: half width of the region of practical equivalence.
        level: of the critical difference.
        seed: of the Bayesian test.
    """
    import pandas as pd
    from scipy.stats import rankdata

    names = list(values.columns)
    exact = values.to_numpy(float) * (1 if better == "higher" else -1)
    goodness = rounded(exact)
    ranks = rankdata(-goodness, axis=1).mean(0)
    chi2, chi2_p, f, f_p = friedman(goodness)
    critical, p = nemenyi(ranks, len(values), level)
    one, two = np.triu_indices(len(names), 1)
    pairs = pd.DataFrame(itertools.combinations(names, 2), columns=["a", "b"])
    # of values that are not rounded yet: twice rounded, equal differences may lie a last digit apart
    differences = rounded(exact[:, one] - exact[:, two], exact)
    statistic, of_pairs = wilcoxon(differences)
    bayes = signed_rank(differences, rope, seed=seed)
    return Omnibus(
        blocks=blocks,
        values=values,
        mean_ranks=pd.Series(ranks, names),
        friedman=chi2,
        friedman_p=chi2_p,
        iman_davenport=f,
        iman_davenport_p=f_p,
        critical_difference=critical,
        nemenyi=pd.DataFrame(p, names, names),
        wilcoxon=pairs.assign(statistic=statistic, p=of_pairs, p_holm=holm(of_pairs)),
        bayes=pairs.assign(p_b=bayes[:, 0], p_rope=bayes[:, 1], p_a=bayes[:, 2]),
    )
