"""The verdict on a pair, and how much more evidence it would take.

One rule for all: the interval of the difference is set against the region of practical equivalence (Kruschke 2018,
doi:10.1177/2515245918771304). Beyond the region, the difference is *real*, that is, there and large enough to
matter; within it, the two are *tied*; and while it lies across the region's edge, the pair is *under-powered*.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from medseg.ranking.bootstrap import Variances
from medseg.ranking.cells import Array
from medseg.ranking.evidence import REAL, TIED, UNDERPOWERED

#: larger numbers are said in words only
MANY = 200
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
        between: whether the data sets are drawn.
        level: of the intervals.
        family: how many intervals hold together.
    """

    datasets: int
    repeats: float
    between: bool
    level: float
    family: int

    def needed(self, difference: float, rope: float, found: Variances, pair: int) -> tuple[float, float]:
        """How many more repeats, or else how many more data sets, would settle a pair if nothing else changed.

        The smallest number at which the interval is narrow enough for the difference to lie wholly on one side of
        the region's edge, with the variances of data sets, repeats and cases as they are.

        Returns:
            repeats and data sets: infinite where no number is enough, NaN where the table does not tell.
        """
        margin = abs(abs(difference) - rope)
        kept, repeated = self._components(found, pair)
        if not (found.known and margin > 0):
            return (math.nan, math.nan) if not found.known else (math.inf, math.inf)
        degrees = float(found.df[pair])

        def with_repeats(more: int) -> bool:
            total = self.repeats + more
            df = degrees if self.between else degrees * (total - 1) / (self.repeats - 1)
            return self._half_width(kept + repeated / total, self.datasets, df) <= margin

        def with_datasets(more: int) -> bool:
            total = self.datasets + more
            return self._half_width(kept + repeated / self.repeats, total, total - 1.0) <= margin

        return (
            _smallest(with_repeats) if self.repeats > 1 else math.nan,
            _smallest(with_datasets) if self.between else math.nan,
        )

    def _components(self, found: Variances, pair: int) -> tuple[float, float]:
        """The variance of one data set's mean: what stays whatever the repeats, and what they share out."""
        between = max(0.0, found.datasets[pair] - found.within[pair])
        cases = max(0.0, found.cases[pair] - found.shared[pair])
        repeated = max(found.repeats[pair], found.shared[pair])
        return self.datasets * (between + cases), self.datasets * self.repeats * repeated

    def _half_width(self, variance: float, datasets: int, df: float) -> float:
        from scipy.special import stdtrit

        return float(stdtrit(df, 1 - (1 - self.level) / (2 * self.family)) * math.sqrt(variance / datasets))


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


def cure(more_repeats: float, more_datasets: float, known: bool = True) -> str:
    """What would settle an under-powered pair, in words.

    >>> cure(4, 2)
    'about 4 more repeats or 2 more data sets needed'
    >>> cure(math.inf, 7)
    'more repeats cannot tell; about 7 more data sets needed'

    Args:
        more_repeats: how many; infinite where no number is enough, NaN where it is not known.
        more_datasets: likewise.
        known: whether anything is known of chance.
    """
    if not known:
        return "one value each cannot be told from chance; repeats or data sets needed"
    if math.isinf(more_repeats):
        if math.isnan(more_datasets):
            return "more repeats cannot tell; more test cases needed"
        if math.isinf(more_datasets):
            return "too close to the edge of the region to be told by any number of repeats or data sets"
        return f"more repeats cannot tell; {_about([(more_datasets, 'data set')])} needed"
    numbers = [(more_repeats, "repeat"), (more_datasets, "data set")]
    finite = [(number, noun) for number, noun in numbers if math.isfinite(number)]
    return (
        f"{_about(finite)} needed" if finite else "more repeats or test cases needed, how many is not known"
    )


def _about(numbers: list[tuple[float, str]]) -> str:
    said = [f"{n:.0f} more {noun}{'s' * (n > 1)}" for n, noun in numbers if n <= MANY]
    if said:
        return f"about {' or '.join(said)}"
    return f"more than {MANY} more {' or '.join(noun + 's' for _, noun in numbers)}"


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
    digits = max(0, 1 - math.floor(math.log10(rope))) if rope > 0 else 4
    # no minus before a zero
    difference, low, high = (f"{round(value, digits) + 0.0:.{digits}f}" for value in values)
    interval = f" ({low} to {high})" if np.isfinite(values[1]) else ""
    if verdict == REAL:
        return f"{a} is better than {b} by {difference}{interval}: real"
    if verdict == TIED:
        return f"{a} and {b} differ by {difference}{interval}, within {rope:g} either way: tied"
    return f"{a} against {b}, {difference}{interval}: under-powered, {more}"


def verdicts(differences: Array, half_widths: Array, rope: float) -> list[str]:
    """The verdict on each pair; shapes ``(pairs,)``."""
    return [decide(float(d), float(h), rope) for d, h in zip(differences, half_widths, strict=True)]
