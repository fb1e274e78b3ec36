"""Losses: logits ``(N, K, H, W)`` and one-hot targets of that shape in, a scalar out.

Each loss applies its own activation: the sigmoid for one channel, the softmax over the channels for more, of
which the background is then one and counts like the others. It computes in float32 whatever the precision of
the logits (float64 stays float64) and stays finite, with its gradient, for empty and full masks and for any
finite logit.

Losses follow the convention for empty masks of :mod:`medseg.metrics`: an empty prediction of an empty mask is
perfect and costs nothing. The overlap losses get there by a ``smooth`` term in numerator and denominator.
"""

from medseg.losses._outputs import WeightedOutputs
from medseg.registry import Registry

__all__ = ["LOSSES", "WeightedOutputs", "build"]

LOSSES = Registry("loss", __name__)
build = LOSSES.build
