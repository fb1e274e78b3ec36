"""Files, folders and series become items with names that do not clash."""

from __future__ import annotations

import os
from pathlib import Path

import nibabel
import numpy as np
import pytest
from pydicom.dataset import Dataset

from medseg.data.faults import FileFault
from medseg.errors import MedsegError
from medseg.predict.inputs import Item, find_items
from medseg.predict.names import named_apart, shown


def names(*paths: Path, **options) -> list[str]:
    return [item.name for item in find_items(paths, **options)[0]]


def test_names_are_paths_below_the_folder_given(tmp_path: Path, files):
    for name in ("frame 10.png", "frame 9.png", "sub/deep/a.jpg", "volume.nii.gz.png"):
        files.png(tmp_path / "in" / name)
    assert names(tmp_path / "in") == ["frame 9", "frame 10", "volume.nii.gz", "sub/deep/a"]
    assert names(tmp_path / "in" / "sub" / "deep" / "a.jpg") == ["a"]


def test_equal_stems_keep_the_whole_file_name(tmp_path: Path, files):
    for name in ("a.png", "a.jpg", "B.png", "b.PNG", "c.png"):
        files.png(tmp_path / name)
    found = names(tmp_path)
    assert {"a.png", "a.jpg", "c"} <= set(found)
    assert len({name.casefold() for name in found}) == len(found) == len(list(tmp_path.iterdir()))


def test_equal_names_of_two_folders_get_the_folder_and_then_a_number(tmp_path: Path, files):
    folders = [tmp_path / "one", tmp_path / "two", tmp_path / "x" / "one"]
    for folder in folders:
        files.png(folder / "1.png")
    assert names(*folders[:2]) == ["one/1", "two/1"]
    assert names(folders[0], folders[2]) == ["one/1.png", "one/1.png~2"]


def test_numbered_names_clash_with_no_other():
    top = Path("/in")
    three = [(top, top / "a.png", False)] * 3 + [(top, top / "in" / "a.png~2.png", False)]
    found = named_apart(three)
    assert len(set(found)) == 4


def test_a_file_given_twice_is_one_item(tmp_path: Path, files):
    file = files.png(tmp_path / "a.png")
    assert names(file, tmp_path, file) == ["a"]


def test_links_to_one_file_are_images_of_their_own(tmp_path: Path, files):
    """As git-annex and caches keep equal images once."""
    file = files.png(tmp_path / "store" / "x.png")
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        (folder / name).symlink_to(file)
    (tmp_path / "again").symlink_to(folder)
    assert names(folder, tmp_path / "again") == ["a", "b"]


def test_names_of_slices_are_taken_by_no_other(tmp_path: Path, files):
    """``v_0001`` and ``v_slices/0001.png`` are slices of ``v``, which has three; ``v_0003`` is none."""
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 5, 3), np.uint8), np.eye(4)), tmp_path / "v.nii.gz")
    for name in ("v_0001.png", "v_0003.png", "v_slices/0001.png", "w.png", "w_0001.png"):
        files.png(tmp_path / name)
    assert names(tmp_path) == ["v", "v_0001~2", "v_0003", "w", "w_0001", "v_slices/0001~2"]


def test_a_name_that_is_no_utf_8_is_escaped(tmp_path: Path, files):
    files.png(tmp_path / "in" / "a.png").rename(tmp_path / "in" / os.fsdecode(b"a\xff.png"))
    assert names(tmp_path / "in") == ["a\\udcff"]


def test_a_path_is_no_formula():
    assert [shown(Path(words)) for words in ("=1+1.png", "-a.png", "in/=a.png")] == [
        "./=1+1.png",
        "./-a.png",
        "in/=a.png",
    ]


def test_a_folder_that_cannot_be_read_does_not_take_the_others_down(tmp_path: Path, files, monkeypatch):
    for name in ("a.png", "closed/b.png", "open/c.png"):
        files.png(tmp_path / "in" / name)
    listed = Path.iterdir

    def iterdir(folder: Path):
        if folder.name == "closed":
            raise PermissionError(13, "Permission denied")
        return listed(folder)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    found, problems = find_items([tmp_path / "in"])
    assert [item.name for item in found] == ["a", "open/c"]
    assert [(one.path.name, one.reason[:36]) for one in problems] == [
        ("closed", "cannot be read (Permission denied); ")
    ]


def test_a_path_that_no_disk_takes_is_told(tmp_path: Path):
    found, (problem,) = find_items([tmp_path / ("n" * 300)], without=tmp_path / "out")
    assert not found
    assert problem.reason.startswith("cannot be read (File name too long)")


def test_the_folder_of_the_outputs_is_no_input(tmp_path: Path, files):
    files.png(tmp_path / "a.png")
    with pytest.raises(MedsegError, match="an input and the folder of the outputs"):
        find_items([tmp_path], without=tmp_path / "sub" / "..")


def test_what_is_no_image_is_passed_over_in_folders_and_told_of_files(tmp_path: Path, files):
    files.png(tmp_path / "in" / "a.png")
    files.png(tmp_path / "in" / ".hidden.png")
    files.png(tmp_path / "in" / ".cache" / "b.png")
    files.png(tmp_path / "in" / "out" / "mask.png")
    note = tmp_path / "in" / "notes.txt"
    note.write_text("no image")
    (tmp_path / "empty").mkdir()
    asked = [tmp_path / "in", note, tmp_path / "missing.png", tmp_path / "empty"]
    items, problems = find_items(asked, without=tmp_path / "in" / "out")
    assert [item.name for item in items] == ["a"]
    assert [problem.path for problem in problems] == asked[1:]
    told = [problem.reason.split(";")[0] for problem in problems]
    assert told == ["not an image by its ending or content", "no such file or folder", "holds no image"]


def test_slices_of_a_series_are_one_item_in_the_order_of_their_places(tmp_path: Path, files):
    written = files.series(tmp_path / "ct", (4, 0, 6, 2))
    (item,), problems = find_items([tmp_path])
    assert (item.name, item.kind, item.note, problems) == ("ct", "dicom", "", [])
    assert item.files == tuple(written[k] for k in (1, 3, 0, 2))
    assert item.frames() == 4
    assert [int(item.read(k, 1).values[0, 0, 0]) for k in range(4)] == [100, 102, 104, 106]
    assert item.read(1, 3).values.shape == (3, 12, 10)
    assert item.place(2) == (written[0], 0)


def test_series_are_apart_by_their_uid(tmp_path: Path, files):
    files.series(tmp_path / "a", (0, 2))
    for number, height in enumerate((0, 2)):
        place = {"ImagePositionPatient": [0, 0, height], "SeriesInstanceUID": "1.2.9"}
        files.dicom(tmp_path / "a" / f"other{number}.dcm", np.zeros((4, 4)), **place)
    assert names(tmp_path) == ["a/0", "a/other0"]


@pytest.mark.parametrize(
    ("heights", "seen"),
    [((0, 2, 6, 8), "2.00 mm apart, but 4.00 mm after 2.00 mm"), ((0, 2, 2, 4), "two slices lie at 2.00 mm")],
)
def test_a_series_that_is_no_volume_is_taken_file_by_file(tmp_path: Path, files, heights, seen):
    files.series(tmp_path / "ct", heights)
    items, _ = find_items([tmp_path])
    assert [item.name for item in items] == [f"ct/{k}" for k in range(4)]
    assert all(seen in item.note for item in items)


def test_slices_of_two_sizes_are_taken_file_by_file(tmp_path: Path, files):
    files.series(tmp_path, (0, 2))
    files.dicom(tmp_path / "wide.dcm", np.zeros((12, 20)), ImagePositionPatient=[0, 0, 4])
    items, _ = find_items([tmp_path])
    assert len(items) == 3
    assert "10x12 and 20x12 (width x height)" in items[0].note


def test_series_can_be_left_apart(tmp_path: Path, files):
    files.series(tmp_path, (0, 2, 4))
    items, _ = find_items([tmp_path], series=False)
    assert [(item.name, item.frames(), item.note) for item in items] == [(str(k), 1, "") for k in range(3)]


@pytest.mark.parametrize(
    "missing", ["FrameOfReferenceUID", "ImagePositionPatient", "ImageOrientationPatient"]
)
def test_files_without_a_place_are_items_of_their_own(tmp_path: Path, files, missing):
    for number in range(2):
        files.dicom(tmp_path / f"{number}.dcm", np.zeros((4, 4)), **{missing: None})
    items, _ = find_items([tmp_path])
    assert [(item.name, item.note) for item in items] == [("0", ""), ("1", "")]


def test_frames_of_one_file_are_read_one_by_one(tmp_path: Path, files):
    pixels = np.arange(3)[:, None, None] * np.ones((3, 4, 5))
    file = files.dicom(tmp_path / "1.2.840.7", pixels)
    (item,), _ = find_items([file])
    assert (item.name, item.kind, item.frames()) == ("1.2.840.7", "dicom", 3)
    assert [int(item.read(k, 1).values.max()) for k in range(3)] == [0, 1, 2]
    assert item.place(2) == (file, 2)


def test_segmentations_and_reports_are_no_images(tmp_path: Path, files):
    seg = files.dicom(tmp_path / "seg.dcm", np.zeros((4, 4)), SOPClassUID="1.2.840.10008.5.1.4.1.1.66.4")
    report = Dataset()
    report.SOPClassUID, report.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.88.11", "1.2.3"
    report.ensure_file_meta()
    report.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    report.save_as(tmp_path / "report.dcm", enforce_file_format=True)
    files.dicom(tmp_path / "image.dcm", np.zeros((4, 4)))
    assert names(tmp_path) == ["image"]
    _, problems = find_items([seg, tmp_path / "report.dcm"])
    assert "is a segmentation" in problems[0].reason
    assert "holds no image (Basic Text SR Storage)" in problems[1].reason


def test_a_broken_file_is_an_item_that_fails_when_it_is_read(tmp_path: Path, files):
    whole = files.dicom(tmp_path / "a.dcm", np.zeros((40, 40)))
    whole.write_bytes(whole.read_bytes()[:700])
    (item,), problems = find_items([tmp_path])
    assert problems == []
    with pytest.raises(FileFault, match=r"a\.dcm"):
        item.read(0, 1)


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        ({}, (0.5, 0.25, "patient")),
        ({"PixelSpacing": None, "ImagerPixelSpacing": [0.1, 0.2]}, (0.1, 0.2, "detector")),
        ({"PixelSpacing": [0.1, 0.1], "ImagerPixelSpacing": [0.1, 0.1]}, (0.1, 0.1, "detector")),
        ({"PixelSpacing": [0.1, 0.1], "ImagerPixelSpacing": [0.2, 0.2]}, (0.1, 0.1, "patient")),
        ({"PixelSpacing": None}, None),
    ],
)
def test_spacing_says_where_it_was_measured(tmp_path: Path, files, elements, expected):
    file = files.dicom(tmp_path / "a.dcm", np.zeros((4, 4)), **elements)
    assert Item("a", (file,), "dicom").spacing(0) == expected


def region(down: float, across: float, units: int = 3) -> Dataset:
    made = Dataset()
    made.RegionSpatialFormat, made.RegionDataType = 1, 1
    made.PhysicalUnitsXDirection = made.PhysicalUnitsYDirection = units
    made.PhysicalDeltaX, made.PhysicalDeltaY = across, down
    return made


@pytest.mark.parametrize(
    ("regions", "expected"),
    [
        ([region(0.02, 0.01)], (0.2, 0.1, "region")),
        ([region(-0.02, 0.01), region(0.02, 0.01)], (0.2, 0.1, "region")),
        ([region(0.02, 0.01), region(0.03, 0.01)], None),
        ([region(0.02, 0.01, units=4)], None),
    ],
)
def test_spacing_of_ultrasound_is_that_of_its_regions(tmp_path: Path, files, regions, expected):
    elements = {"PixelSpacing": None, "SequenceOfUltrasoundRegions": regions}
    file = files.dicom(tmp_path / "us.dcm", np.zeros((4, 4)), **elements)
    found = Item("us", (file,), "dicom").spacing(0)
    if expected is None:
        assert found is None
    else:
        assert (found[:2], found[2]) == (pytest.approx(expected[:2]), expected[2])


def test_spacing_of_a_volume_is_by_its_affine_as_slices_are_shown(tmp_path: Path):
    # voxels of 2 x 3 x 4 mm, the first axis to the left, the second upwards, the third backwards
    affine = np.array([[-2.0, 0, 0, 0], [0, 0, -4, 0], [0, 3, 0, 0], [0, 0, 0, 1]])
    path = tmp_path / "v.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.zeros((5, 6, 7), np.uint8), affine), path)
    item = Item("v", (path,), "nifti")
    assert item.frames() == 6
    assert item.read(0, 1).values.shape == (1, 7, 5)
    # rows lie along the third axis, columns along the first
    assert item.spacing(0) == (4.0, 2.0, "volume")


@pytest.mark.parametrize(("unit", "factor"), [("meter", 1000), ("mm", 1), ("micron", 0.001), ("unknown", 1)])
def test_spacing_of_a_volume_is_in_mm_whatever_its_unit(tmp_path: Path, unit, factor):
    image = nibabel.Nifti1Image(np.zeros((5, 6, 7), np.uint8), np.diag([2.0, 3, 4, 1]))
    image.header.set_xyzt_units(unit)
    nibabel.save(image, tmp_path / "v.nii.gz")
    found = Item("v", (tmp_path / "v.nii.gz",), "nifti").spacing(0)
    assert found[:2] == pytest.approx((3 * factor, 2 * factor))


def test_an_ordinary_image_knows_no_spacing(tmp_path: Path, files):
    assert Item("a", (files.png(tmp_path / "a.png"),), "raster").spacing(0) is None
