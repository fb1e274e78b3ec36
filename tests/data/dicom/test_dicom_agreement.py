"""What is shown agrees with DCMTK, an independent implementation, within one grey level."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pydicom.data
import pytest
from PIL import Image

from medseg.data.dicom import frames, is_dicom, present, read_picture
from medseg.errors import MedsegError

ROOT = Path(pydicom.data.__file__).parent / "test_files"
#: DCMTK's tools: for uncompressed and RLE files, JPEG, and JPEG-LS
TOOLS = ("dcm2pnm", "dcmj2pnm", "dcml2pnm")

#: files that one of the two does not show
NOT_SHOWN = {
    # DCMTK has no JPEG 2000
    "693_J2KI.dcm": "JPEG 2000",
    "GDCMJ2K_TextGBR.dcm": "JPEG 2000",
    "J2K_pixelrep_mismatch.dcm": "JPEG 2000",
    "JPEG2000.dcm": "JPEG 2000",
    "MR_small_jp2klossless.dcm": "JPEG 2000",
    "SC_rgb_gdcm_KY.dcm": "JPEG 2000",
    "examples_jpeg2k.dcm": "JPEG 2000",
    # broken on purpose, or damaged
    "JPEG2000-embedded-sequence-delimiter.dcm": "the codestream's size is overwritten",
    "JPEG-lossy.dcm": "the JPEG scan header is wrong; DCMTK guesses, libjpeg refuses",
    "SC_rgb_jpeg.dcm": "DCMTK: premature end of the JPEG data",
    "MR_truncated.dcm": "cut short",
    "badVR.dcm": "the number of frames is '1A'",
    "meta_missing_tsyntax.dcm": "has no bits allocated",
    "nested_priv_SQ.dcm": "has no bits allocated",
}
#: DCMTK swaps the bytes of 16-bit words only in 32-bit big-endian pixels; the same image is also there little-endian
SWAPPED = {"rtdose_expb_1frame.dcm": "rtdose_1frame.dcm"}
#: libjpeg and DCMTK's copy round the inverse cosine and colour transforms differently (ITU-T T.83 allows it)
LOSSY_COLOUR = {
    "SC_rgb_dcmtk_+eb+cy+n1.dcm": 2,
    "SC_rgb_dcmtk_+eb+cy+np.dcm": 2,
    "SC_rgb_jpeg_lossy_gdcm.dcm": 2,
}


def single_frames() -> list[Path]:
    """Files of one frame that hold pixels; the many equal slices of one series are left out but for three."""
    found = []
    for path in sorted(ROOT.rglob("*")):
        if (
            not path.is_file()
            or not is_dicom(path)
            or (path.name > "IM000002" and path.name.startswith("IM0000"))
        ):
            continue
        try:
            one = frames(path) == 1
        except MedsegError as error:
            one = "no pixel data" not in str(error)
        if one:
            found.append(path)
    return found


def options(path: Path) -> list[str]:
    """The VOI LUT or window that we take by default; without one the full range, of one bit by its extremes."""
    picture = read_picture(path, 1)
    if picture.lut:
        return ["+Wl", "1"]
    if picture.windows:
        return ["+Wi", "1"]
    # DCMTK shows the larger of two values as half of white unless it stretches them
    return ["+Wm"] if picture.high == 1 else ["-W"]


def by_dcmtk(path: Path, folder: Path) -> np.ndarray | None:
    """Grey levels or colours ``(C, H, W)`` of DCMTK's tools, without overlays, or nothing where they fail."""
    for tool in TOOLS:
        output = folder / "shown.ppm"
        command = [tool, "--quiet", "-O", *options(path), "+op", str(path), str(output)]
        if subprocess.run(command, capture_output=True).returncode == 0:
            shown = np.asarray(Image.open(output))
            return shown[None] if shown.ndim == 2 else shown.transpose(2, 0, 1)
    return None


def differences(path: Path, shown: np.ndarray) -> int:
    ours = present(read_picture(path, len(shown)))
    assert ours.dtype == np.uint8
    assert ours.shape == shown.shape
    return int(abs(ours.astype(int) - shown).max())


needs_dcmtk = pytest.mark.skipif(shutil.which("dcm2pnm") is None, reason="needs dcm2pnm of DCMTK")
FILES = [path for path in single_frames() if path.name not in {*NOT_SHOWN, *SWAPPED}]


@needs_dcmtk
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_file_of_pydicom_is_shown_as_by_dcmtk(path, tmp_path):
    pytest.importorskip("libjpeg")
    shown = by_dcmtk(path, tmp_path)
    assert shown is not None
    assert differences(path, shown) <= LOSSY_COLOUR.get(path.name, 1)


def test_most_files_are_compared():
    assert len(FILES) >= 70


@needs_dcmtk
@pytest.mark.parametrize("name", [name for name, why in NOT_SHOWN.items() if why == "JPEG 2000"])
def test_what_dcmtk_cannot_show_is_listed_rightly(name, tmp_path):
    pytest.importorskip("openjpeg")
    path = next(ROOT.rglob(name), None)
    if path is None:
        pytest.skip("this pydicom does not bring the file")
    assert by_dcmtk(path, tmp_path) is None
    assert read_picture(path, 1).values.size > 0


@pytest.mark.parametrize(
    "name", [name for name, why in NOT_SHOWN.items() if why != "JPEG 2000" and "DCMTK:" not in why]
)
def test_what_we_do_not_read_is_refused_in_one_line(name):
    with pytest.raises(MedsegError) as error:
        read_picture(next(ROOT.rglob(name)), 1)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("big", "little"), SWAPPED.items())
def test_big_endian_gives_what_little_endian_gives(big, little):
    found, wanted = (read_picture(ROOT / name, 1).values for name in (big, little))
    assert np.array_equal(found, wanted)


@pytest.mark.parametrize(
    ("compressed", "plain"),
    [("MR_small_jp2klossless.dcm", "MR_small.dcm"), ("MR_small_jpeg_ls_lossless.dcm", "MR_small.dcm"), ("MR_small_RLE.dcm", "MR_small.dcm")],
)  # fmt: skip
def test_lossless_files_equal_their_plain_twins(compressed, plain):
    pytest.importorskip("openjpeg")
    found, wanted = (read_picture(ROOT / name, 1).values for name in (compressed, plain))
    assert np.array_equal(found, wanted)


@needs_dcmtk
def test_an_uncompressed_real_image_is_shown_as_by_dcmtk(shared_data, tmp_path):
    path = shared_data / "dicom" / "cxr-10bit-monochrome1.dcm"
    shown = by_dcmtk(path, tmp_path)
    assert shown is not None
    assert differences(path, shown) <= 1


@needs_dcmtk
@pytest.mark.parametrize(
    "name", ["cr-15bit-monochrome1-j2k.dcm", "CT.1.3.12.2.1107.5.1.4.60064.30000022120808113428000016573"]
)
def test_a_decompressed_real_image_is_shown_as_by_dcmtk(shared_data, tmp_path, name):
    from pydicom import dcmread

    pytest.importorskip("openjpeg")
    ds = dcmread(next((shared_data / "dicom").rglob(name)))
    ds.decompress()
    ds.save_as(tmp_path / "plain.dcm", enforce_file_format=True)
    shown = by_dcmtk(tmp_path / "plain.dcm", tmp_path)
    assert shown is not None
    assert differences(next((shared_data / "dicom").rglob(name)), shown) <= 1
