"""Categorical cross-entropy that fades for easy images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medseg.errors import MedsegError
from medseg.losses import LOSSES
from medseg.losses._binary import binary_logits
from medseg.losses._classes import checked_classes
from medseg.losses.binary_cross_entropy import faded
from medseg.losses.focal import check_gamma

NAME = "focal_cross_entropy"


@LOSSES.register(
    NAME, task="classification", activation="softmax", multilabel=False, soft=True, paper="arXiv:1708.02002"
)
class FocalCrossEntropy(nn.Module):
    r"""Categorical cross-entropy that fades for easy images, after Lin et al. (2017, arXiv:1708.02002).

    .. math:: -\frac{1}{N} \sum_n \sum_k \alpha_k y_{nk} (1 - p_{nk})^\gamma \log p_{nk}, \qquad
              p_n = \mathrm{softmax}(z_n)

    The softmax form of the paper's loss, for one-of-K sets; ``binary_focal_cross_entropy`` has its sigmoids. The
    mean is plain, whatever the weights.

    Args:
        gamma: how fast easy images fade; 0 leaves the (weighted) cross-entropy.
        alpha: weight of each class, K numbers of 0 or more; not given, all weigh 1.

    Shape:
        logits ``(N, K)``, K of 2 or more; target ``(N, K)``, rows one-hot or soft that sum to 1; result scalar,
        0 or more.

    Raises:
        MedsegError: ``gamma`` or a weight is negative, the shapes differ, or there are not as many weights as
            classes.
    """

    weight: Tensor | None

    def __init__(self, gamma: float = 2.0, alpha: Sequence[float] | None = None) -> None:
        super().__init__()
        check_gamma(NAME, gamma)
        if alpha is not None and (isinstance(alpha, (int, float)) or not all(a >= 0 for a in alpha)):
            raise MedsegError(f"loss {NAME!r}: alpha must be a weight of 0 or more per class; got {alpha}")
        self.gamma = float(gamma)
        weight = None if alpha is None else torch.tensor([float(a) for a in alpha], dtype=torch.float64)
        self.register_buffer("weight", weight, persistent=False)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        logits, target = checked_classes(NAME, logits, target, least=2)
        if self.weight is not None:
            if len(self.weight) != logits.shape[1]:
                raise MedsegError(
                    f"loss {NAME!r}: alpha has {len(self.weight)} weights, but there are {logits.shape[1]} classes"
                )
            self.weight = self.weight.to(logits.device)  # once: later steps do not wait for the GPU
            target = target * self.weight.to(logits)
        return (target * faded(binary_logits(logits), self.gamma)).sum(1).mean()
