"""A DICOM file opened: its elements, read one by one and checked, and where its pixels begin."""

from __future__ import annotations

import io
import logging
import re
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from medseg.data.raster import FileFault

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

PREAMBLE = 128
#: value representations that open a data set, for files that lack the preamble (PS3.5 6.2)
FIRST_VRS = (b"UL", b"UI", b"CS", b"SH", b"LO", b"DA", b"TM")
#: the most bytes that a deflated file may grow to (PS3.5 A.5)
MAX_INFLATED = 1 << 30
PIXELS = {
    (0x7FE0, 0x0008): "FloatPixelData",
    (0x7FE0, 0x0009): "DoubleFloatPixelData",
    (0x7FE0, 0x0010): "PixelData",
}
BIG_ENDIAN = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
#: PS3.5 9.1
UID = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))*", re.ASCII)
REPLACE = "replace it"

# what pydicom and its decoders have to say reaches the user as one error, not as lines on the console
for _name in ("pydicom", "pylibjpeg", "libjpeg", "openjpeg", "rle"):
    logging.getLogger(_name).addHandler(logging.NullHandler())


@dataclass(frozen=True)
class Header:
    """What stands before the pixels of a DICOM file.

    Args:
        path: the file.
        dataset: its elements up to the pixel data.
        syntax: the UID of its transfer syntax.
        keyword: ``PixelData``, ``FloatPixelData``, ``DoubleFloatPixelData``, or empty where there are no pixels.
        vr: the value representation of the pixels, empty if implicit.
        offset: of the value of the pixel data, in bytes from the beginning of the file (or what it inflates to).
        length: of that value in bytes, at most what the file holds.
        inflated: the whole data set of a deflated file.
    """

    path: Path
    dataset: Dataset = field(repr=False)
    syntax: str
    keyword: str
    vr: str
    offset: int
    length: int
    inflated: bytes | None = field(default=None, repr=False)

    @contextmanager
    def pixels(self) -> Iterator[BinaryIO]:
        """A stream that stands at the first byte of the pixel data's value."""
        stream: BinaryIO = io.BytesIO(self.inflated) if self.inflated is not None else self.path.open("rb")
        with stream:
            stream.seek(self.offset)
            yield stream


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM by its content: the prefix of PS3.10 7.1, or a data set that begins without it."""
    try:
        with path.open("rb") as file:
            start = file.read(PREAMBLE + 4)
            size = file.seek(0, io.SEEK_END)
    except OSError:
        return False
    return start[PREAMBLE:] == b"DICM" or _begins_as_dataset(start, size)


def _begins_as_dataset(start: bytes, size: int) -> bool:
    """Files of old devices and network dumps begin with group 0002 or 0008, the latter with its length or class."""
    if len(start) < 12:
        return False
    group, element = struct.unpack("<HH", start[:4])
    if group == 0x0800:  # explicit VR, big endian
        element = struct.unpack(">H", start[2:4])[0]
        return element <= 0x20 and start[4:6] in FIRST_VRS
    if group not in (2, 8) or element > 0x20:
        return False
    length = struct.unpack("<L", start[4:8])[0]
    return start[4:6] in FIRST_VRS or (length % 2 == 0 and 0 < length <= min(size, 64))


@contextmanager
def guarded(path: Path, doing: str, tell: bool = True) -> Iterator[None]:
    """Turn whatever pydicom or a decoder raises on broken bytes into one fault of the file; quiet its warnings.

    Args:
        path: the file.
        doing: what is done inside, for the message.
        tell: quote the error; not where it may quote the file, which may name the patient.

    Raises:
        FileFault: anything was raised inside.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except FileFault:
        raise
    except MemoryError:
        raise FileFault(path, f"{doing} needs more memory than there is", "cut or shrink it") from None
    except Exception as error:  # pydicom documents no closed list of what broken bytes raise
        words = " ".join(str(error).split())[:200] if tell else ""
        raise FileFault(path, f"{doing} failed ({words or type(error).__name__})", REPLACE) from None


def open_header(path: Path) -> Header:
    """Read a DICOM file up to its pixel data, which is left on disk.

    Raises:
        FileFault: the file is missing, is not DICOM, or is broken.
    """
    path = Path(path)
    if not path.is_file():
        raise FileFault(path, "no such file", "restore it")
    if not is_dicom(path):
        raise FileFault(path, "not a DICOM file", "give a DICOM file")
    with guarded(path, "reading the DICOM header"):
        return _open(path)


def _open(path: Path) -> Header:
    from pydicom import dcmread
    from pydicom.filereader import read_file_meta_info

    with path.open("rb") as file:
        has_preamble = file.read(PREAMBLE + 4)[PREAMBLE:] == b"DICM"
    meta = read_file_meta_info(path) if has_preamble else None
    inflated = None
    if meta is not None and meta.get("TransferSyntaxUID") == DEFLATED:
        # 12 bytes hold the group length itself
        start = PREAMBLE + 4 + 12 + int(meta.FileMetaInformationGroupLength)
        inflated = _inflate(path, start)
    with io.BytesIO(inflated) if inflated is not None else path.open("rb") as stream:
        dataset = dcmread(stream, stop_before_pixels=True, force=True)
        syntax = DEFLATED if inflated is not None else _syntax(dataset)
        if len(syntax) > 64 or not UID.fullmatch(syntax):
            raise FileFault(path, "(0002,0010) Transfer Syntax UID is no UID", REPLACE)
        keyword, vr, length = _pixel_element(stream, syntax)
        offset = stream.tell()
        left = stream.seek(0, io.SEEK_END) - offset
    return Header(path, dataset, syntax, keyword, vr, offset, min(length, left), inflated)


def _syntax(dataset: Dataset) -> str:
    """The UID of the transfer syntax; that of the encoding as found where the file does not say."""
    meta = getattr(dataset, "file_meta", None)
    if meta is not None and meta.get("TransferSyntaxUID"):
        return str(meta.TransferSyntaxUID)
    implicit, little = dataset.original_encoding
    if implicit:
        return "1.2.840.10008.1.2"
    return "1.2.840.10008.1.2.1" if little else "1.2.840.10008.1.2.2"


def _inflate(path: Path, start: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        plain = zlib.decompressobj(-zlib.MAX_WBITS).decompress(file.read(), MAX_INFLATED)
    if len(plain) >= MAX_INFLATED:
        raise FileFault(path, f"inflates to more than {MAX_INFLATED >> 20} MiB", "shrink it")
    return plain


def _pixel_element(stream: BinaryIO, syntax: str) -> tuple[str, str, int]:
    """Keyword, VR and length of the pixel element at which the stream stands, which moves on to its value."""
    order = ">" if syntax == BIG_ENDIAN else "<"
    start = stream.read(8)
    if len(start) < 8:
        return "", "", 0
    tag = struct.unpack(f"{order}HH", start[:4])
    keyword = PIXELS.get(tag, "")
    if start[4:6].isalpha() and start[4:6].isupper():
        vr, length = start[4:6].decode("ascii"), stream.read(4)
    else:
        vr, length = "", start[4:]
    if not keyword or len(length) < 4:
        return "", "", 0
    return keyword, vr, struct.unpack(f"{order}L", length)[0]
