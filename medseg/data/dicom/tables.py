"""Look-up tables of a DICOM file: modality (PS3.3 C.11.1), VOI (C.11.2) and palette (C.7.6.3.1.5)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medseg.data.dicom.decoders import apply_color_lut
from medseg.data.dicom.elements import REPLACE, named, numbers, value
from medseg.data.dicom.header import guarded
from medseg.data.raster import FileFault

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

CHANNELS = ("Red", "Green", "Blue")


@dataclass(frozen=True)
class Table:
    """One look-up table.

    Args:
        first: the value that the first entry stands for.
        entries: ``(L,)``, ``uint16``.
        bits: of an entry, so that ``2**bits - 1`` is the largest possible one.
    """

    first: int
    entries: np.ndarray
    bits: int

    @property
    def top(self) -> int:
        """The largest possible entry."""
        return 2**self.bits - 1

    def look_up(self, values: np.ndarray) -> np.ndarray:
        """Entries for values, ``uint16``; values before the first and behind the last take these (C.11.1.1.1)."""
        places = np.clip(values.astype(np.int64) - self.first, 0, len(self.entries) - 1)
        return self.entries[places]


def read_table(item: Dataset, path: Path, little: bool, signed: bool) -> Table:
    """A table of a Modality or VOI LUT Sequence.

    Args:
        item: of the sequence.
        path: of the file, for messages.
        little: words are little-endian.
        signed: what is looked up may be below 0, so that the first value is signed.

    Raises:
        FileFault: the table is incomplete.
    """
    return _table(item, "LUTDescriptor", "LUTData", path, little, signed)


def read_palette(dataset: Dataset, path: Path, little: bool, signed: bool) -> tuple[Table, Table, Table]:
    """The tables of red, green and blue, also where they are stored in segments (C.7.9.2).

    Raises:
        FileFault: a table is missing or incomplete.
    """
    if value(dataset, "RedPaletteColorLookupTableData", path) is None:
        return _segmented(dataset, path, signed)
    red, green, blue = (
        _table(dataset, f"{name}PaletteColorLookupTableDescriptor", f"{name}PaletteColorLookupTableData",
               path, little, signed)
        for name in CHANNELS
    )  # fmt: skip
    return red, green, blue


def _descriptor(item: Dataset, keyword: str, path: Path, signed: bool) -> tuple[int, int, int]:
    """Number of entries, first value, and bits per entry (C.11.1.1.1)."""
    found = numbers(item, keyword, path)
    if len(found) != 3 or not all(one == int(one) for one in found):
        raise FileFault(path, f"{named(keyword)} needs three whole numbers, it has {found}", REPLACE)
    # 16 bits whose sign the value representation may have got wrong; 0 entries mean 65536
    count, first, bits = (int(one) % 65536 for one in found)
    if not 8 <= bits <= 16:
        raise FileFault(path, f"{named(keyword)} gives {bits} bits per entry, not 8 to 16", REPLACE)
    return count or 65536, first - 65536 if signed and first >= 32768 else first, bits


def _table(item: Dataset, shape: str, data: str, path: Path, little: bool, signed: bool) -> Table:
    count, first, bits = _descriptor(item, shape, path, signed)
    content = _bytes(item, data, path, little)
    if len(content) >= 2 * count:
        entries = np.frombuffer(content[: 2 * count], "<u2")
    elif len(content) >= count and bits == 8:
        entries = np.frombuffer(content[:count], np.uint8)
    else:
        seen = f"{named(data)} has {len(content)} bytes for {count} entries of {bits} bits"
        raise FileFault(path, seen, REPLACE)
    # some devices write entries with more bits than they say
    bits = max(bits, math.ceil(math.log2(int(entries.max()) + 1)))
    return Table(first, entries.astype(np.uint16), bits)


def _bytes(item: Dataset, keyword: str, path: Path, little: bool) -> bytes:
    """Words of a table as little-endian bytes, whether they came as numbers (US) or as bytes (OW)."""
    found = value(item, keyword, path)
    if found is None:
        raise FileFault(path, f"{named(keyword)} is missing", REPLACE)
    if isinstance(found, bytes):
        words = found[: len(found) // 2 * 2]
        return words if little else np.frombuffer(words, ">u2").astype("<u2").tobytes()
    return (np.array(numbers(item, keyword, path)) % 65536).astype("<u2").tobytes()


def _segmented(dataset: Dataset, path: Path, signed: bool) -> tuple[Table, Table, Table]:
    """Let pydicom expand the segments, by looking up every place of the table once."""
    if value(dataset, "SegmentedRedPaletteColorLookupTableData", path) is None:
        raise FileFault(path, f"{named('RedPaletteColorLookupTableData')} is missing", REPLACE)
    count, first, bits = _descriptor(dataset, "RedPaletteColorLookupTableDescriptor", path, signed)
    with guarded(path, f"reading {named('SegmentedRedPaletteColorLookupTableData')}"):
        entries = apply_color_lut(np.arange(count, dtype=np.int64) + first, dataset)
    red, green, blue = (Table(first, entries[:, k].astype(np.uint16), bits) for k in range(3))
    return red, green, blue
