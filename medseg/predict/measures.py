"""What a prediction says in numbers: area, lesions, probability and uncertainty of one label."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from medseg.predict.prediction import Prediction
from medseg.predict.spacing import Spacing

#: what ``measure`` tells, in this order
MEASURES = ("area_px", "area_mm2", "lesions", "mean_probability", "uncertainty", "disagreement")


def measure(
    prediction: Prediction, label: int, spacing: Spacing | tuple[float, float] | None = None
) -> dict[str, float | int | None]:
    """Measure one label of one image.

    - ``area_px``, ``area_mm2``: of its mask; the latter None where the spacing is unknown;
    - ``lesions``: connected components, of which pixels that touch at a corner are one (8-connectivity);
    - ``mean_probability``: of its pixels; None where there are none;
    - ``uncertainty``: see :func:`entropy`;
    - ``disagreement``: see :func:`disagreement`; None for a single member.

    Args:
        prediction: of the image.
        label: number of the label, from 1.
        spacing: distance of rows and of columns in mm.
    """
    probability, lesion = prediction.probabilities[label - 1], prediction.mask == label
    area = int(lesion.sum())
    members = prediction.members == label
    return {
        "area_px": area,
        "area_mm2": None if spacing is None else area * spacing[0] * spacing[1],
        "lesions": count_lesions(lesion),
        "mean_probability": float(probability[lesion].mean(dtype=np.float64)) if area else None,
        "uncertainty": entropy(probability, lesion),
        "disagreement": disagreement(members) if len(members) > 1 else None,
    }


def count_lesions(lesion: np.ndarray) -> int:
    """Connected components of a mask ``(H, W)``, by 8-connectivity."""
    from scipy import ndimage

    return int(ndimage.label(lesion, np.ones((3, 3), int))[1])


def entropy(probability: np.ndarray, lesion: np.ndarray) -> float:
    """The mean predictive entropy of a segment, in bits: 0 where every pixel is sure, 1 where each is 50 %.

    The mean over the pixels of the predicted mask, as Mehrtash et al. 2020 (IEEE Trans Med Imaging 39:3868-3878,
    doi:10.1109/TMI.2020.3006437) predict the quality of a segment. Where the mask is empty, the entropy of the
    most probable pixel: how near a lesion was.

    Args:
        probability: ``(H, W)``, 0 to 1.
        lesion: ``(H, W)``, boolean.
    """
    p = probability[lesion] if lesion.any() else probability.max(keepdims=True)
    p = p.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        bits = -(np.where(p > 0, p * np.log2(p), 0) + np.where(p < 1, (1 - p) * np.log2(1 - p), 0))
    return float(abs(bits.mean()))


def disagreement(members: np.ndarray) -> float:
    """1 less the mean Dice of all pairs of members: 0 where all agree (Roy et al. 2019, NeuroImage 195:11-22).

    doi:10.1016/j.neuroimage.2019.03.042, "overlap between samples". Two empty masks agree.

    Args:
        members: ``(M, H, W)``, boolean, at least two.
    """
    flat = members.reshape(len(members), -1)
    sizes = flat.sum(1)
    dice = [
        2 * int((flat[a] & flat[b]).sum()) / total if (total := int(sizes[a] + sizes[b])) else 1.0
        for a, b in combinations(range(len(flat)), 2)
    ]
    return 1 - float(np.mean(dice))
