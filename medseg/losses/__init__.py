"""Losses: logits and targets of one shape in, a scalar out.

Those of segmentation take logits ``(N, K, H, W)`` and one-hot masks. Each applies its own activation: the sigmoid for
one channel, the softmax over the channels for more, of which the background is then one and counts like the others.
They follow the convention for empty masks of :mod:`medseg.metrics`: an empty prediction of an empty mask is perfect
and costs nothing. The overlap losses get there by a ``smooth`` term in numerator and denominator.

Those of classification take logits ``(N, K)`` and one-hot, multi-hot or soft rows. Their fact ``activation`` says what
makes probabilities of the logits, ``multilabel`` whether they can train sets whose images have any number of classes,
``soft`` whether they take mixed labels, and ``needs="counts"`` that they weigh by the training part's class counts,
which :func:`build_for` passes on.

A loss computes in float32 whatever the precision of the logits (float64 stays float64) and stays finite, with its
gradient, for empty and full masks, for confident mistakes, and for any finite logit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from medseg.errors import MedsegError
from medseg.losses._outputs import WeightedOutputs
from medseg.registry import Registry

__all__ = ["LOSSES", "WeightedOutputs", "build", "build_for"]

LOSSES = Registry("loss", __name__)
build = LOSSES.build


def build_for(
    name: str, arguments: Mapping[str, Any] | None = None, counts: Sequence[float] | None = None
) -> nn.Module:
    """Build a loss for a training part.

    Args:
        name: the registered name.
        arguments: of the loss, as a config holds them.
        counts: number of training images of each class, ``(K,)``; goes to losses that need it and is ignored by
            the others.

    Raises:
        MedsegError: the name or an argument is unknown or wrong, or the loss needs counts and has none.
    """
    if LOSSES[name].facts.get("needs") != "counts":
        return build(name, arguments)
    if "counts" in (arguments or {}):
        raise MedsegError(
            f"loss {name!r} gets its counts from the training part; leave them out of its arguments"
        )
    if counts is None:
        raise MedsegError(f"loss {name!r} needs the number of training images of each class, and has none")
    return build(name, arguments, counts=[float(count) for count in counts])
