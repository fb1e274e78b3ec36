"""One frame of a DICOM file as a ``Picture``: modality values, and what they mean (PS3.4 N.2)."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medseg.data.dicom.elements import REPLACE, group_item, items, named, number, numbers, text
from medseg.data.dicom.header import BIG_ENDIAN, Header, open_header
from medseg.data.dicom.stored import PALETTE, Layout, read_layout, read_stored
from medseg.data.dicom.tables import Table, read_palette, read_table
from medseg.data.raster import FileFault
from medseg.transforms.picture import LUMA, Picture, Window

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

#: types for whole modality values, the first that can hold their range is taken
INTEGERS = (np.uint8, np.uint16, np.int16, np.int32, np.uint32, np.int64)
#: X-ray angiography and fluoroscopy, whose modality LUT is not for display (PS3.3 C.8.7.1.1.2)
FLUOROSCOPY = ("1.2.840.10008.5.1.4.1.1.12.1", "1.2.840.10008.5.1.4.1.1.12.2")


def frames(path: Path) -> int:
    """How many frames a file has.

    Raises:
        FileFault: it is no DICOM image.
    """
    return _opened(path)[1].frames


def read_picture(path: Path, channels: int, frame: int = 0) -> Picture:
    """Read one frame: modality values with the range that they may take, and the windows that the file proposes.

    Grey values have passed the modality LUT or the rescale slope and intercept (PS3.3 C.11.1); they are integers
    where slope and intercept are whole numbers, else ``float32``. Colours come as RGB of ``uint8`` or ``uint16``.

    Args:
        path: the file.
        channels: 1 or 3; grey repeats into three, colour becomes grey by ITU-R BT.601 luma.
        frame: which, from 0.

    Raises:
        FileFault: the file is missing, no DICOM image, broken, or of a kind that is not read.
    """
    return picture_of(*_opened(path), channels, frame)


def _opened(path: Path) -> tuple[Header, Layout]:
    """The header of a file, kept for its next frame: it describes all frames and takes long to read if many."""
    path = Path(path)
    if not path.is_file():
        open_header(path)  # which says so
    status = path.stat()
    return _kept(path, (status.st_size, status.st_mtime_ns))


@lru_cache(maxsize=4)
def _kept(path: Path, stamp: tuple[int, int]) -> tuple[Header, Layout]:
    header = open_header(path)
    return header, read_layout(header)


def picture_of(header: Header, layout: Layout, channels: int, frame: int) -> Picture:
    """One frame of an opened file, see ``read_picture``."""
    pixels, bits = read_stored(header, layout, frame)
    if layout.photometric == PALETTE:
        return _channelled(_coloured_by_palette(pixels, header, layout), channels)
    if layout.colour:
        return _channelled(_coloured(pixels, bits), channels)
    return _channelled(_grey(pixels, bits, header, layout, frame), channels)


def _channelled(picture: Picture, channels: int) -> Picture:
    values = picture.values
    if len(values) == channels:
        return picture
    if len(values) == 1:
        return picture.having(np.ascontiguousarray(np.broadcast_to(values, (channels, *values.shape[1:]))))
    if (values == values[:1]).all():
        return picture.having(np.ascontiguousarray(values[:1]))
    return picture.having(np.rint(np.tensordot(LUMA, values, 1)).astype(values.dtype)[None])


def _coloured(pixels: np.ndarray, bits: int) -> Picture:
    """RGB, of which more than 16 bits lose the lowest ones."""
    if bits > 16:
        pixels, bits = pixels >> (bits - 16), 16
    kind = np.uint8 if bits <= 8 else np.uint16
    return Picture(np.ascontiguousarray(pixels.transpose(2, 0, 1), dtype=kind), 0, 2**bits - 1)


def _coloured_by_palette(pixels: np.ndarray, header: Header, layout: Layout) -> Picture:
    tables = read_palette(header.dataset, header.path, header.syntax != BIG_ENDIAN, layout.signed)
    bits = 8 if all(table.bits == 8 for table in tables) else 16
    kind = np.uint8 if bits == 8 else np.uint16
    return Picture(np.stack([table.look_up(pixels).astype(kind) for table in tables]), 0, 2**bits - 1)


def _grey(pixels: np.ndarray, bits: int, header: Header, layout: Layout, frame: int) -> Picture:
    values, low, high = _modality(pixels, bits, header, layout, frame)
    signed = low < 0
    little = header.syntax != BIG_ENDIAN
    luts = [
        read_table(item, header.path, little, signed)
        for item in items(header.dataset, "VOILUTSequence", header.path)
    ]
    shape = text(header.dataset, "PresentationLUTShape", header.path).upper()
    return Picture(
        values[None],
        low,
        high,
        inverted=layout.photometric == "MONOCHROME1" or shape == "INVERSE",
        windows=read_windows(header, frame),
        lut=tuple((float(table.first), table.entries, float(table.top)) for table in luts),
    )


def _modality(
    pixels: np.ndarray, bits: int, header: Header, layout: Layout, frame: int
) -> tuple[np.ndarray, float, float]:
    """Modality values and the range that they may take."""
    path = header.path
    if pixels.dtype.kind == "f":
        if not np.isfinite(pixels).all():
            raise FileFault(path, "has pixels that are not finite", REPLACE)
        slope, intercept = read_rescale(header, frame)
        values = (pixels.astype(np.float64) * slope + intercept).astype(np.float32)
        return values, float(values.min()), float(values.max())
    table = read_modality_table(header, layout)
    if table is not None:
        values = table.look_up(pixels)
        return values.astype(np.uint8 if table.bits == 8 else np.uint16), 0, table.top
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if layout.signed else (0, 2**bits - 1)
    return rescale(pixels, low, high, *read_rescale(header, frame))


def read_modality_table(header: Header, layout: Layout) -> Table | None:
    """The modality LUT (PS3.3 C.11.1), if there is one and it is meant for display.

    Raises:
        FileFault: it is incomplete.
    """
    if text(header.dataset, "SOPClassUID", header.path) in FLUOROSCOPY:
        return None
    found = items(header.dataset, "ModalityLUTSequence", header.path)
    if not found:
        return None
    return read_table(found[0], header.path, header.syntax != BIG_ENDIAN, layout.signed)


def rescale(
    pixels: np.ndarray, low: int, high: int, slope: float, intercept: float
) -> tuple[np.ndarray, float, float]:
    """Slope times pixels plus intercept (PS3.3 C.11.1.1.2), exact where both are whole numbers.

    Args:
        pixels: integers as stored.
        low: the smallest that they may be.
        high: the largest.
        slope: of the line.
        intercept: of the line.

    Returns:
        The values, of the first of ``INTEGERS`` that holds their range, or ``float32``; and that range.
    """
    ends = sorted((low * slope + intercept, high * slope + intercept))
    whole = slope == int(slope) and intercept == int(intercept)
    largest = max(abs(low), abs(high)) * abs(slope) + abs(intercept)
    if whole and largest < 2**53:
        smallest, greatest = int(ends[0]), int(ends[1])
        fits = (t for t in INTEGERS if np.iinfo(t).min <= smallest and greatest <= np.iinfo(t).max)
        values = pixels.astype(np.int64) * int(slope) + int(intercept)
        return values.astype(next(fits)), smallest, greatest
    values = (pixels.astype(np.float64) * slope + intercept).astype(np.float32)
    return values, ends[0], ends[1]


def read_rescale(header: Header, frame: int) -> tuple[float, float]:
    """Slope and intercept of one frame: of its functional group (PS3.3 C.7.6.16.2.9), or of the file.

    Raises:
        FileFault: one is no number, or the slope is 0.
    """
    path = header.path
    own = group_item(header.dataset, "PixelValueTransformationSequence", frame, path)
    source = header.dataset if own is None else own
    slope, intercept = (number(source, name, path) for name in ("RescaleSlope", "RescaleIntercept"))
    if slope == 0:
        raise FileFault(path, f"{named('RescaleSlope')} is 0", REPLACE)
    return 1.0 if slope is None else slope, 0.0 if intercept is None else intercept


def read_windows(header: Header, frame: int) -> tuple[Window, ...]:
    """The windows of one frame: of its functional group (PS3.3 C.7.6.16.2.10), or of the file.

    Raises:
        FileFault: centres and widths are no numbers, or differ in number.
    """
    path = header.path
    own = group_item(header.dataset, "FrameVOILUTSequence", frame, path)
    source: Dataset = header.dataset if own is None else own
    centers, widths = numbers(source, "WindowCenter", path), numbers(source, "WindowWidth", path)
    if len(centers) != len(widths):
        seen = f"{named('WindowCenter')} has {len(centers)} values, {named('WindowWidth')} {len(widths)}"
        raise FileFault(path, seen, REPLACE)
    words = text(source, "WindowCenterWidthExplanation", path).split("\\")
    function = text(source, "VOILUTFunction", path).upper() or "LINEAR"
    return tuple(
        Window(center, width, words[k] if k < len(words) else "", function)
        for k, (center, width) in enumerate(zip(centers, widths, strict=True))
    )


def forget() -> None:
    """Let go of the headers that are kept for the next frame."""
    _kept.cache_clear()
