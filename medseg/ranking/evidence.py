"""What a results table proves of the differences between contestants: the record that commands and reports show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

#: the verdicts of a pair
REAL, TIED, UNDERPOWERED = "real", "tied", "under-powered"


@dataclass(frozen=True)
class Omnibus:
    """The tests over blocks of one grouping; all tests see one mean per block and contestant.

    Args:
        blocks: what a block is: a level of ``dataset``, of ``model``, or ``overall`` one combination of all the other
            factors but repeats.
        values: one row per block in which every contestant has its values, one column per contestant.
        mean_ranks: of each contestant over the blocks, 1 the best; ties get the average of their places.
        friedman: Friedman's chi-squared, corrected for ties; NaN where a test cannot be made.
        friedman_p: its p value.
        iman_davenport: the F that Iman and Davenport (1980) make of it.
        iman_davenport_p: its p value.
        critical_difference: Nemenyi's, of mean ranks, at the level of the evidence.
        nemenyi: p values of Nemenyi's test, contestants x contestants.
        wilcoxon: one row per pair ``a b``: ``statistic p p_holm``, the signed-rank test over blocks with Holm's
            correction over the pairs.
        bayes: one row per pair ``a b``: ``p_b p_rope p_a``, the probabilities of the Bayesian signed-rank test
            (Benavoli et al. 2014) that b is better, that both are within the region, that a is better.
    """

    blocks: str
    values: pd.DataFrame
    mean_ranks: pd.Series
    friedman: float
    friedman_p: float
    iman_davenport: float
    iman_davenport_p: float
    critical_difference: float
    nemenyi: pd.DataFrame
    wilcoxon: pd.DataFrame
    bayes: pd.DataFrame


@dataclass(frozen=True)
class Evidence:
    """What the values of one metric say of the contestants; differences are positive where ``a`` is the better one.

    Args:
        of: the factor whose levels compete.
        metric: the metric.
        better: ``higher`` or ``lower``.
        rope: half width of the region of practical equivalence, in the metric's unit.
        level: of the intervals, such as 0.95.
        draws: of the bootstrap.
        seed: of the bootstrap and of the Bayesian test.
        per_case: whether there are values per case (else the runs' means are all there is).
        means: one row per contestant, best first: ``contestant mean low high``. Bounds here and below are NaN where
            nothing tells of chance: one value each.
        levels: the same within each level of the other factors: ``by level contestant mean low high p_best``, with
            ``by`` one of ``overall dataset model``, the last two where the table has several.
        places: rank probabilities: index the contestants best first, columns 1 to k; rows and columns sum to 1. NaN
            where nothing tells of chance.
        pairs: one row per pair, ``a`` the better mean: ``a b difference low high low_here high_here p_cases
            p_cases_holm cliffs_delta cohens_d wins verdict here more_repeats more_datasets words``. The intervals of
            all pairs hold together, and the verdict is read off ``low high``. ``low_here high_here`` is the interval
            on these data sets, ``here`` the verdict by it; both are the same where data sets are not a sample.
            ``wins`` are the blocks won, drawn (within the region) and lost by a: ``5/1/0``. ``more_datasets`` would
            settle an under-powered verdict, ``more_repeats`` one that is under-powered here; both are infinite where
            no number is enough, NaN where the table does not tell, and 0 where nothing is open.
        groupings: the tests over blocks, by ``dataset``, ``model`` and ``overall`` where the table has several of the
            first two.
        notes: what a reader must know, in sentences.
    """

    of: str
    metric: str
    better: str
    rope: float
    level: float
    draws: int
    seed: int
    per_case: bool
    means: pd.DataFrame
    levels: pd.DataFrame
    places: pd.DataFrame
    pairs: pd.DataFrame
    groupings: dict[str, Omnibus]
    notes: tuple[str, ...]

    @property
    def contestants(self) -> list[str]:
        """The contestants, best mean first."""
        return list(self.means["contestant"])

    def tied_with_best(self) -> list[str]:
        """The contestants that are not shown to be worse than the best one, the best first."""
        best = self.contestants[0]
        worse = self.pairs[(self.pairs["a"] == best) & (self.pairs["verdict"] == REAL)]["b"]
        return [name for name in self.contestants if name not in set(worse)]
