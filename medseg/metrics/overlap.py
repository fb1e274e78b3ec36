"""Overlap metrics, all functions of one count of the pixels."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from medseg.metrics import METRICS
from medseg.metrics._masks import masks


def binarise(logits: Tensor) -> Tensor:
    """The predicted mask: of one channel where the probability is at least 0.5, of more the likeliest.

    Shape:
        logits ``(N, K, H, W)``, result the same, boolean; of several channels exactly one is true at each
        pixel.
    """
    channels = logits.shape[1]
    if channels == 1:
        return logits >= 0
    return logits.argmax(1, keepdim=True) == torch.arange(channels, device=logits.device).view(1, -1, 1, 1)


def count(mask: Tensor) -> Tensor:
    """The number of true pixels of each image and channel, in int64.

    Rows are added in uint8, at most 255 pixels at a time, and their sums in int64: exact for any size, and on
    a CPU many times as quick as summing booleans.

    Shape:
        mask ``(N, K, H, W)`` boolean, result ``(N, K)``.
    """
    pieces = mask.view(torch.uint8).split(255, dim=3)
    return torch.stack([piece.sum(3, dtype=torch.uint8).sum(2) for piece in pieces]).sum(0)


def confusion(prediction: Tensor | np.ndarray, target: Tensor | np.ndarray) -> Tensor:
    """The confusion counts of each case and channel.

    They are, in this order, the true positives, false positives, false negatives and true negatives. It runs
    on the masks' own device and never waits for it.

    Shape:
        both masks ``(N, K, H, W)``, boolean or integer (0 is false), result ``(N, K, 4)`` int64.

    Raises:
        MedsegError: the shapes differ, or a mask holds fractions.
    """
    prediction, target = masks(prediction, target)
    hit, predicted, true = count(prediction & target), count(prediction), count(target)
    pixels = prediction.shape[2] * prediction.shape[3]
    return torch.stack((hit, predicted - hit, true - hit, pixels - predicted - true + hit), -1)


def ratio(numerator: Tensor, denominator: Tensor, perfect: Tensor) -> Tensor:
    """A ratio of counts by the room's convention: 1 where perfect, else 0 where the denominator is 0."""
    value = numerator.double() / denominator.clamp(min=1)
    return torch.where(perfect, 1.0, value)


def empty(counts: Tensor) -> Tensor:
    """Where the lesion is empty in both masks."""
    return counts[..., :3].sum(-1) == 0


def background(counts: Tensor) -> Tensor:
    """The counts of the background: true and false exchanged."""
    return counts.flip(-1)


@METRICS.register("dice", better="higher", unit="", needs="counts")
def dice(counts: Tensor) -> Tensor:
    r"""Dice coefficient, the overlap relative to the mean size of both masks (Dice 1945, Ecology 26).

    .. math:: \frac{2 TP}{2 TP + FP + FN}

    Shape:
        counts ``(..., 4)``, result ``(...)`` float64 in [0, 1].
    """
    tp, fp, fn, _ = counts.unbind(-1)
    return ratio(2 * tp, 2 * tp + fp + fn, empty(counts))


@METRICS.register("iou", better="higher", unit="", needs="counts")
def iou(counts: Tensor) -> Tensor:
    r"""Intersection over union, or Jaccard index (Jaccard 1912, New Phytol. 11).

    .. math:: \frac{TP}{TP + FP + FN}

    Shape:
        counts ``(..., 4)``, result ``(...)`` float64 in [0, 1].
    """
    tp, fp, fn, _ = counts.unbind(-1)
    return ratio(tp, tp + fp + fn, empty(counts))


@METRICS.register("recall", better="higher", unit="", needs="counts")
def recall(counts: Tensor) -> Tensor:
    r"""Recall, or sensitivity: the part of the true lesion that is found.

    .. math:: \frac{TP}{TP + FN}

    Shape:
        counts ``(..., 4)``, result ``(...)`` float64 in [0, 1].
    """
    tp, _, fn, _ = counts.unbind(-1)
    return ratio(tp, tp + fn, empty(counts))


@METRICS.register("precision", better="higher", unit="", needs="counts")
def precision(counts: Tensor) -> Tensor:
    r"""Precision: the part of the predicted lesion that is true.

    .. math:: \frac{TP}{TP + FP}

    Shape:
        counts ``(..., 4)``, result ``(...)`` float64 in [0, 1].
    """
    tp, fp, _, _ = counts.unbind(-1)
    return ratio(tp, tp + fp, empty(counts))


@METRICS.register("specificity", better="higher", unit="", needs="counts")
def specificity(counts: Tensor) -> Tensor:
    r"""Specificity: the part of the true background that is left alone, which is the background's recall.

    .. math:: \frac{TN}{TN + FP}

    Shape:
        counts ``(..., 4)``, result ``(...)`` float64 in [0, 1].
    """
    return recall(background(counts))


@METRICS.register("mean_iou", better="higher", unit="", needs="counts")
def mean_iou(counts: Tensor) -> Tensor:
    r"""Mean of the lesion's and the background's intersection over union (the breast study's "MeanIOU").

    .. math:: \frac{1}{2} \left( \frac{TP}{TP + FP + FN} + \frac{TN}{TN + FP + FN} \right)

    Shape:
        counts ``(..., 4)``, result ``(...)`` float64 in [0, 1].
    """
    return (iou(counts) + iou(background(counts))) / 2
