"""Sums of two losses: the six pairs of the loss study, each 1 : 1 unless told otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from medseg.errors import MedsegError
from medseg.losses import LOSSES


class SumLoss(nn.Module):
    r"""Weighted sum of two losses, :math:`w_1 L_1 + w_2 L_2`.

    Args:
        first: the loss :math:`L_1`.
        second: the loss :math:`L_2`.
        weights: the two weights, not negative.

    Shape:
        logits ``(N, K, H, W)``, target one-hot ``(N, K, H, W)``, result scalar.

    Raises:
        MedsegError: there are not two weights, or one is negative.
    """

    def __init__(self, first: nn.Module, second: nn.Module, weights: Sequence[float] = (1.0, 1.0)) -> None:
        super().__init__()
        if len(weights) != 2 or min(weights) < 0:
            raise MedsegError(f"a sum of two losses takes two weights of 0 or more; got {list(weights)}")
        self.first = first
        self.second = second
        self.weights = (float(weights[0]), float(weights[1]))

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        first, second = self.weights
        return first * self.first(logits, target) + second * self.second(logits, target)


Part = Mapping[str, Any] | None


def _sum(first: str, second: str, a: Part, b: Part, weights: Sequence[float]) -> SumLoss:
    return SumLoss(LOSSES.build(first, **(a or {})), LOSSES.build(second, **(b or {})), weights)


@LOSSES.register("iou_dice", parts=("iou", "dice"))
def iou_dice(iou: Part = None, dice: Part = None, weights: Sequence[float] = (1.0, 1.0)) -> SumLoss:
    r"""Sum of IoU and Dice losses.

    .. math:: w_1 L_{\mathrm{IoU}} + w_2 L_{\mathrm{Dice}}

    Args:
        iou: arguments of the ``iou`` loss, such as ``{"smooth": 1.0}``.
        dice: arguments of the ``dice`` loss, such as ``{"reduction": "batch"}``.
        weights: :math:`w_1` and :math:`w_2`.

    Shape:
        logits ``(N, K, H, W)``, target one-hot ``(N, K, H, W)``, result scalar.
    """
    return _sum("iou", "dice", iou, dice, weights)


@LOSSES.register("iou_bce", parts=("iou", "bce"))
def iou_bce(iou: Part = None, bce: Part = None, weights: Sequence[float] = (1.0, 1.0)) -> SumLoss:
    r"""Sum of IoU loss and binary cross-entropy.

    .. math:: w_1 L_{\mathrm{IoU}} + w_2 L_{\mathrm{BCE}}

    Args:
        iou: arguments of the ``iou`` loss, such as ``{"smooth": 1.0}``.
        bce: arguments of the ``bce`` loss.
        weights: :math:`w_1` and :math:`w_2`.

    Shape:
        logits ``(N, K, H, W)``, target one-hot ``(N, K, H, W)``, result scalar.
    """
    return _sum("iou", "bce", iou, bce, weights)


@LOSSES.register("iou_focal", parts=("iou", "focal"))
def iou_focal(iou: Part = None, focal: Part = None, weights: Sequence[float] = (1.0, 1.0)) -> SumLoss:
    r"""Sum of IoU loss and the loss study's focal loss.

    .. math:: w_1 L_{\mathrm{IoU}} + w_2 L_{\mathrm{focal}}

    Args:
        iou: arguments of the ``iou`` loss, such as ``{"smooth": 1.0}``.
        focal: arguments of the ``focal`` loss, such as ``{"gamma": 2.0}``.
        weights: :math:`w_1` and :math:`w_2`.

    Shape:
        logits ``(N, K, H, W)``, target one-hot ``(N, K, H, W)``, result scalar.
    """
    return _sum("iou", "focal", iou, focal, weights)


@LOSSES.register("dice_bce", parts=("dice", "bce"))
def dice_bce(dice: Part = None, bce: Part = None, weights: Sequence[float] = (1.0, 1.0)) -> SumLoss:
    r"""Sum of Dice loss and binary cross-entropy.

    .. math:: w_1 L_{\mathrm{Dice}} + w_2 L_{\mathrm{BCE}}

    Args:
        dice: arguments of the ``dice`` loss, such as ``{"reduction": "batch"}``.
        bce: arguments of the ``bce`` loss.
        weights: :math:`w_1` and :math:`w_2`.

    Shape:
        logits ``(N, K, H, W)``, target one-hot ``(N, K, H, W)``, result scalar.
    """
    return _sum("dice", "bce", dice, bce, weights)


@LOSSES.register("dice_focal", parts=("dice", "focal"))
def dice_focal(dice: Part = None, focal: Part = None, weights: Sequence[float] = (1.0, 1.0)) -> SumLoss:
    r"""Sum of Dice loss and the loss study's focal loss.

    .. math:: w_1 L_{\mathrm{Dice}} + w_2 L_{\mathrm{focal}}

    Args:
        dice: arguments of the ``dice`` loss, such as ``{"reduction": "batch"}``.
        focal: arguments of the ``focal`` loss, such as ``{"gamma": 2.0}``.
        weights: :math:`w_1` and :math:`w_2`.

    Shape:
        logits ``(N, K, H, W)``, target one-hot ``(N, K, H, W)``, result scalar.
    """
    return _sum("dice", "focal", dice, focal, weights)


@LOSSES.register("bce_focal", parts=("bce", "focal"))
def bce_focal(bce: Part = None, focal: Part = None, weights: Sequence[float] = (1.0, 1.0)) -> SumLoss:
    r"""Sum of binary cross-entropy and the loss study's focal loss.

    .. math:: w_1 L_{\mathrm{BCE}} + w_2 L_{\mathrm{focal}}

    Args:
        bce: arguments of the ``bce`` loss.
        focal: arguments of the ``focal`` loss, such as ``{"gamma": 2.0}``.
        weights: :math:`w_1` and :math:`w_2`.

    Shape:
        logits ``(N, K, H, W)``, target one-hot ``(N, K, H, W)``, result scalar.
    """
    return _sum("bce", "focal", bce, focal, weights)
