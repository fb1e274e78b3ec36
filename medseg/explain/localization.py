"""Weak localisation: the region and box that a heat map marks, and how well they agree with a mask.

A classifier has learnt from classes alone; where its map marks the lesion, it has found the place by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from medseg.errors import MedsegError
from medseg.explain.heat import energy_inside
from medseg.explain.regions import EIGHT, lesion

#: the share of a map's maximum above which a pixel is of its region (Zhou et al. 2016)
SHARE = 0.2
#: the overlap from which on a box has found a lesion (Everingham et al. 2010, doi:10.1007/s11263-009-0275-4)
FOUND = 0.5
#: the columns of a table that compare a map with a mask
MEASURES = ("mask_share", "pointing_game", "energy_in_mask", "box_iou", "region_iou")


@dataclass(frozen=True)
class Box:
    """A rectangle of pixels.

    Args:
        row: of its upper edge, from 0.
        column: of its left edge, from 0.
        height: in pixels.
        width: in pixels.
    """

    row: int
    column: int
    height: int
    width: int

    def mask(self, size: tuple[int, ...]) -> np.ndarray:
        """The box as a mask ``(H, W)`` bool."""
        mask = np.zeros(size, bool)
        mask[self.row : self.row + self.height, self.column : self.column + self.width] = True
        return mask

    def overlap(self, other: Box) -> float:
        """The intersection over union with another box, 0 to 1."""
        rows = min(self.row + self.height, other.row + other.height) - max(self.row, other.row)
        columns = min(self.column + self.width, other.column + other.width) - max(self.column, other.column)
        common = max(0, rows) * max(0, columns)
        return common / (self.height * self.width + other.height * other.width - common)


def check_share(share: float) -> None:
    """Raise if a share of a map's maximum is not at least 0 and below 1."""
    if isinstance(share, bool) or not 0 <= share < 1:
        raise MedsegError(f"share must be at least 0 and below 1; got {share!r}")


def marked(heat: np.ndarray, share: float = SHARE) -> np.ndarray:
    """The region that a map marks: the largest connected part above a share of its maximum.

    It is the rule of Zhou et al. 2016 (arXiv:1512.04150). Pixels that touch at a corner are connected.

    Args:
        heat: ``(H, W)``, 0 or more.
        share: of the maximum, 0 to 1.

    Shape:
        ``(H, W)`` bool, all False where the map is zero everywhere.
    """
    above = heat > share * heat.max(initial=0)
    return lesion(above, 1) if above.any() else above


def box_around(region: np.ndarray) -> Box | None:
    """The smallest box that holds a region ``(H, W)`` bool; None where it is empty."""
    if not region.any():
        return None
    rows, columns = (np.flatnonzero(region.any(axis)) for axis in (1, 0))
    return Box(int(rows[0]), int(columns[0]), int(rows[-1] - rows[0] + 1), int(columns[-1] - columns[0] + 1))


def points_inside(heat: np.ndarray, mask: np.ndarray) -> bool:
    """Whether a map's largest value lies in a mask.

    It is the pointing game (Zhang et al. 2018, doi:10.1007/s11263-017-1059-x). Of several equal ones the first counts,
    from the top and the left. The paper also takes what lies within 15 pixels of the object; here it must lie in the
    mask itself.

    Args:
        heat: ``(H, W)``.
        mask: ``(H, W)`` bool.
    """
    return bool(mask[np.unravel_index(int(heat.argmax()), heat.shape)])


def compared(heat: np.ndarray, region: np.ndarray, mask: np.ndarray) -> dict[str, float | None]:
    """How well a map agrees with a mask, by the names in ``MEASURES``.

    - ``mask_share``: the share of the image that the mask covers, which is what a map without a preference has of
      ``pointing_game`` and ``energy_in_mask``;
    - ``pointing_game``: 1 where the largest value lies in the mask, else 0;
    - ``energy_in_mask``: the share of the map's sum inside the mask (Wang et al. 2020, arXiv:1910.01279);
    - ``box_iou``: intersection over union of the region's box and that of the lesion which it fits best;
    - ``region_iou``: intersection over union of the region and the mask.

    Args:
        heat: ``(H, W)``, 0 or more.
        region: ``(H, W)`` bool, what the map marks.
        mask: ``(H, W)`` bool.

    Returns:
        None for each where the mask is empty, and for all but the first where the map is zero everywhere.
    """
    values: dict[str, float | None] = dict.fromkeys(MEASURES)
    box = box_around(region)
    if mask.any():
        values["mask_share"] = float(mask.mean())
    if not mask.any() or box is None:
        return values
    values["pointing_game"] = float(points_inside(heat, mask))
    values["energy_in_mask"] = energy_inside(heat, mask)
    values["box_iou"] = max(box.overlap(other) for other in boxes(mask))
    values["region_iou"] = float((region & mask).sum() / (region | mask).sum())
    return values


def boxes(mask: np.ndarray) -> list[Box]:
    """The box of each connected part of a mask ``(H, W)`` bool."""
    from scipy.ndimage import find_objects
    from scipy.ndimage import label as connected

    found = find_objects(connected(mask, EIGHT)[0])
    return [
        Box(rows.start, columns.start, rows.stop - rows.start, columns.stop - columns.start)
        for rows, columns in found
    ]


def summary(rows: Iterable[Mapping[str, object]]) -> str:
    """The mean of each measure over the images that have a mask, in words; empty where none has.

    A map that is zero everywhere has found nothing: it counts as 0.

    Args:
        rows: of a table of explanations.
    """
    known = [row for row in rows if row.get("mask_share") is not None]
    if not known:
        return ""
    means = {name: float(np.mean([_number(row.get(name)) for row in known])) for name in MEASURES}
    found = float(np.mean([_number(row.get("box_iou")) >= FOUND for row in known]))
    return (
        f"{len(known)} images with a mask, which covers {means['mask_share']:.3f} of them: "
        f"pointing game {means['pointing_game']:.3f}, energy in mask {means['energy_in_mask']:.3f}, "
        f"box IoU {means['box_iou']:.3f} ({found:.3f} reach {FOUND}), region IoU {means['region_iou']:.3f}"
    )


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0
