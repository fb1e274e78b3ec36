"""The overlay of an item: the image, or the slices of a volume that show most of the lesion."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from medseg.predict.overlay import displayed, overlay
from medseg.transforms.picture import Picture

#: slices of a volume that are shown
SLICES = 9
#: longest side of one of several slices, and of a single image, in pixels
SIDE, SINGLE = 320, 2048


@dataclass
class Sheet:
    """Collects the slices that a contact sheet shows: those with the largest lesions, else those in the middle.

    Args:
        frames: how many slices the item has.
    """

    frames: int
    _shown: list[tuple[tuple[int, float], int, np.ndarray]] = field(default_factory=list, repr=False)

    def add(self, frame: int, picture: Picture, mask: np.ndarray) -> None:
        """Take in a slice, if it is among the best so far."""
        rank = (int((mask > 0).sum()), -abs(frame - (self.frames - 1) / 2))
        if len(self._shown) == SLICES and rank <= self._shown[-1][0]:
            return
        drawn = overlay(*_shrunk(displayed(picture), mask, SINGLE if self.frames == 1 else SIDE))
        self._shown = sorted([*self._shown, (rank, frame, drawn)], key=lambda one: one[0], reverse=True)[
            :SLICES
        ]

    def drawn(self) -> np.ndarray:
        """The sheet, ``(H, W, 3)`` uint8: slices in their order from left to right, three in a row."""
        tiles = [drawn for _, _, drawn in sorted(self._shown, key=lambda one: one[1])]
        across = min(3, len(tiles))
        empty = [np.zeros_like(tiles[0])] * (-len(tiles) % across)
        filled = [*tiles, *empty]
        rows = [np.concatenate(filled[k : k + across], 1) for k in range(0, len(filled), across)]
        return np.concatenate(rows, 0)


def _shrunk(shown: np.ndarray, mask: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """A picture and its mask, stretched in proportion where they are larger than ``side``."""
    height, width = mask.shape
    share = side / max(height, width)
    if share >= 1:
        return shown, mask
    size = (max(1, round(width * share)), max(1, round(height * share)))
    picture = Image.fromarray(shown).resize(size, Image.Resampling.BILINEAR)
    return np.asarray(picture), np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))
