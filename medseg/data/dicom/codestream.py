"""Size and depth that a compressed frame itself declares, read before it is decoded."""

from __future__ import annotations

import struct
from dataclasses import dataclass

#: start-of-frame markers of JPEG (ITU-T T.81 B.1.1.3) and JPEG-LS (ITU-T T.87 C.1)
FRAME_MARKERS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}


@dataclass(frozen=True)
class Codestream:
    """What a codestream says of itself.

    Args:
        rows: height in pixels.
        columns: width in pixels.
        samples: components per pixel.
        precision: bits per component.
    """

    rows: int
    columns: int
    samples: int
    precision: int


def read_codestream(data: bytes) -> Codestream | None:
    """The frame header of JPEG, JPEG-LS or JPEG 2000 data; nothing where there is none (RLE, damaged)."""
    try:
        if data[:2] == b"\xff\xd8":
            return _jpeg(data)
        if data[:4] == b"\xff\x4f\xff\x51":
            return _jpeg2000(data)
        start = data.find(b"\xff\x4f\xff\x51", 0, 4096)
        if data[4:8] == b"jP  " and start > 0:  # the file format around the codestream
            return _jpeg2000(data[start:])
    except (struct.error, IndexError):
        pass
    return None


def _jpeg(data: bytes) -> Codestream | None:
    position = 2
    while position + 4 <= len(data):
        if data[position] != 0xFF:
            return None
        marker = data[position + 1]
        if marker == 0xFF:  # fill byte (B.1.1.2)
            position += 1
            continue
        if marker in FRAME_MARKERS:
            precision, rows, columns, samples = struct.unpack(">BHHB", data[position + 4 : position + 10])
            return Codestream(rows, columns, samples, precision)
        position += 2 + struct.unpack(">H", data[position + 2 : position + 4])[0]
    return None


def _jpeg2000(data: bytes) -> Codestream | None:
    """The SIZ marker segment (ITU-T T.800 A.5.1)."""
    width, height, left, top = struct.unpack(">4L", data[8:24])
    samples = struct.unpack(">H", data[40:42])[0]
    return Codestream(height - top, width - left, samples, (data[42] & 0x7F) + 1)
