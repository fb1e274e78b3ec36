"""Focal losses: the loss study's own and the common definition."""

from __future__ import annotations

from torch import Tensor, nn

from medseg.errors import MedsegError
from medseg.losses import LOSSES
from medseg.losses._binary import binary_logits, checked, focal_cross_entropy


@LOSSES.register("focal", paper="the loss study; after arXiv:1708.02002")
class FocalLoss(nn.Module):
    r"""Cross-entropy that fades for easy pixels, in the loss study's own form, where alpha scales both terms.

    .. math:: -\frac{\alpha}{n} \sum \left[ y (1 - p)^\gamma \log p + (1 - y) p^\gamma \log (1 - p) \right]

    Here :math:`\alpha` is a plain factor: it matters only beside another loss. The common definition (Lin et
    al. 2017, arXiv:1708.02002, and MONAI's) gives foreground and background different weights: that is
    ``focal_lin2017``.

    Args:
        alpha: factor of the whole loss.
        gamma: how fast easy pixels fade; 0 leaves ``alpha`` times the cross-entropy.

    Shape:
        logits ``(N, K, H, W)``, target one-hot ``(N, K, H, W)``, result scalar, 0 or more.

    Raises:
        MedsegError: ``alpha`` is not above 0, ``gamma`` is negative, or the shapes differ.
    """

    def __init__(self, alpha: float = 0.8, gamma: float = 0.2) -> None:
        super().__init__()
        if not alpha > 0:
            raise MedsegError(f"loss 'focal': alpha must be above 0; got {alpha}")
        check_gamma("focal", gamma)
        self.alpha = alpha
        self.gamma = gamma

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        logits, target = checked(logits, target)
        return self.alpha * focal_cross_entropy(binary_logits(logits), target, self.gamma).mean()


@LOSSES.register("focal_lin2017", paper="arXiv:1708.02002")
class FocalLossLin2017(nn.Module):
    r"""Cross-entropy that fades for easy pixels, as commonly defined (Lin et al. 2017, arXiv:1708.02002).

    .. math:: -\frac{1}{n} \sum \left[ \alpha y (1 - p)^\gamma \log p
              + (1 - \alpha) (1 - y) p^\gamma \log (1 - p) \right]

    MONAI's ``FocalLoss`` computes the same. The loss study's form, one factor for both terms, is ``focal``.

    Args:
        alpha: weight of the foreground in [0, 1]; the background gets ``1 - alpha``.
        gamma: how fast easy pixels fade; 0 leaves the weighted cross-entropy.

    Shape:
        logits ``(N, K, H, W)``, target one-hot ``(N, K, H, W)``, result scalar, 0 or more.

    Raises:
        MedsegError: ``alpha`` is outside [0, 1], ``gamma`` is negative, or the shapes differ.
    """

    def __init__(self, alpha: float = 0.25, gamma: float = 2.0) -> None:
        super().__init__()
        if not 0 <= alpha <= 1:
            raise MedsegError(f"loss 'focal_lin2017': alpha must lie between 0 and 1; got {alpha}")
        check_gamma("focal_lin2017", gamma)
        self.alpha = alpha
        self.gamma = gamma

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        logits, target = checked(logits, target)
        weight = (1 - self.alpha) + (2 * self.alpha - 1) * target
        return (weight * focal_cross_entropy(binary_logits(logits), target, self.gamma)).mean()


def check_gamma(loss: str, gamma: float) -> None:
    """Refuse a negative ``gamma``, which would favour easy pixels without bound.

    Raises:
        MedsegError: ``gamma`` is negative.
    """
    if not gamma >= 0:
        raise MedsegError(f"loss {loss!r}: gamma must not be negative; got {gamma}")
