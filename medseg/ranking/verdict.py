"""The verdict on a pair, and how much more evidence it would take.

One rule for all: the interval of the difference is set against the region of practical equivalence (Kruschke 2018,
doi:10.1177/2515245918771304). Beyond the region, the difference is *real*, that is, there and large enough to
matter; within it, the two are *tied*; and while it lies across the region's edge, the pair is *under-powered*.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from medseg.ranking.bootstrap import Variances
from medseg.ranking.cells import Array
from medseg.ranking.evidence import REAL, TIED, UNDERPOWERED

#: larger numbers are said in words only
MANY = 200
#: the share of tables in which the numbers asked for would do
POWER = 0.8
#: where the search for a number ends
ENDLESS = 10**6


def decide(difference: float, half_width: float, rope: float) -> str:
    """The verdict: ``real``, ``tied`` or, where the interval is unknown too, ``under-powered``."""
    if difference - half_width > rope or difference + half_width < -rope:
        return REAL
    if abs(difference) + half_width <= rope:
        return TIED
    return UNDERPOWERED


@dataclass(frozen=True)
class Plan:
    """What a table says of the variance that another table, with more repeats or data sets, would have.

    Args:
        datasets: their number.
        repeats: the mean number in a data set.
        between: whether the data sets are drawn, and more of them are asked for; else more repeats.
        level: of the intervals.
        family: how many intervals hold together.
    """

    datasets: int
    repeats: float
    between: bool
    level: float
    family: int

    def needed(self, difference: float, rope: float, found: Variances, pair: int) -> float:
        """How many more data sets, where they are drawn, or else how many more repeats would settle a pair.

        The smallest number with which four of five tables would, if the difference and the variances of data sets,
        repeats and cases are what they seem: the interval lies wholly on one side of the region's edge, and as far
        from it as the estimate strays in one direction in four of five tables.

        Where data sets are drawn, repeats are no way out: their own interval widens by what they differ, of which a
        few of them tell too little to plan with.

        Returns:
            infinite where no number is enough, NaN where the table does not tell.
        """
        margin = abs(abs(difference) - rope)
        if not found.known or not (self.between or self.repeats > 1):
            return math.nan
        if not margin > 0:
            return math.inf
        between = max(0.0, found.datasets[pair] - found.within[pair]) if self.between else 0.0
        kept = self.datasets * (between + max(0.0, found.cases[pair] - found.shared[pair]))
        repeated = self.datasets * max(found.repeats[pair], found.shared[pair])
        degrees = float(found.df[pair])

        def with_datasets(more: int) -> bool:
            total = self.datasets + more
            return self._reach(kept + repeated, total, total - 1.0) <= margin

        def with_repeats(more: int) -> bool:
            total = self.repeats + more
            df = degrees * (total - 1) / (self.repeats - 1)
            return self._reach(kept + repeated * self.repeats / total, self.datasets, df) <= margin

        return _smallest(with_datasets if self.between else with_repeats)

    def _reach(self, variance: float, datasets: int, df: float) -> float:
        """Half of the interval's width, and what leaves the estimate on the right side in four of five tables."""
        from scipy.special import stdtrit

        tails = stdtrit(df, 1 - (1 - self.level) / (2 * self.family)) + stdtrit(df, POWER)
        return float(tails * math.sqrt(variance / datasets))


def _smallest(enough: Callable[[int], bool]) -> float:
    """The smallest number from 1 on that is enough, by doubling and halving; infinite if none is."""
    high = 1
    while not enough(high):
        high *= 2
        if high > ENDLESS:
            return math.inf
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return float(high)


def cure(more: float, noun: str = "repeat", known: bool = True) -> str:
    """What would settle an under-powered pair, in words.

    >>> cure(4)
    'about 4 more repeats needed'
    >>> cure(1, "data set")
    'about 1 more data set needed'

    Args:
        more: how many; infinite where no number is enough, NaN where it is not known.
        noun: of what, ``repeat`` or ``data set``.
        known: whether anything is known of chance.
    """
    if not known:
        return "one value each cannot be told from chance; repeats or data sets needed"
    if math.isnan(more):
        return "more repeats or test cases needed, how many is not known"
    if math.isinf(more):
        if noun == "repeat":
            return "more repeats cannot tell; more test cases needed"
        return f"too close to the edge of the region to be told by any number of {noun}s"
    if more > MANY:
        return f"more than {MANY} more {noun}s needed"
    return f"about {more:.0f} more {noun}{'s' * (more > 1)} needed"


def sentence(
    pair: tuple[str, str], values: tuple[float, float, float], verdict: str, rope: float, more: str = ""
) -> str:
    """The verdict as a sentence.

    >>> sentence(("dice_bce", "bce"), (0.031, 0.018, 0.044), "real", 0.01)
    'dice_bce is better than bce by 0.031 (0.018 to 0.044): real'
    >>> sentence(("a", "b"), (0.002, -0.004, 0.008), "tied", 0.01)
    'a and b differ by 0.002 (-0.004 to 0.008), within 0.01 either way: tied'

    Args:
        pair: the contestants, the one with the better mean first.
        values: the difference and its interval.
        verdict: the verdict.
        rope: half width of the region.
        more: what would settle it, if it is under-powered.
    """
    a, b = pair
    difference, bounds = _shown(values[0], rope), interval(*values[1:], rope)
    if verdict == REAL:
        return f"{a} is better than {b} by {difference}{bounds}: real"
    if verdict == TIED:
        return f"{a} and {b} differ by {difference}{bounds}, within {rope:g} either way: tied"
    return f"{a} against {b}, {difference}{bounds}: under-powered, {more}"


def interval(low: float, high: float, rope: float) -> str:
    """An interval in brackets, to one digit more than the region has; empty where it is not known.

    >>> interval(-0.00049, 0.031, 0.01)
    ' (0.000 to 0.031)'
    """
    return f" ({_shown(low, rope)} to {_shown(high, rope)})" if math.isfinite(low) else ""


def _shown(value: float, rope: float) -> str:
    digits = max(0, 1 - math.floor(math.log10(rope))) if rope > 0 else 4
    # no minus before a zero
    return f"{round(value, digits) + 0.0:.{digits}f}"


def verdicts(differences: Array, half_widths: Array, rope: float) -> list[str]:
    """The verdict on each pair; shapes ``(pairs,)``."""
    return [decide(float(d), float(h), rope) for d, h in zip(differences, half_widths, strict=True)]
