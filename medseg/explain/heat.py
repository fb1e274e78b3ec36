"""A map over the picture, and how much of it lies inside a mask."""

from __future__ import annotations

import numpy as np

from medseg.predict.overlay import WIDTH

#: the share of the hottest pixel that is the map's colour; colder ones have less
OPACITY = 0.65
#: of the outlines of what is predicted and of a reference, which the map's colours do not hold
OUTLINE, REFERENCE = (0, 229, 255), (64, 255, 64)


def energy_inside(heat: np.ndarray, mask: np.ndarray) -> float | None:
    """The share of a map's sum that lies inside a mask.

    It is the measure of the energy-based pointing game (Wang et al. 2020, arXiv:1910.01279).
    A map that is the same everywhere has the mask's share of the area; a map that lies wholly inside has 1.

    Args:
        heat: ``(H, W)``, 0 or more.
        mask: ``(H, W)`` bool.

    Returns:
        None where the map is zero everywhere, or the mask is empty.
    """
    total = float(heat.sum(dtype=np.float64))
    if total <= 0 or not mask.any():
        return None
    return float(heat[mask].sum(dtype=np.float64)) / total


def heat_overlay(
    displayed: np.ndarray, heat: np.ndarray, mask: np.ndarray, reference: np.ndarray | None = None
) -> np.ndarray:
    """The picture with the map in the colours of ``inferno``, and the outlines of masks.

    Args:
        displayed: ``(H, W, 3)`` uint8.
        heat: ``(H, W)`` float, 0 to 1; where it is 0 the picture is as it was.
        mask: ``(H, W)`` bool, what is predicted; outlined in cyan.
        reference: ``(H, W)`` bool, what is true, if that is known; outlined in green, below the other.

    Shape:
        ``(H, W, 3)`` uint8.
    """
    from matplotlib import colormaps

    colours = colormaps["inferno"](np.asarray(heat, np.float32), bytes=True)[..., :3]
    share = (OPACITY * heat.astype(np.float32)).clip(0, 1)[..., None]
    mixed = np.rint(displayed * (1 - share) + colours * share).astype(np.uint8)
    if reference is not None:
        mixed[edge(reference)] = REFERENCE
    mixed[edge(mask)] = OUTLINE
    return mixed


def edge(mask: np.ndarray) -> np.ndarray:
    """The rim of a mask ``(H, W)``, inside it, as wide as in the overlays of predictions, closed at the border."""
    from scipy.ndimage import binary_erosion

    width = max(1, round(max(mask.shape) / WIDTH))
    return mask & ~binary_erosion(mask, np.ones((3, 3), bool), iterations=width)
