"""Binary cross-entropies: every class or finding against the rest, each with a sigmoid of its own."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from medseg.errors import MedsegError
from medseg.losses import LOSSES
from medseg.losses._classes import checked_classes
from medseg.losses.focal import check_gamma


@LOSSES.register(
    "binary_cross_entropy",
    task="classification",
    activation="sigmoid",
    multilabel=True,
    soft=True,
    paper="10.1111/j.2517-6161.1958.tb00292.x",
)
class BinaryCrossEntropy(nn.Module):
    r"""Binary cross-entropy of every class against the rest, averaged over the classes (Cox 1958).

    .. math:: -\frac{1}{NK} \sum_n \sum_k \left[ y_{nk} \log p_{nk} + (1 - y_{nk}) \log (1 - p_{nk}) \right],
              \qquad p_{nk} = \sigma(z_{nk})

    Keras' ``binary_crossentropy`` and PyTorch's ``binary_cross_entropy_with_logits`` average alike. It is the usual
    loss of multi-label sets, where findings may come together, and works on one-of-K sets too, whose probabilities
    are then the sigmoids brought to a sum of 1. For two classes with opposite logits, :math:`z_2 = -z_1`, both
    sigmoids sum to 1 and it equals the categorical cross-entropy of the same two probabilities.

    Shape:
        logits ``(N, K)``, target ``(N, K)`` one-hot, multi-hot or soft in 0..1, result scalar, 0 or more.

    Raises:
        MedsegError: the shapes differ.
    """

    def __init__(self) -> None:
        super().__init__()

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        logits, target = checked_classes("binary_cross_entropy", logits, target)
        return functional.binary_cross_entropy_with_logits(logits, target)


@LOSSES.register(
    "binary_focal_cross_entropy",
    task="classification",
    activation="sigmoid",
    multilabel=True,
    soft=True,
    paper="arXiv:1708.02002",
)
class BinaryFocalCrossEntropy(nn.Module):
    r"""Binary cross-entropy of every class that fades for easy cases (Lin et al. 2017, arXiv:1708.02002).

    .. math:: -\frac{1}{NK} \sum_n \sum_k \left[ \alpha y_{nk} (1 - p_{nk})^\gamma \log p_{nk}
              + (1 - \alpha) (1 - y_{nk}) p_{nk}^\gamma \log (1 - p_{nk}) \right], \qquad p_{nk} = \sigma(z_{nk})

    The paper's own form, with its sigmoids, for multi-label sets; the softmax form for one-of-K sets is
    ``focal_cross_entropy``. The paper divides by the number of objects, here the mean is plain. A soft target mixes
    the two terms, so that a mixture costs the mean of what its images cost.

    Args:
        alpha: weight of a present finding in [0, 1]; an absent one gets ``1 - alpha``. 0.5 halves the loss.
        gamma: how fast easy cases fade; 0 leaves the weighted cross-entropy.

    Shape:
        logits ``(N, K)``, target ``(N, K)`` one-hot, multi-hot or soft in 0..1, result scalar, 0 or more.

    Raises:
        MedsegError: ``alpha`` is outside [0, 1], ``gamma`` is negative, or the shapes differ.
    """

    def __init__(self, alpha: float = 0.25, gamma: float = 2.0) -> None:
        super().__init__()
        if not 0 <= alpha <= 1:
            raise MedsegError(
                f"loss 'binary_focal_cross_entropy': alpha must lie between 0 and 1; got {alpha}"
            )
        check_gamma("binary_focal_cross_entropy", gamma)
        self.alpha = float(alpha)
        self.gamma = float(gamma)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        logits, target = checked_classes("binary_focal_cross_entropy", logits, target)
        present = self.alpha * target * faded(logits, self.gamma)
        absent = (1 - self.alpha) * (1 - target) * faded(-logits, self.gamma)
        return (present + absent).mean()


def faded(logits: Tensor, gamma: float) -> Tensor:
    r"""The focal term :math:`-(1 - p)^\gamma \log p` of :math:`p = \sigma(z)`.

    The power is taken as :math:`e^{\gamma \log (1 - p)}`, whose gradient is finite also at p = 1 and for
    :math:`\gamma < 1`.
    """
    return torch.exp(-gamma * functional.softplus(logits)) * functional.softplus(-logits)
