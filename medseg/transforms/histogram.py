"""Histogram equalisation, global and local, for 8 bits and more."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from medseg.transforms import TRANSFORMS
from medseg.transforms._checks import real, whole_pair
from medseg.transforms.picture import LUMA, Picture

#: most levels whose histogram is counted one by one; more, and floats, are counted in so many steps
LEVELS = 65536
#: bins of the tile histograms of CLAHE, whatever the depth: the unit of its clip limit
BINS = 256
#: rows that are interpolated at once, so that large mammograms need little memory
STRIP = 256

Change = Callable[[np.ndarray, float, float], np.ndarray]


def _is_full_bytes(image: np.ndarray, low: float, high: float) -> bool:
    return image.dtype == np.uint8 and (low, high) == (0, 255)


def _share(image: np.ndarray, low: float, high: float) -> np.ndarray:
    return ((image.astype(np.float64) - low) / ((high - low) or 1)).clip(0, 1)


def _in_type(share: np.ndarray, type_: np.dtype, low: float, high: float) -> np.ndarray:
    """Shares of the range as values; rounded before ``low`` is added, so that no offset changes a level."""
    scaled = share.clip(0, 1) * (high - low)
    return (low + (scaled if type_.kind == "f" else np.rint(scaled))).astype(type_)


def equalize_plane(plane: np.ndarray, low: float, high: float) -> np.ndarray:
    r"""Spread the levels of one channel so that each part of the range holds as many pixels.

    Level :math:`v` becomes :math:`low + (high - low) (N(v) - n_0) / (N - n_0)`, rounded, with :math:`N(v)`
    pixels at or below it and :math:`n_0` pixels on the lowest level seen. A constant channel stays. For 8 bits this
    is OpenCV's ``equalizeHist``; deeper pixels have as many levels as their range, up to 65,536.

    Args:
        plane: integers or floats.
        low: the smallest value that pixels may take.
        high: the largest.

    Shape:
        ``(H, W)`` to the same, of the same type.
    """
    if _is_full_bytes(plane, low, high):
        import cv2

        return cv2.equalizeHist(np.ascontiguousarray(plane))
    counted = plane.dtype.kind != "f" and high - low < LEVELS
    top = int(high - low) if counted else LEVELS - 1
    levels = np.rint(_share(plane, low, high) * top).astype(np.intp)
    seen = np.bincount(levels.ravel(), minlength=top + 1)
    lowest = seen[levels.min()]
    if lowest == plane.size:
        return plane
    table = (np.cumsum(seen) - lowest) / (plane.size - lowest)
    return _in_type(table, plane.dtype, low, high)[levels]


def clahe_plane(
    plane: np.ndarray, low: float, high: float, clip_limit: float, tiles: tuple[int, int]
) -> np.ndarray:
    """Equalise one channel tile by tile with limited contrast (Zuiderveld 1994, Graphics Gems IV, VIII.5).

    For 8 bits this is OpenCV's ``createCLAHE``. Deeper pixels keep the meaning of the clip limit: their
    tiles are counted in 256 bins over the range as well, and between the middles of two bins the mapping is linear,
    so that no level is lost. (OpenCV counts 16-bit pixels in 65,536 bins, where the smallest limit of one
    pixel per bin binds nearly everywhere; scikit-image keeps as many grey levels as bins.)

    Args:
        plane: integers or floats.
        low: the smallest value that pixels may take.
        high: the largest.
        clip_limit: most pixels of a bin, in multiples of the mean.
        tiles: rows and columns of tiles.

    Shape:
        ``(H, W)`` to the same, of the same type.
    """
    if _is_full_bytes(plane, low, high):
        import cv2

        # a limit of all bins clips nothing; OpenCV counts in 32 bits, which a larger one may exceed
        return cv2.createCLAHE(min(clip_limit, BINS), tiles[::-1]).apply(np.ascontiguousarray(plane))
    from scipy.ndimage import map_coordinates

    position = _share(plane, low, high) * (BINS - 1)
    tables, (rows, columns) = _tile_tables(position, clip_limit, tiles)
    across = (np.arange(plane.shape[1]) + 0.0) / columns - 0.5
    mapped = np.empty(plane.shape)
    for start in range(0, len(plane), STRIP):
        strip = position[start : start + STRIP]
        down = (start + np.arange(len(strip))[:, None]) / rows - 0.5
        places = np.broadcast_arrays(down, across, strip)
        mapped[start : start + STRIP] = map_coordinates(tables, places, order=1, mode="nearest")
    return _in_type(mapped, plane.dtype, low, high)


def _tile_tables(
    position: np.ndarray, clip_limit: float, tiles: tuple[int, int]
) -> tuple[np.ndarray, tuple[int, int]]:
    """The clipped cumulative histogram of each tile, ``(rows, columns, BINS)`` in 0..1, and the tiles' size."""
    rests = [-length % count for length, count in zip(position.shape, tiles, strict=True)]
    if any(rests):
        # OpenCV lengthens both sides as soon as one is not divisible, a divisible one by a pixel per tile
        rests = [rest or count for rest, count in zip(rests, tiles, strict=True)]
    bins = np.pad(np.rint(position).astype(np.intp), ((0, rests[0]), (0, rests[1])), mode="reflect")
    rows, columns = (length // count for length, count in zip(bins.shape, tiles, strict=True))
    blocks = bins.reshape(tiles[0], rows, tiles[1], columns).swapaxes(1, 2).reshape(tiles[0] * tiles[1], -1)
    offsets = np.arange(len(blocks))[:, None] * BINS
    counts = np.bincount((blocks + offsets).ravel(), minlength=len(blocks) * BINS).reshape(-1, BINS)
    limit = max(int(clip_limit * rows * columns / BINS), 1)
    clipped = counts.clip(None, limit) + _handed_out((counts - limit).clip(0).sum(1, keepdims=True))
    return np.cumsum(clipped, 1).reshape(*tiles, BINS) / (rows * columns), (rows, columns)


def _handed_out(excess: np.ndarray) -> np.ndarray:
    """What each bin gets of the pixels above the limit, ``(tiles, BINS)``, as OpenCV hands them out.

    The rest of the division goes to every bin, every second, ... from the lowest on; it matters in small tiles.
    """
    each, rest = excess // BINS, excess % BINS
    stride = (BINS // rest.clip(1)).clip(1)
    bins = np.arange(BINS)
    return each + ((bins % stride == 0) & (bins // stride < rest))


def _equalize_luma(image: np.ndarray, low: float, high: float) -> np.ndarray:
    # with Cb and Cr unchanged, each of red, green and blue moves by as much as luma does
    luma = np.tensordot(LUMA, image.astype(np.float64), 1)
    luma = luma if image.dtype.kind == "f" else np.rint(luma)
    moved = equalize_plane(luma.astype(image.dtype), low, high).astype(np.float64) - luma
    return _in_type(_share(image + moved, low, high), image.dtype, low, high)


def _clahe_lightness(image: np.ndarray, low: float, high: float, change: Change) -> np.ndarray:
    if _is_full_bytes(image, low, high):
        import cv2

        lab = cv2.cvtColor(np.ascontiguousarray(image.transpose(1, 2, 0)), cv2.COLOR_RGB2LAB)
        lab[..., 0] = change(lab[..., 0], 0, 255)
        return np.ascontiguousarray(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB).transpose(2, 0, 1))
    return _clahe_deep_lightness(image, low, high, change)


def _clahe_deep_lightness(image: np.ndarray, low: float, high: float, change: Change) -> np.ndarray:
    # OpenCV's own Lab of floats is off by hundreds of 16-bit levels there and back
    from skimage.color import lab2rgb, rgb2lab

    lab = rgb2lab(_share(image, low, high), channel_axis=0)
    lab[0] = change(lab[0], 0, 100)
    # a darker yellow has Z below 0 in CIE XYZ, which scikit-image cuts with a warning: cut it here
    lab[2] = np.minimum(lab[2], 200 / 116 * (lab[0] + 16) - 1e-9)
    changed = lab2rgb(lab, channel_axis=0)
    return _in_type(changed, image.dtype, low, high)


def equalize(image: np.ndarray, low: float, high: float, by_channels: bool = False) -> np.ndarray:
    """Equalise the histogram of an image; of three channels that of luma, so that hues stay.

    Args:
        image: integers or floats.
        low: the smallest value that pixels may take.
        high: the largest.
        by_channels: equalise each channel by itself.

    Shape:
        ``(C, H, W)`` to the same, of the same type.
    """
    if len(image) == 3 and not by_channels:
        return _equalize_luma(image, low, high)
    return np.stack([equalize_plane(plane, low, high) for plane in image])


def clahe(
    image: np.ndarray, low: float, high: float, clip_limit: float = 2.0, tiles: tuple[int, int] = (8, 8)
) -> np.ndarray:
    """Equalise an image tile by tile with limited contrast; of three channels the lightness L of CIE Lab.

    Args:
        image: integers or floats.
        low: the smallest value that pixels may take.
        high: the largest.
        clip_limit: most pixels of a bin, in multiples of the mean.
        tiles: rows and columns of tiles.

    Shape:
        ``(C, H, W)`` to the same, of the same type.
    """

    def change(plane: np.ndarray, low: float, high: float) -> np.ndarray:
        return clahe_plane(plane, low, high, clip_limit, tiles)

    if len(image) == 3:
        return _clahe_lightness(image, low, high, change)
    return np.stack([change(plane, low, high) for plane in image])


def _turned(picture: Picture) -> Picture:
    """The picture with high meaning bright, and without windows: its numbers lose their unit."""
    values = picture.values
    if picture.inverted:
        # in 64 bits on the way, for the sum of the ends may leave the pixels' type
        wide = np.float64 if values.dtype.kind == "f" else np.int64
        values = (wide(picture.low) + wide(picture.high) - values.astype(wide)).astype(values.dtype)
    return picture.having(values, inverted=False, windows=(), lut=())


@TRANSFORMS.register("equalize", version=1)
class Equalize:
    """Equalise the histogram over the range that pixels may take, of 8 bits as OpenCV does it.

    Of colour images luma (ITU-R BT.601) is equalised, not each channel: hues stay. An inverted picture is
    turned first. Windows of the file no longer apply.

    Shape:
        ``(C, H, W)`` to the same, of the same type and range.
    """

    def __call__(self, picture: Picture) -> Picture:
        picture = _turned(picture)
        return picture.having(equalize(picture.values, picture.low, picture.high))


@TRANSFORMS.register("clahe", version=1)
class Clahe:
    """Contrast-limited adaptive histogram equalisation (Zuiderveld 1994), of 8 bits as OpenCV does it.

    Deeper pixels get the same curve without a loss of levels. Of colour images the lightness L of CIE Lab is
    equalised. An inverted picture is turned first. Windows of the file no longer apply.

    Args:
        clip_limit: most pixels of a bin of a tile's histogram, in multiples of the mean; lower is gentler.
        tiles: rows and columns of tiles.

    Shape:
        ``(C, H, W)`` to the same, of the same type and range.

    Raises:
        MedsegError: the limit is not above 0, or there is no tile.
    """

    def __init__(self, clip_limit: float = 2.0, tiles: tuple[int, int] = (8, 8)) -> None:
        self.clip_limit = real("clahe", "clip_limit", clip_limit, above=0)
        self.tiles = whole_pair("clahe", "tiles", tiles)

    def __call__(self, picture: Picture) -> Picture:
        picture = _turned(picture)
        return picture.having(clahe(picture.values, picture.low, picture.high, self.clip_limit, self.tiles))
