"""Dice overlap."""

from __future__ import annotations

from torch import Tensor, nn

from medseg.losses import LOSSES
from medseg.losses._overlap import check_overlap, soft_counts


@LOSSES.register("dice", paper="arXiv:1606.04797")
class DiceLoss(nn.Module):
    r"""One minus the soft Dice coefficient (after Milletari et al. 2016, arXiv:1606.04797).

    .. math:: 1 - \frac{2 \sum p y + s}{\sum p + \sum y + s}

    The denominator holds plain sums, as in the loss study and most later work; V-Net's own squares them.

    Args:
        smooth: the term :math:`s`, in pixels; it makes an empty prediction of an empty mask cost 0.
        reduction: ``image`` takes the ratio of each image and averages over images, so that a small lesion
            weighs as much as a large one; ``batch`` takes one ratio over the whole batch. Channels are
            averaged in both.

    Shape:
        logits ``(N, K, H, W)``, target one-hot ``(N, K, H, W)``, result scalar in [0, 1].

    Raises:
        MedsegError: ``smooth`` is not above 0, ``reduction`` is unknown, or the shapes differ.
    """

    def __init__(self, smooth: float = 1.0, reduction: str = "image") -> None:
        super().__init__()
        check_overlap("dice", smooth, reduction)
        self.smooth = smooth
        self.reduction = reduction

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        hit, predicted, true = soft_counts(logits, target, self.reduction)
        return (1 - (2 * hit + self.smooth) / (predicted + true + self.smooth)).mean()
