from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread

from medseg.data.dicom.conversion import Display, convert
from medseg.data.dicom.summary import summarize
from medseg.errors import MedsegError
from medseg.transforms.picture import Window

RAMP = np.array([[0, 100, 4095]], np.uint16)
TWELVE = {"BitsStored": 12, "HighBit": 11}


def read(path):
    return np.asarray(Image.open(path)).tolist()


@pytest.mark.parametrize(
    ("display", "wanted"),
    [
        (Display(), [[0, 255, 255]]),
        (Display(index=1), [[0, 6, 255]]),
        (Display(window=Window(100.5, 2)), [[0, 128, 255]]),
        (Display(bits=16), [[0, 65535, 65535]]),
        (Display(modality=True), [[0, 100, 4095]]),
    ],
)
def test_what_becomes_of_grey_values(make, tmp_path, display, wanted):
    path = make(RAMP, WindowCenter=[50, 2048], WindowWidth=[100, 4096], **TWELVE)
    rows = convert(path, tmp_path / "out" / "x.png", display, "png")
    assert read(tmp_path / "out" / "x.png") == wanted
    assert rows == [
        {
            "file": str(path),
            "output": str(tmp_path / "out/x.png"),
            "images": 1,
            "outcome": "written",
            "reason": "",
        }
    ]


def test_the_default_counts_where_there_is_no_window(make, tmp_path):
    path = make(np.array([[50, 60]], np.uint16), **TWELVE)
    convert(path, tmp_path / "full.png", Display(), "png")
    convert(path, tmp_path / "cut.png", Display(default="percentiles"), "png")
    assert (read(tmp_path / "full.png"), read(tmp_path / "cut.png")) == ([[3, 4]], [[0, 255]])
    rows = convert(path, tmp_path / "none.png", Display(index=0), "png")
    assert rows[0]["reason"] == "window index 0: the file proposes no window; leave the index out"


def test_modality_values_that_png_cannot_hold_are_refused(make, tmp_path):
    path = make(np.array([[-1, 5]], np.int16))
    reason = convert(path, tmp_path / "x.png", Display(modality=True), "png")[0]["reason"]
    assert (
        reason
        == "its values -1 to 5 (int16) do not fit a PNG image; convert it --to nifti, which keeps them, or window it"
    )
    assert not (tmp_path / "x.png").exists()
    # what is not below 0 fits, whatever its type
    path = make(np.array([[1, 5]], np.int16))
    convert(path, tmp_path / "x.png", Display(modality=True), "png")
    assert read(tmp_path / "x.png") == [[1, 5]]


def test_colour_passes_whatever_the_window(make, tmp_path):
    colours = np.arange(12, dtype=np.uint8).reshape(1, 4, 3)
    for display in (
        Display(),
        Display(window=Window(3, 2)),
        Display(bits=16),
        Display(default="percentiles"),
        Display(modality=True),
    ):
        convert(make(colours), tmp_path / "x.png", display, "png")
        assert read(tmp_path / "x.png") == colours.tolist()


def test_every_frame_gets_a_file(make, tmp_path):
    path = make(np.array([[[0]], [[7]], [[255]]], np.uint8), "film.dcm")
    rows = convert(path, tmp_path / "out", Display(), "png")
    assert [read(tmp_path / f"out/film_000{k}.png") for k in range(3)] == [[[0]], [[7]], [[255]]]
    assert rows[0]["images"] == 3


def test_a_folder_keeps_its_sub_folders_and_no_output_is_lost(make, tmp_path):
    names = ["a/1.dcm", "b/1.dcm", "b/1.DCM", "b/1", "b/2.5.7"]
    for k, name in enumerate(names):
        make(np.array([[k]], np.uint8), f"in/{name}")
    (tmp_path / "in" / "notes.txt").write_text("no DICOM")
    rows = convert(tmp_path / "in", tmp_path / "out", Display(), "png")
    found = {
        path.relative_to(tmp_path / "out").as_posix(): read(path)[0][0]
        for path in (tmp_path / "out").rglob("*.png")
    }
    assert found == {"a/1.png": 0, "b/1.dcm.png": 1, "b/1.DCM.png": 2, "b/1.png": 3, "b/2.5.7.png": 4}
    assert {row["outcome"] for row in rows} == {"written"}


def test_an_output_that_is_taken_is_not_overwritten(make, tmp_path):
    make(np.array([[[1]], [[2]]], np.uint8), "in/a.dcm")
    make(np.array([[9]], np.uint8), "in/a_0001.dcm")
    rows = convert(tmp_path / "in", tmp_path / "out", Display(), "png")
    assert [row["outcome"] for row in rows] == ["written", "failed"]
    assert "is taken by another file" in rows[1]["reason"]
    assert read(tmp_path / "out/a_0001.png") == [[2]]


def test_an_input_is_never_overwritten(make, tmp_path):
    path = make(np.array([[1]], np.uint8), "in/a.png")
    before = path.read_bytes()
    rows = convert(tmp_path / "in", tmp_path / "in", Display(), "png")
    assert rows[0]["outcome"] == "failed"
    assert path.read_bytes() == before


def test_old_outputs_are_replaced(make, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a.png").write_text("old")
    convert(make(np.array([[7]], np.uint8)), tmp_path / "out", Display(), "png")
    assert read(tmp_path / "out/a.png") == [[7]]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.png"]


def test_bad_files_are_told_and_others_go_on(make, tmp_path):
    good = make(np.array([[7]], np.uint8), "in/c.dcm")
    make(np.array([[7]], np.uint8), "in/a.dcm", NumberOfFrames=9)
    report = dcmread(good)
    for keyword in ("PixelData", "Rows", "Columns"):
        delattr(report, keyword)
    report.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"
    report.save_as(tmp_path / "in/b.dcm")
    for to, name in (("png", "c.png"), ("nifti", "c.nii.gz")):
        rows = convert(tmp_path / "in", tmp_path / "out", Display(), to)
        outcomes = {row["file"][-5:]: (row["outcome"], row["reason"]) for row in rows}
        assert outcomes["a.dcm"] == (
            "failed",
            "cut short: its pixel data has 2 bytes, 9 frames need 9; replace it",
        )
        assert outcomes["b.dcm"] == ("skipped", "holds no image")
        assert outcomes["c.dcm"] == ("written", "")
        assert (tmp_path / "out" / name).is_file()
    assert convert(tmp_path / "in/b.dcm", tmp_path / "out", Display(), "png")[0]["outcome"] == "failed"


def test_an_image_that_ends_before_its_pixels_is_bad_and_not_skipped(make, tmp_path):
    content = make(np.array([[7]], np.uint8), SOPClassUID="1.2.840.10008.5.1.4.1.1.2").read_bytes()
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.dcm").write_bytes(content[: content.index(b"\x28\0\x02\0US")])
    rows = convert(tmp_path / "in", tmp_path / "out", Display(), "png")
    assert (rows[0]["outcome"], rows[0]["reason"]) == ("failed", "holds no pixel data; give a DICOM image")


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("none", "x", "no such file or folder"),
        ("empty", "x", "holds no DICOM file"),
        ("in", "x.png", "gives 2 outputs; give a folder"),
    ],
)
def test_what_cannot_be_converted_at_all_is_refused(make, tmp_path, source, target, message):
    (tmp_path / "empty").mkdir()
    for name in "ab":
        make(np.array([[7]], np.uint8), f"in/{name}.dcm")
    with pytest.raises(MedsegError, match=message):
        convert(tmp_path / source, tmp_path / target, Display(), "png")


def test_nothing_of_the_patient_is_in_outputs_or_rows(make, tmp_path):
    path = make(
        np.array([[7]], np.uint8), PatientName="Doe^Jane", PatientID="4711", PatientBirthDate="19700101"
    )
    for to, name in (("png", "x.png"), ("nifti", "x.nii")):
        convert(path, tmp_path / name, Display(), to)
        content = (tmp_path / name).read_bytes()
        assert not any(word in content for word in (b"Doe", b"4711", b"19700101", str(path).encode()))
    assert not any(word in str(summarize(path)) for word in ("Doe", "4711", "1970"))


def test_a_summary_tells_how_pixels_are_stored_and_shown(make):
    path = make(
        np.zeros((3, 4, 5), np.int16), BitsStored=12, HighBit=11, Modality="CT", PixelSpacing=[0.5, 0.25], RescaleSlope=1, RescaleIntercept=-1024,
        WindowCenter=[40, 500], WindowWidth=[400, 2000], WindowCenterWidthExplanation=["SOFT", ""], VOILUTFunction="SIGMOID",
    )  # fmt: skip
    assert summarize(path) == {
        "file": str(path), "modality": "CT", "rows": 4, "columns": 5, "frames": 3, "photometric": "MONOCHROME2",
        "bits": "12/16", "signed": "yes", "syntax": "Explicit VR Little Endian", "decodes": "yes",
        "windows": "40,400 (SOFT SIGMOID), 500,2000 (SIGMOID)", "rescale": "1 x + -1024", "spacing": "0.5 x 0.25 mm", "fault": "",
    }  # fmt: skip


def test_a_summary_of_a_bad_file_tells_its_fault(tmp_path):
    (tmp_path / "a").write_bytes(b"nothing")
    row = summarize(tmp_path / "a")
    assert row["fault"] == "not a DICOM file; give a DICOM file"
    assert row["rows"] == ""
