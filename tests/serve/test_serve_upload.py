"""What is taken: kinds by content, sizes before decoding, and refusals that say nothing of the sender's file name."""

from __future__ import annotations

import gzip
import io
import struct
import zlib
from pathlib import Path

import nibabel
import numpy as np
import pydicom.data
import pytest
from PIL import Image

from medseg.data.faults import FileFault
from medseg.errors import MedsegError
from medseg.serve.guard import Refused
from medseg.serve.upload import Limits, reason, receive

DICOM = Path(pydicom.data.__file__).parent / "test_files"


def taken(content: bytes, folder: Path, **limits):
    return receive(io.BytesIO(content), folder, Limits(**limits))


def refused(content: bytes, folder: Path, status: int, match: str, **limits) -> None:
    with pytest.raises(Refused, match=match) as error:
        taken(content, folder, **limits)
    assert error.value.status == status
    assert str(folder) not in error.value.reason
    assert "\n" not in error.value.reason


def picture(kind: str, size: tuple[int, int] = (7, 5), mode: str = "L", **options) -> bytes:
    stream = io.BytesIO()
    Image.new(mode, size).save(stream, kind, **options)
    return stream.getvalue()


def volume(shape: tuple[int, ...], kind=np.int16, cls=nibabel.Nifti1Image) -> bytes:
    return cls(np.zeros(shape, kind), np.diag([2, 3, 4, 1])).to_bytes()


@pytest.mark.parametrize(
    ("kind", "ending"),
    [
        ("PNG", ".png"),
        ("JPEG", ".jpg"),
        ("TIFF", ".tif"),
        ("BMP", ".bmp"),
        ("GIF", ".gif"),
        ("WEBP", ".webp"),
        ("PPM", ".pgm"),
    ],
)
def test_images_are_known_by_content(tmp_path, kind, ending):
    upload = taken(picture(kind), tmp_path)
    assert (upload.kind, upload.path.suffix, upload.frames) == ("raster", ending, 1)
    assert [path.name for path in tmp_path.iterdir()] == [f"image{ending}"]


def test_big_endian_tiff(tmp_path):
    import tifffile

    stream = io.BytesIO()
    tifffile.imwrite(stream, np.zeros((5, 7), np.uint16), byteorder=">")
    assert taken(stream.getvalue(), tmp_path).path.suffix == ".tif"


@pytest.mark.parametrize("name", ["MR_small.dcm", "MR_small_bigendian.dcm", "CT_small.dcm", "SC_rgb_rle.dcm"])
def test_dicom_is_known_by_content(tmp_path, name):
    # the preamble of the first two begins as a TIFF does
    upload = taken((DICOM / name).read_bytes(), tmp_path)
    assert (upload.kind, upload.path.name, upload.frames) == ("dicom", "image.dcm", 1)


def test_dicom_without_preamble(tmp_path):
    content = (DICOM / "MR_small.dcm").read_bytes()
    assert content[128:132] == b"DICM"
    assert taken(content[132:], tmp_path).kind == "dicom"


@pytest.mark.parametrize("cls", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("packed", [False, True])
def test_volumes_are_known_by_content_and_unpacked(tmp_path, cls, packed):
    plain = volume((4, 5, 6), cls=cls)
    upload = taken(gzip.compress(plain) if packed else plain, tmp_path)
    assert (upload.kind, upload.frames) == ("nifti", 6)
    assert [path.name for path in tmp_path.iterdir()] == ["image.nii"]
    assert upload.path.read_bytes() == plain


@pytest.mark.parametrize(
    "content",
    [
        b"hello",
        b"%!PS-Adobe-3.0 EPSF-3.0\n",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%PDF-1.4\n",
        b"PK\3\4" + bytes(100),
        gzip.compress(b"text" * 500, mtime=0),  # the time would make it another test each second
        b"\x1f\x8b broken",
        b"8BPS\0\1" + bytes(100),
    ],
)
def test_other_kinds_are_refused(tmp_path, content):
    refused(content, tmp_path, 415, "not a file of a kind that is read; send PNG, .* DICOM or NIfTI")


def test_an_empty_file(tmp_path):
    refused(b"", tmp_path, 400, "the file is empty")


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "BMP"])
def test_broken_images(tmp_path, kind):
    refused(picture(kind)[:14], tmp_path, 422, "not an image that can be read; replace it")


def huge_png(width: int, height: int) -> bytes:
    """A PNG whose header alone says how large it is."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"")
    parts = (struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (chunk, data))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_pixels_are_counted_by_the_header(tmp_path):
    taken(picture("PNG", (40, 25)), tmp_path, frame_pixels=1000)
    refused(picture("PNG", (40, 26)), tmp_path, 413, "a picture of 0.0 megapixels is more", frame_pixels=1000)
    refused(
        huge_png(8000, 5001), tmp_path, 413, "a picture of 40.0 megapixels is more than 40; use 'medseg pr"
    )
    refused(huge_png(60000, 60000), tmp_path, 413, "too many pixels")


def test_pixels_of_a_volume(tmp_path):
    taken(volume((10, 10, 6)), tmp_path, frame_pixels=100, pixels=600, frames=6)
    for content in (volume((10, 10, 6)), gzip.compress(volume((10, 10, 6)))):
        refused(content, tmp_path, 413, "in all frames is more", pixels=599)
        refused(content, tmp_path, 413, "a picture of", frame_pixels=99)
        refused(content, tmp_path, 413, "6 frames are more than 5", frames=5)


def test_frames_of_a_dicom_file(tmp_path):
    # 30 frames of 240 x 320
    content = (DICOM / "examples_ybr_color.dcm").read_bytes()
    assert taken(content, tmp_path, frames=30, pixels=30 * 240 * 320).frames == 30
    refused(content, tmp_path, 413, "30 frames are more than 29", frames=29)
    refused(content, tmp_path, 413, "in all frames is more", pixels=30 * 240 * 320 - 1)


def test_a_packed_volume_that_grows_beyond_its_header(tmp_path):
    bomb = gzip.compress(volume((4, 4, 4)) + bytes(40_000_000))
    refused(bomb, tmp_path, 422, "holds more than its header says")
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 20_000_000


def test_a_packed_volume_that_is_cut_short(tmp_path):
    random = np.random.default_rng(0).integers(0, 999, (30, 30, 30)).astype(np.int16)
    whole = gzip.compress(nibabel.Nifti1Image(random, np.eye(4)).to_bytes())
    refused(whole[:-2000], tmp_path, 422, "broken or cut short")


def test_a_volume_whose_extension_reads_on_to_the_end(tmp_path):
    # an extension of length 0 makes nibabel read all that is left, of which a packed file could have gigabytes
    head = bytearray(volume((4, 4, 4))[:352])
    head[348] = 1
    struct.pack_into("<f", head, 108, 4000.0)
    bomb = gzip.compress(bytes(head) + bytes(60_000_000))
    refused(bomb, tmp_path, 422, "holds more than its header says")


@pytest.mark.parametrize("dimensions", [(3, -5, 4, 4), (0, 0, 0, 0), (3, 4, 4, 0)])
def test_a_volume_of_no_size(tmp_path, dimensions):
    head = bytearray(volume((4, 4, 4)))
    struct.pack_into("<4h", head, 40, *dimensions)
    refused(bytes(head), tmp_path, 422, "its header is broken|shape|holds")


def test_several_volumes_in_one_file(tmp_path):
    refused(volume((4, 4, 4, 3)), tmp_path, 422, "holds several volumes")


@pytest.mark.parametrize(
    ("name", "seen"),
    [("reportsi.dcm", "holds no image"), ("liver_1frame.dcm", "is a segmentation, no image")],
)
def test_dicom_files_that_are_no_images(tmp_path, name, seen):
    refused((DICOM / name).read_bytes(), tmp_path, 422, seen)


def test_errors_are_told_without_folders(tmp_path):
    fault = FileFault(tmp_path / "image.png", "cannot be read (x)", "replace it")
    assert reason(fault, tmp_path) == "cannot be read (x); replace it"
    quoting = FileFault(tmp_path / "image.nii", f"cannot be read (from {tmp_path}/image.nii)", "replace it")
    assert reason(quoting, tmp_path) == "cannot be read (from image.nii); replace it"
    other = MedsegError(f"{tmp_path}/image.nii: masks\nare other, see {tmp_path}")
    assert reason(other, tmp_path) == "image.nii: masks are other, see "
