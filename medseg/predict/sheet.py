"""The overlay of an item: the image, or the slices of a volume that show most of the lesion."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from medseg.predict.overlay import displayed, overlay
from medseg.transforms.picture import Picture

#: slices of a volume that are shown
SLICES = 9
#: longest side of one of several slices, and of a single image, in pixels
SIDE, SINGLE = 320, 2048
#: width that a captioned picture has at least, in pixels
READABLE = 224


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
        self._insert(rank, frame, drawn)

    def caption(self, frame: int, picture: Picture, words: str) -> None:
        """Take in a slice with words below it, if it is among those in the middle."""
        rank = (0, -abs(frame - (self.frames - 1) / 2))
        if len(self._shown) == SLICES and rank <= self._shown[-1][0]:
            return
        self._insert(rank, frame, captioned(displayed(picture), words, SINGLE if self.frames == 1 else SIDE))

    def _insert(self, rank: tuple[int, float], frame: int, drawn: np.ndarray) -> None:
        shown = sorted([*self._shown, (rank, frame, drawn)], key=lambda one: one[0], reverse=True)
        self._shown = shown[:SLICES]

    def drawn(self) -> np.ndarray:
        """The sheet, ``(H, W, 3)`` uint8: slices in their order from left to right, three in a row."""
        tiles = [drawn for _, _, drawn in sorted(self._shown, key=lambda one: one[1])]
        across = min(3, len(tiles))
        empty = [np.zeros_like(tiles[0])] * (-len(tiles) % across)
        filled = [*tiles, *empty]
        rows = [np.concatenate(filled[k : k + across], 1) for k in range(0, len(filled), across)]
        return np.concatenate(rows, 0)


def captioned(shown: np.ndarray, words: str, side: int = SIDE) -> np.ndarray:
    """A picture with words on a band below it; a small one is enlarged so that they can be read.

    Args:
        shown: ``(H, W, 3)`` uint8.
        words: in one line.
        side: the longest side that it may have, in pixels.
    """
    height, width = shown.shape[:2]
    share = min(side / max(height, width), max(1.0, READABLE / width))
    size = (max(1, round(width * share)), max(1, round(height * share)))
    filtering = Image.Resampling.NEAREST if share > 1 else Image.Resampling.BILINEAR
    picture = Image.fromarray(shown).resize(size, filtering)
    band = max(14, size[0] // 16)
    whole = Image.new("RGB", (size[0], size[1] + band))
    whole.paste(picture)
    draw = ImageDraw.Draw(whole)
    font: Any = ImageFont.load_default(band * 0.7)
    wide = draw.textlength(words, font)
    if wide > size[0] * 0.96:
        font = ImageFont.load_default(max(6.0, band * 0.7 * size[0] * 0.96 / wide))
    draw.text((size[0] / 2, size[1] + band / 2), words, "white", font, "mm")
    return np.asarray(whole)


def _shrunk(shown: np.ndarray, mask: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """A picture and its mask, stretched in proportion where they are larger than ``side``."""
    height, width = mask.shape
    share = side / max(height, width)
    if share >= 1:
        return shown, mask
    size = (max(1, round(width * share)), max(1, round(height * share)))
    picture = Image.fromarray(shown).resize(size, Image.Resampling.BILINEAR)
    return np.asarray(picture), np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))
