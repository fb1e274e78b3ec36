"""Boundary metrics, by MONAI, with the room's convention for empty masks laid on top."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from medseg.errors import MedsegError
from medseg.metrics import METRICS
from medseg.metrics._masks import masks


@METRICS.register("hd95", better="lower", unit="px", needs="masks")
def hd95(prediction: Tensor | np.ndarray, target: Tensor | np.ndarray) -> Tensor:
    """Hausdorff distance, 95th percentile: how far apart the two outlines lie, in pixels.

    After Huttenlocher et al. 1993 (IEEE TPAMI 15). Of the distances from each pixel of one outline to the
    other outline the 95th percentile is taken, in both directions, and the larger of the two given. It is 0
    where both masks are empty, and the image's diagonal where one is.

    Shape:
        both masks ``(N, K, H, W)``, boolean or integer, result ``(N, K)`` float64, in pixels.

    Raises:
        MedsegError: the shapes differ, or a mask holds fractions.
    """
    from monai.metrics import compute_hausdorff_distance

    def distance(prediction: Tensor, target: Tensor) -> Tensor:
        return compute_hausdorff_distance(prediction, target, include_background=True, percentile=95)

    prediction, target = masks(prediction, target)
    diagonal = float(np.hypot(*prediction.shape[2:]))
    return _where_both(distance, prediction, target, perfect=0.0, worst=diagonal)


@METRICS.register("nsd", better="higher", unit="", needs="masks")
def nsd(prediction: Tensor | np.ndarray, target: Tensor | np.ndarray, tolerance: float = 2.0) -> Tensor:
    """Normalised surface Dice: the part of both outlines that lies near the other.

    Nikolov et al. 2018 (arXiv:1809.04430); near is within the tolerance, and outlines are counted in pixels.
    It is 1 where both masks are empty, and 0 where one is.

    Args:
        tolerance: how far an outline may stray, in pixels.

    Shape:
        both masks ``(N, K, H, W)``, boolean or integer, result ``(N, K)`` float64 in [0, 1].

    Raises:
        MedsegError: the tolerance is negative, the shapes differ, or a mask holds fractions.
    """
    from monai.metrics import compute_surface_dice

    if tolerance < 0:
        raise MedsegError(f"metric 'nsd': tolerance must not be negative; got {tolerance}")

    def agreement(prediction: Tensor, target: Tensor) -> Tensor:
        return compute_surface_dice(prediction, target, class_thresholds=[tolerance], include_background=True)

    return _where_both(agreement, *masks(prediction, target), perfect=1.0, worst=0.0)


def _where_both(
    measure: Callable[[Tensor, Tensor], Tensor],
    prediction: Tensor,
    target: Tensor,
    perfect: float,
    worst: float,
) -> Tensor:
    """Measure the masks that both have a lesion; the others are perfect or the worst, by the convention."""
    prediction, target = prediction.cpu(), target.cpu()
    predicted, true = prediction.any(3).any(2), target.any(3).any(2)
    values = torch.full(predicted.shape, worst, dtype=torch.float64)
    values[~predicted & ~true] = perfect
    both = predicted & true
    if both.any():
        with warnings.catch_warnings():
            # MONAI 1.6 warns of an argument that it passes itself
            warnings.filterwarnings("ignore", ".*always_return_as_numpy", FutureWarning)
            values[both] = (
                measure(prediction[both].unsqueeze(1), target[both].unsqueeze(1)).squeeze(1).double()
            )
    return values
