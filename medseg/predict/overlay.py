"""A picture for the eye, with masks drawn in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageColor

from medseg.errors import MedsegError
from medseg.results import atomic_write
from medseg.transforms.picture import Picture

#: of the labels from 1 on, and again from the first; told apart by the colour-blind (Okabe and Ito 2008)
COLOURS = ("#ffb000", "#00a7e1", "#d55e00", "#009e73", "#cc79a7", "#f0e442", "#0072b2")
#: opacity of the fill
FILL = 0.25
#: an outline is one pixel wide per so many pixels of the longer side
WIDTH = 400


def displayed(picture: Picture) -> np.ndarray:
    """A picture as it is shown to the eye, ``(H, W, 3)`` uint8.

    DICOM files are windowed as they propose (PS3.4 N.2). Other pictures of 8 bits stay as they are, deeper ones
    without a window are stretched from the 1st to the 99th percentile of their pixels.
    """
    from medseg.data.dicom.presentation import present

    bytes_ = picture.values.dtype == np.uint8
    shown = present(grey_once(picture), default="full" if bytes_ else "percentiles")
    levels = shown if len(shown) == 3 else np.broadcast_to(shown[:1], (3, *shown.shape[1:]))
    return np.ascontiguousarray(levels.transpose(1, 2, 0))


def grey_once(picture: Picture) -> Picture:
    """A picture whose channels are all equal as one channel, others as they are."""
    values = picture.values
    return (
        picture.having(values[:1])
        if all(np.array_equal(values[0], other) for other in values[1:])
        else picture
    )


def overlay(shown: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Draw a mask into a picture: each label outlined and lightly filled in its colour.

    The outline lies within the lesion, and is closed where the lesion touches the border.

    Args:
        shown: ``(H, W, 3)`` uint8, left as it is.
        mask: ``(H, W)``, 0 background, ``k`` label ``k``.

    Returns:
        ``(H, W, 3)`` uint8.

    Raises:
        MedsegError: the two differ in size.
    """
    from scipy import ndimage

    if shown.shape[:2] != mask.shape:
        raise MedsegError(
            f"a mask of {mask.shape} is none for a picture of {shown.shape[:2]} (height, width)"
        )
    drawn = shown.copy()
    width = max(1, round(max(mask.shape) / WIDTH))
    for label in np.unique(mask[mask > 0]):
        colour = np.array(ImageColor.getrgb(COLOURS[(int(label) - 1) % len(COLOURS)]), np.float32)
        lesion = mask == label
        inner = ndimage.binary_erosion(lesion, np.ones((3, 3), bool), iterations=width)
        drawn[inner] = np.rint((1 - FILL) * drawn[inner] + FILL * colour).astype(np.uint8)
        drawn[lesion & ~inner] = colour.astype(np.uint8)
    return drawn


def write_picture(pixels: np.ndarray, path: Path) -> None:
    """Write ``(H, W)`` of 8 or 16 bits or ``(H, W, 3)`` of 8 as PNG, at once and without any text."""
    image = Image.fromarray(np.ascontiguousarray(pixels))
    with atomic_write(path, "wb") as file:
        image.save(file, format="PNG")
