"""The variance of a mean by hand, by analysis of variance and by simulation, and the draws against it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from medseg.ranking.bootstrap import Part, Variances, draw, places, take_apart, variances
from medseg.ranking.verdict import verdicts


def part(values: np.ndarray, dataset: int = 0, shared: bool = False) -> Part:
    """A data set of one setting: values ``(repeats, cases, contestants)``; ``shared``: all repeats test the same cases."""
    repeats, cases, count = values.shape
    repeat = np.repeat(np.arange(repeats), cases)
    group = np.tile(np.arange(cases), repeats) if shared else np.arange(repeats * cases)
    return take_apart(dataset, values.reshape(-1, count), np.zeros(len(repeat), int), repeat, group)


def simulate(
    draws: np.random.Generator,
    datasets: int,
    spread: tuple[float, float, float],
    count: int = 2,
    **more: float,
) -> list[Part]:
    """Data sets of 3 repeats of 40 cases: standard deviations of contestants by data set, repeat and case."""
    of_datasets, of_repeats, of_cases = spread
    parts = []
    for dataset in range(datasets):
        values = draws.normal(0, of_cases, (3, 40, count)) + draws.normal(0, 0.2, (3, 40, 1))
        values += draws.normal(0, of_repeats, (3, 1, count)) + draws.normal(0, of_datasets, count)
        values[..., 0] += more.get("gain", 0)
        parts.append(part(values, dataset))
    return parts


def of_pairs(parts: list[Part]) -> list[Part]:
    one, two = np.triu_indices(len(parts[0].mean), 1)
    return [p.of(lambda a: a[..., one] - a[..., two]) for p in parts]


def mean(parts: list[Part]) -> np.ndarray:
    return np.stack([p.mean for p in parts]).mean(0)


def test_data_sets_alone() -> None:
    # means 1 2 6: variance 7 over 3 data sets, 2 degrees of freedom, t = 4.3027
    parts = [part(np.full((1, 1, 1), value), d) for d, value in enumerate([1.0, 2.0, 6.0])]
    found = variances(parts, True)
    assert found.total == pytest.approx([7 / 3])
    assert found.df.tolist() == [2]
    assert found.half_width(0.95) == pytest.approx([4.302653 * np.sqrt(7 / 3)])
    # of a family of three each interval is at 1 - 0.05 / 3
    assert found.half_width(0.95, 3) == pytest.approx([7.648860 * np.sqrt(7 / 3)], rel=1e-5)
    assert not variances(parts, False).known
    assert np.isnan(variances(parts, False).total).all()


def test_repeats_alone() -> None:
    # one value for each of three repeats
    found = variances([part(np.array([1.0, 2.0, 6.0]).reshape(3, 1, 1))], False)
    assert found.total == pytest.approx([7 / 3])
    assert found.df == pytest.approx([2])


def test_cases_alone() -> None:
    found = variances([part(np.array([1.0, 2.0, 6.0]).reshape(1, 3, 1))], False)
    assert found.total == pytest.approx([7 / 3])
    assert found.df == pytest.approx([2])


def test_cases_that_differ_from_repeat_to_repeat_are_not_counted_twice() -> None:
    values = np.random.default_rng(0).normal(size=(4, 30, 1))
    found = variances([part(values)], False)
    # analysis of variance: the means of repeats hold the spread of their own cases
    between, within = values.mean(1).var(ddof=1) / 4, values.var(1, ddof=1).mean() / 120
    assert found.repeats == pytest.approx([between])
    assert found.shared == pytest.approx([within])
    assert found.cases == pytest.approx([within])
    assert found.total == pytest.approx([max(between, within)])
    assert 2.9 < found.df[0] < 3.1


def test_a_test_set_that_all_repeats_share_counts_once() -> None:
    draws = np.random.default_rng(1)
    of_cases, of_repeats = draws.normal(0, 1, (1, 30, 1)), draws.normal(0, 0.1, (4, 1, 1))
    found = variances([part(of_cases + of_repeats, shared=True)], False)
    # nothing but the two effects: the cases' mean and the repeats' mean are independent
    expected = of_cases.var(ddof=1) / 30 + of_repeats.var(ddof=1) / 4
    assert found.shared == pytest.approx([0], abs=1e-12)
    assert found.total == pytest.approx([expected])
    assert found.df[0] > 25


def test_cases_of_one_group_go_together() -> None:
    # five copies of each of six cases tell no more than the six
    values = np.random.default_rng(2).normal(size=(6, 1))
    zeros = np.zeros(30, int)
    alone = take_apart(0, values, zeros[:6], zeros[:6], np.arange(6))
    copies = take_apart(0, np.repeat(values, 5, axis=0), zeros, zeros, np.repeat(np.arange(6), 5))
    apart = take_apart(0, np.repeat(values, 5, axis=0), zeros, zeros, np.arange(30))
    assert variances([copies], False).total == pytest.approx(variances([alone], False).total)
    assert variances([apart], False).total < variances([alone], False).total / 4


def test_a_macro_mean_of_unequal_settings() -> None:
    # setting 0 has the runs (1, 3) and (5), setting 1 the run (7): ((2 + 5) / 2 + 7) / 2
    found = take_apart(
        0, np.array([[1.0], [3], [5], [7]]), *map(np.array, ([0, 0, 0, 1], [0, 0, 1, 0], [0, 1, 2, 3]))
    )
    assert found.mean.tolist() == [5.25]
    assert found.repeats.sum(0) == pytest.approx([0])
    assert found.whole_groups.sum(0) == pytest.approx([0])
    # repeat 0 takes the first setting from 3.5 to 2, with the weight of one run in four
    assert found.repeats[0] == pytest.approx([(2 - 3.5) / 4])


def test_data_sets_that_happen_to_agree_are_not_trusted_beyond_their_cases() -> None:
    draws = np.random.default_rng(3)
    values = draws.normal(size=(3, 3, 40, 1))
    values -= values.mean((1, 2), keepdims=True)
    found = variances([part(v, d) for d, v in enumerate(values)], True)
    assert found.datasets == pytest.approx([0], abs=1e-12)
    assert found.total == pytest.approx(found.within)
    assert found.total[0] > 0


def test_equal_contestants_have_no_difference_at_all() -> None:
    values = np.repeat(np.random.default_rng(4).normal(size=(3, 10, 1)), 2, axis=-1)
    for between in (True, False):
        found = variances(of_pairs([part(values, d) for d in range(3)]), between)
        assert found.half_width(0.95, 45).tolist() == [0]


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("between", [False, True])
def test_the_spread_of_draws_is_the_closed_form(between: bool, shared: bool) -> None:
    rng = np.random.default_rng(5)
    values = (
        rng.normal(0, 1, (20, 10, 6, 2))
        + rng.normal(0, 0.8, (20, 10, 1, 2))
        + rng.normal(0, 0.3, (20, 1, 1, 2))
    )
    parts = [part(v, d, shared) for d, v in enumerate(values)]
    (drawn,) = draw([parts], [between], 10_000, 0)
    found = variances(of_pairs(parts), between)
    # Student's t is wider than the normal distribution; a spread of 10,000 draws is known to 0.7 %
    expected = np.sqrt(found.total * found.df / (found.df - 2))[0]
    assert (drawn[:, 0] - drawn[:, 1]).std() == pytest.approx(expected, rel=0.03)
    assert drawn.mean(0) == pytest.approx(mean(parts), abs=5 * expected / 100)


def test_draws_of_few_data_sets_have_students_tails() -> None:
    parts = [part(np.array([[[value, 0.0]]]), d) for d, value in enumerate([0.01, 0.02, 0.03])]
    (drawn,) = draw([parts], [True], 4000, 0)
    # t = 0.02 / (0.01 / sqrt(3)) = 3.46 with 2 degrees of freedom: one-sided p 0.037; flat weights of three
    # data sets have shorter tails than the normal distribution, a plain bootstrap of all-positive values p 0
    assert 0.015 < (drawn[:, 0] < drawn[:, 1]).mean() < 0.06


def test_views_share_their_draws() -> None:
    parts = simulate(np.random.default_rng(6), 3, (0.02, 0.01, 0.1))
    whole, first, again = draw([parts, parts[:1], parts], [True, False, True], 100, 9)
    assert (whole == again).all()
    assert (first == draw([parts[:1]], [False], 100, 9)[0]).all()
    assert (whole != draw([parts], [True], 100, 10)[0]).any()


def test_places_with_ties() -> None:
    found = places(np.array([[3.0, 2, 1], [3, 1, 2], [2, 2, 1], [1, 1, 1]]))
    assert found[0] == pytest.approx([(1 + 1 + 1 / 2 + 1 / 3) / 4, (1 / 2 + 1 / 3) / 4, (1 / 3) / 4])
    assert found.sum(0) == pytest.approx([1, 1, 1])
    assert found.sum(1) == pytest.approx([1, 1, 1])


def test_places_against_sorting() -> None:
    draws = np.random.default_rng(7).normal(size=(50, 4))
    order = np.argsort(-draws, axis=1)
    expected = [[np.mean(order[:, place] == one) for place in range(4)] for one in range(4)]
    assert places(draws) == pytest.approx(np.array(expected))


CASES_MATTER, DATASETS_MATTER, REPEATS_MATTER = (0.02, 0.01, 0.08), (0.1, 0.01, 0.08), (0.0, 0.05, 0.08)


@pytest.mark.parametrize(
    ("spread", "between", "least", "most"),
    [
        (CASES_MATTER, True, 0.93, 1.0),
        (DATASETS_MATTER, True, 0.92, 0.98),
        (REPEATS_MATTER, False, 0.93, 0.99),
        ((0.0, 0.0, 0.08), False, 0.93, 1.0),
    ],
)
def test_intervals_cover_the_truth(
    spread: tuple[float, float, float], between: bool, least: float, most: float
) -> None:
    """3 data sets of 3 repeats of 40 cases; 500 tables know a coverage of 0.95 to 0.01 (one standard error)."""
    draws = np.random.default_rng(8)
    covered = []
    for _ in range(500):
        parts = of_pairs(simulate(draws, 3, spread, gain=0.03))
        covered.append(np.abs(mean(parts) - 0.03) <= variances(parts, between).half_width(0.95))
    assert least <= np.mean(covered) <= most


@pytest.mark.parametrize(("spread", "between"), [(DATASETS_MATTER, True), (REPEATS_MATTER, False)])
def test_equal_contestants_are_rarely_called_different(
    spread: tuple[float, float, float], between: bool
) -> None:
    """Of 300 tables of four equal contestants at most 5 % (and two standard errors) have one false real among six."""
    draws = np.random.default_rng(9)
    false = 0
    for _ in range(300):
        parts = of_pairs(simulate(draws, 3, spread, count=4))
        found = variances(parts, between)
        false += "real" in verdicts(mean(parts), found.half_width(0.95, 6), rope=0)
    assert false / 300 <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 300)


def test_a_large_difference_is_found() -> None:
    draws = np.random.default_rng(10)
    found = []
    for _ in range(100):
        parts = of_pairs(simulate(draws, 3, CASES_MATTER, gain=0.25))
        found += verdicts(mean(parts), variances(parts, True).half_width(0.95), rope=0.01)
    assert found.count("real") >= 95


def test_the_family_only_widens() -> None:
    found = Variances(*(np.array([x]) for x in (2.0, 1.0, 0.5, 0.5, 5.0)), known=True)
    widths = [found.half_width(0.95, family)[0] for family in (1, 3, 45)]
    assert all(a < b for a, b in itertools.pairwise(widths))
