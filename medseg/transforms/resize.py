"""Steps that bring images to the network's size, each with its way back."""

from __future__ import annotations

from collections.abc import Callable

from medseg.transforms import TRANSFORMS
from medseg.transforms._checks import whole_pair
from medseg.transforms.geometry import Geometry, Size, resize_image, resize_mask
from medseg.transforms.picture import Picture

__all__ = ["Resize", "ResizeCrop", "ResizePad", "fitted", "resize_image", "resize_mask"]


def fitted(size: Size, frame: Size, choose: Callable[[int, int], int]) -> Size:
    """The size to which an image is stretched in proportion.

    One side gets the frame's length, the other is rounded half up and is at least 1.

    Args:
        size: height and width of the image.
        frame: height and width of the frame.
        choose: ``min`` to fit into the frame, ``max`` to cover it.
    """
    (height, width), (rows, columns) = size, frame
    # rows / height and columns / width as whole numbers over one denominator
    if choose(rows * width, columns * height) == rows * width:
        return rows, max(1, (2 * width * rows + height) // (2 * height))
    return max(1, (2 * height * columns + width) // (2 * width)), columns


@TRANSFORMS.register("resize", spatial=True, version=1)
class Resize:
    """Stretch images to one size, whatever their proportions: bilinear with antialiasing, masks nearest.

    Args:
        size: new height and width, in pixels; a bundle gives its ``image_size``.

    Shape:
        ``(C, H, W)`` to ``(C, *size)``.
    """

    def __init__(self, size: Size) -> None:
        self.size = whole_pair("resize", "size", size)

    def geometry(self, size: Size) -> Geometry:
        """How an image of height and width ``size`` comes to lie in the frame."""
        return Geometry(size, self.size, self.size)

    def __call__(self, picture: Picture) -> Picture:
        geometry = self.geometry(picture.values.shape[1:])
        # what is shown as black is the highest value of an inverted picture
        black = picture.high if picture.inverted else picture.low
        return picture.having(geometry.image(picture.values, black))


@TRANSFORMS.register("resize_pad", spatial=True, version=1)
class ResizePad(Resize):
    """Fit the whole image into one size in proportion, centred on black: bilinear with antialiasing.

    The longer side (measured against the new size) fits exactly, the other is rounded half up; an odd rest
    of padding goes below or to the right. Black is the lowest value that the pixels may take.

    Args:
        size: new height and width, in pixels; a bundle gives its ``image_size``.

    Shape:
        ``(C, H, W)`` to ``(C, *size)``.
    """

    def geometry(self, size: Size) -> Geometry:
        """How an image of height and width ``size`` comes to lie in the frame."""
        scaled = fitted(size, self.size, min)
        top, left = ((frame - length) // 2 for frame, length in zip(self.size, scaled, strict=True))
        return Geometry(size, scaled, self.size, top, left)


@TRANSFORMS.register("resize_crop", spatial=True, version=1)
class ResizeCrop(Resize):
    """Cover one size with the image in proportion and cut off what sticks out: bilinear with antialiasing.

    The shorter side (measured against the new size) fits exactly, the other is rounded half up and cut on
    both sides; an odd rest is cut below or to the right. A prediction is background where nothing was seen.

    Args:
        size: new height and width, in pixels; a bundle gives its ``image_size``.

    Shape:
        ``(C, H, W)`` to ``(C, *size)``.
    """

    def geometry(self, size: Size) -> Geometry:
        """How an image of height and width ``size`` comes to lie in the frame."""
        scaled = fitted(size, self.size, max)
        top, left = (-((length - frame) // 2) for frame, length in zip(self.size, scaled, strict=True))
        return Geometry(size, scaled, self.size, top, left)
