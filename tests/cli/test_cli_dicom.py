from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pydicom.data
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from medseg.cli import main

ROOT = Path(pydicom.data.__file__).parent / "test_files"
#: one frame of 64 x 64, signed, window 600, 1600
MR = ROOT / "MR_small.dcm"


def medseg(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["dicom", *map(str, arguments)])


def rows(result: Result) -> list[dict]:
    return json.loads(result.stdout)


def test_info_lists_files_and_folders():
    result = medseg("info", MR, ROOT / "dicomdirtests" / "77654033" / "CR1", "--format", "json")
    assert result.exit_code == 0
    first, second = rows(result)
    assert (first["modality"], first["rows"], first["signed"], first["windows"]) == (
        "MR",
        64,
        "yes",
        "600,1600",
    )
    assert (second["photometric"], second["bits"], second["rescale"]) == (
        "MONOCHROME1",
        "12/16",
        "0.684 x + 200",
    )


def test_info_tells_faults_and_exits_with_one(tmp_path):
    (tmp_path / "a.dcm").write_text("nothing")
    result = medseg("info", MR, tmp_path / "a.dcm", "--format", "json")
    assert result.exit_code == 1
    assert [row["fault"] for row in rows(result)] == ["", "not a DICOM file; give a DICOM file"]


@pytest.mark.parametrize(
    ("path", "message"), [("none", "no such file or folder"), (".", "no DICOM file there")]
)
def test_info_of_nothing_is_an_error_of_one_line(tmp_path, monkeypatch, path, message):
    monkeypatch.chdir(tmp_path)
    result = medseg("info", path)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.output


def test_convert_to_png_and_nifti_by_the_ending_of_the_output(tmp_path):
    assert medseg("convert", MR, tmp_path / "a.png").exit_code == 0
    assert np.asarray(Image.open(tmp_path / "a.png")).dtype == np.uint8
    assert medseg("convert", MR, tmp_path / "a.nii.gz").exit_code == 0
    import nibabel

    volume = np.asarray(nibabel.load(tmp_path / "a.nii.gz").dataobj)
    # modality values unless a window is asked for
    assert (volume.shape, volume.dtype, int(volume.max())) == ((64, 64, 1), np.int16, 2145)
    assert medseg("convert", MR, tmp_path / "b.nii.gz", "--window-index", 0).exit_code == 0
    assert int(np.asarray(nibabel.load(tmp_path / "b.nii.gz").dataobj).max()) == 255


def test_convert_takes_a_window_a_depth_and_a_default(tmp_path):
    medseg("convert", MR, tmp_path / "a.png", "--window", "-600,2", "--bits", "16")
    assert set(np.unique(np.asarray(Image.open(tmp_path / "a.png")))) == {65535}
    medseg("convert", MR, tmp_path / "b.png", "--no-window")
    assert int(np.asarray(Image.open(tmp_path / "b.png")).max()) == 2145
    plain = ROOT / "CT_small.dcm"
    medseg("convert", plain, tmp_path / "c.png", "--default", "percentiles")
    assert np.ptp(np.asarray(Image.open(tmp_path / "c.png"))) == 255


def test_convert_of_a_folder_tells_the_bad_file_and_exits_with_one(tmp_path):
    (tmp_path / "in").mkdir()
    content = MR.read_bytes()
    (tmp_path / "in" / "good").write_bytes(content)
    (tmp_path / "in" / "bad").write_bytes(content[:-3000])
    result = medseg("convert", tmp_path / "in", tmp_path / "out", "--format", "json")
    assert result.exit_code == 1
    assert {Path(row["file"]).name: row["outcome"] for row in rows(result)} == {
        "bad": "failed",
        "good": "written",
    }
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good.png"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--window", "40"], "centre and width with a comma are needed"),
        (["--window", "40,0.5"], "(0028,1051) Window Width must be at least 1"),
        (["--window", "40,400", "--no-window"], "give only one of"),
        (["--window-index", "-1"], "not in the range"),
    ],
)
def test_options_that_make_no_sense_are_refused(tmp_path, options, message):
    result = medseg("convert", MR, tmp_path / "a.png", *options)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not (tmp_path / "a.png").exists()
