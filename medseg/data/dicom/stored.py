"""Pixels of one frame as numbers, exactly as stored: unused bits cut off, signs extended, colour as RGB."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from medseg.data.dicom.codestream import Codestream, read_codestream
from medseg.data.dicom.decoders import convert_color_space, get_decoder, get_frame
from medseg.data.dicom.elements import REPLACE, named, text, value, whole
from medseg.data.dicom.header import Header, guarded
from medseg.data.raster import FileFault

if TYPE_CHECKING:
    from pydicom.pixels.decoders.base import Decoder

GREY = ("MONOCHROME1", "MONOCHROME2")
PALETTE = "PALETTE COLOR"
COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
RLE = "1.2.840.10008.1.2.5"
#: what installs the decoders of compressed files
CURE = "pip install medseg[dicom]"


@dataclass(frozen=True)
class Layout:
    """The Image Pixel module (PS3.3 C.7.6.3) of a file, checked.

    Args:
        rows: height in pixels.
        columns: width in pixels.
        frames: images in the file.
        samples: 1, or 3 of colour.
        photometric: such as ``MONOCHROME2`` or ``PALETTE COLOR``.
        allocated: bits of memory per sample.
        stored: bits of them in use.
        high_bit: the uppermost of these, counted from 0.
        signed: samples are in two's complement.
        planar: colours are stored plane by plane.
    """

    rows: int
    columns: int
    frames: int
    samples: int
    photometric: str
    allocated: int
    stored: int
    high_bit: int
    signed: bool
    planar: int

    @property
    def colour(self) -> bool:
        """Whether pixels have three colours, so that no window applies."""
        return self.photometric not in GREY

    def frame_bytes(self, encapsulated: bool) -> float:
        """Bytes of one frame, of which bit-packed ones may end within a byte; the least possible if compressed."""
        if encapsulated:
            return 8
        size = self.rows * self.columns * self.samples * self.allocated / 8
        return size * 2 / 3 if self.photometric == "YBR_FULL_422" else size


def read_layout(header: Header) -> Layout:
    """Check what a file says of its pixels, before anything is allocated for them.

    Raises:
        FileFault: it has no pixels, or says something impossible or unsupported of them.
    """
    path, dataset = header.path, header.dataset
    if not header.keyword:
        raise FileFault(path, "holds no pixel data", "give a DICOM image")
    floating = header.keyword != "PixelData"
    allocated = whole(dataset, "BitsAllocated", path)
    stored = allocated if floating else whole(dataset, "BitsStored", path)
    samples = whole(dataset, "SamplesPerPixel", path, 1)
    layout = Layout(
        rows=whole(dataset, "Rows", path),
        columns=whole(dataset, "Columns", path),
        frames=max(whole(dataset, "NumberOfFrames", path, 1), 1),
        samples=samples,
        photometric=text(dataset, "PhotometricInterpretation", path).upper(),
        allocated=allocated,
        stored=stored,
        high_bit=whole(dataset, "HighBit", path, stored - 1),
        signed=not floating and whole(dataset, "PixelRepresentation", path, 0) == 1,
        planar=whole(dataset, "PlanarConfiguration", path, 0) if samples > 1 else 0,
    )
    _check(layout, header)
    return layout


def _check(layout: Layout, header: Header) -> None:
    for keyword, seen, allowed in (
        ("Rows", layout.rows, layout.rows > 0),
        ("Columns", layout.columns, layout.columns > 0),
        ("PhotometricInterpretation", layout.photometric, layout.photometric in (*GREY, PALETTE, *COLOUR)),
        ("SamplesPerPixel", layout.samples, layout.samples == (3 if layout.photometric in COLOUR else 1)),
        ("BitsAllocated", layout.allocated, layout.allocated in _allowed_bits(header)),
        ("BitsStored", layout.stored, 1 <= layout.stored <= layout.allocated),
        ("HighBit", layout.high_bit, layout.stored - 1 <= layout.high_bit < layout.allocated),
        ("PlanarConfiguration", layout.planar, layout.planar in (0, 1)),
    ):
        if not allowed:
            raise FileFault(header.path, f"{named(keyword)} is {seen}, which is not supported", REPLACE)
    if layout.colour and layout.signed:
        raise FileFault(header.path, f"{named('PixelRepresentation')} is 1 with colour pixels", REPLACE)
    limit = Image.MAX_IMAGE_PIXELS or math.inf
    if layout.rows * layout.columns > limit:
        seen = f"{layout.columns}x{layout.rows} pixels are more than {limit}"
        raise FileFault(header.path, f"too large ({seen})", "cut or shrink it")
    _check_length(layout, header)


def _allowed_bits(header: Header) -> tuple[int, ...]:
    return {"FloatPixelData": (32,), "DoubleFloatPixelData": (64,)}.get(header.keyword, (1, 8, 16, 32))


def _check_length(layout: Layout, header: Header) -> None:
    """Refuse a file that cannot hold the frames that it declares."""
    per_frame = layout.frame_bytes(is_encapsulated(header))
    if math.ceil(per_frame * layout.frames) > header.length:
        seen = f"its pixel data has {header.length} bytes, {layout.frames} frames need "
        need = "more" if is_encapsulated(header) else math.ceil(per_frame * layout.frames)
        raise FileFault(header.path, f"cut short: {seen}{need}", REPLACE)
    if layout.photometric == "YBR_FULL_422" and not is_encapsulated(header):
        full = per_frame * 3 / 2 * layout.frames
        if header.length >= full:
            seen = f"{named('PhotometricInterpretation')} is YBR_FULL_422, the pixel data is not subsampled"
            raise FileFault(header.path, seen, "correct it to YBR_FULL or RGB")


def is_encapsulated(header: Header) -> bool:
    """Whether the pixels are compressed (PS3.5 A.4)."""
    from pydicom.uid import UID

    with guarded(header.path, "reading (0002,0010) Transfer Syntax UID"):
        return bool(UID(header.syntax).is_encapsulated)


def syntax_name(header: Header) -> str:
    """The transfer syntax in words, or its UID where it has none."""
    from pydicom.uid import UID

    return UID(header.syntax).name


def decoder_of(header: Header) -> Decoder:
    """What decodes the transfer syntax.

    Raises:
        FileFault: nothing does, or it is not installed.
    """
    try:
        decoder = get_decoder(header.syntax)
    except NotImplementedError:
        seen = f"the transfer syntax {syntax_name(header)} is not supported"
        raise FileFault(header.path, seen, "save it uncompressed") from None
    if not decoder.is_available:
        seen = f"the transfer syntax {syntax_name(header)} needs a decoder that is not installed"
        raise FileFault(header.path, seen, f"install it: {CURE}")
    return decoder


def read_stored(header: Header, layout: Layout, frame: int) -> tuple[np.ndarray, int]:
    """Decode one frame.

    Args:
        header: of the file.
        layout: of its pixels.
        frame: which, from 0.

    Returns:
        ``(H, W)`` of grey levels or palette places, or ``(H, W, 3)`` of RGB, in a type of the allocated bits;
        and how many of these bits are in use. A codestream with more bits than (0028,0101) is right (PS3.5 8.2).

    Raises:
        FileFault: there is no such frame, or it cannot be decoded.
    """
    if not 0 <= frame < layout.frames:
        seen = f"there is no frame {frame}, the file has {layout.frames}"
        raise FileFault(header.path, seen, f"give a frame from 0 to {layout.frames - 1}")
    decoder = decoder_of(header)
    bits = layout.stored
    with header.pixels() as stream:
        options = _options(header, layout)
        if is_encapsulated(header) and header.syntax != RLE:
            bits = max(bits, _codestream(header, layout, frame, stream, options).precision)
        with guarded(header.path, f"decoding frame {frame}"):
            pixels, properties = decoder.as_array(stream, index=frame, raw=True, **options)
    pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    if pixels.dtype.kind in "iu":
        pixels = _cut(pixels, layout, bits, native=not is_encapsulated(header) or header.syntax == RLE)
    if str(properties["photometric_interpretation"]) in ("YBR_FULL", "YBR_FULL_422"):
        pixels = _as_rgb(pixels, header)
    return pixels, bits


def _options(header: Header, layout: Layout) -> dict[str, Any]:
    options: dict[str, Any] = {
        "rows": layout.rows,
        "columns": layout.columns,
        "samples_per_pixel": layout.samples,
        "photometric_interpretation": layout.photometric,
        "bits_allocated": layout.allocated,
        "bits_stored": layout.stored,
        "pixel_representation": int(layout.signed),
        "planar_configuration": layout.planar,
        "number_of_frames": layout.frames,
        "pixel_keyword": header.keyword,
        "pixel_vr": header.vr,
        # pydicom shifts by the stored bits and does not look at (0028,0102) High Bit: see _cut
        "correct_unused_bits": False,
    }
    if header.syntax == RLE:
        # the compiled decoder of pylibjpeg-rle panics past its end on damaged segments
        options["decoding_plugin"] = "pydicom"
    offsets = value(header.dataset, "ExtendedOffsetTable", header.path)
    lengths = value(header.dataset, "ExtendedOffsetTableLengths", header.path)
    if offsets is not None and lengths is not None:
        options["extended_offsets"] = (offsets, lengths)
    return options


def _codestream(
    header: Header, layout: Layout, frame: int, stream: Any, options: dict[str, Any]
) -> Codestream:
    """The frame's own word for its size, which must be the file's: a decoder allocates what it says."""
    with guarded(header.path, f"finding frame {frame}"):
        data = get_frame(stream, frame, layout.frames, options.get("extended_offsets"))
        stream.seek(header.offset)
    found = read_codestream(data)
    if found is None:
        raise FileFault(header.path, f"frame {frame} has no readable codestream", REPLACE)
    if (found.rows, found.columns, found.samples) != (layout.rows, layout.columns, layout.samples):
        own = f"{found.columns}x{found.rows} pixels of {found.samples} samples"
        said = f"{layout.columns}x{layout.rows} of {layout.samples}"
        raise FileFault(header.path, f"frame {frame} is {own}, the header says {said}", REPLACE)
    if found.precision > layout.allocated:
        seen = f"frame {frame} has {found.precision} bits, {named('BitsAllocated')} is {layout.allocated}"
        raise FileFault(header.path, seen, REPLACE)
    return found


def _cut(pixels: np.ndarray, layout: Layout, bits: int, native: bool) -> np.ndarray:
    """Drop the bits above (0028,0102) High Bit and below the stored ones (PS3.5 8.1.1), and extend the sign."""
    size = 8 * pixels.dtype.itemsize
    high = layout.high_bit if native else bits - 1
    if layout.allocated == 1 or (high == size - 1 and bits == size):
        return pixels
    return (pixels << (size - 1 - high)) >> (size - bits)


def _as_rgb(pixels: np.ndarray, header: Header) -> np.ndarray:
    with guarded(header.path, "converting YBR to RGB"):
        return convert_color_space(pixels, "YBR_FULL", "RGB")
