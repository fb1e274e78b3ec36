"""Orders that agree, disagree and tie, against scipy's tau."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kendalltau

from medseg.ranking.agreement import display, orders, taus_of
from medseg.ranking.table import normalise


def test_taus_are_scipys() -> None:
    draw = np.random.default_rng(0)
    for size in (3, 8):
        published = draw.integers(0, 5, size).astype(float)
        drawn = draw.integers(0, 4, (40, size)).astype(float)
        expected = [kendalltau(published, row).statistic for row in drawn]
        np.testing.assert_allclose(taus_of(published, drawn), expected, equal_nan=True)


def table(means: dict[str, float], repeats: int = 1, cases: int = 20, noise: float = 0.0) -> pd.DataFrame:
    """Runs of some models on the same cases, which are the harder the larger their number."""
    draw = np.random.default_rng(7)
    rows = [
        {"dataset": "bhi", "model": model, "repeat": r, "case": f"c{c}", "group": "", "metric": "accuracy",
         "value": mean + 0.01 * (c - (cases - 1) / 2) + noise * draw.normal()}
        for model, mean in means.items() for r in range(repeats) for c in range(cases)
    ]  # fmt: skip
    return normalise(pd.DataFrame(rows))


def ordered(ours: dict[str, float], published: dict[str, float], better: str = "higher", **more) -> pd.Series:
    frame = table(ours, **more)
    compared = pd.DataFrame(
        {
            "table": "8",
            "dataset": "bhi",
            "model": list(published),
            "split": "holdout",
            "protocol": "",
            "metric": "accuracy",
            "published": list(published.values()),
            "ours": [frame.loc[frame["model"] == m, "value"].mean() for m in published],
            "inside": "no",
            "place": range(len(published)),
        }
    )
    names = list(published)
    found = orders(compared, lambda place: frame[frame["model"] == names[place]], {"accuracy": better})
    assert len(found) == 1
    return found.iloc[0]


PUBLISHED = {"a": 0.6, "b": 0.7, "c": 0.8, "d": 0.9}


def test_the_same_order() -> None:
    row = ordered({"a": 0.1, "b": 0.2, "c": 0.3, "d": 0.4}, PUBLISHED)
    assert (row["tau"], row["cells"], row["winner_published"], row["winner_ours"]) == (1, 4, "d", "d")
    assert row["p"] == pytest.approx(2 / math.factorial(4))
    assert row["mean_difference"] == pytest.approx(-0.5)
    # all were tested on the same cases, which move all alike: no doubt of the order
    assert (row["low"], row["high"], row["p_winner"], row["agree"]) == (1, 1, 1, "yes")


def test_the_reverse_order_and_lower_values_the_better() -> None:
    row = ordered({"a": 0.4, "b": 0.3, "c": 0.2, "d": 0.1}, PUBLISHED)
    assert (row["tau"], row["winner_published"], row["winner_ours"], row["agree"]) == (-1, "d", "a", "no")
    assert row["p_winner"] == 0
    row = ordered({"a": 0.4, "b": 0.3, "c": 0.2, "d": 0.1}, PUBLISHED, better="lower")
    assert (row["tau"], row["winner_published"], row["winner_ours"]) == (-1, "a", "d")


def test_noise_leaves_the_order_open() -> None:
    close = {"a": 0.30, "b": 0.301, "c": 0.302, "d": 0.303}
    row = ordered(close, PUBLISHED, repeats=2, noise=0.05)
    assert row["low"] < row["tau"] <= row["high"] and row["low"] < 0.5
    assert 0 < row["p_winner"] < 1


def test_published_ties_share_the_win() -> None:
    row = ordered({"a": 0.1, "b": 0.2, "c": 0.4, "d": 0.3}, {"a": 0.6, "b": 0.7, "c": 0.9, "d": 0.9})
    assert (row["winner_published"], row["winner_ours"], row["agree"]) == ("c = d", "c", "yes")
    assert row["p_winner"] == 1


def test_two_cells_have_a_winner_and_no_tau() -> None:
    row = ordered({"a": 0.1, "b": 0.2}, {"a": 0.7, "b": 0.9})
    assert math.isnan(row["tau"]) and math.isnan(row["p"]) and row["agree"] == "yes"
    shown = display(pd.DataFrame([row]))
    assert "Kendall's tau" not in shown.columns and shown["our winner"].tolist() == ["b"]


def test_equal_seeds_give_equal_intervals() -> None:
    close = {"a": 0.30, "b": 0.31, "c": 0.32, "d": 0.33}
    one, other = (ordered(close, PUBLISHED, repeats=2, noise=0.05) for _ in range(2))
    pd.testing.assert_series_equal(one, other)
