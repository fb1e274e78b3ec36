"""Images with their masks outlined, on the axes of a figure."""

from __future__ import annotations

from typing import Any

import numpy as np

REFERENCE, PREDICTION = "#00a7e1", "#ffb000"


def show(axis: Any, image: np.ndarray, span: tuple[float, float] | None = None) -> None:
    """Draw an image ``(C, H, W)`` of any type, grey for one channel.

    Args:
        axis: matplotlib axes, whose ticks are taken away.
        image: the pixels; of more than three channels the first three are shown.
        span: what is black and what white; the image's own smallest and largest value if not given.
    """
    pixels = np.moveaxis(image.astype(np.float64), 0, -1)
    low, high = span or (pixels.min(), pixels.max())
    pixels = ((pixels - low) / ((high - low) or 1.0)).clip(0, 1)
    pixels = pixels[..., 0] if pixels.shape[-1] < 3 else pixels[..., :3]
    axis.imshow(pixels, cmap="gray", vmin=0, vmax=1)
    axis.set_axis_off()


def outline(axis: Any, mask: np.ndarray, colour: str = REFERENCE, width: float = 1.2) -> None:
    """Draw the edge of a mask ``(H, W)``; a lesion that touches the border is closed there."""
    if not mask.any():
        return
    padded = np.pad(mask.astype(float), 1)
    height, wide = padded.shape
    axis.contour(
        np.arange(-1, wide - 1), np.arange(-1, height - 1), padded, [0.5], colors=colour, linewidths=width
    )
    axis.set_xlim(-0.5, wide - 2.5)
    axis.set_ylim(height - 2.5, -0.5)
