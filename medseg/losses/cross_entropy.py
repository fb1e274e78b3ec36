"""Categorical cross-entropy of one-of-K sets: plain, by class indices, and with smoothed labels."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from medseg.errors import MedsegError
from medseg.losses import LOSSES
from medseg.losses._classes import checked_classes


@LOSSES.register(
    "cross_entropy",
    task="classification",
    activation="softmax",
    multilabel=False,
    soft=True,
    paper="10.1007/978-3-642-76153-9_28",
)
class CrossEntropy(nn.Module):
    r"""Categorical cross-entropy, the mean negative log-likelihood of the softmax (Bridle 1990).

    .. math:: -\frac{1}{N} \sum_n \sum_k y_{nk} \log p_{nk}, \qquad p_n = \mathrm{softmax}(z_n)

    Keras calls it ``categorical_crossentropy``; PyTorch's ``cross_entropy`` of class probabilities is the same.

    Shape:
        logits ``(N, K)``, K of 2 or more; target ``(N, K)``, rows one-hot or soft that sum to 1; result scalar,
        0 or more.

    Raises:
        MedsegError: the shapes differ, or there is a single class.
    """

    def __init__(self) -> None:
        super().__init__()

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        logits, target = checked_classes("cross_entropy", logits, target, least=2)
        return functional.cross_entropy(logits, target)


@LOSSES.register(
    "sparse_cross_entropy",
    task="classification",
    activation="softmax",
    multilabel=False,
    soft=False,
    paper="10.1007/978-3-642-76153-9_28",
)
class SparseCrossEntropy(nn.Module):
    r"""Categorical cross-entropy computed from class indices instead of one-hot rows (Bridle 1990).

    .. math:: -\frac{1}{N} \sum_n \log p_{n c_n}, \qquad p_n = \mathrm{softmax}(z_n)

    Keras calls it ``sparse_categorical_crossentropy``. Of hard labels it is the same number as ``cross_entropy``,
    with the same gradient: the two differ in how labels are stored, not in what is learnt. An index cannot say that
    an image is partly of another class, so mixed and other soft targets are refused. Only targets of floats are
    looked at for that; whole numbers cannot be soft.

    Shape:
        logits ``(N, K)``, K of 2 or more; target ``(N, K)``, one-hot rows, whose index of 1 is taken; result
        scalar, 0 or more.

    Raises:
        MedsegError: the shapes differ, there is a single class, or a row of the target is soft.
    """

    def __init__(self) -> None:
        super().__init__()

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        if target.is_floating_point() and not bool(((target == 0) | (target == 1)).all()):
            raise MedsegError(
                "loss 'sparse_cross_entropy' takes one class per image, and the target is soft, as mixup, cutmix"
                " and smoothed labels make it; use cross_entropy, which equals it for hard labels"
            )
        logits, target = checked_classes("sparse_cross_entropy", logits, target, least=2)
        return functional.cross_entropy(logits, target.argmax(1))


@LOSSES.register(
    "smoothed_cross_entropy",
    task="classification",
    activation="softmax",
    multilabel=False,
    soft=True,
    paper="arXiv:1512.00567",
)
class SmoothedCrossEntropy(nn.Module):
    r"""Cross-entropy with smoothed labels, which keeps logits from growing for ever (Szegedy et al. 2016).

    .. math:: -\frac{1}{N} \sum_n \sum_k \left[ (1 - \varepsilon) y_{nk} + \frac{\varepsilon}{K} \right]
              \log p_{nk}, \qquad p_n = \mathrm{softmax}(z_n)

    A part :math:`\varepsilon` of every label is spread evenly over all K classes, the true one included
    (arXiv:1512.00567, section 7). Its least value is not 0 but the entropy of the smoothed label.

    Args:
        smoothing: the part :math:`\varepsilon`, from 0, which leaves the plain cross-entropy, to below 1.

    Shape:
        logits ``(N, K)``, K of 2 or more; target ``(N, K)``, rows one-hot or soft that sum to 1; result scalar,
        above 0.

    Raises:
        MedsegError: ``smoothing`` is out of range, the shapes differ, or there is a single class.
    """

    def __init__(self, smoothing: float = 0.1) -> None:
        super().__init__()
        if not 0 <= smoothing < 1:
            raise MedsegError(
                f"loss 'smoothed_cross_entropy': smoothing must be 0 or more and below 1; got {smoothing}"
            )
        self.smoothing = float(smoothing)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        logits, target = checked_classes("smoothed_cross_entropy", logits, target, least=2)
        return functional.cross_entropy(logits, target, label_smoothing=self.smoothing)
