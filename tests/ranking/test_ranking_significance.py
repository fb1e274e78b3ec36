"""Against scipy, scikit-posthocs, autorank and statsmodels, and against counting."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from medseg.ranking.significance import friedman, holm, nemenyi, omnibus, rounded, wilcoxon


def values(blocks: int, count: int, digits: int = 6) -> np.ndarray:
    return np.round(np.random.default_rng(blocks * count).normal(size=(blocks, count)), digits)


def test_friedman_where_all_blocks_agree() -> None:
    # chi2 = 12 N / (k (k + 1)) * sum of (mean rank - 2)^2 = 12 * 4 / 12 * 2 = 8 = N (k - 1): nothing is left
    chi2, p, f, f_p = friedman(np.array([[3, 2, 1]] * 4, float))
    assert (chi2, f) == (8, math.inf)
    # the other three blocks have the order of the first, one of six
    assert f_p == pytest.approx(6**-3)
    assert p == pytest.approx(math.exp(-4))


def test_two_blocks_that_agree_prove_little() -> None:
    assert friedman(np.array([[3, 2, 1]] * 2, float))[3] == pytest.approx(1 / 6)
    # two of three are tied: three orders
    assert friedman(np.array([[2, 2, 1]] * 2, float))[2:] == (math.inf, pytest.approx(1 / 3))


def test_friedman_and_iman_davenport_by_hand() -> None:
    # ranks 1 2 3, 1 2 3, 1 3 2, 2 1 3: sums 5 8 11; chi2 = 12 / 48 * 210 - 48 = 4.5; F = 3 * 4.5 / (8 - 4.5)
    chi2, _, f, f_p = friedman(-np.array([[1, 2, 3], [1, 2, 3], [1, 3, 2], [2, 1, 3]], float))
    assert (chi2, f) == pytest.approx((4.5, 27 / 7))
    assert f_p == pytest.approx(stats.f.sf(27 / 7, 2, 6))


def test_friedman_with_ties_is_scipys() -> None:
    table = values(7, 4, 0)
    assert any(len(set(row)) < 4 for row in table)
    assert friedman(table)[:2] == pytest.approx(tuple(stats.friedmanchisquare(*table.T)), abs=1e-12)


@pytest.mark.parametrize("table", [values(5, 2), values(1, 4), np.ones((5, 3))])
def test_no_friedman_of_two_contestants_or_one_block_or_ties_alone(table: np.ndarray) -> None:
    assert np.isnan(friedman(table)).all()


def test_the_critical_difference_of_demsar() -> None:
    # Demsar 2006, section 3.2.2: four classifiers on 14 data sets, 2.569 * sqrt(4 * 5 / (6 * 14)) = 1.25; at 0.90 2.291
    assert nemenyi(np.array([3.143, 2.0, 2.893, 1.964]), 14)[0] == pytest.approx(1.2535, abs=2e-4)
    assert nemenyi(np.array([3.143, 2.0, 2.893, 1.964]), 14, 0.90)[0] == pytest.approx(1.1179, abs=2e-4)


@pytest.mark.parametrize(("blocks", "count", "digits"), [(6, 9, 4), (14, 4, 1), (72, 10, 4)])
def test_nemenyi_is_that_of_scikit_posthocs(blocks: int, count: int, digits: int) -> None:
    import scikit_posthocs

    table = values(blocks, count, digits)
    found = omnibus("dataset", pd.DataFrame(table), "higher", 0.01)
    expected = scikit_posthocs.posthoc_nemenyi_friedman(table)
    assert found.nemenyi.to_numpy() == pytest.approx(expected.to_numpy(), abs=1e-9)


def test_ranks_and_critical_difference_are_those_of_autorank() -> None:
    import autorank

    table = pd.DataFrame(values(12, 5), columns=list("pqrst"))
    expected = autorank.autorank(table, force_mode="nonparametric")
    found = omnibus("dataset", table, "higher", 0.01)
    # autorank interpolates the studentised range; at the critical difference p is exactly one minus the level
    assert found.critical_difference == pytest.approx(expected.cd, rel=1e-4)
    ranks = np.array([1, 1 + found.critical_difference, 2, 2, 2])
    assert nemenyi(ranks, 12)[1][0, 1] == pytest.approx(0.05, abs=1e-9)
    assert found.mean_ranks[expected.rankdf.index].tolist() == pytest.approx(
        list(expected.rankdf["meanrank"])
    )
    assert found.friedman_p == pytest.approx(expected.pvalue, abs=1e-9)


def test_equal_differences_of_means_that_have_no_end_are_ties() -> None:
    # in sixtieths, so that no mean is a decimal number: differences -1 0 2 -2 1 2 -2 3 0 -1
    one = np.array([37, 36, 37, 38, 36, 36, 36, 36, 38, 35]) / 60
    other = one + np.array([-1, 0, 2, -2, 1, 2, -2, 3, 0, -1]) / 60
    found = omnibus("overall", pd.DataFrame({"a": other, "b": one}), "higher", 0.01).wilcoxon
    ranks = stats.rankdata([1, 0, 2, 2, 1, 2, 2, 3, 0, 1])[[0, 2, 3, 4, 5, 6, 7, 9]]
    sums = np.array(list(itertools.product([0, 1], repeat=8))) @ ranks
    plus = ranks[[1, 3, 4, 6]].sum()
    assert found["p"][0] == pytest.approx(2 * min((sums >= plus).mean(), (sums <= plus).mean()), abs=1e-12)


def test_no_nemenyi_of_two_contestants() -> None:
    critical, p = nemenyi(np.array([1.2, 1.8]), 10)
    assert math.isnan(critical)
    assert np.isnan(p).all()


def by_enumeration(differences: list[float]) -> tuple[float, float]:
    """The signed-rank test by going through all signs."""
    ranks = stats.rankdata(np.abs(differences))
    zeros = sum(r for r, d in zip(ranks, differences, strict=True) if d == 0) / 2
    free = [r for r, d in zip(ranks, differences, strict=True) if d != 0]
    plus = sum(r for r, d in zip(ranks, differences, strict=True) if d > 0)
    all_plus = [
        sum(r for r, s in zip(free, signs, strict=True) if s)
        for signs in itertools.product([0, 1], repeat=len(free))
    ]
    low, high = (
        sum(side) / len(all_plus) for side in ([x <= plus for x in all_plus], [x >= plus for x in all_plus])
    )
    return min(plus, sum(free) - plus) + zeros, min(1, 2 * min(low, high))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=8))
def test_signed_ranks_with_ties_and_zeros_are_exact(numbers: list[int]) -> None:
    statistic, p = wilcoxon(np.array(numbers, float)[:, None])
    assert (statistic[0], p[0]) == pytest.approx(by_enumeration(numbers), abs=1e-12)


@pytest.mark.parametrize("count", [1, 2, 6, 20, 50])
def test_signed_ranks_without_ties_are_scipys_exact_test(count: int) -> None:
    differences = values(count, 3)
    expected = stats.wilcoxon(differences, method="exact", axis=0)
    statistic, p = wilcoxon(differences)
    assert statistic == pytest.approx(expected.statistic)
    assert p == pytest.approx(expected.pvalue, abs=1e-9)


def test_many_signed_ranks_are_scipys_normal_test_with_zeros_split() -> None:
    differences = values(200, 4, 1)
    assert (differences == 0).any(0).all()
    expected = stats.wilcoxon(differences, zero_method="zsplit", method="approx", axis=0)
    statistic, p = wilcoxon(differences)
    assert statistic == pytest.approx(expected.statistic)
    assert p == pytest.approx(expected.pvalue, abs=1e-9)


def test_differences_that_are_all_zero_prove_nothing() -> None:
    assert wilcoxon(np.zeros((6, 2)))[1].tolist() == [1, 1]
    assert np.isnan(wilcoxon(np.zeros((0, 2)))[1]).all()


def test_six_wins_of_six() -> None:
    # 2 of 64 sign patterns are as extreme
    assert wilcoxon(np.array([[0.1], [0.2], [0.3], [0.4], [0.5], [0.6]]))[1][0] == pytest.approx(2 / 64)
    assert wilcoxon(np.full((6, 1), 0.1))[1][0] == pytest.approx(2 / 64)


def test_holm_by_hand() -> None:
    assert holm(np.array([0.01, 0.04, 0.03])) == pytest.approx([0.03, 0.06, 0.06])
    assert holm(np.array([0.5, math.nan, 0.4])) == pytest.approx([0.8, math.nan, 0.8], nan_ok=True)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_that_of_statsmodels(numbers: list[float]) -> None:
    from statsmodels.stats.multitest import multipletests

    assert holm(np.array(numbers)) == pytest.approx(multipletests(numbers, method="holm")[1], abs=1e-12)


def test_lower_is_better_turns_ranks_and_sides_round() -> None:
    table = pd.DataFrame({"x": [3.0, 4.0, 5.0, 9.0], "y": [6.0, 6.5, 8.0, 9.5], "z": [9.0, 9.5, 9.25, 9.75]})
    lower = omnibus("dataset", table, "lower", 1.0)
    higher = omnibus("dataset", table, "higher", 1.0)
    assert lower.mean_ranks.to_dict() == {"x": 1, "y": 2, "z": 3}
    assert higher.mean_ranks.to_dict() == {"x": 3, "y": 2, "z": 1}
    assert lower.friedman == higher.friedman
    pd.testing.assert_series_equal(lower.bayes["p_a"], higher.bayes["p_b"], check_names=False)
    assert lower.bayes["p_a"][1] > 0.9


def test_noise_in_the_last_digits_is_a_tie() -> None:
    table = pd.DataFrame({"x": [0.1 + 0.2, 0.5], "y": [0.3, 0.4], "z": [0.2, 0.2]})
    assert omnibus("dataset", table, "higher", 0.01).mean_ranks.to_dict() == {"x": 1.25, "y": 1.75, "z": 3}
    assert rounded(np.zeros(2)).tolist() == [0, 0]
