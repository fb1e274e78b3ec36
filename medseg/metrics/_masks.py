"""The check at the metrics' door: two masks of one shape."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from medseg.errors import MedsegError


def masks(prediction: Tensor | np.ndarray, target: Tensor | np.ndarray) -> tuple[Tensor, Tensor]:
    """Both masks as boolean tensors on the device they lie on.

    Shape:
        ``(N, K, H, W)``.

    Raises:
        MedsegError: the shapes differ or are not ``(N, K, H, W)``, or a mask holds fractions.
    """
    pair = (torch.as_tensor(prediction), torch.as_tensor(target))
    if pair[0].shape != pair[1].shape or pair[0].ndim != 4:
        shapes = " and ".join(str(tuple(mask.shape)) for mask in pair)
        raise MedsegError(f"metrics take two masks of the same shape (N, K, H, W); got {shapes}")
    for mask in pair:
        if mask.is_floating_point():
            raise MedsegError(
                f"metrics take boolean or integer masks, not {mask.dtype}; binarise logits first"
            )
    return pair[0].bool(), pair[1].bool()


def lesions(prediction: Tensor | np.ndarray, target: Tensor | np.ndarray) -> tuple[Tensor, Tensor]:
    """Both masks without the background, which is the first of several channels.

    Raises:
        MedsegError: as for ``masks``.
    """
    prediction, target = masks(prediction, target)
    first = 0 if prediction.shape[1] == 1 else 1
    return prediction[:, first:], target[:, first:]
