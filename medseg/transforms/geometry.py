"""Where an image lies in the network's frame, and the way back to its own size and place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from medseg.errors import MedsegError

Size = tuple[int, int]


def resize_image(image: np.ndarray, size: Size) -> np.ndarray:
    """Stretch an image by bilinear interpolation, antialiased when it shrinks.

    Args:
        image: integers, rounded to the nearest afterwards, or ``float32``.
        size: new height and width.

    Shape:
        ``(C, H, W)`` to ``(C, *size)``, of the same type.
    """
    if image.shape[1:] == tuple(size):
        return image
    if image.dtype == np.uint8:
        planes = [Image.fromarray(plane) for plane in image]
        return np.stack([np.asarray(plane.resize(size[::-1], Image.Resampling.BILINEAR)) for plane in planes])
    # Pillow resizes deeper pixels by way of 32-bit floats
    planes = [Image.fromarray(plane.astype(np.float32)) for plane in image]
    resized = np.stack([np.asarray(plane.resize(size[::-1], Image.Resampling.BILINEAR)) for plane in planes])
    if image.dtype == np.float32:
        return resized
    limits = np.iinfo(image.dtype)
    return np.rint(resized.astype(np.float64)).clip(limits.min, limits.max).astype(image.dtype)


def resize_mask(mask: np.ndarray, size: Size) -> np.ndarray:
    """Stretch a mask by nearest neighbour.

    Args:
        mask: ``uint8``.
        size: new height and width.

    Shape:
        ``(H, W)`` to ``size``.
    """
    if mask.shape == tuple(size):
        return mask
    return np.asarray(Image.fromarray(mask).resize(size[::-1], Image.Resampling.NEAREST))


@dataclass(frozen=True)
class Geometry:
    """An image scaled to one size and laid into a frame of another; what sticks out is cut off.

    Args:
        size: height and width of the image itself, in pixels.
        scaled: height and width to which it is stretched.
        frame: height and width of the result.
        top: row of the frame in which the scaled image begins; negative where rows are cut off.
        left: column of the frame in which it begins.
    """

    size: Size
    scaled: Size
    frame: Size
    top: int = 0
    left: int = 0

    def _seen(self) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """The part of the scaled image that the frame shows, and where it lies in the frame."""
        inside, outside = [], []
        for begin, length, limit in zip((self.top, self.left), self.scaled, self.frame, strict=True):
            first, last = max(begin, 0), min(begin + length, limit)
            outside.append(slice(first, last))
            inside.append(slice(first - begin, last - begin))
        return (inside[0], inside[1]), (outside[0], outside[1])

    def _placed(self, scaled: np.ndarray, fill: float) -> np.ndarray:
        if self.scaled == self.frame:
            return scaled
        inside, outside = self._seen()
        placed = np.full((*scaled.shape[:-2], *self.frame), fill, scaled.dtype)
        placed[..., outside[0], outside[1]] = scaled[..., inside[0], inside[1]]
        return placed

    def image(self, values: np.ndarray, fill: float = 0) -> np.ndarray:
        """An image in the frame, bilinear and antialiased.

        Args:
            values: pixels.
            fill: value of the frame beside the image.

        Shape:
            ``(C, *size)`` to ``(C, *frame)``, of the same type.
        """
        return self._placed(resize_image(values, self.scaled), fill)

    def mask(self, mask: np.ndarray) -> np.ndarray:
        """A mask in the frame, nearest neighbour, 0 beside it.

        Args:
            mask: ``uint8``.

        Shape:
            ``size`` to ``frame``.
        """
        return self._placed(resize_mask(mask, self.scaled), 0)

    def restore(self, prediction: np.ndarray) -> np.ndarray:
        """A prediction of the frame at the image's own size and place.

        Padding is cut off. Pixels whose centre the frame did not show are background, 0.

        Args:
            prediction: probabilities (float, restored bilinearly) or masks (``uint8`` or bool, nearest neighbour).

        Shape:
            ``(K, *frame)`` to ``(K, *size)``; float32 or uint8.

        Raises:
            MedsegError: the prediction is not of the frame's size, or of another type.
        """
        if prediction.shape[1:] != self.frame:
            seen = " x ".join(map(str, prediction.shape))
            raise MedsegError(f"a prediction of {seen} is none for a frame of {self.frame} (height, width)")
        inside, outside = self._seen()
        seen_part = prediction[:, outside[0], outside[1]]
        if seen_part.dtype.kind == "f":
            return self._restored_soft(seen_part.astype(np.float32), inside)
        if seen_part.dtype not in (np.uint8, np.bool_):
            raise MedsegError(
                f"a prediction of type {prediction.dtype} cannot be resized; give float or uint8"
            )
        whole = np.zeros((len(seen_part), *self.scaled), np.uint8)
        whole[:, inside[0], inside[1]] = seen_part
        return np.stack([resize_mask(plane, self.size) for plane in whole])

    def _restored_soft(self, part: np.ndarray, inside: tuple[slice, slice]) -> np.ndarray:
        # the rim is continued before stretching, so that the unseen background does not bleed into what was seen
        ends = [(s.start, length - s.stop) for s, length in zip(inside, self.scaled, strict=True)]
        restored = resize_image(np.pad(part, ((0, 0), *ends), mode="edge"), self.size)
        rows, columns = (
            self._centres_in(s, own, length)
            for s, own, length in zip(inside, self.size, self.scaled, strict=True)
        )
        return np.where(rows[:, None] & columns, restored, np.float32(0))

    @staticmethod
    def _centres_in(part: slice, own: int, scaled: int) -> np.ndarray:
        centres = (2 * np.arange(own) + 1) * scaled  # in units of half a pixel of the image
        return (centres >= 2 * own * part.start) & (centres < 2 * own * part.stop)
