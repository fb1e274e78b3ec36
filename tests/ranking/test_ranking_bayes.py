from __future__ import annotations

import numpy as np
import pytest

from medseg.ranking.bayes import signed_rank


@pytest.mark.parametrize("rope", [0.0, 0.01, 0.5])
@pytest.mark.parametrize("blocks", [1, 6, 20])
def test_equal_to_baycomp_with_the_same_seed(rope: float, blocks: int) -> None:
    import baycomp

    draw = np.random.default_rng(blocks)
    differences = draw.normal(0.02, 0.3, (blocks, 2))
    found = signed_rank(differences, rope, samples=500, seed=7)
    for pair in range(2):
        # baycomp's difference is y - x and its first side that of x
        x, y = differences[:, pair], np.zeros(blocks)
        sides = baycomp.SignedRankTest(x, y, rope, nsamples=500, random_state=7).probs()
        a, within, b = sides
        # at most one of the 500 draws may be tied to the last digit
        assert found[pair] == pytest.approx([b, within, a], abs=0.0021)


def test_clear_cases() -> None:
    differences = np.column_stack([np.full(8, 0.2), np.full(8, 0.001), np.full(8, -0.2)])
    b, within, a = signed_rank(differences, 0.01).T
    assert a[0] > 0.99
    assert within[1] == 1
    assert b[2] > 0.99


def test_probabilities_sum_to_one_and_follow_the_seed() -> None:
    differences = np.random.default_rng(0).normal(0, 0.02, (6, 5))
    once = signed_rank(differences, 0.01, seed=3)
    assert once.sum(1) == pytest.approx(np.ones(5))
    assert (once == signed_rank(differences, 0.01, seed=3)).all()
    assert (once != signed_rank(differences, 0.01, seed=4)).any()


def test_a_wider_region_takes_from_both_sides() -> None:
    differences = np.random.default_rng(1).normal(0.005, 0.03, (10, 1))
    within = [signed_rank(differences, rope)[0, 1] for rope in (0.005, 0.02, 0.08)]
    assert within == sorted(within)
    assert within[0] < within[2]


def test_without_blocks_nothing_is_known() -> None:
    assert np.isnan(signed_rank(np.zeros((0, 3)), 0.01)).all()
