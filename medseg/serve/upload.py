"""A file that came in: its kind by its content, and its size in pixels before any of them is decoded."""

from __future__ import annotations

import gzip
import math
import shutil
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from medseg.data.faults import FileFault
from medseg.errors import MedsegError
from medseg.serve.guard import Refused

#: first bytes -> ending, of the ordinary image files that are taken
MAGIC = {
    b"\x89PNG\r\n\x1a\n": ".png",
    b"\xff\xd8\xff": ".jpg",
    b"II*\0": ".tif",
    b"MM\0*": ".tif",
    b"GIF8": ".gif",
    b"BM": ".bmp",
    b"P2": ".pgm",
    b"P5": ".pgm",
    b"P3": ".ppm",
    b"P6": ".ppm",
}
#: Pillow's readers of these; it has others, some of which run programs
FORMATS = ("PNG", "JPEG", "TIFF", "GIF", "BMP", "PPM", "WEBP")
#: length of the header and its mark, by version (nifti.nimh.nih.gov)
NIFTI = {348: (344, b"n+1\0"), 540: (4, b"n+2\0\r\n\x1a\n")}
#: bytes of a NIfTI file beside its voxels
BESIDE = 1 << 24
CHUNK = 1 << 20


@dataclass(frozen=True)
class Limits:
    """What a server takes.

    Args:
        megabytes: of a file as it is sent.
        frame_pixels: of one picture.
        pixels: of all frames or slices of a file together.
        frames: of a file.
        waiting: requests that may wait while one is predicted.
        seconds: that a file may take to come in.
    """

    megabytes: float = 256
    frame_pixels: int = 40_000_000
    pixels: int = 100_000_000
    frames: int = 1000
    waiting: int = 4
    seconds: float = 300

    @property
    def bytes(self) -> int:
        """Of a file as it is sent."""
        return int(self.megabytes * 1e6)


@dataclass(frozen=True)
class Upload:
    """A file that may be decoded.

    Args:
        path: in the folder of its request, named by its kind and not by its sender.
        kind: ``raster``, ``dicom`` or ``nifti``.
        frames: pictures in it.
    """

    path: Path
    kind: str
    frames: int


def receive(content: IO[bytes], folder: Path, limits: Limits) -> Upload:
    """Store a file under a name of its kind, and check its size in pixels.

    Raises:
        Refused: it is of no known kind (415), broken (422), or has too many pixels (413).
    """
    raw = folder / "upload"
    with raw.open("wb") as file:
        shutil.copyfileobj(content, file, CHUNK)
    ending, kind = _kind(raw)
    path = raw.rename(folder / f"image{ending}")
    try:
        if ending == ".nii.gz":
            path = _unpacked(path, limits)
        pixels, frames = {"raster": _raster, "dicom": _dicom, "nifti": _nifti}[kind](path)
    except MedsegError as error:
        raise Refused(422, reason(error, folder)) from None
    _check(pixels, frames, limits)
    return Upload(path, kind, frames)


def reason(error: MedsegError, folder: Path) -> str:
    """An error in one line, without the place where the file lay."""
    text = f"{error.reason}; {error.cure}" if isinstance(error, FileFault) else str(error)
    text = " ".join(text.split())
    for part in (f"{folder}/", str(folder)):
        text = text.replace(part, "")
    return text


def _kind(path: Path) -> tuple[str, str]:
    """Ending and kind of a file by its content."""
    from medseg.data.dicom.header import is_dicom

    start = path.open("rb").read(544)
    if not start:
        raise Refused(400, "the file is empty; choose another")
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return ".webp", "raster"
    # the preamble of a DICOM file may be the header of a TIFF (PS3.10 7.1)
    if start[128:132] == b"DICM":
        return ".dcm", "dicom"
    for mark, ending in MAGIC.items():
        if start.startswith(mark):
            return ending, "raster"
    if _begins_as_nifti(start):
        return ".nii", "nifti"
    if start[:2] == b"\x1f\x8b" and _begins_as_nifti(_first_unpacked(path)):
        return ".nii.gz", "nifti"
    if is_dicom(path):
        return ".dcm", "dicom"
    taken = "PNG, JPEG, TIFF, BMP, GIF, WebP, PGM, PPM, DICOM or NIfTI"
    raise Refused(415, f"not a file of a kind that is read; send {taken}")


def _begins_as_nifti(start: bytes) -> bool:
    return any(
        int.from_bytes(start[:4], order) == length and start[at : at + len(mark)] == mark
        for length, (at, mark) in NIFTI.items()
        for order in ("little", "big")
    )


def _first_unpacked(path: Path) -> bytes:
    try:
        with gzip.open(path) as file:
            return file.read(544)
    except (OSError, EOFError, zlib.error):
        return b""


def _unpacked(path: Path, limits: Limits) -> Path:
    """The file without its compression, which may promise little and grow to fill the disk."""
    plain = path.with_name("image.nii")
    voxels, size = _voxels(_first_unpacked(path), path)
    _check(voxels, 1, limits, many=True)
    most = voxels * size + BESIDE
    try:
        with gzip.open(path) as packed, plain.open("wb") as file:
            while chunk := packed.read(CHUNK):
                if file.tell() + len(chunk) > most:
                    raise FileFault(path, "holds more than its header says", "save it again")
                file.write(chunk)
    except (OSError, EOFError, zlib.error):
        raise FileFault(path, "cannot be unpacked (it is broken or cut short)", "replace it") from None
    path.unlink()
    return plain


def _raster(path: Path) -> tuple[int, int]:
    """Pixels of an ordinary image; it has one frame."""
    import tifffile
    from PIL import Image

    try:
        if path.suffix == ".tif":
            with tifffile.TiffFile(path) as tif:
                return math.prod(tif.pages[0].shape[:3]), 1
        with Image.open(path, formats=FORMATS) as image:
            return image.height * image.width, 1
    except Image.DecompressionBombError:
        raise Refused(413, "the picture has too many pixels; cut or shrink it") from None
    except Exception:  # Pillow and tifffile let errors of many kinds through for broken files
        raise FileFault(path, "not an image that can be read", "replace it") from None


def _dicom(path: Path) -> tuple[int, int]:
    """Pixels of a frame, and the number of frames, by the header."""
    from medseg.data.dicom.header import open_header
    from medseg.data.dicom.stored import read_layout
    from medseg.predict.series import no_image

    if seen := no_image(path):
        raise FileFault(path, seen, "send a DICOM image")
    layout = read_layout(open_header(path))
    return layout.rows * layout.columns, layout.frames


def _nifti(path: Path) -> tuple[int, int]:
    """Pixels of a slice, and the number of slices, by the header."""
    from medseg.data.nifti import slices

    with path.open("rb") as file:
        voxels, _ = _voxels(file.read(544), path)
    frames = slices(path)
    return voxels // frames, frames


def _voxels(start: bytes, path: Path) -> tuple[int, int]:
    """Voxels of a volume, and the bytes of each, by the first bytes of the file."""
    from nibabel import Nifti1Header, Nifti2Header

    kind, length = (Nifti2Header, 540) if start[4:7] == b"n+2" else (Nifti1Header, 348)
    try:
        header = kind(start[:length], check=False)
        voxels, size = math.prod(header.get_data_shape()), header.get_data_dtype().itemsize
    except Exception:  # nibabel lets errors of many kinds through for a broken header
        voxels, size = 0, 0
    if voxels <= 0 or size <= 0:
        raise FileFault(path, "its header is broken", "replace it")
    return int(voxels), int(size)


def _check(pixels: int, frames: int, limits: Limits, many: bool = False) -> None:
    """Refuse too many pixels.

    Args:
        pixels: of a frame, or of the file.
        frames: of the file.
        limits: of the server.
        many: ``pixels`` are those of the file.
    """
    if not many and pixels > limits.frame_pixels:
        seen, most = f"a picture of {pixels / 1e6:.1f} megapixels", limits.frame_pixels
    elif pixels * frames > limits.pixels:
        seen, most = f"{pixels * frames / 1e6:.1f} megapixels in all frames", limits.pixels
    elif frames > limits.frames:
        raise Refused(413, f"{frames} frames are more than {limits.frames}; use 'medseg predict'")
    else:
        return
    raise Refused(413, f"{seen} is more than {most / 1e6:g}; use 'medseg predict'")
