"""DICOM SEG of every kind of source: checked by dciodvfy, highdicom's reader, and bits unpacked by hand."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
    generate_uid,
)

from medseg.bundle.open import Bundle
from medseg.data.datasets import DATASETS
from medseg.data.dicom.volume import slices_of
from medseg.data.faults import FileFault
from medseg.data.sample import Label
from medseg.errors import MedsegError
from medseg.predict.dicom_seg import read_dicom_seg, write_dicom_seg
from medseg.predict.dicom_seg_labels import codes_of, plain

MASS = Label("benign lesion", ("4147007", "SCT", "Mass"))
DISC = Label("optic disc")
US, US_MULTI = "1.2.840.10008.5.1.4.1.1.6.1", "1.2.840.10008.5.1.4.1.1.3.1"
CT, ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1"
SC, CR = "1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.1"
STUDY, SERIES, PLACE = (generate_uid(entropy_srcs=["seg", word]) for word in ("study", "series", "place"))


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    root = tmp_path / "discs__unet"
    (root / "configs").mkdir(parents=True)
    (root / "configs" / "metadata.json").write_text(json.dumps({"version": "0.3.1"}), encoding="utf-8")
    return Bundle(root)


def source(
    path: Path, frames: int = 0, kind: str = US, syntax: str = ExplicitVRLittleEndian, **elements: Any
) -> Path:
    """A valid image of 33 x 37 pixels, and with the elements given, of which None takes one away."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID = kind, generate_uid(entropy_srcs=["seg", path.name])
    ds.StudyInstanceUID, ds.SeriesInstanceUID = STUDY, SERIES
    ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = "Doe^Jane", "P-17", "19610203", "F"
    ds.StudyDate, ds.StudyTime, ds.StudyID, ds.AccessionNumber = "20240501", "101500", "S1", "A-99"
    ds.StudyDescription, ds.ReferringPhysicianName = "Breast", "Roe^Richard"
    ds.Modality, ds.SeriesNumber, ds.InstanceNumber, ds.Manufacturer = "US", 4, 1, "ACME"
    ds.Rows, ds.Columns, ds.SamplesPerPixel = 33, 37, 1
    ds.PhotometricInterpretation, ds.PixelRepresentation = "MONOCHROME2", 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8, 8, 7
    if frames:
        ds.NumberOfFrames = frames
    ds.PixelData = (bytes(range(256)) * 5)[: 33 * 37] * max(frames, 1)
    ds.PixelData += b"\0" * (len(ds.PixelData) % 2)
    ds["PixelData"].VR = "OB"
    for keyword, value in elements.items():
        if value is None:
            del ds[keyword]
        else:
            setattr(ds, keyword, value)
    if syntax == ExplicitVRBigEndian:
        ds.file_meta.TransferSyntaxUID = syntax
    elif syntax != ExplicitVRLittleEndian:
        ds.compress(syntax)
    ds.save_as(path, enforce_file_format=True)
    return path


def drawn(frames: int, empty: int | None = None) -> np.ndarray:
    """Masks of two labels, each frame another, one of them perhaps empty; 33 x 37 is no multiple of 8 bits."""
    masks = np.zeros((frames, 33, 37), np.uint8)
    for k in range(frames):
        if k != empty:
            masks[k, 1 + k % 5 : 7, 2:5] = 1
            masks[k, 8:11, 9 : 10 + k % 7] = 2
    return masks


def item(value: Dataset | None = None, **elements: Any) -> Dataset:
    ds = Dataset()
    for keyword, content in elements.items():
        setattr(ds, keyword, content)
    return ds


def by_hand(path: Path) -> dict[tuple[int, str, int], np.ndarray]:
    """Bits of each frame by segment, source instance and source frame, unpacked without highdicom (PS3.5 8.1.1)."""
    ds = pydicom.dcmread(path)
    size = ds.Rows * ds.Columns
    bits = np.unpackbits(np.frombuffer(ds.PixelData, np.uint8), bitorder="little")
    assert len(ds.PixelData) % 2 == 0 and not bits[ds.NumberOfFrames * size :].any()
    found = {}
    for k, group in enumerate(ds.PerFrameFunctionalGroupsSequence):
        shared = ds.SharedFunctionalGroupsSequence[0]
        holder = group if "SegmentIdentificationSequence" in group else shared
        segment = holder.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        (origin,) = group.DerivationImageSequence[0].SourceImageSequence
        key = (segment, str(origin.ReferencedSOPInstanceUID), int(origin.get("ReferencedFrameNumber", 0)))
        found[key] = bits[k * size : (k + 1) * size].reshape(ds.Rows, ds.Columns)
    assert len(found) == ds.NumberOfFrames
    return found


def faults_of(path: Path) -> list[str]:
    """What dciodvfy calls an error."""
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed (Debian: dicom3tools)")
    done = subprocess.run(
        ["dciodvfy", str(path)], capture_output=True, text=True, errors="replace", check=False
    )
    return [line for line in done.stderr.splitlines() if line.startswith("Error")]


def different_entities(paths: list[Path]) -> list[str]:
    """What dcentvfy calls an error in files that should be of one patient and study; it compares bytes."""
    done = subprocess.run(
        ["dcentvfy", *map(str, paths)], capture_output=True, text=True, errors="replace", check=False
    )
    return [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]


def check(
    path: Path, masks: np.ndarray, sources: list[Path], labels: int = 2, entities: bool = True
) -> Dataset:
    """Every frame of every segment, by its reference; those left out are empty."""
    found = by_hand(path)
    uids = [str(pydicom.dcmread(one, stop_before_pixels=True).SOPInstanceUID) for one in sources]
    several = len(sources) == 1 and len(masks) > 1
    for k, mask in enumerate(masks):
        for segment in range(1, labels + 1):
            key = (segment, uids[0], k + 1) if several else (segment, uids[k], 0)
            expected = mask == segment
            if key in found:
                np.testing.assert_array_equal(found.pop(key), expected)
            else:
                assert not expected.any() and masks.any()
    assert not found
    assert faults_of(path) == []
    if entities:
        assert different_entities([path, *sources]) == []
    return pydicom.dcmread(path)


@pytest.mark.parametrize(
    "kind", [US, SC, CR, "1.2.840.10008.5.1.4.1.1.1.2", "1.2.840.10008.5.1.4.1.1.77.1.4"]
)
def test_an_image_without_a_frame_of_reference(tmp_path: Path, bundle: Bundle, kind: str) -> None:
    origin, out, masks = source(tmp_path / "a.dcm", kind=kind), tmp_path / "seg.dcm", drawn(1)
    write_dicom_seg(masks, [origin], (MASS, DISC), out, bundle=bundle)
    ds = check(out, masks, [origin])
    assert ds.SourceImageSequence[0].ReferencedSOPClassUID == kind
    derivation = ds.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0]
    assert derivation.SourceImageSequence[0].ReferencedSOPClassUID == kind
    assert derivation.SourceImageSequence[0].SpatialLocationsPreserved == "YES"
    for word in ("FrameOfReferenceUID", "PlanePositionSequence", "PlaneOrientationSequence"):
        assert word not in ds and word not in ds.SharedFunctionalGroupsSequence[0]
    np.testing.assert_array_equal(read_dicom_seg(out), masks)


def test_context_is_that_of_the_source_and_series_is_new(tmp_path: Path, bundle: Bundle) -> None:
    origin, out = source(tmp_path / "a.dcm"), tmp_path / "seg.dcm"
    write_dicom_seg(drawn(1), [origin], (MASS, DISC), out, bundle=bundle)
    seg, src = pydicom.dcmread(out), pydicom.dcmread(origin)
    same = "PatientName PatientID PatientBirthDate PatientSex StudyInstanceUID StudyDate StudyTime StudyID "
    same += "AccessionNumber StudyDescription ReferringPhysicianName"
    for keyword in same.split():
        assert seg[keyword].value == src[keyword].value, keyword
    assert (
        seg.SeriesInstanceUID not in (src.SeriesInstanceUID, "") and seg.SOPInstanceUID != src.SOPInstanceUID
    )
    assert (seg.Modality, seg.SegmentationType, seg.Manufacturer) == ("SEG", "BINARY", "medseg")
    assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == src.SeriesInstanceUID
    assert different_entities([out, source(tmp_path / "b.dcm", PatientBirthDate="19610204")])
    write_dicom_seg(drawn(1), [origin], (MASS, DISC), tmp_path / "again.dcm", bundle=bundle)
    again = pydicom.dcmread(tmp_path / "again.dcm")
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID"):
        assert again[keyword].value != seg[keyword].value
    assert again.SegmentSequence[0].TrackingUID != seg.SegmentSequence[0].TrackingUID


def test_segments_name_code_and_algorithm(tmp_path: Path, bundle: Bundle) -> None:
    origin, out = source(tmp_path / "a.dcm"), tmp_path / "seg.dcm"
    write_dicom_seg(drawn(1), [origin], (MASS, DISC), out, bundle=bundle)
    lesion, disc = pydicom.dcmread(out).SegmentSequence
    category, kind = (lesion[f"SegmentedProperty{word}CodeSequence"][0] for word in ("Category", "Type"))
    assert (category.CodeValue, category.CodingSchemeDesignator) == ("49755003", "SCT")
    assert (kind.CodeValue, kind.CodingSchemeDesignator, kind.CodeMeaning) == ("4147007", "SCT", "Mass")
    assert (lesion.SegmentLabel, lesion.SegmentAlgorithmType) == ("benign lesion", "AUTOMATIC")
    algorithm = lesion.SegmentationAlgorithmIdentificationSequence[0]
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("discs__unet", "0.3.1")
    family = algorithm.AlgorithmFamilyCodeSequence[0]
    assert (family.CodeValue, family.CodingSchemeDesignator) == ("123110", "DCM")
    assert disc.SegmentedPropertyTypeCodeSequence[0].CodingSchemeDesignator == "99MEDSEG"


@pytest.mark.parametrize("syntax", [ExplicitVRBigEndian, RLELossless, JPEG2000Lossless])
def test_sources_of_any_transfer_syntax(tmp_path: Path, bundle: Bundle, syntax: str) -> None:
    origin = source(
        tmp_path / "a.dcm", 3, US_MULTI, syntax, PatientWeight=61.5, SmokingStatus="NO", PregnancyStatus=4
    )
    write_dicom_seg(drawn(3), [origin], (MASS, DISC), tmp_path / "seg.dcm", bundle=bundle)
    ds = check(tmp_path / "seg.dcm", drawn(3), [origin])
    assert (ds.PatientWeight, ds.PregnancyStatus) == (61.5, 4)  # numbers in the order of their bytes


@pytest.mark.parametrize("labels", [(MASS,), (MASS, DISC)])
@pytest.mark.parametrize("empty", [None, 2])
def test_frames_of_ultrasound_without_functional_groups(
    tmp_path: Path, bundle: Bundle, labels: tuple[Label, ...], empty: int | None
) -> None:
    masks = drawn(5, empty)
    masks[masks > len(labels)] = 0
    origin, out = source(tmp_path / "a.dcm", 5, US_MULTI), tmp_path / "seg.dcm"
    write_dicom_seg(masks, [origin], labels, out, bundle=bundle)
    ds = check(out, masks, [origin], len(labels))
    assert ds.NumberOfFrames == len(labels) * (5 if empty is None else 4)
    np.testing.assert_array_equal(read_dicom_seg(out), masks if empty is None else np.delete(masks, empty, 0))


@pytest.mark.parametrize("frames", [1, 4])
def test_without_a_lesion_every_frame_is_there_and_empty(tmp_path: Path, bundle: Bundle, frames: int) -> None:
    kind = US_MULTI if frames > 1 else US
    origin, out = source(tmp_path / "a.dcm", frames if frames > 1 else 0, kind), tmp_path / "seg.dcm"
    masks = np.zeros((frames, 33, 37), np.uint8)
    write_dicom_seg(masks, [origin], (MASS, DISC), out, bundle=bundle)
    assert check(out, masks, [origin]).NumberOfFrames == 2 * frames
    assert not read_dicom_seg(out).any() and len(read_dicom_seg(out)) == frames


def slices(folder: Path, heights: list[float], **elements: Any) -> list[Path]:
    folder.mkdir()
    return [
        source(
            folder / f"{k}.dcm",
            kind=CT,
            **{
                "Modality": "CT",
                "FrameOfReferenceUID": PLACE,
                "PositionReferenceIndicator": "",
                "ImageOrientationPatient": [1, 0, 0, 0, 0.6, 0.8],
                "ImagePositionPatient": [-7.5, 3.25, height],
                "PixelSpacing": [0.7, 0.9],
                "SliceThickness": 2,
                **elements,
            },
        )
        for k, height in enumerate(heights)
    ]


def test_slices_keep_their_places(tmp_path: Path, bundle: Bundle) -> None:
    heights = [12.0, 2.0, 7.0, 17.0]  # not in order
    origins, masks, out = slices(tmp_path / "ct", heights), drawn(4, 2), tmp_path / "seg.dcm"
    write_dicom_seg(masks, origins, (MASS, DISC), out, bundle=bundle)
    ds = check(out, masks, origins)
    np.testing.assert_array_equal(read_dicom_seg(out), masks)
    assert ds.FrameOfReferenceUID == PLACE
    shared = ds.SharedFunctionalGroupsSequence[0]
    assert list(shared.PixelMeasuresSequence[0].PixelSpacing) == [0.7, 0.9]
    assert list(shared.PlaneOrientationSequence[0].ImageOrientationPatient) == [1, 0, 0, 0, 0.6, 0.8]
    uids = {
        str(pydicom.dcmread(p).SOPInstanceUID): height for p, height in zip(origins, heights, strict=True)
    }
    for group in ds.PerFrameFunctionalGroupsSequence:
        uid = group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        assert list(group.PlanePositionSequence[0].ImagePositionPatient) == [-7.5, 3.25, uids[uid]]


def enhanced(path: Path, positions: list[list[float]], shared_orientation: bool = True) -> Path:
    orientation = {"PlaneOrientationSequence": [item(ImageOrientationPatient=[0, 1, 0, 0, 0, -1])]}
    shared = item(PixelMeasuresSequence=[item(PixelSpacing=[0.5, 0.5], SliceThickness=1)])
    own = {} if shared_orientation else orientation
    for keyword, value in orientation.items():
        if shared_orientation:
            setattr(shared, keyword, value)
    groups = [item(PlanePositionSequence=[item(ImagePositionPatient=place)], **own) for place in positions]
    return source(
        path, len(positions), ENHANCED_CT, FrameOfReferenceUID=PLACE,
        SharedFunctionalGroupsSequence=[shared], PerFrameFunctionalGroupsSequence=groups,
    )  # fmt: skip


@pytest.mark.parametrize("shared", [True, False])
def test_frames_with_functional_groups_keep_their_places(
    tmp_path: Path, bundle: Bundle, shared: bool
) -> None:
    places = [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [2.0, 0.0, 0.0]]
    origin, out, masks = enhanced(tmp_path / "a.dcm", places, shared), tmp_path / "seg.dcm", drawn(3)
    write_dicom_seg(masks, [origin], (MASS, DISC), out, bundle=bundle)
    ds = check(out, masks, [origin])
    assert ds.SourceImageSequence[0].ReferencedSOPClassUID == ENHANCED_CT
    for group in ds.PerFrameFunctionalGroupsSequence:
        number = group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber
        assert list(group.PlanePositionSequence[0].ImagePositionPatient) == places[number - 1]


def test_frames_at_one_place_refer_each_to_its_own(tmp_path: Path, bundle: Bundle) -> None:
    """In a series over time a place does not tell frames apart."""
    origin, out = enhanced(tmp_path / "a.dcm", [[0.0, 0.0, 0.0]] * 3), tmp_path / "seg.dcm"
    write_dicom_seg(drawn(3), [origin], (MASS, DISC), out, bundle=bundle)
    ds = check(out, drawn(3), [origin])
    assert "PlanePositionSequence" not in ds.PerFrameFunctionalGroupsSequence[0]


@pytest.mark.parametrize(
    "elements",
    [
        {"FrameOfReferenceUID": PLACE, "PositionReferenceIndicator": "NIPPLE"},  # a mammogram
        {"FrameOfReferenceUID": "", "PixelSpacing": [0.1, 0.1], "PatientOrientation": ["A", "F"]},
        {"FrameOfReferenceUID": PLACE, "ImagePositionPatient": [0, 0, 0], "PixelSpacing": [0, 0]},
        {
            "ImagePositionPatient": [0, 0, 0],
            "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
            "PixelSpacing": [1, 1],
        },
        {
            "LossyImageCompression": "01",
            "LossyImageCompressionRatio": [4, 8.5],
            "LossyImageCompressionMethod": ["ISO_10918_1"] * 2,
        },
    ],
)
@pytest.mark.parametrize("frames", [1, 3])
def test_what_little_is_known_of_a_place(
    tmp_path: Path, bundle: Bundle, elements: dict[str, Any], frames: int
) -> None:
    kind = {"kind": US_MULTI, "frames": 3} if frames > 1 else {"kind": CR}
    origin, out = source(tmp_path / "a.dcm", **kind, **elements), tmp_path / "seg.dcm"
    write_dicom_seg(drawn(frames), [origin], (MASS, DISC), out, bundle=bundle)
    ds = check(out, drawn(frames), [origin])
    assert ds.get("FrameOfReferenceUID") == (elements.get("FrameOfReferenceUID") or None)
    assert ds.get("PatientOrientation", "") == elements.get("PatientOrientation", "")
    assert ds.get("LossyImageCompressionMethod") == elements.get("LossyImageCompressionMethod")
    assert not any("ImagePositionPatient" in str(element.keyword) for element in ds.iterall())
    np.testing.assert_array_equal(read_dicom_seg(out), drawn(frames))


def test_slices_of_several_orientations_refer_and_lie_nowhere(tmp_path: Path, bundle: Bundle) -> None:
    first = slices(tmp_path / "a", [0.0, 5.0])
    turned = slices(
        tmp_path / "b", [0.0], ImageOrientationPatient=[0, 1, 0, 0, 0, -1], SOPInstanceUID=generate_uid()
    )
    write_dicom_seg(drawn(3), [*first, *turned], (MASS, DISC), tmp_path / "seg.dcm", bundle=bundle)
    ds = check(tmp_path / "seg.dcm", drawn(3), [*first, *turned])
    assert "PlanePositionSequence" not in ds.PerFrameFunctionalGroupsSequence[0]


def test_slices_of_several_frames_of_reference_lie_in_none(tmp_path: Path, bundle: Bundle) -> None:
    other = slices(tmp_path / "b", [5.0], FrameOfReferenceUID=generate_uid(), SOPInstanceUID=generate_uid())
    origins = [*slices(tmp_path / "a", [0.0]), *other]
    write_dicom_seg(drawn(2), origins, (MASS, DISC), tmp_path / "seg.dcm", bundle=bundle)
    ds = pydicom.dcmread(tmp_path / "seg.dcm")
    assert "FrameOfReferenceUID" not in ds
    assert "PlanePositionSequence" not in ds.PerFrameFunctionalGroupsSequence[0]
    assert faults_of(tmp_path / "seg.dcm") == []


@pytest.mark.parametrize("gone", ["SliceThickness", "FrameOfReferenceUID"])
def test_slices_without_a_thickness_or_a_frame_of_reference(
    tmp_path: Path, bundle: Bundle, gone: str
) -> None:
    origins = slices(tmp_path / "a", [4.0, 0.0, 2.0], **{gone: ""})
    write_dicom_seg(drawn(3), origins, (MASS, DISC), tmp_path / "seg.dcm", bundle=bundle)
    ds = check(tmp_path / "seg.dcm", drawn(3), origins)
    measures = ds.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    # steps of 2 mm up, seen along the tilted normal (0, -0.8, 0.6)
    assert float(measures.SliceThickness) == pytest.approx(1.2 if gone == "SliceThickness" else 2)
    assert ("PlanePositionSequence" in ds.PerFrameFunctionalGroupsSequence[0]) == (gone == "SliceThickness")


def test_files_of_a_series_without_places(tmp_path: Path, bundle: Bundle) -> None:
    origins = [source(tmp_path / f"{k}.dcm", kind=CR, SeriesNumber=None, StudyID=None) for k in range(3)]
    write_dicom_seg(drawn(3, 1), origins, (MASS, DISC), tmp_path / "seg.dcm", bundle=bundle)
    ds = check(tmp_path / "seg.dcm", drawn(3, 1), origins)
    assert len(ds.SourceImageSequence) == len(ds.ReferencedSeriesSequence[0].ReferencedInstanceSequence) == 3


@pytest.mark.parametrize(
    ("charset", "name"),
    [
        ("ISO_IR 100", "Müller^Jürgen"),
        ("ISO_IR 192", "Müller^Jürgen=山田"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        ("GB18030", "Wang^XiaoDong=王^小东"),
    ],
)
def test_names_of_any_alphabet(tmp_path: Path, bundle: Bundle, charset: Any, name: str) -> None:
    origin = source(tmp_path / "a.dcm", SpecificCharacterSet=charset, PatientName=name)
    write_dicom_seg(drawn(1), [origin], (MASS, DISC), tmp_path / "seg.dcm", bundle=bundle)
    ds = check(tmp_path / "seg.dcm", drawn(1), [origin])
    assert str(ds.PatientName) == name
    assert ds["SpecificCharacterSet"].value == pydicom.dcmread(origin)["SpecificCharacterSet"].value
    write_dicom_seg(drawn(1), [origin], (Label("Läsion"), DISC), tmp_path / "seg.dcm", bundle=bundle)
    ds = check(tmp_path / "seg.dcm", drawn(1), [origin], entities=False)
    assert (ds.SegmentSequence[0].SegmentLabel, str(ds.PatientName)) == ("Läsion", name)
    assert ds.SpecificCharacterSet == "ISO_IR 192"


def test_context_that_is_missing_or_wrong_is_kept_as_it_is(tmp_path: Path, bundle: Bundle) -> None:
    with pydicom.config.disable_value_validation():
        origin = source(
            tmp_path / "a.dcm", PatientSex="W", StudyTime=None, StudyDate="2024.05.01", PatientBirthDate=None,
            AccessionNumber="0123456789-0123456789", ReferringPhysicianName=None,
        )  # fmt: skip
        ds = pydicom.dcmread(origin)
        ds.private_block(0x0009, "ACME", create=True).add_new(1, "LO", "private")
        ds.save_as(origin)
        write_dicom_seg(drawn(1), [origin], (MASS, DISC), tmp_path / "seg.dcm", bundle=bundle)
    seg = pydicom.dcmread(tmp_path / "seg.dcm")
    assert (seg.PatientSex, seg.StudyDate, seg.AccessionNumber) == (
        "W",
        "2024.05.01",
        "0123456789-0123456789",
    )
    for keyword in ("StudyTime", "PatientBirthDate", "ReferringPhysicianName"):
        assert keyword in seg and not seg[keyword].value
    assert not any(element.tag.is_private for element in seg.iterall())


def test_values_that_cannot_be_read_are_left_out(tmp_path: Path, bundle: Bundle) -> None:
    origin = source(tmp_path / "a.dcm", PregnancyStatus=4, PatientComments="kept")
    tag = b"\x10\x00\xc0\x21US"
    content = origin.read_bytes()
    origin.write_bytes(content.replace(tag + b"\x02\x00\x04\x00", tag + b"\x03\x00\x04\x00\x00"))
    assert origin.read_bytes() != content
    write_dicom_seg(drawn(1), [origin], (MASS, DISC), tmp_path / "seg.dcm", bundle=bundle)
    seg = pydicom.dcmread(tmp_path / "seg.dcm")
    assert "PregnancyStatus" not in seg and seg.PatientComments == "kept"


def test_identity_from_the_meta_information(tmp_path: Path, bundle: Bundle) -> None:
    origin = source(tmp_path / "a.dcm")
    ds = pydicom.dcmread(origin)
    kept = str(ds.SOPInstanceUID)
    ds.SOPInstanceUID = ds.SOPClassUID = ds.StudyInstanceUID = ds.SeriesInstanceUID = ""
    ds.save_as(origin)
    write_dicom_seg(drawn(1), [origin], (MASS, DISC), tmp_path / "seg.dcm", bundle=bundle)
    assert faults_of(tmp_path / "seg.dcm") == []
    seg = pydicom.dcmread(tmp_path / "seg.dcm")
    assert (seg.SourceImageSequence[0].ReferencedSOPInstanceUID, seg.StudyInstanceUID[:5]) == (
        kept,
        seg.StudyInstanceUID[:5],
    )
    write_dicom_seg(drawn(1), [origin], (MASS, DISC), tmp_path / "again.dcm", bundle=bundle)
    assert pydicom.dcmread(tmp_path / "again.dcm").StudyInstanceUID == seg.StudyInstanceUID
    ds.file_meta.MediaStorageSOPInstanceUID = "no uid"
    ds.save_as(origin, enforce_file_format=False)
    with pytest.raises(FileFault, match=r"\(0008,0018\) SOP Instance UID is missing"):
        write_dicom_seg(drawn(1), [origin], (MASS, DISC), tmp_path / "seg.dcm", bundle=bundle)


def test_masks_and_sources_that_do_not_fit(tmp_path: Path, bundle: Bundle) -> None:
    one, two, film = (
        source(tmp_path / "1.dcm"),
        source(tmp_path / "2.dcm"),
        source(tmp_path / "3.dcm", 2, US_MULTI),
    )
    other = source(tmp_path / "4.dcm", SeriesInstanceUID=generate_uid())
    small = source(tmp_path / "5.dcm", Rows=6)
    out = tmp_path / "seg.dcm"

    def write(masks: np.ndarray, *sources: Path, labels: tuple[Label, ...] = (MASS, DISC)) -> None:
        write_dicom_seg(masks, sources, labels, out, bundle=bundle)

    with pytest.raises(MedsegError, match="masks are 1x33x37, 1.dcm needs 2x33x37"):
        write(drawn(1), one, two)
    with pytest.raises(MedsegError, match="masks are 1x31x37, 1.dcm needs 1x33x37"):
        write(drawn(1)[:, 2:], one)
    with pytest.raises(MedsegError, match="masks go to 2, there are 1 labels"):
        write(drawn(1), one, labels=(MASS,))
    with pytest.raises(MedsegError, match="masks are int64; give uint8"):
        write(drawn(1).astype(np.int64), one)
    with pytest.raises(MedsegError, match="needs at least one label"):
        write(drawn(1), one, labels=())
    with pytest.raises(MedsegError, match="at least one source"):
        write(drawn(1))
    with pytest.raises(FileFault, match=r"5.dcm: is 37x6, 1.dcm of the same series is 37x33"):
        write(drawn(2), one, small)
    with pytest.raises(FileFault, match=r"3.dcm: has 2 frames"):
        write(drawn(3), one, film)
    with pytest.raises(FileFault, match=r"4.dcm: \(0020,000E\) Series Instance UID is not that of 1.dcm"):
        write(drawn(2), one, other)
    with pytest.raises(FileFault, match="no such file"):
        write(drawn(1), tmp_path / "none.dcm")
    assert not out.exists()
    with pytest.raises(FileFault, match="is no DICOM SEG"):
        read_dicom_seg(one)


def test_codes_are_those_of_the_dictionaries() -> None:
    assert codes_of(Label("benign lesion"))[1] == ("52988006", "SCT", "Lesion")
    assert codes_of(Label("Brain Tumour"))[1] == ("108369006", "SCT", "Neoplasm")
    category, kind = codes_of(Label("optic disc of the left eye"))
    assert category[0] == codes.cid7150.SpatialAndRelationalConcept.value
    assert kind == ("optic disc of th", "99MEDSEG", "optic disc of the left eye")
    for word, name in {
        "lesion": "Lesion",
        "mass": "Mass",
        "nodule": "Nodule",
        "cyst": "Cyst",
        "tumor": "Neoplasm",
    }.items():
        known = getattr(codes.cid7159, name)
        assert codes_of(Label(word)) == (
            ("49755003", "SCT", "Morphologically Abnormal Structure"),
            (known.value, "SCT", name),
        )


def test_codes_of_data_sets_are_morphologic_abnormalities() -> None:
    """PS3.16 CID 7159 and 6209 by pydicom; 41329004 is no concept of DICOM's, but SNOMED CT's own for a polyp."""
    concepts = {
        (code.value, code.meaning)
        for code in (*(getattr(codes.cid7159, name) for name in codes.cid7159.dir()), codes.cid6209.Ulcer)
    } | {("41329004", "Polyp")}
    for name in DATASETS.names("segmentation"):
        for label in DATASETS.build(name).labels:
            assert label.code is None or (label.code[0], label.code[2]) in concepts, name
            assert codes_of(label)[0][0] == "49755003", name


def test_names_become_one_value() -> None:
    assert plain("a\\b\nc  d") == "a b c d"
    assert len(plain("x" * 99)) == 64


@pytest.mark.parametrize(
    "name", ["cr-15bit-monochrome1-j2k", "cxr-10bit-monochrome1", "mammography-12bit-j2k"]
)
def test_real_radiographs(shared_data: Path, tmp_path: Path, bundle: Bundle, name: str) -> None:
    origin, out = shared_data / "dicom" / f"{name}.dcm", tmp_path / "seg.dcm"
    header = pydicom.dcmread(origin, stop_before_pixels=True)
    masks = np.zeros((1, header.Rows, header.Columns), np.uint8)
    masks[0, 100:200, 50:90] = 1
    write_dicom_seg(masks, [origin], (MASS,), out, bundle=bundle)
    seg = check(out, masks, [origin], 1)
    assert (seg.PatientName, seg.get("AccessionNumber") or None) == (
        header.PatientName,
        header.get("AccessionNumber") or None,
    )
    np.testing.assert_array_equal(read_dicom_seg(out), masks)


def test_a_real_series_in_space(shared_data: Path, tmp_path: Path, bundle: Bundle) -> None:
    """The labels of the series as NIfTI and the SEG lie at the same place in the patient."""
    import highdicom
    import nibabel

    folder, out = shared_data / "dicom" / "ct-series", tmp_path / "seg.dcm"
    found = slices_of(sorted(folder.iterdir()))
    truth = nibabel.load(shared_data / "dicom" / "ct-series-labels.nii.gz")
    drawn = np.asarray(truth.dataobj) == 5
    masks = drawn.transpose(2, 1, 0)[:, ::-1].astype(np.uint8)  # its rows count from the back of the patient
    write_dicom_seg(masks, [one.header.path for one in found], (MASS,), out, bundle=bundle)
    assert faults_of(out) == []
    np.testing.assert_array_equal(read_dicom_seg(out), masks)
    volume = highdicom.seg.segread(out).get_volume(combine_segments=True)
    own = np.argwhere(volume.array) @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    true = np.argwhere(drawn) @ truth.affine[:3, :3].T + truth.affine[:3, 3]
    true[:, :2] *= -1  # NIfTI counts to the right and front, DICOM to the left and back
    np.testing.assert_allclose(own[np.lexsort(own.T)], true[np.lexsort(true.T)], atol=1e-3)
    assert len(own) > 1000
