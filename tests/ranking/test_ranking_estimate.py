"""Means and intervals against scipy's, and what a run's own interval is used for."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from medseg.ranking.estimate import difference, estimate
from medseg.ranking.table import normalise


def cases(values: np.ndarray, group: list[str], repeat: int = 0, **keys: object) -> pd.DataFrame:
    names = [f"c{i}" for i in range(len(values))]
    facts = {"dataset": "bhi", "metric": "accuracy", "repeat": repeat, **keys}
    return pd.DataFrame({**facts, "case": names, "group": group, "value": values})


def t_interval(values: np.ndarray) -> tuple[float, float]:
    return tuple(stats.ttest_1samp(values, 0).confidence_interval(0.95))


def test_groups_of_equal_size_are_the_sample() -> None:
    values = np.random.default_rng(0).normal(0.5, 2, (12, 4))
    found = estimate(normalise(cases(values.ravel(), [f"p{i // 4}" for i in range(48)])))
    assert found.mean == pytest.approx(values.mean())
    assert found.interval(0.95) == pytest.approx(t_interval(values.mean(1)))
    assert (found.cases, found.groups, found.repeats) == (48, 12, 1)


def test_a_case_without_a_group_is_its_own() -> None:
    values = np.random.default_rng(1).normal(size=20)
    found = estimate(normalise(cases(values, [""] * 20)))
    assert found.interval(0.95) == pytest.approx(t_interval(values))
    assert found.groups == 20
    # and is never taken for a group of the same name
    named = normalise(cases(values[:3], ["", "c0", "c0"]))
    assert estimate(named).groups == 2


def test_repeats_are_the_sample_where_there_are_no_cases() -> None:
    values = np.array([0.70, 0.74, 0.81])
    frame = pd.DataFrame({"dataset": "bhi", "metric": "accuracy", "repeat": range(3), "value": values})
    found = estimate(normalise(frame))
    assert found.interval(0.95) == pytest.approx(t_interval(values))
    assert (found.cases, found.groups, found.repeats) == (0, 0, 3)


def test_intervals_stay_where_values_can_be() -> None:
    values = np.array([1.0] * 9 + [0.0])
    low, high = estimate(normalise(cases(values, [""] * 10))).interval(0.95)
    assert high == 1.0 and 0 < low < 0.9
    values = values - 0.5
    assert estimate(normalise(cases(values, [""] * 10))).interval(0.95)[1] > 0.5


def test_one_value_tells_nothing_of_chance() -> None:
    frame = pd.DataFrame({"dataset": "bhi", "metric": "accuracy", "value": [0.7]})
    found = estimate(normalise(frame))
    assert found.mean == 0.7
    assert all(math.isnan(bound) for bound in found.interval(0.95))


def test_a_value_that_is_missing_makes_the_mean_missing() -> None:
    found = estimate(normalise(cases(np.array([0.5, math.nan, 0.7]), [""] * 3)))
    assert math.isnan(found.mean) and math.isnan(found.variance)
    assert found.cases == 3


def sets(values: list[float], half: float | None) -> pd.DataFrame:
    frame = pd.DataFrame(
        {
            "dataset": "bhi",
            "metric": "roc_auc",
            "repeat": range(len(values)),
            "case": "",
            "group": "",
            "value": values,
        }
    )
    if half is not None:
        frame = frame.assign(low=frame["value"] - half, high=frame["value"] + half)
    return normalise(frame)


def test_a_metric_of_the_whole_set_takes_the_runs_own_interval_of_one_repeat() -> None:
    found = estimate(sets([0.9], 0.04))
    assert found.interval(0.95) == pytest.approx((0.86, 0.94))
    assert all(math.isnan(bound) for bound in estimate(sets([0.9], None)).interval(0.95))


def test_of_several_the_spread_and_of_few_that_agree_their_own_intervals() -> None:
    values = [0.70, 0.72, 0.77]
    expected = t_interval(np.array(values))
    assert estimate(sets(values, 1e-6)).interval(0.95) == pytest.approx(expected)
    # three repeats that happen to agree: the width of one over the root of three
    alike = estimate(sets([0.85, 0.85, 0.85], 0.06)).interval(0.95)
    assert alike == pytest.approx((0.85 - 0.06 / math.sqrt(3), 0.85 + 0.06 / math.sqrt(3)))
    # one test part for all: repeats make nothing of it surer
    official = sets([0.85, 0.85, 0.85], 0.06).assign(split="official")
    assert estimate(official).interval(0.95) == pytest.approx((0.79, 0.91))


def test_repeats_add_what_they_vary_beyond_their_cases() -> None:
    """Two repeats on cases of their own, by hand: 0.5 and 0.7, each from four cases 0.1 above and below."""
    frames = [
        cases(mean + np.array([0.1, 0.1, -0.1, -0.1]), [f"{repeat}{i}" for i in range(4)], repeat)
        for repeat, mean in enumerate((0.5, 0.7))
    ]
    found = estimate(normalise(pd.concat(frames)))
    of_run = 0.04 / 3 / 4  # the sample variance of four cases over their number
    of_cases, of_repeats = of_run / 2, 0.02 / 2
    assert found.variance == pytest.approx(of_repeats)
    beyond = of_repeats - of_cases
    assert found.df == pytest.approx(of_repeats**2 / (beyond**2 + of_cases**2 / 7))
    # the same means twice: cases alone
    frames[1]["value"] -= 0.2
    found = estimate(normalise(pd.concat(frames)))
    assert (found.variance, found.df) == pytest.approx((of_cases, 7))


def test_settings_are_averaged_with_their_common_cases() -> None:
    """Two models with the same values are no more evidence than one."""
    values = np.random.default_rng(2).uniform(size=30)
    groups = [f"p{i // 3}" for i in range(30)]
    one = normalise(cases(values, groups))
    both = normalise(pd.concat([cases(values, groups, model=m) for m in ("a", "b")]))
    assert estimate(both, ["model"]).interval(0.95) == pytest.approx(estimate(one).interval(0.95))


def test_data_sets_are_fixed_and_their_variances_add() -> None:
    draw = np.random.default_rng(3)
    frames = [cases(draw.normal(i, 1, 15), [""] * 15, dataset=f"d{i}") for i in range(2)]
    alone = [estimate(normalise(frame)) for frame in frames]
    both = estimate(normalise(pd.concat(frames)))
    assert both.mean == pytest.approx((alone[0].mean + alone[1].mean) / 2)
    assert both.variance == pytest.approx((alone[0].variance + alone[1].variance) / 4)


def test_the_difference_of_independent_runs_is_welchs() -> None:
    draw = np.random.default_rng(4)
    one, other = draw.normal(2, 1, 11), draw.normal(1, 3, 23)
    found = difference(*(estimate(normalise(cases(v, [""] * len(v)))) for v in (one, other)), 0.9)
    expected = stats.ttest_ind(one, other, equal_var=False)
    assert found[0] == pytest.approx(one.mean() - other.mean())
    assert found[1:] == pytest.approx(tuple(expected.confidence_interval(0.9)))


def test_intervals_of_clustered_cases_hold_the_mean() -> None:
    """Patients of 6 images that are alike: the interval that counts images holds the mean far too seldom."""
    draw = np.random.default_rng(5)
    clustered = naive = 0
    frame = normalise(cases(np.zeros(90), [f"p{i // 6}" for i in range(90)]))
    for _ in range(100):
        values = (draw.normal(0, 1, (15, 1)) + draw.normal(0, 0.3, (15, 6))).ravel()
        frame = frame.assign(value=values)
        low, high = estimate(frame).interval(0.95)
        clustered += low <= 0 <= high
        low, high = estimate(frame.assign(group="")).interval(0.95)
        naive += low <= 0 <= high
    assert clustered >= 88
    assert naive <= 75
