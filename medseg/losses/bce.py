"""Binary cross-entropy."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from medseg.losses import LOSSES
from medseg.losses._binary import binary_logits, checked


@LOSSES.register("bce", paper="10.1111/j.2517-6161.1958.tb00292.x")
class BCELoss(nn.Module):
    r"""Binary cross-entropy, the pixels' mean negative log-likelihood (Cox 1958, J. R. Stat. Soc. B 20).

    .. math:: -\frac{1}{n} \sum \left[ y \log p + (1 - y) \log (1 - p) \right]

    With more than one channel each channel's softmax probability is set against the rest and the channels are
    averaged; for two channels this is the usual cross-entropy.

    Shape:
        logits ``(N, K, H, W)``, target one-hot ``(N, K, H, W)``, result scalar, 0 or more.

    Raises:
        MedsegError: the shapes differ.
    """

    def __init__(self) -> None:
        super().__init__()

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        logits, target = checked(logits, target)
        return functional.binary_cross_entropy_with_logits(binary_logits(logits), target)
