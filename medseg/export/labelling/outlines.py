"""Masks as polygons, for viewers that draw outlines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

#: how far a polygon's edge may lie from the outline, in pixels
SLACK = 0.5
#: outlines of fewer corners have no area
CORNERS = 3


def outlined(mask: np.ndarray, labels: Sequence[str]) -> list[dict[str, Any]]:
    """The outlines of a mask as MONAI Label's plug-in for CVAT takes them, in pixels, (x, y) of each corner.

    Holes are not cut out: CVAT's polygons have none.

    Args:
        mask: ``(H, W)``; ``k`` is the label number ``k`` from 1.
        labels: names of the labels.
    """
    elements = []
    for number, name in enumerate(labels, 1):
        contours = outlines(mask == number)
        if contours:
            elements.append({"label": name, "contours": contours})
    return [{"annotation": {"name": "medseg", "elements": elements}}] if elements else []


def outlines(shape: np.ndarray) -> list[list[list[int]]]:
    """The outer outlines of a shape, each a list of (x, y).

    Args:
        shape: ``(H, W)`` bool.
    """
    from scipy import ndimage
    from skimage.measure import approximate_polygon, find_contours

    filled = ndimage.binary_fill_holes(shape)
    # a border of background closes outlines at the image's edge
    found = find_contours(np.pad(filled, 1).astype(np.float32), 0.5)
    polygons = [np.rint(approximate_polygon(line, SLACK) - 1).astype(int)[:-1, ::-1] for line in found]
    return [polygon.tolist() for polygon in polygons if len(polygon) >= CORNERS]
