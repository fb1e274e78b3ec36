"""Categorical cross-entropy in which rare classes weigh more."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from medseg.errors import MedsegError
from medseg.losses import LOSSES
from medseg.losses._classes import checked_classes

NAME = "weighted_cross_entropy"


@LOSSES.register(
    NAME,
    task="classification",
    activation="softmax",
    multilabel=False,
    soft=True,
    needs="counts",
    paper="10.1093/oxfordjournals.pan.a004868",
)
class WeightedCrossEntropy(nn.Module):
    r"""Cross-entropy with each class weighted against its frequency (King & Zeng 2001, Political Analysis 9).

    .. math:: -\frac{1}{N} \sum_n \sum_k w_k y_{nk} \log p_{nk}, \qquad
              w_k = c \left( \frac{M}{K m_k} \right)^{a}, \qquad \frac{1}{M} \sum_k m_k w_k = 1

    where :math:`m_k` of the M training images are of class k, p is the softmax, and c makes the weights of the
    training images average 1, so that the loss stays on the scale of ``cross_entropy``. With a = 1, c is 1 and the
    weights are scikit-learn's ``balanced``: every class has the same share in the loss, whatever its size.

    The mean over the batch is plain, as with Keras' ``class_weight``. PyTorch divides by the weights of the batch
    instead where it is given class indices; then a batch of one class alone, or of one image, would cost what it
    costs without weights. A plain mean weighs an image alike in every batch.

    Args:
        counts: number of training images of each class, :math:`m_k`; a bundle's training part gives them.
        power: the exponent a: 0 leaves the plain cross-entropy, 1/2 is a compromise, 1 balances in full.

    Shape:
        logits ``(N, K)``, K of 2 or more; target ``(N, K)``, rows one-hot or soft that sum to 1; result scalar,
        0 or more.

    Raises:
        MedsegError: a class has no training image, ``power`` is negative, the shapes differ, or there are not as
            many classes as counts.
    """

    weight: Tensor

    def __init__(self, counts: Sequence[float], power: float = 1.0) -> None:
        super().__init__()
        if not power >= 0:
            raise MedsegError(f"loss {NAME!r}: power must not be negative; got {power}")
        weight = torch.tensor(class_weights(counts, power), dtype=torch.float64)
        self.register_buffer("weight", weight, persistent=False)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        logits, target = checked_classes(NAME, logits, target, least=2)
        if len(self.weight) != logits.shape[1]:
            raise MedsegError(
                f"loss {NAME!r} has counts of {len(self.weight)} classes, but the logits are of {logits.shape[1]}"
            )
        self.weight = self.weight.to(logits.device)  # once: later steps do not wait for the GPU
        # of class probabilities, torch divides by the number of images, not by their weights
        return functional.cross_entropy(logits, target, weight=self.weight.to(logits))


def class_weights(counts: Sequence[float], power: float = 1.0) -> list[float]:
    """The weight of each class, which over the training images average 1.

    Args:
        counts: number of training images of each class.
        power: as of ``weighted_cross_entropy``.

    Raises:
        MedsegError: a class has no image.
    """
    numbers = [float(count) for count in counts]
    empty = [str(number) for number, count in enumerate(numbers) if not count > 0]
    if empty:
        raise MedsegError(
            f"loss {NAME!r} weighs by 1 / count, and class {', '.join(empty)} (counting from 0) has no training"
            f" image; counts are {numbers}; use a split with all classes in training, or another loss"
        )
    total = sum(numbers)
    raw = [(total / (len(numbers) * count)) ** power for count in numbers]
    mean = sum(count * weight for count, weight in zip(numbers, raw, strict=True)) / total
    return [weight / mean for weight in raw]
