"""The network over the slices of one source, a few at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.inferers import Inferer
from torch import Tensor


class SlicesInferer(Inferer):
    """Runs a network on the slices of each item of a batch.

    Args:
        batch_size: slices that pass through the network at once.

    Shape:
        ``(N, D, C, h, w)`` to ``(N, D, K, h, w)``.
    """

    def __init__(self, batch_size: int = 8) -> None:
        super().__init__()
        self.batch_size = batch_size

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        slices = torch.as_tensor(inputs).flatten(0, 1).split(self.batch_size)
        logits = torch.cat([network(part, *args, **kwargs) for part in slices])
        return logits.unflatten(0, inputs.shape[:2])
