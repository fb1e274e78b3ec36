"""Volumes as data sets: one sample per slice, from the listing to the masks."""

from __future__ import annotations

import hashlib
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    ExplicitVRLittleEndian,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    generate_uid,
)

from medseg.data import index as indexing
from medseg.data.address import file_of, holds_image, split_address, stem, suffix
from medseg.data.dicom import frame
from medseg.data.dicom.header import open_header
from medseg.data.documents import digest
from medseg.data.images import FileFault, read_picture
from medseg.data.index import FaultyFiles, build_index, content, read_sample, stamps
from medseg.data.index_file import read_index, write_index
from medseg.data.spec import paired
from medseg.data.store import refreshed
from medseg.errors import MedsegError

VOLUMES = {"images": "ct/*.nii.gz", "masks": "seg/{stem}.nii.gz", "channels": 1}


def save(path: Path, data: np.ndarray, shift: float = 0) -> Path:
    affine = np.eye(4)
    affine[0, 3] = shift
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.Nifti1Image(data, affine).to_filename(path)
    return path


@pytest.fixture
def scans(tmp_path):
    """Two CT volumes of 3 and 2 slices, 5 columns and 4 rows; the lesion has k + 1 pixels in slice k."""
    for name, depth in (("p2", 3), ("p10", 2)):
        rng = np.random.default_rng(depth)
        labels = np.zeros((5, 4, depth), np.uint8)
        for k in range(depth):
            labels[: k + 1, 0, k] = 3
        save(tmp_path / f"ct/{name}.nii.gz", rng.integers(-1000, 1000, (5, 4, depth), dtype=np.int16))
        save(tmp_path / f"seg/{name}.nii.gz", labels)
    return tmp_path


def test_names_of_volumes_and_of_uids():
    assert [stem(name) for name in ("a/b.nii.gz", "b.NII", "1.2.840.dcm", "1.2.840", "a.b.png")] == [
        "b",
        "b",
        "1.2.840",
        "1.2.840",
        "a.b",
    ]
    assert [suffix(name) for name in ("b.nii.gz", "b.gz", "B.PGM", "b")] == [".nii.gz", "", ".pgm", ""]


def test_an_address_is_no_part_of_a_name_unless_such_a_file_is_there(tmp_path):
    assert split_address(tmp_path / "v.nii.gz#12") == (tmp_path / "v.nii.gz", "12")
    assert split_address(tmp_path / "v.nii.gz") == (tmp_path / "v.nii.gz", "")
    pixels = np.full((2, 2), 9, np.uint8)
    Image.fromarray(pixels).save(tmp_path / "scan #1.png")
    assert file_of(tmp_path / "scan #1.png") == tmp_path / "scan #1.png"
    assert read_picture(tmp_path / "scan #1.png", 1).values.tolist() == [[[9, 9], [9, 9]]]
    Image.fromarray(pixels).save(tmp_path / "scan.png")
    with pytest.raises(FileFault, match=r"scan.png#1: no such file"):
        read_picture(tmp_path / "scan.png#1", 1)


def test_files_without_an_ending_are_images_if_they_begin_as_dicom_does(tmp_path):
    (tmp_path / "IM0001").write_bytes(bytes(128) + b"DICM" + bytes(20))
    (tmp_path / "1.2.840.7").write_bytes(bytes(128) + b"DICM")
    (tmp_path / "notes").write_text("no image")
    (tmp_path / "a.txt").write_bytes(bytes(128) + b"DICM")
    found = {path.name: holds_image(path) for path in tmp_path.iterdir()}
    assert found == {"IM0001": True, "1.2.840.7": True, "notes": False, "a.txt": False}
    (tmp_path / "m").mkdir()
    assert [sample.case for sample in paired("*", "m/{stem}.png")(tmp_path)] == ["1.2.840.7", "IM0001"]


def test_a_volume_is_a_sample_per_slice(scans):
    samples = paired("ct/*.nii.gz", "seg/{stem}.*", group="ct/(?P<group>p)")(scans)
    assert [s.case for s in samples] == ["p2_z000", "p2_z001", "p2_z002", "p10_z000", "p10_z001"]
    assert (samples[1].image, samples[1].masks) == ("ct/p2.nii.gz#1", ("seg/p2.nii.gz#1",))
    assert {s.group for s in samples} == {"p"}
    assert {s.group for s in paired("ct/*", "seg/{stem}.nii.gz")(scans)} == {"p2", "p10"}


def test_many_slices_keep_their_order(tmp_path):
    save(tmp_path / "ct/a.nii.gz", np.zeros((1, 1, 1001), np.uint8))
    cases = [sample.case for sample in paired("ct/*", "seg/{stem}.*")(tmp_path)]
    assert (cases[7], cases[1000]) == ("a_z0007", "a_z1000")


def test_volumes_are_indexed_and_read(scans):
    index = build_index("my_ct", scans, **VOLUMES, allow_empty=True)
    assert (len(index.samples), index.groups, index.depth, index.channels) == (5, 2, "uint16", 1)
    assert [s.lesion_fraction for s in index.samples] == [0.05, 0.1, 0.15, 0.05, 0.1]
    picture, mask = read_sample(index, index.samples[2])
    assert (picture.values.shape, mask.shape, mask.dtype, int(mask.sum())) == ((1, 4, 5), (4, 5), np.uint8, 3)
    # y = 0 is the back, the last row; x = 0 the patient's left, the last column
    assert np.argwhere(mask).tolist() == [[3, 2], [3, 3], [3, 4]]
    assert read_sample(index, index.samples[2], 3)[0].values.shape == (3, 4, 5)
    values = np.asarray(nibabel.load(scans / "ct/p2.nii.gz").dataobj)
    assert (picture.low, picture.high) == (values.min(), values.max())


def test_blank_slices_do_not_make_patients_one_group(tmp_path):
    for seed, name in enumerate(("p1", "p2")):
        data = np.random.default_rng(seed).integers(1, 900, (5, 4, 4), dtype=np.int16)
        data[..., [0, 3]] = 0
        save(tmp_path / f"ct/{name}.nii.gz", data)
        save(tmp_path / f"seg/{name}.nii.gz", np.ones((5, 4, 4), np.uint8))
    index = build_index("scans", tmp_path, **VOLUMES)
    assert index.duplicates == ()
    assert [sample.group for sample in index.samples] == ["p1"] * 4 + ["p2"] * 4


def test_one_label_alone_can_be_the_lesion(scans):
    with pytest.raises(FaultyFiles, match="5 faulty pairs"):
        build_index("my_ct", scans, **VOLUMES, mask_value=2)
    index = build_index("my_ct", scans, **VOLUMES, mask_value=3)
    write_index(index, scans / "index.json")
    assert read_index(scans / "index.json").rules.mask_value == 3
    assert int(read_sample(read_index(scans / "index.json"), index.samples[1])[1].sum()) == 2


def test_a_volume_is_hashed_once(scans, monkeypatch):
    hashed = []
    original = indexing._shared_hash.__wrapped__
    counting = indexing.lru_cache(maxsize=None)(
        lambda file, stamp: hashed.append(file) or original(file, stamp)
    )
    monkeypatch.setattr(indexing, "_shared_hash", counting)
    files = [scans / f"ct/p2.nii.gz#{k}" for k in range(3)]
    one = hashlib.sha256((scans / "ct/p2.nii.gz").read_bytes()).hexdigest()
    assert [content([file]) for file in files] == [digest([one])] * 3
    assert hashed == [scans / "ct/p2.nii.gz"]
    status = (scans / "ct/p2.nii.gz").stat()
    assert stamps(files) == ((status.st_size, status.st_mtime_ns),) * 3


def test_changed_volumes_are_noticed(scans):
    index = build_index("my_ct", scans, **VOLUMES)
    assert refreshed(index, None) is index
    save(scans / "seg/p2.nii.gz", np.full((5, 4, 3), 1, np.uint8))
    with pytest.raises(MedsegError, match=r"p2.nii.gz#0: it or its mask has changed"):
        refreshed(index, None)
    save(scans / "ct/p2.nii.gz", np.zeros((5, 4, 2), np.int16))
    with pytest.raises(MedsegError, match=r"ct/p2.nii.gz#2 is gone"):
        refreshed(index, None)


def test_masks_of_other_volumes_are_faults(scans):
    save(scans / "seg/p2.nii.gz", np.ones((5, 4, 4), np.uint8))
    save(scans / "seg/p10.nii.gz", np.ones((5, 4, 2), np.uint8), shift=2)
    (scans / "ct/p3.nii.gz").write_bytes((scans / "ct/p2.nii.gz").read_bytes()[:50])
    save(scans / "seg/p3.nii.gz", np.ones((5, 4, 3), np.uint8))
    save(scans / "ct/p4.nii.gz", np.zeros((5, 4, 2), np.int16))
    save(scans / "seg/p4.nii.gz", np.ones((5, 4), np.uint8))
    with pytest.raises(FaultyFiles) as caught:
        build_index("my_ct", scans, **VOLUMES)
    reasons = {fault.case: fault.reason for fault in caught.value.faults}
    assert reasons["p2_z000"] == "has 4 slices, the image 3"
    assert reasons["p10_z001"] == "lies up to 2.0 voxels beside its image by the affines of the two"
    assert reasons["p3"].startswith("cannot be read as NIfTI")
    assert reasons["p4_z001"] == "has 1 slices, the image 2"
    assert len(reasons) == 3 + 2 + 1 + 2


def test_the_shared_ct_with_its_labels(shared_data, tmp_path):
    for name, folder in (("ct_sm", "ct"), ("seg", "seg")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "example.nii.gz").symlink_to(shared_data / f"nifti/example_{name}.nii.gz")
    index = build_index("my_ct", tmp_path, **VOLUMES, mask_value=5, allow_empty=True)
    assert (len(index.samples), index.groups, index.depth) == (30, 1, "uint16")
    labels = np.asarray(nibabel.load(shared_data / "nifti/example_seg.nii.gz").dataobj)
    shares = (labels == 5).mean((0, 1))
    assert [s.lesion_fraction for s in index.samples] == pytest.approx(shares.tolist(), abs=1e-6)


def write_frames(path: Path, frames: np.ndarray) -> None:
    """A grey DICOM file of 16 bits, ``(N, H, W)``; several frames if N is not 1."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = (
        MultiFrameGrayscaleWordSecondaryCaptureImageStorage
    )
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = generate_uid()
    number, data.Rows, data.Columns = frames.shape
    data.PhotometricInterpretation, data.SamplesPerPixel, data.PixelRepresentation = "MONOCHROME2", 1, 0
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 12, 11
    if number > 1:
        data.NumberOfFrames = number
    data.PixelData = frames.astype("<u2").tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)


def test_dicom_files_with_png_masks_are_a_data_set(tmp_path):
    for k in range(3):
        write_frames(tmp_path / f"images/1.2.84{k}.dcm", np.full((1, 4, 5), 1000 + k))
        (tmp_path / "masks").mkdir(exist_ok=True)
        Image.fromarray(np.full((4, 5), 255, np.uint8)).save(tmp_path / f"masks/1.2.84{k}.png")
    index = build_index("mine", tmp_path, images="images/*.dcm", masks="masks/{stem}.png", channels=1)
    assert (index.samples[0].case, index.samples[0].image) == ("1.2.840", "images/1.2.840.dcm")
    assert index.depth == "uint16"
    picture, mask = read_sample(index, index.samples[2])
    assert picture.values.tolist() == [[[1002] * 5] * 4]
    # twelve bits are stored
    assert (picture.low, picture.high, mask.all()) == (0, 4095, True)


def test_dicom_frames_pair_with_the_frames_of_their_masks(tmp_path):
    frames = np.arange(3)[:, None, None] * np.ones((3, 2, 2), int)
    masks = np.zeros((3, 2, 2), int)
    for k in range(3):
        masks[k].flat[: k + 1] = 1
    write_frames(tmp_path / "us/a.dcm", frames)
    write_frames(tmp_path / "seg/a.dcm", masks)
    index = build_index("mine", tmp_path, images="us/*", masks="seg/{stem}.*", channels=1)
    assert [(s.case, s.lesion_fraction) for s in index.samples] == [
        ("a_z000", 0.25),
        ("a_z001", 0.5),
        ("a_z002", 0.75),
    ]
    picture, mask = read_sample(index, index.samples[2])
    assert (picture.values.tolist(), mask.tolist()) == ([[[2, 2], [2, 2]]], [[1, 1], [1, 0]])
    write_frames(tmp_path / "us/b.dcm", frames[:1])
    write_frames(tmp_path / "seg/b.dcm", masks)
    with pytest.raises(FaultyFiles, match="has 3 slices, the image 1"):
        build_index("mine", tmp_path, images="us/*", masks="seg/{stem}.*", channels=1)


def test_the_header_of_many_frames_is_read_once_and_again_when_it_changed(tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(frame, "open_header", lambda path: opened.append(path) or open_header(path))
    write_frames(tmp_path / "us/a.dcm", np.arange(5)[:, None, None] * np.ones((5, 2, 2), int))
    write_frames(tmp_path / "seg/a.dcm", np.ones((5, 2, 2), int))
    build_index("mine", tmp_path, images="us/*", masks="seg/{stem}.*", channels=1)
    assert sorted(path.parent.name for path in opened) == ["seg", "us"]
    write_frames(tmp_path / "us/a.dcm", np.full((6, 2, 2), 9))
    assert read_picture(tmp_path / "us/a.dcm#5", 1).values.tolist() == [[[9, 9], [9, 9]]]
    with pytest.raises(FileFault, match="no such file"):
        read_picture(tmp_path / "us/b.dcm#5", 1)
