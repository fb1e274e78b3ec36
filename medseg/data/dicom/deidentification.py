"""DICOM images without what identifies the patient (PS3.15 Annex E, Basic Profile), and a list of what was done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import medseg
from medseg.data.dicom.deidentification_profile import EMPTIED, REMOVED, REPLACED, Pseudonyms, clean
from medseg.data.dicom.elements import text
from medseg.data.dicom.header import BIG_ENDIAN, Header, guarded, open_header
from medseg.data.dicom.identity import read_context, read_identity
from medseg.data.dicom.summary import found_files
from medseg.data.faults import FileFault
from medseg.errors import MedsegError
from medseg.results import atomic_write

if TYPE_CHECKING:
    from pydicom.dataset import Dataset, FileMetaDataset

COLUMNS = (
    "file", "output", "images", REMOVED, EMPTIED, REPLACED, "burned_in", "outcome", "reason",
)  # fmt: skip
#: the list beside the outputs, and its columns
LIST = "removed.csv"
LIST_COLUMNS = ("output", "tag", "keyword", "action", "elements")
#: modalities whose pixels often show names: ultrasound, endoscopy, photographs, scanned and captured images
RISKY = frozenset({"BDUS", "DOC", "ES", "GM", "IVUS", "OP", "OT", "SC", "SM", "US", "XC"})
CAPTURED = "1.2.840.10008.5.1.4.1.1.7"
#: DCM code of the profile (PS3.16 CID 7050)
PROFILE = ("113100", "DCM", "Basic Application Confidentiality Profile")
#: what every output says anew
SAID = (
    "PatientName", "PatientID", "PatientIdentityRemoved", "DeidentificationMethod",
    "DeidentificationMethodCodeSequence", "LongitudinalTemporalInformationModified",
)  # fmt: skip
Progress = Callable[[int, int], None]


@dataclass
class Deidentification:
    """One run: its pseudonyms, which are forgotten at its end, and what it did.

    Args:
        target: folder of the outputs.
        allow_burned_in: take files that say themselves that names are burned into their pixels.
        pseudonyms: the same for the same UID and patient in all files.
        rows: of ``COLUMNS``.
        done: of ``LIST_COLUMNS``.
    """

    target: Path
    allow_burned_in: bool = False
    pseudonyms: Pseudonyms = field(default_factory=Pseudonyms, repr=False)
    rows: list[dict[str, object]] = field(default_factory=list, repr=False)
    done: list[tuple[object, ...]] = field(default_factory=list, repr=False)

    def take(self, path: Path) -> None:
        """De-identify one file; whatever is wrong with it is noted."""
        row: dict[str, object] = dict.fromkeys(COLUMNS, "")
        row |= {"file": str(path), "outcome": "failed"}
        self.rows.append(row)
        try:
            self._take(path, row)
        except FileFault as fault:
            row["reason"] = f"{fault.reason}; {fault.cure}"
        except OSError as error:
            row["reason"] = f"cannot be written ({error.strerror or type(error).__name__})"
        except MemoryError:
            row["reason"] = "needs more memory than there is"

    def _take(self, path: Path, row: dict[str, object]) -> None:
        header = open_header(path)
        if not header.keyword:
            if "Rows" in header.dataset:
                raise FileFault(path, "holds no pixel data", "replace it")
            why = "holds no image; reports, documents and plans are not cleaned"
            row |= {"outcome": "skipped", "reason": why}
            return
        row["burned_in"] = burned_in(header)
        if row["burned_in"] == "yes" and not self.allow_burned_in:
            raise FileFault(
                path,
                "(0028,0301) Burned In Annotation is YES: names may stand in its pixels",
                "black them out, or take it with --allow-burned-in",
            )
        with guarded(path, "de-identifying", tell=False):
            dataset = _whole(path, header)
            done = deidentify(dataset, self.pseudonyms)
            output = self.target / f"{dataset.SOPInstanceUID}.dcm"
            if output.exists():
                raise FileFault(
                    path, "has the SOP Instance UID of another file of this run", "keep one of them"
                )
            with atomic_write(output, "wb") as file:
                dataset.save_as(file, enforce_file_format=True)
        counts = Counter(done)
        self.done += [(output.name, *what, counts[what]) for what in sorted(counts)]
        actions = Counter(what[2] for what in done)
        row |= {action: actions[action] for action in (REMOVED, EMPTIED, REPLACED)}
        row |= {
            "output": output.name,
            "images": int(dataset.get("NumberOfFrames") or 1),
            "outcome": "written",
        }


def deidentify_files(
    source: Path, target: Path, allow_burned_in: bool = False, progress: Progress = lambda done, total: None
) -> list[dict[str, object]]:
    """De-identify one DICOM image, or all below a folder; a bad file is noted and the rest goes on.

    UIDs and patients become the same pseudonyms in all files of the call, so that series, and segmentations with
    their images, stay together; what replaced what is not kept. Outputs are named by their new SOP Instance UIDs.
    ``removed.csv`` among them lists each element that was changed and how, without a value; another run into the
    same folder is added to it.

    Args:
        source: a file or folder.
        target: folder of the outputs; neither in the source nor around it.
        allow_burned_in: take files whose Burned In Annotation (0028,0301) is YES.
        progress: is told how many of how many are done.

    Returns:
        A row of ``COLUMNS`` per file.

    Raises:
        MedsegError: the source is missing or holds no DICOM file, or the target lies in it or around it.
    """
    one, other = source.resolve(), target.resolve()
    # originals and clean files below one folder would be passed on together
    mixed = source.is_dir() and (one.is_relative_to(other) or other.is_relative_to(one))
    if mixed or (target.exists() and not target.is_dir()):
        raise MedsegError(f"{target}: give another folder, beside {source}, for what is de-identified")
    files = list(found_files([source]))
    if not files:
        raise MedsegError(f"{source}: holds no DICOM file")
    run = Deidentification(target, allow_burned_in)
    try:
        for number, file in enumerate(files, 1):
            run.take(file)
            progress(number, len(files))
    finally:
        _write_list(target / LIST, run.done)
    return run.rows


def deidentify(dataset: Dataset, pseudonyms: Pseudonyms) -> list[tuple[str, str, str]]:
    """Apply the profile to a whole data set, in place, and say so in it (PS3.15 E.1.1, PS3.3 C.12.1.1.7).

    Returns:
        Tag, keyword and action of each element changed, see ``deidentification_profile.clean``.
    """
    from pydicom.dataset import Dataset

    patient = pseudonyms.patient(dataset)
    _cut_rest(dataset)
    _clear_unused_bits(dataset)
    done = clean(dataset, pseudonyms)
    for keyword in SAID:  # what is there may be of a wrong kind
        dataset.pop(keyword, None)
    dataset.PatientName, dataset.PatientID = patient, patient
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = PROFILE
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = f"medseg {medseg.__version__}, PS3.15 Basic Profile"
    dataset.DeidentificationMethodCodeSequence = [code]
    dataset.LongitudinalTemporalInformationModified = "REMOVED"
    dataset.file_meta = _meta(dataset)
    dataset.preamble = b"\0" * 128
    return done


def burned_in(header: Header) -> str:
    """Whether names may stand in the pixels: ``yes`` by the file's word, ``possible`` by its kind, else empty.

    Possible are modalities that put text into pixels, screen and secondary captures, and visible faces.
    """
    dataset, path = header.dataset, header.path
    said = text(dataset, "BurnedInAnnotation", path).upper()
    if said == "YES":
        return "yes"
    seen = text(dataset, "RecognizableVisualFeatures", path).upper() == "YES"
    if said == "NO":
        return "possible" if seen else ""
    kinds = text(dataset, "ImageType", path).upper()
    captured = text(dataset, "SOPClassUID", path).startswith(CAPTURED) or "ConversionType" in dataset
    modality = text(dataset, "Modality", path).upper()
    return "possible" if seen or captured or "SCREEN" in kinds or modality in RISKY else ""


def _whole(path: Path, header: Header) -> Dataset:
    """The file with its pixels, and with all of its UIDs; what it inflates to was checked with the header."""
    from pydicom import dcmread
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import UID

    dataset = dcmread(path, force=True)
    if header.keyword not in dataset:
        raise FileFault(path, "ends before its pixels do", "replace it")
    for keyword in ("SOPClassUID", "SOPInstanceUID"):
        setattr(dataset, keyword, read_identity(header, keyword))
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID"):
        setattr(dataset, keyword, read_context(header, keyword))
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(header.syntax)
    return dataset


def _meta(dataset: Dataset) -> FileMetaDataset:
    """New meta information: the old one names stations and, in private elements, anything (PS3.10 7.1)."""
    from pydicom.dataset import FileMetaDataset

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = dataset.file_meta.TransferSyntaxUID
    return meta


def _cut_rest(dataset: Dataset) -> None:
    """Cut off what follows the pixels of an uncompressed image within their element: no viewer shows it."""
    if dataset.file_meta.TransferSyntaxUID.is_compressed or "PixelData" not in dataset:
        return
    bits = int(dataset.get("NumberOfFrames") or 1)
    for keyword in ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated"):
        bits *= int(dataset.get(keyword) or 0)
    size = -(-bits // 8)
    if 0 < size + size % 2 < len(dataset.PixelData):
        dataset.PixelData = dataset.PixelData[:size] + b"\0" * (size % 2)


def _clear_unused_bits(dataset: Dataset) -> None:
    """Overlays of old files lie in the bits above those of the pixels (PS3.3 C.9.2, retired): set these to 0."""
    import numpy as np

    bits = [
        element.value
        for element in dataset
        if element.tag.group & 0xFF00 == 0x6000 and element.tag.element == 0x0102
    ]
    syntax = dataset.file_meta.TransferSyntaxUID
    allocated, stored = int(dataset.get("BitsAllocated") or 0), int(dataset.get("BitsStored") or 0)
    if not any(bits) or syntax.is_compressed or allocated != 16 or "PixelData" not in dataset:
        return
    high = int(dataset.get("HighBit", stored - 1))
    mask = ((1 << stored) - 1) << (high - stored + 1)
    order = ">u2" if syntax == BIG_ENDIAN else "<u2"
    pixels = np.frombuffer(dataset.PixelData, order) & np.array(mask, order)
    dataset.PixelData = pixels.astype(order).tobytes()


def _write_list(path: Path, done: Iterable[tuple[object, ...]]) -> None:
    """Add to the list, at once."""
    import csv

    rows = list(done)
    if not rows:
        return
    before = path.read_text(encoding="utf-8") if path.is_file() else ",".join(LIST_COLUMNS) + "\n"
    with atomic_write(path) as file:
        file.write(before)
        csv.writer(file, lineterminator="\n").writerows(rows)
