"""The bootstrap of whole groups, and the mean of a metric over runs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medseg.metrics.classification._draws import Draws, blocks, drawn, ratio
from medseg.registry import Entry

#: bounds are not given where this part of the draws or more is undefined: a class that lies in one of many groups is
#: missing in 37 % of draws (25 % of two groups), one that lies in two groups in at most 14 %
TOO_MANY_LEFT_OUT = 0.2

#: probabilities, truth, and the draws of their images or the groups of them
Run = tuple[np.ndarray, np.ndarray, "Draws | None"]


def averaged(entries: Sequence[Entry], runs: Sequence[Run], multilabel: bool) -> dict[str, np.ndarray]:
    """The mean of each metric over the runs in which it is defined, one value per draw; NaN where it is in none."""
    found = {}
    for entry in entries:
        values = np.stack([_value(entry, *run, multilabel) for run in runs])
        found[entry.name] = ratio(np.nansum(values, 0), (~np.isnan(values)).sum(0).astype(np.float64))
    return found


def _value(
    entry: Entry, probabilities: np.ndarray, truth: np.ndarray, draws: Draws | None, multilabel: bool
) -> np.ndarray:
    """The metric of one run in each draw, ``(D,)``."""
    draws = drawn(draws, len(truth))
    if np.isnan(probabilities).any():
        return np.full(len(draws), np.nan)
    if entry.facts["needs"] == "set":
        return entry.build(probabilities, truth, multilabel, draws)
    values = entry.build(probabilities, truth, multilabel)
    sums = draws.sums(np.stack((values, np.ones(len(values))), 1))
    return ratio(sums[:, 0], sums[:, 1])


def multiplicities(groups: int, draws: int, seed: int) -> np.ndarray:
    """How often each group is drawn, ``(D, G)`` uint16."""
    rng = np.random.default_rng(seed)
    weights = np.empty((draws, groups), np.uint16)
    for rows in blocks(draws, groups):
        count = len(weights[rows])
        taken = rng.integers(groups, size=(count, groups)) + groups * np.arange(count)[:, None]
        weights[rows] = np.bincount(taken.ravel(), minlength=count * groups).reshape(count, groups)
    return weights


def bounds(
    entries: Sequence[Entry],
    parts: Sequence[tuple[np.ndarray, np.ndarray, Sequence[object]]],
    multilabel: bool,
    level: float,
    draws: int,
    seed: int,
) -> tuple[dict[str, tuple[float, float]], dict[str, int]]:
    """The bounds of each metric's mean over runs, and how many draws were left out as undefined."""
    names = [str(group) for _, _, groups in parts for group in groups]
    known, codes = np.unique(names, return_inverse=True)
    edges = dict.fromkeys((entry.name for entry in entries), (np.nan, np.nan))
    if len(known) < 2:
        return edges, dict.fromkeys(edges, 0)
    of_run = np.split(codes, np.cumsum([len(truth) for _, truth, _ in parts])[:-1])
    weights, left_out = multiplicities(len(known), draws, seed), {}
    for entry in entries:
        # what sorts the images needs a weight of each in each draw, the others one of each group
        most = max(len(truth) for _, truth, _ in parts) if entry.facts.get("sorts") else 0
        pieces = []
        for rows in blocks(draws, most):
            runs = [(p, t, Draws(weights[rows], c)) for (p, t, _), c in zip(parts, of_run, strict=True)]
            pieces.append(averaged([entry], runs, multilabel)[entry.name])
        values = np.concatenate(pieces)
        defined = values[~np.isnan(values)]
        left_out[entry.name] = draws - len(defined)
        if left_out[entry.name] < TOO_MANY_LEFT_OUT * draws:
            low, high = np.quantile(defined, tails(level, len(known)))
            edges[entry.name] = (float(low), float(high))
    return edges, left_out


def tails(level: float, groups: int) -> tuple[float, float]:
    """The percentiles of an interval, as fractions, moved out for few groups.

    They are those of a normal distribution at Student's critical value times ``sqrt(n / (n - 1))`` (Hesterberg 2015,
    doi:10.1080/00031305.2015.1089789): plain percentiles of few groups lie too close together.
    """
    from scipy.special import ndtr, stdtrit

    critical = stdtrit(groups - 1, (1 + level) / 2) * np.sqrt(groups / (groups - 1))
    return float(ndtr(-critical)), float(ndtr(critical))
