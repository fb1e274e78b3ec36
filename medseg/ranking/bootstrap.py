r"""The hierarchical bootstrap: data sets, in them repeats, in them groups of cases, drawn alike for all contestants.

A contestant's mean is linear in the values, so a draw is the mean plus what each level adds to it, and the spread of
infinitely many draws is known in closed form: intervals carry no Monte Carlo error, and only the places are drawn.

Three faults of the plain nested bootstrap are mended:

- The values of few clusters lie too close to their own mean: each level is widened by ``n / (n - 1)``, and intervals
  use Student's t (Hesterberg 2015, doi:10.1080/00031305.2015.1089789).
- What varies within a cluster also shows between clusters, and is counted twice when every level is drawn (Davison and
  Hinkley 1997, *Bootstrap Methods and their Application*, section 3.8): of each level only what exceeds the
  levels below is added.
- Repeats may share test cases (a fixed test set has the same in all): groups are drawn once per data set and
  weigh alike in all its repeats.

The draws are Rubin's (1981, doi:10.1214/aos/1176345338): weights from a flat Dirichlet distribution, which unlike
counts do not take few values where there are two or three clusters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from medseg.ranking.cells import Array, means, sums

#: no more weights than these are held at a time
WEIGHTS_HELD = 1 << 24


@dataclass(frozen=True)
class Part:
    """One data set's mean, and how it is moved by each repeat and by each group of cases within a repeat.

    Args:
        dataset: index of the data set.
        mean: ``(K,)``, over cases, then repeats, then settings.
        repeat_codes: ``(R,)``, which repeats they are.
        repeats: ``(R, K)``, what each adds to the mean; they sum to 0.
        group_codes: ``(G,)``, which groups they are.
        groups: ``(M, K)``, what a group adds to the mean through one repeat, one row per group and repeat, ordered by
            group.
        starts: ``(G,)``, the first row of each group.
        per_run: the mean number of groups in a run.
    """

    dataset: int
    mean: Array
    repeat_codes: Array
    repeats: Array
    group_codes: Array
    groups: Array
    starts: Array
    per_run: float

    @cached_property
    def whole_groups(self) -> Array:
        """What each group adds to the mean through all repeats, ``(G, K)``."""
        return np.add.reduceat(self.groups, self.starts, axis=0)

    def of(self, columns: Callable[[Array], Array]) -> Part:
        """The part of other columns, each a linear combination of the contestants'."""
        mean, repeats, groups = columns(self.mean), columns(self.repeats), columns(self.groups)
        return replace(self, mean=mean, repeats=repeats, groups=groups)


def take_apart(dataset: int, values: Array, setting: Array, repeat: Array, group: Array) -> Part:
    """Take the values of one data set apart.

    Args:
        dataset: its index, kept in the result.
        values: one row per setting, repeat and case, one column per contestant.
        setting: code of the setting of each row.
        repeat: code of the repeat.
        group: code of the group.

    Shape:
        values ``(rows, K)``, codes ``(rows,)``.
    """
    repeat_codes, repeat = np.unique(repeat, return_inverse=True)
    group_codes, group = np.unique(group, return_inverse=True)
    runs, first, run = np.unique(setting * len(repeat_codes) + repeat, return_index=True, return_inverse=True)
    _, place = np.unique(setting[first], return_inverse=True)
    settings = int(place.max()) + 1
    of_run = means(run, len(runs), values)
    of_setting = means(place, settings, of_run)
    # the weight of a run in the mean, and of a row in its run
    weight = 1 / (settings * np.bincount(place)[place])
    share = weight[run] / np.bincount(run)[run]
    repeats = sums(repeat[first], len(repeat_codes), (of_run - of_setting[place]) * weight[:, None])
    pairs, row = np.unique(group * len(repeat_codes) + repeat, return_inverse=True)
    groups = sums(row, len(pairs), (values - of_run[run]) * share[:, None])
    in_runs = np.unique(run * len(group_codes) + group).size / len(runs)
    starts = np.flatnonzero(np.diff(pairs // len(repeat_codes), prepend=-1))
    return Part(dataset, of_setting.mean(0), repeat_codes, repeats, group_codes, groups, starts, in_runs)


@dataclass(frozen=True)
class Variances:
    """The variance of a mean over data sets and what it is made of; one element per column.

    Args:
        datasets: what the spread of the data sets' means says it is; 0 where data sets are not drawn.
        repeats: what the spread of repeats says, within data sets.
        shared: the part of it that is only the cases' spread, seen again.
        cases: what the spread of groups of cases says.
        df: degrees of freedom of the whole.
        known: whether any level varies; else the variance is not 0 but unknown.
    """

    datasets: Array
    repeats: Array
    shared: Array
    cases: Array
    df: Array
    known: bool

    @property
    def within(self) -> Array:
        """The variance if the data sets are kept."""
        return self.cases + np.maximum(0, self.repeats - self.shared)

    @property
    def total(self) -> Array:
        """The variance; NaN if it is unknown."""
        return np.maximum(self.datasets, self.within) if self.known else np.full_like(self.within, np.nan)

    def half_width(self, level: float, family: int = 1) -> Array:
        """Half of the interval's width; with a ``family`` all its intervals hold together (Bonferroni)."""
        from scipy.special import stdtrit

        return stdtrit(self.df, 1 - (1 - level) / (2 * family)) * np.sqrt(self.total)


def variances(parts: Sequence[Part], between: bool) -> Variances:
    """The variance of the mean over data sets.

    Args:
        parts: one per data set.
        between: whether the data sets are a sample of those one wants to know about; else they are all of them.
    """
    count = len(parts)
    between = between and count > 1
    mean = np.stack([part.mean for part in parts])
    datasets = mean.var(0, ddof=1) / count if between else np.zeros(mean.shape[1])
    levels = np.array([_within(part) for part in parts]) / count**2
    repeated = np.array([len(part.repeats) for part in parts]) > 1
    if repeated.any():
        # a data set of one repeat is taken to be like the others
        levels[:, :2] *= count / repeated.sum()
    repeats, shared, cases = levels.sum(0)
    several = any(part.per_run > 1 for part in parts)
    df = np.full(mean.shape[1], count - 1.0) if between else _degrees(levels, parts)
    return Variances(datasets, repeats, shared, cases, df, between or bool(repeated.any()) or several)


def _within(part: Part) -> Array:
    """What repeats, cases seen through repeats, and cases say of the variance of a data set's mean: ``(3, K)``."""
    count = len(part.repeats)
    few = part.per_run / (part.per_run - 1) if part.per_run > 1 else 0.0
    whole = (part.whole_groups**2).sum(0)
    if count == 1:
        return np.stack([np.zeros_like(whole), np.zeros_like(whole), few * whole])
    widen = count / (count - 1)
    seen = few * widen * ((part.groups**2).sum(0) - whole / count)
    return np.stack([widen * (part.repeats**2).sum(0), seen, few * whole])


def _degrees(levels: Array, parts: Sequence[Part]) -> Array:
    """Satterthwaite's degrees of freedom of the variance within data sets.

    Satterthwaite (1946, doi:10.2307/3002019). The cases seen again count with the degrees of the repeats even where
    they exceed them: few repeats that happen to agree prove nothing.
    """
    repeats, shared, cases = levels.sum(0)
    of_repeats = _pooled(levels[:, 0], np.array([len(part.repeats) for part in parts]) - 1.0)
    of_cases = _pooled(levels[:, 2], np.array([len(part.group_codes) for part in parts]) - 1.0)
    one, two = np.maximum(repeats, shared), np.maximum(0, cases - shared)
    uncertain = np.where(one > 0, one**2 / of_repeats, 0) + np.where(two > 0, two**2 / of_cases, 0)
    # where nothing varies the degrees do not matter
    return np.divide((one + two) ** 2, uncertain, out=np.ones_like(one), where=uncertain > 0)


def _pooled(terms: Array, degrees: Array) -> Array:
    """The degrees of freedom of a sum of variances ``(D, K)`` with ``degrees`` each."""
    known = degrees > 0
    terms, degrees = terms[known], degrees[known][:, None]
    uncertain = (terms**2 / degrees).sum(0) if known.any() else np.zeros(terms.shape[1])
    fallback = np.full(terms.shape[1], max(float(degrees.sum()), 1.0))
    return np.divide(terms.sum(0) ** 2, uncertain, out=fallback, where=uncertain > 0)


def draw(views: Sequence[Sequence[Part]], between: Sequence[bool], draws: int, seed: int) -> list[Array]:
    """Draw the means of all contestants in several views of one table at once.

    Data sets, repeats and groups have the same weights in every view and for every contestant, so that draws are
    paired. Each draw is spread by one factor of Student's t, so that its tails are those of the intervals.

    Args:
        views: the parts of each, such as all data sets, one of them, or one model on all.
        between: of each view, whether its data sets are drawn.
        draws: their number.
        seed: equal seeds give equal draws.

    Returns:
        an array ``(draws, K)`` for each view.
    """
    centred = [[part.of(lambda a: a - a.mean(-1, keepdims=True)) for part in parts] for parts in views]
    spreads = [variances(parts, drawn) for parts, drawn in zip(centred, between, strict=True)]
    deviations = [np.zeros((draws, len(parts[0].mean))) for parts in views]
    for dataset in sorted({part.dataset for parts in views for part in parts}):
        mine = [(v, part) for v, parts in enumerate(views) for part in parts if part.dataset == dataset]
        rng = np.random.default_rng([seed, 1, dataset])
        codes = np.unique(np.concatenate([part.repeat_codes for _, part in mine]))
        weights = rng.standard_exponential((draws, len(codes)))
        for view, part in mine:
            grown = _beyond(spreads[view].repeats, spreads[view].shared) / len(views[view])
            deviations[view] += grown * _moved(weights, codes, part.repeat_codes, part.repeats)
        codes = np.unique(np.concatenate([part.group_codes for _, part in mine]))
        step = max(1, WEIGHTS_HELD // len(codes))
        for start in range(0, draws, step):
            stop = min(start + step, draws)
            weights = rng.standard_exponential((stop - start, len(codes)))
            for view, part in mine:
                few = part.per_run / (part.per_run - 1) if part.per_run > 1 else 0.0
                count = len(part.group_codes)
                grown = np.sqrt(few * (count - 1) / max(count, 1)) / len(views[view])
                moved = _moved(weights, codes, part.group_codes, part.whole_groups)
                deviations[view][start:stop] += grown * moved
    return _spread_out(views, between, spreads, deviations, seed)


def _spread_out(
    views: Sequence[Sequence[Part]],
    between: Sequence[bool],
    spreads: Sequence[Variances],
    deviations: list[Array],
    seed: int,
) -> list[Array]:
    """Add the draws of data sets, Student's factor and the means."""
    from scipy.special import chdtri

    rng, draws = np.random.default_rng([seed, 0]), len(deviations[0])
    codes = np.array(sorted({part.dataset for parts in views for part in parts}))
    chance, weights = rng.random((draws, 1)), rng.standard_exponential((draws, len(codes)))
    result = []
    for parts, drawn, spread, deviation in zip(views, between, spreads, deviations, strict=True):
        mean = np.stack([part.mean for part in parts])
        if drawn and len(parts) > 1:
            mine = np.array([part.dataset for part in parts])
            moved = _moved(weights, codes, mine, (mean - mean.mean(0)) / len(parts))
            deviation = deviation + _beyond(spread.datasets, spread.within) * moved
        # one factor for all contestants: the degrees of freedom of a typical one
        df = float(np.median(spread.df))
        result.append(mean.mean(0) + deviation * np.sqrt(df / chdtri(df, chance)))
    return result


def _beyond(level: Array, below: Array) -> float:
    """The factor that leaves of a level's draws what exceeds the level below, on average over contestants."""
    return float(np.sqrt(max(0.0, 1 - below.sum() / level.sum()))) if level.sum() > 0 else 0.0


def _moved(weights: Array, codes: Array, mine: Array, influence: Array) -> Array:
    """How weighted clusters move the mean, at the spread of an unbiased variance.

    Args:
        weights: exponential variables ``(draws, clusters)``.
        codes: ``(clusters,)``, which clusters they are.
        mine: ``(n,)``, the clusters of the influence.
        influence: ``(n, K)``, what each adds to the mean; they sum to 0.

    Returns:
        ``(draws, K)``, of variance ``n / (n - 1)`` times the sum of squares.
    """
    count = len(mine)
    if count == 1:
        return np.zeros((len(weights), influence.shape[1]))
    if count < len(codes):
        weights = weights[:, np.searchsorted(codes, mine)]
    widen = count * np.sqrt((count + 1) / (count - 1))
    return (weights @ influence) / weights.sum(1, keepdims=True) * widen


def places(draws: Array) -> Array:
    """How often each contestant took each place, the highest value first; ties share their places.

    Shape:
        draws ``(draws, K)``, result ``(K, K)``: contestants x places, rows and columns sum to 1.
    """
    count = draws.shape[1]
    near = 1e-12 * np.abs(draws).max(initial=0)
    result = np.zeros((count, count))
    for one in range(count):
        gap = draws - draws[:, one, None]
        before, equal = (gap > near).sum(1), (np.abs(gap) <= near).sum(1)
        for shift in range(int(equal.max())):
            tied = equal > shift
            result[one] += np.bincount(before[tied] + shift, 1 / equal[tied], count)
    return result / len(draws)
