"""The metrics of validation, as one ignite metric over one confusion count per batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from ignite.engine import Engine
from ignite.metrics import Metric
from monai.utils import evenly_divisible_all_gather
from torch import Tensor

from medseg.metrics import METRICS
from medseg.metrics.overlap import binarise, confusion


class CaseMeans(Metric):
    """Means over cases of counting metrics, from counts that stay on the device until the epoch ends.

    Sets ``val_<name>`` in the engine's metrics for every name. Under several processes the cases of all are used.

    Args:
        names: counting metrics; the first is the key metric.
    """

    def __init__(self, names: Sequence[str] = ("dice",)) -> None:
        self.names = list(names)
        self.functions = {name: METRICS[name].build for name in self.names}
        super().__init__(output_transform=lambda output: (output["pred"], output["label"]))

    def reset(self) -> None:
        """Forget the cases seen."""
        self._counts: list[Tensor] = []

    def update(self, output: tuple[Tensor, Tensor]) -> None:
        """Count one batch: logits (N, K, H, W) against 0/1 labels of that shape."""
        logits, label = output
        self._counts.append(confusion(binarise(logits), label))

    def compute(self) -> dict[str, float]:
        """The mean of every metric over cases and channels."""
        counts = torch.cat(self._counts)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            counts = evenly_divisible_all_gather(counts, concat=True)
        counts = counts.cpu()
        return {name: float(function(counts).mean()) for name, function in self.functions.items()}

    def completed(self, engine: Engine, name: str) -> None:
        """Publish the means as numbers of their own, so that curves and best-epoch logic can read them."""
        engine.state.metrics.update({f"val_{key}": value for key, value in self.compute().items()})
