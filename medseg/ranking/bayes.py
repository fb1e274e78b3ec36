"""The Bayesian signed-rank test with a region of practical equivalence."""

from __future__ import annotations

import numpy as np

Array = np.ndarray
#: draws from the posterior: probabilities to half a percent
SAMPLES = 10_000


def signed_rank(differences: Array, rope: float, samples: int = SAMPLES, seed: int = 0) -> Array:
    """How probable it is that b is better, that neither is, and that a is.

    Benavoli et al. 2014 (ICML, PMLR 32(2):1026-1034) and 2017 (JMLR 18(77):1-36): the blocks, and one more in which the
    two are equal with the weight 1/2 (the prior), are weighted by a Dirichlet distribution; a draw goes to the side
    on which the weighted half of all pairs of blocks has its mean difference: below -rope, within, above. Equal to
    ``baycomp.SignedRankTest`` of the same seed, but for all columns at once.

    Args:
        differences: positive where a is the better one.
        rope: half width of the region; at 0 there are only two sides.
        samples: draws from the posterior.
        seed: equal seeds give equal probabilities.

    Shape:
        differences ``(blocks, pairs)``, result ``(pairs, 3)``: rows sum to 1.
    """
    blocks, pairs = differences.shape
    if not blocks:
        return np.full((pairs, 3), np.nan)
    prior = np.r_[0.5, np.ones(blocks)]
    weights = np.random.RandomState(seed).dirichlet(prior, samples)
    result = np.empty((pairs, 3))
    for pair in range(pairs):
        column = np.r_[0.0, differences[:, pair]]
        sums = column[:, None] + column
        above = _weight(weights, _step(sums - 2 * rope))
        below = _weight(weights, _step(-sums - 2 * rope)) if rope > 0 else 1 - above
        within = 1 - above - below if rope > 0 else np.zeros(samples)
        # the first of equals, in baycomp's order: a draw that is tied between sides is no accident where all are 0
        sides = np.argmax(np.stack([below, within, above], axis=1), axis=1)
        result[pair] = np.bincount(sides, minlength=3) / samples
    return result


def _step(gaps: Array) -> Array:
    """Heaviside's step: one half at 0."""
    return np.heaviside(gaps, 0.5)


def _weight(weights: Array, inside: Array) -> Array:
    """The weight of the pairs of blocks that lie inside, for each draw."""
    return np.einsum("si,si->s", weights @ inside, weights)
