"""LayerCAM."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional

from medseg.explain import METHODS
from medseg.explain._probe import ProbedCam, Score


@METHODS.register("layercam", paper="doi:10.1109/TIP.2021.3089943", needs_gradient=True, needs_layer=True)
class LayerCam(ProbedCam):
    r"""Maps times the positive part of their gradient, cell by cell (Jiang et al. 2021, doi:10.1109/TIP.2021.3089943).

    It stays fine in shallow layers, where means of gradients say little.

    .. math:: \mathrm{ReLU} \sum_k \mathrm{ReLU}(g^k) \odot A^k
    """

    def compute_map(self, x: Tensor, class_idx: Score | None = None, *_: Any, **__: Any) -> Tensor:
        _, (maps,), (gradient,) = self.nn_module(x, class_idx=class_idx)
        return functional.relu((functional.relu(gradient) * maps).sum(1, keepdim=True))
