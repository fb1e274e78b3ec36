from __future__ import annotations

import itertools

import numpy as np
import pytest

from medseg.ranking.effects import cliffs_delta, cohens_dz, wins


def test_cliffs_delta_by_hand() -> None:
    # of nine pairs (a, b): 2>1 2=2 2<3, 4>1 4>2 4>3, 5 likewise: 7 above, 1 below
    assert cliffs_delta(np.array([[2, 1], [4, 2], [5, 3]], float), np.zeros(3))[0] == pytest.approx(6 / 9)


def test_cliffs_delta_by_going_through_all_pairs() -> None:
    draw = np.random.default_rng(0)
    values, dataset = np.round(draw.normal(size=(40, 3)), 1), np.repeat([0, 4], [25, 15])
    expected = [
        np.mean(
            [
                np.mean([np.sign(x - y) for x, y in itertools.product(mine[:, a], mine[:, b])])
                for mine in (values[:25], values[25:])
            ]
        )
        for a, b in itertools.combinations(range(3), 2)
    ]
    assert cliffs_delta(values, dataset) == pytest.approx(expected)


def test_an_easy_and_a_hard_data_set_do_not_hide_the_difference() -> None:
    values = np.array([[0.91, 0.90], [0.92, 0.905], [0.31, 0.30], [0.32, 0.305]])
    assert cliffs_delta(values, np.array([0, 0, 1, 1]))[0] == 1
    assert cliffs_delta(values, np.zeros(4))[0] < 0.6


def test_cohens_d_by_hand() -> None:
    # 1 2 3: mean 2, standard deviation 1; twice the differences, the same d
    assert cohens_dz(np.array([[1, 2], [2, 4], [3, 6]], float)).tolist() == [2, 2]


def test_cohens_d_at_its_edges() -> None:
    assert np.isnan(cohens_dz(np.array([[1.0]]))).all()
    same = cohens_dz(np.array([[0.0, 0.1, -0.1]] * 3))
    assert same.tolist() == pytest.approx([float("nan"), float("inf"), float("-inf")], nan_ok=True)


def test_wins_draws_and_losses() -> None:
    differences = np.array([[0.02, 0.01], [0.01, 0.0], [-0.02, 0.0], [0.03, -0.5]])
    assert wins(differences, 0.01) == ["2/1/1", "0/3/1"]
    assert wins(differences, 0) == ["3/0/1", "1/2/1"]
