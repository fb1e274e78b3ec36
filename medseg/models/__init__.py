"""Models: images ``(N, C, H, W)`` float32 in, logits ``(N, K, H, W)`` out.

A deeply supervised model gives, in training mode, a tuple of logits, all at the input's size, and in
evaluation mode one tensor. Facts of an entry: ``divisor`` (what both sides must be divisible by, for the
default arguments; a built network has it as an attribute), ``cam_layer`` (the submodule that class-activation
maps look at), ``deep_supervision``, ``paper`` and ``licence`` (of the original code; nothing of it is
copied).
"""

from __future__ import annotations

from typing import Any

from medseg.registry import Registry

MODELS = Registry("model", __name__)
build = MODELS.build


def output_weights(network: Any) -> list[float]:
    """The published weight of each output in the loss; ``[1.0]`` for a network with one output.

    Args:
        network: a network of this room, plain or wrapped in ``DistributedDataParallel``.
    """
    return list(getattr(getattr(network, "module", network), "output_weights", (1.0,)))
