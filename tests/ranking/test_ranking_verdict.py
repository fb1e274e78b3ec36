from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from medseg.ranking.bootstrap import Variances
from medseg.ranking.verdict import Plan, cure, decide, sentence


@pytest.mark.parametrize(
    ("difference", "half_width", "verdict"),
    [
        (0.031, 0.013, "real"),
        (-0.031, 0.013, "real"),
        (0.031, 0.022, "under-powered"),
        (0.005, 0.004, "tied"),
        (0.0, 0.0, "tied"),
        # there, but too small to matter
        (0.005, 0.001, "tied"),
        (0.005, 0.006, "under-powered"),
        (0.02, math.nan, "under-powered"),
    ],
)
def test_the_rule(difference: float, half_width: float, verdict: str) -> None:
    assert decide(difference, half_width, 0.01) == verdict


def test_without_a_region_only_what_excludes_zero_is_real() -> None:
    assert decide(0.002, 0.001, 0) == "real"
    assert decide(0.001, 0.002, 0) == "under-powered"
    assert decide(0.0, 0.0, 0) == "tied"


def found(
    datasets: float = 0.0, repeats: float = 0.0, shared: float = 0.0, cases: float = 0.0, df: float = 4.0
) -> Variances:
    return Variances(*(np.array([x]) for x in (datasets, repeats, shared, cases, df)), known=True)


def test_more_data_sets_by_going_through_them() -> None:
    # five data sets whose mean differences have a standard deviation of 0.04
    plan = Plan(5, 1, True, 0.95, 3)
    datasets = plan.needed(0.05, 0.01, found(0.04**2 / 5), 0)
    tails = [stats.t.ppf(1 - 0.05 / 6, n - 1) + stats.t.ppf(0.8, n - 1) for n in range(6, 60)]
    widths = [tail * 0.04 / math.sqrt(n) for n, tail in enumerate(tails, 6)]
    assert datasets == 1 + [width <= 0.04 for width in widths].index(True)


def test_more_repeats_of_one_data_set_by_going_through_them() -> None:
    # three repeats with a standard deviation of 0.03
    plan = Plan(1, 3, False, 0.95, 1)
    repeats = plan.needed(0.0, 0.02, found(repeats=0.03**2 / 3, df=2), 0)
    tails = [stats.t.ppf(0.975, n - 1) + stats.t.ppf(0.8, n - 1) for n in range(4, 60)]
    widths = [tail * 0.03 / math.sqrt(n) for n, tail in enumerate(tails, 4)]
    assert repeats == 1 + [width <= 0.02 for width in widths].index(True)


def test_the_number_asked_for_settles_four_tables_of_five() -> None:
    plan = Plan(3, 1, True, 0.95, 1)
    total = 3 + int(plan.needed(0.05, 0.01, found(0.03**2 / 3), 0))
    tables = np.random.default_rng(0).normal(0.05, 0.03, (4000, total))
    half = stats.t.ppf(0.975, total - 1) * tables.std(1, ddof=1) / math.sqrt(total)
    settled = [decide(d, h, 0.01) == "real" for d, h in zip(tables.mean(1), half, strict=True)]
    assert 0.78 < np.mean(settled) < 0.88


def test_data_sets_share_out_what_their_repeats_and_cases_vary() -> None:
    # the variance within data sets is larger than what their means show: it is what more data sets average
    plan = Plan(5, 3, True, 0.95, 1)
    spread = 0.04**2 / 5
    assert plan.needed(0.03, 0.01, found(0.0, repeats=spread), 0) == plan.needed(0.03, 0.01, found(spread), 0)
    assert plan.needed(0.03, 0.01, found(0.5 * spread), 0) < plan.needed(0.03, 0.01, found(spread), 0)


def test_cases_that_all_repeats_share_are_not_mended_by_repeats() -> None:
    plan = Plan(1, 5, False, 0.95, 1)
    assert plan.needed(0.0, 0.01, found(cases=0.02**2, repeats=1e-6, df=30), 0) == math.inf
    assert plan.needed(0.0, 0.01, found(cases=0.02**2, shared=0.02**2, repeats=0.02**2), 0) < 200


def test_a_difference_on_the_edge_is_never_settled() -> None:
    assert Plan(5, 3, True, 0.95, 1).needed(0.01, 0.01, found(1e-4), 0) == math.inf
    assert Plan(5, 3, False, 0.95, 1).needed(0.01, 0.01, found(repeats=1e-4), 0) == math.inf


def test_nothing_is_said_of_what_is_not_known() -> None:
    nothing = Variances(*(np.array([0.0]) for _ in range(5)), known=False)
    assert math.isnan(Plan(1, 1, False, 0.95, 1).needed(0.1, 0.01, nothing, 0))
    # one repeat does not say what another would change
    assert math.isnan(Plan(1, 1, False, 0.95, 1).needed(0.1, 0.01, found(cases=1e-4), 0))


@pytest.mark.parametrize(
    ("more", "noun", "words"),
    [
        (1, "repeat", "about 1 more repeat needed"),
        (4, "repeat", "about 4 more repeats needed"),
        (1, "data set", "about 1 more data set needed"),
        (200, "data set", "about 200 more data sets needed"),
        (201, "data set", "more than 200 more data sets needed"),
        (math.inf, "repeat", "more repeats cannot tell; more test cases needed"),
        (math.inf, "data set", "too close to the edge of the region to be told by any number of data sets"),
        (math.nan, "repeat", "more repeats or test cases needed, how many is not known"),
    ],
)
def test_the_cure_in_words(more: float, noun: str, words: str) -> None:
    assert cure(more, noun) == words


def test_the_cure_of_single_values() -> None:
    assert "one value each" in cure(math.nan, known=False)


def test_the_unit_decides_the_digits() -> None:
    pixels = sentence(("a", "b"), (12.345, 8.0, 16.69), "real", 1.0)
    assert pixels == "a is better than b by 12.3 (8.0 to 16.7): real"
    assert "0.0012 (-0.0001 to 0.0025)" in sentence(("a", "b"), (0.00123, -0.00006, 0.00251), "tied", 0.001)
    nothing = sentence(("a", "b"), (0.0, -0.0001, 0.0001), "tied", 0.01)
    assert nothing == "a and b differ by 0.000 (0.000 to 0.000), within 0.01 either way: tied"
    assert sentence(("a", "b"), (0.1, math.nan, math.nan), "under-powered", 0.01, "why") == (
        "a against b, 0.100: under-powered, why"
    )
