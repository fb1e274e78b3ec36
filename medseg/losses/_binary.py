"""What the losses share: the check at the door, and per-pixel binary terms that stay finite."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from medseg.errors import MedsegError


def checked(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Logits in at least float32 and the target in the same type.

    Raises:
        MedsegError: the shapes differ, or are not ``(N, K, H, W)``.
    """
    if logits.shape != target.shape or logits.ndim != 4:
        raise MedsegError(
            f"a loss takes logits and a one-hot target of the same shape (N, K, H, W); "
            f"got {tuple(logits.shape)} and {tuple(target.shape)}"
        )
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return logits, target.to(logits.dtype)


def binary_logits(logits: Tensor) -> Tensor:
    r"""Per-channel logits whose sigmoid is the channel's probability.

    One channel is left as it is. Of several, channel :math:`k` is set against the rest,

    .. math:: m_k = z_k - \log \sum_{j \ne k} e^{z_j}, \qquad \sigma(m_k) = \mathrm{softmax}(z)_k,

    so that the binary losses apply to each channel and stay exact where a probability is near 0 or 1.
    """
    channels = logits.shape[1]
    if channels == 1:
        return logits
    planes = logits.unbind(1)
    rest = (torch.stack([p for j, p in enumerate(planes) if j != k], 1) for k in range(channels))
    return logits - torch.stack([others.logsumexp(1) for others in rest], 1)


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    r"""Binary cross-entropy of each pixel, :math:`-\log p_t` where :math:`p_t` is that of the truth."""
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none")


def focal_cross_entropy(logits: Tensor, target: Tensor, gamma: float) -> Tensor:
    r"""Binary cross-entropy of each pixel times :math:`(1 - p_t)^\gamma`.

    The power is :math:`e^{-\gamma x}` of :math:`x = -\log(1 - p_t)`, the cross-entropy of the opposite
    target, whose gradient is finite also at :math:`p_t = 1` and for :math:`\gamma < 1`, unlike that of a
    power of :math:`1 - p_t`. For a target between 0 and 1 the factor is
    :math:`(1 - p)^{\gamma y} p^{\gamma (1 - y)}`.
    """
    entropy = cross_entropy(logits, target)
    opposite = entropy + logits * (2 * target - 1)
    return torch.exp(-gamma * opposite) * entropy
