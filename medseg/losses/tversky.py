"""Tversky index."""

from __future__ import annotations

from torch import Tensor, nn

from medseg.errors import MedsegError
from medseg.losses import LOSSES
from medseg.losses._overlap import check_overlap, soft_counts


@LOSSES.register("tversky", paper="arXiv:1706.05721")
class TverskyLoss(nn.Module):
    r"""Dice with separate prices for false positives and negatives (Salehi et al. 2017, arXiv:1706.05721).

    .. math:: 1 - \frac{TP + s}{TP + \alpha FP + \beta FN + s}, \quad
              TP = \sum p y,\; FP = \sum p (1 - y),\; FN = \sum (1 - p) y

    Equal prices of 1 give the IoU loss; of 0.5 the Dice loss with twice the smooth term.

    Args:
        alpha: price of a false positive.
        beta: price of a false negative; the paper favours ``beta > alpha`` for small lesions.
        smooth: the term :math:`s`, in pixels; it makes an empty prediction of an empty mask cost 0.
        reduction: ``image`` takes the ratio of each image and averages over images, so that a small lesion
            weighs as much as a large one; ``batch`` takes one ratio over the whole batch. Channels are
            averaged in both.

    Shape:
        logits ``(N, K, H, W)``, target one-hot ``(N, K, H, W)``, result scalar in [0, 1].

    Raises:
        MedsegError: a price is negative, ``smooth`` is not above 0, ``reduction`` is unknown, or the shapes
            differ.
    """

    def __init__(
        self, alpha: float = 0.3, beta: float = 0.7, smooth: float = 1.0, reduction: str = "image"
    ) -> None:
        super().__init__()
        check_overlap("tversky", smooth, reduction)
        if alpha < 0 or beta < 0:
            raise MedsegError(f"loss 'tversky': alpha and beta must not be negative; got {alpha} and {beta}")
        self.alpha = alpha
        self.beta = beta
        self.smooth = smooth
        self.reduction = reduction

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        hit, predicted, true = soft_counts(logits, target, self.reduction)
        mistakes = self.alpha * (predicted - hit) + self.beta * (true - hit)
        return (1 - (hit + self.smooth) / (hit + mistakes + self.smooth)).mean()
