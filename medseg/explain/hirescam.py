"""HiResCAM."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional

from medseg.explain import METHODS
from medseg.explain._probe import ProbedCam, Score


@METHODS.register("hirescam", paper="arXiv:2011.08891", needs_gradient=True, needs_layer=True)
class HiResCam(ProbedCam):
    r"""Maps times their gradient, cell by cell (Draelos & Carin 2020, arXiv:2011.08891).

    No gradient is averaged, so that a cell is bright only where it raises the score itself. The positive part is
    kept.

    .. math:: \mathrm{ReLU} \sum_k g^k \odot A^k
    """

    def compute_map(self, x: Tensor, class_idx: Score | None = None, *_: Any, **__: Any) -> Tensor:
        _, (maps,), (gradient,) = self.nn_module(x, class_idx=class_idx)
        return functional.relu((gradient * maps).sum(1, keepdim=True))
