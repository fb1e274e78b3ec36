"""Grad-CAM++."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from medseg.explain import METHODS
from medseg.explain._probe import ProbedCam, Score


@METHODS.register("gradcampp", paper="arXiv:1710.11063", needs_gradient=True, needs_layer=True)
class GradCamPlusPlus(ProbedCam):
    r"""Maps weighed by their positive gradients, each cell by its share (Chattopadhay et al. 2018, arXiv:1710.11063).

    .. math::

        \mathrm{ReLU} \sum_k \Big(\sum_{ij} \alpha^k_{ij} \mathrm{ReLU}(g^k_{ij})\Big) A^k, \qquad
        \alpha^k_{ij} = \frac{(g^k_{ij})^2}{2 (g^k_{ij})^2 + (g^k_{ij})^3 \sum_{ab} A^k_{ab}}

    The factor ``exp(score)`` of the paper, the same for all cells, is left out. MONAI's own formula multiplies each
    cell's activation by its own gradient cubed, where the paper has the gradient of the cell that is weighed, and adds
    1e-7 to the denominator, which the squared gradients of a mean over many cells do not exceed; so the paper's is
    computed here. It is meant for layers behind a ReLU.
    """

    def compute_map(self, x: Tensor, class_idx: Score | None = None, *_: Any, **__: Any) -> Tensor:
        _, (maps,), (gradient,) = self.nn_module(x, class_idx=class_idx)
        # numerator and denominator divided by the squared gradient
        denominator = 2 + gradient * maps.sum((2, 3), keepdim=True)
        denominator = torch.where(denominator == 0, torch.ones_like(denominator), denominator)
        weights = (functional.relu(gradient) / denominator).sum((2, 3), keepdim=True)
        return functional.relu((weights * maps).sum(1, keepdim=True))
