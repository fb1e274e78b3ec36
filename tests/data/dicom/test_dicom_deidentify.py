"""What is left of a patient after de-identification: nothing that the standard lists, in bytes and by name."""

from __future__ import annotations

import csv
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.datadict import DicomDictionary, keyword_dict
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from medseg.cli import main
from medseg.data.dicom.deidentification import deidentify, deidentify_files
from medseg.data.dicom.deidentification_profile import Pseudonyms, table
from medseg.errors import MedsegError

Maker = Callable[..., Path]

#: some of PS3.15 Table E.1-1, by hand; only the sex, and the dates and times of types 1 and 2, stay as elements
NAMES = [
    "PatientBirthName",
    "PatientMotherBirthName",
    "OtherPatientNames",
    "ReferringPhysicianName",
    "PerformingPhysicianName",
    "PhysiciansOfRecord",
    "NameOfPhysiciansReadingStudy",
    "OperatorsName",
    "RequestingPhysician",
    "ScheduledPerformingPhysicianName",
    "ResponsiblePerson",
    "HumanPerformerName",
    "PersonName",
    "ReviewerName",
    "ContentCreatorName",
    "VerifyingObserverName",
]
WORDS = [
    "AccessionNumber",
    "StudyID",
    "OtherPatientIDs",
    "IssuerOfPatientID",
    "MedicalRecordLocator",
    "AdmissionID",
    "ServiceEpisodeID",
    "InstitutionName",
    "InstitutionAddress",
    "InstitutionalDepartmentName",
    "StationName",
    "DeviceSerialNumber",
    "PlateID",
    "DetectorID",
    "StudyDescription",
    "SeriesDescription",
    "ProtocolName",
    "ImageComments",
    "PatientComments",
    "AdditionalPatientHistory",
    "Allergies",
    "MedicalAlerts",
    "Occupation",
    "EthnicGroup",
    "PatientAddress",
    "PatientTelephoneNumbers",
    "CountryOfResidence",
    "RegionOfResidence",
    "MilitaryRank",
    "BranchOfService",
    "PatientReligiousPreference",
    "CurrentPatientLocation",
    "SpecialNeeds",
    "PatientState",
    "RequestedProcedureDescription",
    "RequestedProcedureID",
    "RequestedProcedureComments",
    "ReasonForStudy",
    "ReasonForVisit",
    "PerformedProcedureStepDescription",
    "PerformedProcedureStepID",
    "ScheduledProcedureStepID",
    "CommentsOnThePerformedProcedureStep",
    "DerivationDescription",
    "FrameComments",
    "AcquisitionComments",
    "ContrastBolusAgent",
    "InterpretationText",
    "ImpressionsTrial",
    "IdentifyingComments",
    "TextComments",
    "ReferringPhysicianAddress",
    "PerformedStationName",
    "PerformedLocation",
    "CassetteID",
    "GantryID",
    "GeneratorID",
    "DischargeDiagnosisDescription",
    "VisitComments",
    "ClinicalTrialSubjectID",
]
DATES = [
    "PatientBirthDate",
    "StudyDate",
    "SeriesDate",
    "AcquisitionDate",
    "ContentDate",
    "InstanceCreationDate",
    "LastMenstrualDate",
    "AdmittingDate",
    "PerformedProcedureStepStartDate",
    "DateOfLastCalibration",
    "OverlayDate",
    "CurveDate",
]
TIMES = [
    "PatientBirthTime",
    "StudyTime",
    "SeriesTime",
    "AcquisitionTime",
    "ContentTime",
    "InstanceCreationTime",
    "AdmittingTime",
]
UIDS = [
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "SynchronizationFrameOfReferenceUID",
    "IrradiationEventUID",
    "DeviceUID",
    "InstanceCreatorUID",
    "ConcatenationUID",
    "TransactionUID",
    "DimensionOrganizationUID",
]
OTHER = {
    "PatientAge": "077Y",
    "PatientWeight": "71.73",
    "PatientSize": "1.7373",
    "PatientSex": "F",
    "SmokingStatus": "YES",
}
MARK = "Zyxwvut"


def item(**elements: Any) -> Dataset:
    ds = Dataset()
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    return ds


def run(path: Path, out: Path, **options: Any) -> tuple[pydicom.FileDataset, bytes]:
    (row,) = deidentify_files(path, out, **options)
    assert row["outcome"] == "written", row
    file = out / str(row["output"])
    return pydicom.dcmread(file), file.read_bytes()


def known(keywords: list[str]) -> list[str]:
    missing = [keyword for keyword in keywords if keyword not in keyword_dict]
    return [keyword for keyword in keywords if keyword not in missing]


def test_every_kind_of_identifying_element_at_any_depth(make: Maker, tmp_path: Path) -> None:
    elements: dict[str, Any] = {
        **{keyword: f"{MARK}^{keyword[:20]}" for keyword in ["PatientName", *known(NAMES)]},
        **{keyword: f"{MARK[:3]}{k:03d}" for k, keyword in enumerate(["PatientID", *known(WORDS)])},
        **dict.fromkeys(known(DATES), "19610203"),
        **dict.fromkeys(known(TIMES), "112233"),
        **{keyword: f"1.2.3.987654.{k}" for k, keyword in enumerate(UIDS)},
        **OTHER,
        "AcquisitionDateTime": "19610203112233",
    }
    assert len(elements) > 100
    path = make(np.zeros((4, 4), np.uint8), f"{MARK}.dcm", **elements)
    ds = pydicom.dcmread(path)
    inner = item(**{k: v for k, v in elements.items() if k != "SOPInstanceUID"})
    ds.AnatomicRegionSequence = [item(AnatomicRegionModifierSequence=[inner], ImageComments=MARK)]
    ds.save_as(path)
    old = path.read_bytes()
    assert old.count(MARK.encode()) > 20
    new, content = run(path, tmp_path / "out")
    for mark in (MARK, MARK[:3], "19610203", "112233", "1.2.3.987654", "077Y", "71.73", "1.7373"):
        assert mark.encode() in old
        assert mark.encode() not in content, mark
    nested = new.AnatomicRegionSequence[0].AnatomicRegionModifierSequence[0]
    for holder in (new, nested):
        assert not holder.get("PatientSex") and "PatientAge" not in holder and "ImageComments" not in holder
    assert new.StudyDate == "" and new.StudyTime == ""
    assert new.Modality == "OT"


def test_the_table_is_that_of_the_standard() -> None:
    """Codes of the Basic Profile in PS3.15 Table E.1-1, read there."""
    expected = {
        "PatientName": "Z", "PatientID": "Z/D", "PatientBirthDate": "Z", "PatientSex": "Z", "PatientAge": "X",
        "AccessionNumber": "Z", "StudyInstanceUID": "U", "SOPInstanceUID": "U", "InstitutionName": "X/Z/D",
        "StudyDate": "Z", "ContentDate": "Z/D", "StudyDescription": "X", "ReferringPhysicianName": "Z",
        "DeviceSerialNumber": "X/Z/D", "OperatorsName": "X/Z/D", "SourceImageSequence": "X/Z/U*", "ProtocolName": "X/D",
        "RequestAttributesSequence": "X", "IconImageSequence": "X", "ContentSequence": "D",
    }  # fmt: skip
    assert {keyword: table()[keyword_dict[keyword]] for keyword in expected} == expected
    assert len(table()) > 600


TEXT = {"PN", "LO", "SH", "LT", "ST", "UT", "UC", "AE"}
LISTED = sorted(
    tag
    for tag, (vr, _, _, _, _) in DicomDictionary.items()
    if vr in TEXT and tag in table() and tag >> 16 not in (0, 2)
)
UNLISTED = sorted(
    tag
    for tag, (vr, _, _, _, keyword) in DicomDictionary.items()
    if vr in {"PN", "LT", "ST", "UC", "UT", "AE"}
    and tag not in table()
    and tag >> 16 > 8
    and "CodingScheme" not in keyword
    and keyword != "LongCodeValue"
)
KEPT_SEQUENCES = [
    "AnatomicRegionSequence",
    "SharedFunctionalGroupsSequence",
    "ReferencedImageSequence",
    "SourceImageSequence",
]
tags = st.lists(st.sampled_from(LISTED + UNLISTED), min_size=1, max_size=25, unique=True)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    top=tags, middle=tags, inner=tags, way=st.lists(st.sampled_from(KEPT_SEQUENCES), min_size=2, max_size=2)
)
def test_no_text_survives_wherever_it_stands(
    build: Callable[..., Dataset], top: list[int], middle: list[int], inner: list[int], way: list[str]
) -> None:
    from io import BytesIO

    def fill(ds: Dataset, chosen: list[int]) -> Dataset:
        for tag in chosen:
            vr = DicomDictionary[tag][0]
            ds.add_new(tag, vr, MARK if vr != "PN" else f"{MARK}^{MARK}=={MARK}")
        block = ds.private_block(0x0011, MARK, create=True)
        block.add_new(1, "LO", MARK)
        block.add_new(2, "SQ", [item(PatientName=MARK)])
        ds.add_new(0x00081FFF, "UN", MARK.encode())  # in no dictionary
        return ds

    ds = fill(build(np.zeros((2, 2), np.uint8), StudyInstanceUID="1.2.3"), top)
    second = fill(Dataset(), middle)
    setattr(second, way[1], [fill(Dataset(), inner)])
    setattr(ds, way[0], [second])
    done = deidentify(ds, Pseudonyms())
    stream = BytesIO()
    ds.save_as(stream, enforce_file_format=True)
    assert MARK.encode() not in stream.getvalue()
    assert MARK not in repr(done)
    assert len(getattr(ds, way[0])) == 1


@pytest.mark.parametrize(
    ("keyword", "kind", "value"),
    [
        ("PatientBirthDateInAlternativeCalendar", "LO", MARK),
        ("PotentialReasonsForProcedure", "UC", MARK),
        ("ExtendedCodeMeaning", "LO", MARK),  # of the dictionary LT
        ("RadiopharmaceuticalAdministrationEventUID", "LO", f"1.2.{MARK}"),
        ("EquivalentCodeSequence", "OB", MARK.encode()),
        ("DeidentificationMethodCodeSequence", "UT", MARK),
        ("PatientName", "OB", MARK.encode()),
    ],
)
def test_nothing_hides_in_what_the_table_does_not_list_or_in_a_wrong_kind(
    make: Maker, tmp_path: Path, keyword: str, kind: str, value: Any
) -> None:
    path = make(np.zeros((4, 4), np.uint8), "a.dcm")
    ds = pydicom.dcmread(path)
    for holder in (ds, item()):
        holder.pop(keyword, None)
        holder.add_new(keyword_dict[keyword], kind, value)
        ds.AnatomicRegionSequence = [holder] if holder is not ds else []
    ds.save_as(path)
    assert path.read_bytes().count(MARK.encode()) == 2
    assert MARK.encode() not in run(path, tmp_path / "out")[1]


def test_the_file_says_what_was_done(make: Maker, tmp_path: Path) -> None:
    path = make(np.zeros((2, 2), np.uint8), PatientName="Doe^Jane", PatientID="1", StudyDate="20240101")
    ds, _ = run(path, tmp_path / "out")
    assert ds.PatientIdentityRemoved == "YES" and ds.DeidentificationMethod.startswith("medseg ")
    (code,) = ds.DeidentificationMethodCodeSequence
    assert (code.CodeValue, code.CodingSchemeDesignator) == ("113100", "DCM")
    assert ds.LongitudinalTemporalInformationModified == "REMOVED"
    assert (
        ds.file_meta.MediaStorageSOPInstanceUID == ds.SOPInstanceUID != pydicom.dcmread(path).SOPInstanceUID
    )
    assert ds.PatientName == ds.PatientID and str(ds.PatientID).startswith("ANON-")


def test_meta_information_preamble_and_padding_go(make: Maker, tmp_path: Path) -> None:
    path = make(np.zeros((2, 2), np.uint8))
    ds = pydicom.dcmread(path)
    ds.file_meta.SourceApplicationEntityTitle = MARK
    ds.file_meta.PrivateInformationCreatorUID = pydicom.uid.UID("1.2.3")
    ds.file_meta.PrivateInformation = MARK.encode()
    ds.preamble = MARK.encode().ljust(128, b"\0")
    ds.add_new(0xFFFCFFFC, "OB", MARK.encode() + b"\0")
    ds.save_as(path)
    assert path.read_bytes().count(MARK.encode()) == 4
    _, content = run(path, tmp_path / "out")
    assert MARK.encode() not in content


def test_overlays_and_curves_go_with_all_of_their_group(make: Maker, tmp_path: Path) -> None:
    path = make(np.arange(16, dtype=np.uint16).reshape(4, 4) | 0x8000, BitsStored=12, HighBit=11)
    ds = pydicom.dcmread(path)
    ds.add_new(0x60000010, "US", 4)
    ds.add_new(0x60000100, "US", 16)
    ds.add_new(0x60000102, "US", 15)  # drawn into the highest bit of the pixels
    ds.add_new(0x60020022, "LO", MARK)
    ds.add_new(0x60023000, "OW", b"\xff\xff")
    ds.add_new(0x50003000, "OW", b"\xff\xff")
    ds.save_as(path)
    new, _ = run(path, tmp_path / "out")
    assert not [element for element in new if element.tag.group & 0xFF00 in (0x5000, 0x6000)]
    np.testing.assert_array_equal(np.frombuffer(new.PixelData, "<u2"), np.arange(16))


@pytest.mark.parametrize("shape", [(3, 3), (2, 4, 4)])
def test_what_follows_the_pixels_goes(make: Maker, tmp_path: Path, shape: tuple[int, ...]) -> None:
    pixels = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    path = make(pixels, "a.dcm", **({"NumberOfFrames": 2} if len(shape) == 3 else {}))
    ds = pydicom.dcmread(path)
    ds.PixelData += f"{MARK} ".encode()
    ds.save_as(path)
    new, content = run(path, tmp_path / "out")
    assert MARK.encode() not in content
    assert (new.pixel_array == pixels).all()


def test_pixels_stay_to_the_bit(make: Maker, tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 4096, (40, 37)).astype(np.uint16)
    path = make(values)
    ds = pydicom.dcmread(path)
    ds.compress(pydicom.uid.RLELossless)
    ds.save_as(path)
    new, _ = run(path, tmp_path / "out")
    assert new.file_meta.TransferSyntaxUID == pydicom.uid.RLELossless
    np.testing.assert_array_equal(new.pixel_array, values)


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99", ""])
def test_any_encoding_stays_what_it_is(build: Callable[..., Dataset], tmp_path: Path, syntax: str) -> None:
    values = np.arange(64, dtype=np.uint16).reshape(8, 8)
    ds, path = build(values, PatientName=f"{MARK}^{MARK}"), tmp_path / "a.dcm"
    if syntax == "1.2.840.10008.1.2.2":
        ds.PixelData = values.astype(">u2").tobytes()
    if syntax:
        ds.file_meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
        ds.save_as(path, enforce_file_format=True)
    else:  # as old devices write: no preamble, no meta information
        del ds.file_meta
        ds.save_as(path, implicit_vr=True, little_endian=True)
        assert path.read_bytes()[128:132] != b"DICM"
    new, content = run(path, tmp_path / "out")
    assert new.file_meta.TransferSyntaxUID == (syntax or "1.2.840.10008.1.2")
    np.testing.assert_array_equal(new.pixel_array, values)
    assert MARK.encode() not in content
    assert str(new.PatientName).startswith("ANON-")


def test_one_patient_keeps_one_pseudonym_and_references_their_targets(make: Maker, tmp_path: Path) -> None:
    study = generate_uid()
    values = np.zeros((2, 2), np.uint8)
    uids = [generate_uid(), generate_uid()]
    for k, (patient, uid) in enumerate([("P1", uids[0]), ("P1", uids[1]), ("P2", generate_uid())]):
        make(
            values, f"in/{k}.dcm", PatientID=patient, PatientName=f"{MARK}^{k}", StudyInstanceUID=study,
            SOPInstanceUID=uid, InstanceNumber=k,
            SourceImageSequence=[item(ReferencedSOPClassUID="1.2.840.10008.5.1.4.1.1.7", ReferencedSOPInstanceUID=uids[1 - k])]
            if k < 2 else [],
        )  # fmt: skip
    rows = deidentify_files(tmp_path / "in", tmp_path / "out")
    first, second, other = (pydicom.dcmread(tmp_path / "out" / str(row["output"])) for row in rows)
    assert first.PatientID == second.PatientID != other.PatientID
    assert first.StudyInstanceUID == second.StudyInstanceUID == other.StudyInstanceUID != study
    reference = first.SourceImageSequence[0]
    assert reference.ReferencedSOPInstanceUID == second.SOPInstanceUID
    assert reference.ReferencedSOPClassUID == "1.2.840.10008.5.1.4.1.1.7"
    again = deidentify_files(tmp_path / "in", tmp_path / "again")
    assert not {row["output"] for row in rows} & {row["output"] for row in again}


def test_the_list_says_what_was_done_and_no_value(make: Maker, tmp_path: Path) -> None:
    path = make(
        np.zeros((2, 2), np.uint8), f"{MARK}.dcm", PatientName=MARK, ImageComments=MARK, StudyDate="19610203"
    )
    ds = pydicom.dcmread(path)
    ds.private_block(0x0011, MARK, create=True).add_new(1, "LO", MARK)
    ds.AnatomicRegionSequence = [item(PatientAge="077Y"), item(PatientAge="078Y")]
    ds.save_as(path)
    run(path, tmp_path / "out")
    written = (tmp_path / "out" / "removed.csv").read_text()
    assert MARK not in written and "19610203" not in written and "077Y" not in written
    rows = {row["tag"]: row for row in csv.DictReader(written.splitlines())}
    assert (rows["(0010,0010)"]["keyword"], rows["(0010,0010)"]["action"]) == ("PatientName", "emptied")
    assert rows["(0020,4000)"]["action"] == rows["(0011,0010)"]["action"] == "removed"
    assert rows["(0011,0010)"]["keyword"] == ""
    assert (rows["(0008,2218)(0010,1010)"]["action"], rows["(0008,2218)(0010,1010)"]["elements"]) == (
        "removed",
        "2",
    )
    run(path, tmp_path / "out")
    twice = (tmp_path / "out" / "removed.csv").read_text().splitlines()
    assert len(twice) == 2 * len(written.splitlines()) - 1


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        ({"Modality": "CT"}, ""),
        ({"Modality": "US"}, "possible"),
        ({"Modality": "US", "BurnedInAnnotation": "NO"}, ""),
        ({"Modality": "CT", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "possible"),
        ({"Modality": "CT", "ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, "possible"),
        ({"Modality": "CT", "RecognizableVisualFeatures": "YES"}, "possible"),
    ],
)
def test_pixels_that_may_show_names_are_told(
    make: Maker, tmp_path: Path, elements: dict[str, Any], expected: str
) -> None:
    path = make(np.zeros((2, 2), np.uint8), **{"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2", **elements})
    (row,) = deidentify_files(path, tmp_path / "out")
    assert (row["burned_in"], row["outcome"]) == (expected, "written")


def test_pixels_that_show_names_are_refused_unless_allowed(make: Maker, tmp_path: Path) -> None:
    path = make(np.zeros((2, 2), np.uint8), BurnedInAnnotation="YES")
    (row,) = deidentify_files(path, tmp_path / "out")
    assert row["outcome"] == "failed" and "--allow-burned-in" in str(row["reason"])
    assert not list((tmp_path / "out").glob("*.dcm"))
    ds, _ = run(path, tmp_path / "out", allow_burned_in=True)
    assert ds.BurnedInAnnotation == "YES"


def test_bad_files_do_not_stop_the_rest(make: Maker, tmp_path: Path) -> None:
    good = make(np.zeros((2, 2), np.uint8), "in/b.dcm")
    cut = pydicom.dcmread(make(np.zeros((2, 2), np.uint8), "in/a.dcm"))
    del cut.PixelData
    cut.save_as(tmp_path / "in" / "a.dcm")
    report = pydicom.dcmread(make(np.zeros((2, 2), np.uint8), "in/c.dcm"))
    del report.PixelData, report.Rows
    report.save_as(tmp_path / "in" / "c.dcm")
    shutil.copy(good, tmp_path / "in" / "d.dcm")
    done = CliRunner().invoke(
        main, ["dicom", "deidentify", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--format", "csv"]
    )
    assert done.exit_code == 1
    outcomes = [row["outcome"] for row in csv.DictReader(done.stdout.splitlines())]
    assert outcomes == ["failed", "written", "skipped", "failed"]
    assert "UID of another file" in done.stdout
    assert len(list((tmp_path / "out").glob("*.dcm"))) == 1


def test_outputs_never_mix_with_inputs(make: Maker, tmp_path: Path) -> None:
    make(np.zeros((2, 2), np.uint8), "in/a.dcm")
    for out in (tmp_path / "in", tmp_path / "in" / "out", tmp_path):
        with pytest.raises(MedsegError, match="another folder, beside"):
            deidentify_files(tmp_path / "in", out)
    (tmp_path / "none").mkdir()
    with pytest.raises(MedsegError, match="holds no DICOM file"):
        deidentify_files(tmp_path / "none", tmp_path / "out")
    with pytest.raises(MedsegError, match="no such file"):
        deidentify_files(tmp_path / "nowhere", tmp_path / "out")


def faults_of(path: Path) -> set[str]:
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed (Debian: dicom3tools)")
    done = subprocess.run(
        ["dciodvfy", str(path)], capture_output=True, text=True, errors="replace", check=False
    )
    return {line.split(" <")[0] for line in done.stderr.splitlines() if line.startswith("Error")}


@pytest.mark.parametrize(
    "name", ["cr-15bit-monochrome1-j2k", "cxr-10bit-monochrome1", "mammography-12bit-j2k"]
)
def test_real_files_get_no_new_faults(shared_data: Path, tmp_path: Path, name: str) -> None:
    path = shared_data / "dicom" / f"{name}.dcm"
    (row,) = deidentify_files(path, tmp_path / "out")
    assert faults_of(tmp_path / "out" / str(row["output"])) <= faults_of(path)


def test_a_series_and_its_segmentation_stay_together(shared_data: Path, tmp_path: Path) -> None:
    import json

    from medseg.bundle.open import Bundle
    from medseg.data.dicom.volume import slices_of
    from medseg.data.sample import Label
    from medseg.predict.dicom_seg import read_dicom_seg, write_dicom_seg

    (tmp_path / "bundle" / "configs").mkdir(parents=True)
    (tmp_path / "bundle" / "configs" / "metadata.json").write_text(json.dumps({"version": "1"}))
    folder = tmp_path / "in"
    shutil.copytree(shared_data / "dicom" / "ct-series", folder)
    sources = [one.header.path for one in slices_of(sorted(folder.iterdir()))][:5]
    for path in set(folder.iterdir()) - set(sources):
        path.unlink()
    masks = np.zeros((5, 512, 512), np.uint8)
    for k in (0, 1, 3):
        masks[k, 100 : 200 + k, 50:90] = 1
    label = Label("mass", ("4147007", "SCT", "Mass"))
    write_dicom_seg(masks, sources, (label,), folder / "seg.dcm", bundle=Bundle(tmp_path / "bundle"))
    rows = {Path(str(row["file"])).name: row for row in deidentify_files(folder, tmp_path / "out")}
    assert {row["outcome"] for row in rows.values()} == {"written"}
    outputs = {name: tmp_path / "out" / str(row["output"]) for name, row in rows.items()}
    seg = pydicom.dcmread(outputs["seg.dcm"])
    images = [pydicom.dcmread(outputs[path.name], stop_before_pixels=True) for path in sources]
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID"):
        assert {ds[keyword].value for ds in [seg, *images]} == {seg[keyword].value}
    assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == images[0].SeriesInstanceUID
    referred = [
        group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        for group in seg.PerFrameFunctionalGroupsSequence
    ]
    assert sorted(referred) == sorted(images[k].SOPInstanceUID for k in (0, 1, 3))
    assert faults_of(outputs["seg.dcm"]) == set()
    np.testing.assert_array_equal(read_dicom_seg(outputs["seg.dcm"]), masks)
