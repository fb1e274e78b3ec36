"""Masks of DICOM images as a DICOM Segmentation (SEG, PS3.3 A.51), for the same patient and study."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import medseg
from medseg.bundle.open import Bundle
from medseg.data.dicom.elements import text, whole
from medseg.data.dicom.header import guarded
from medseg.data.faults import FileFault
from medseg.data.sample import Label
from medseg.errors import MedsegError
from medseg.predict.dicom_seg_frames import spread
from medseg.predict.dicom_seg_labels import describe, plain, version_of
from medseg.predict.dicom_seg_sources import Sources, read_sources
from medseg.predict.dicom_seg_stand_ins import COMPUTED_RADIOGRAPHY, TYPE_2, stand_ins
from medseg.results import atomic_write

if TYPE_CHECKING:
    from highdicom.seg import Segmentation, SegmentDescription
    from pydicom.dataset import Dataset

LOSSY = ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod")


def write_dicom_seg(
    masks: np.ndarray, sources: Sequence[Path], labels: tuple[Label, ...], path: Path, *, bundle: Bundle
) -> None:
    """Write masks as a binary DICOM SEG that refers to its sources frame by frame.

    Patient and study are those of the sources, as they stand there; series and instance are new. Where all frames
    have a place in the patient, the SEG has the same places; where they have none, as in most radiographs and
    ultrasound, it has none either, and only refers to the frames (PS3.3 A.51.5.1). Frames without a lesion are left
    out; where there is no lesion at all, every segment has all its frames, empty.

    Args:
        masks: ``(D, H, W)`` uint8: 0 background, ``k`` the label number ``k`` from 1.
        sources: one single- or multi-frame file, or the slices of a series, in the order of the masks.
        labels: in the order of their values.
        path: the file to write, at once.
        bundle: named as the algorithm, with its version.

    Raises:
        MedsegError: masks do not fit the sources or the labels.
        FileFault: a source is broken, does not belong to the first, or has no identity to refer to.
    """
    origin = read_sources(sources)
    _check(masks, origin, labels)
    segments = describe(labels, bundle)
    with guarded(sources[0], "making a DICOM SEG", tell=False):
        segmentation = _build(masks, origin, labels, segments, bundle)
    with atomic_write(path, "wb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        segmentation.save_as(file, enforce_file_format=True)


def read_dicom_seg(path: Path) -> np.ndarray:
    """Masks of a DICOM SEG, ``(D, H, W)`` uint8, a mask for each source image or frame that it has frames of.

    They come in the order of the sources: by file, then by frame, as the SEG lists them.

    Raises:
        FileFault: it is no SEG, or a broken one.
    """
    from medseg.data.dicom.header import open_header

    header = open_header(path)
    if header.dataset.get("Modality") != "SEG":
        raise FileFault(path, "is no DICOM SEG", "give a segmentation")
    with guarded(path, "reading the DICOM SEG"):
        return _read(path)


def _read(path: Path) -> np.ndarray:
    from highdicom.seg import segread

    segmentation = segread(path)
    segments = list(segmentation.segment_numbers)
    listed = segmentation.get("SourceImageSequence") or []
    uids = [str(item.ReferencedSOPInstanceUID) for item in listed]
    uids = uids or [str(uids[2]) for uids in segmentation.get_source_image_uids()]
    referred = [
        int(item.ReferencedFrameNumber)
        for group in segmentation.PerFrameFunctionalGroupsSequence
        for derivation in group.DerivationImageSequence
        for item in derivation.SourceImageSequence
        if "ReferencedFrameNumber" in item
    ]
    options: dict[str, Any] = {
        "segment_numbers": segments,
        "combine_segments": True,
        "assert_missing_frames_are_empty": True,
        "ignore_spatial_locations": True,
    }
    if not referred:
        return segmentation.get_pixels_by_source_instance(uids, **options).astype(np.uint8)
    return segmentation.get_pixels_by_source_frame(uids[0], sorted(set(referred)), **options).astype(np.uint8)


def _check(masks: np.ndarray, origin: Sources, labels: Sequence[Label]) -> None:
    needed = (len(origin.frames), origin.rows, origin.columns)
    if masks.shape != needed:
        seen = "x".join(map(str, masks.shape))
        raise MedsegError(
            f"masks are {seen}, {origin.headers[0].path.name} needs {'x'.join(map(str, needed))} "
            "(frames x height x width); give a mask for each frame at its own size"
        )
    if masks.dtype != np.uint8:
        raise MedsegError(f"masks are {masks.dtype}; give uint8, 0 for the background and k for label k")
    if not labels:
        raise MedsegError("a DICOM SEG needs at least one label")
    if masks.size and masks.max() > len(labels):
        raise MedsegError(f"masks go to {masks.max()}, there are {len(labels)} labels; name every value")


def _build(
    masks: np.ndarray,
    origin: Sources,
    labels: Sequence[Label],
    segments: Sequence[SegmentDescription],
    bundle: Bundle,
) -> Segmentation:
    from highdicom.seg import Segmentation
    from pydicom.uid import generate_uid

    stands = stand_ins(origin)
    placed = origin.places is not None
    # frames without a place are highdicom's one by one only: the first, to which ``spread`` adds the others
    drawn = masks if placed else masks[:1]
    segmentation = Segmentation(
        source_images=stands if placed else stands[:1],
        further_source_images=None if placed else stands[1:],
        pixel_array=drawn,
        segmentation_type="BINARY",
        segment_descriptions=segments,
        omit_empty_frames=bool(drawn.any()),
        series_instance_uid=generate_uid(prefix=None),
        series_number=_series_number(origin),
        sop_instance_uid=generate_uid(prefix=None),
        instance_number=1,
        manufacturer="medseg",
        manufacturer_model_name=plain(bundle.name) or "medseg",
        software_versions=medseg.__version__,
        device_serial_number=version_of(bundle),
        content_label="SEGMENTATION",
        content_description=plain(f"{', '.join(label.name for label in labels)} by {bundle.name}"),
        series_description=plain(f"medseg {bundle.name}"),
    )
    if not placed:
        spread(segmentation, masks, origin)
        segmentation.PatientOrientation = _patient_orientation(origin)
    # the last byte, and the byte that makes their number even, end in zeros (PS3.5 8.1.1)
    used = -(-int(segmentation.NumberOfFrames) * origin.rows * origin.columns // 8)
    segmentation.PixelData = segmentation.PixelData[:used] + b"\0" * (used % 2)
    _name_classes(segmentation, origin)
    _copy_context(segmentation, origin, labels, bundle)
    return segmentation


def _patient_orientation(origin: Sources) -> list[str] | None:
    """Where rows and columns lead, as all sources say it; required, perhaps empty, without places (PS3.3 C.7.6.1)."""
    found = {text(header.dataset, "PatientOrientation", header.path) for header in origin.headers}
    directions = found.pop().split("\\") if len(found) == 1 else []
    return directions if len(directions) == 2 and all(directions) else None


def _series_number(origin: Sources) -> int:
    try:
        own = whole(origin.first, "SeriesNumber", origin.headers[0].path, 0)
    except FileFault:
        own = 0
    return 1000 + max(0, min(own, 10**9))


def _name_classes(segmentation: Segmentation, origin: Sources) -> None:
    """References name the true classes of the sources."""
    classes = dict(zip(origin.instances, origin.classes, strict=True))

    def name(dataset: Dataset, element: Any) -> None:
        if element.keyword == "ReferencedSOPInstanceUID" and str(element.value) in classes:
            dataset.ReferencedSOPClassUID = classes[str(element.value)]

    segmentation.walk(name)


def _copy_context(
    segmentation: Segmentation, origin: Sources, labels: Sequence[Label], bundle: Bundle
) -> None:
    """Patient and study as they stand in the source, character set included (PS3.3 C.7.1, C.7.2, C.12.1.1.2).

    What we add is ASCII nearly always; where it is not, all text is written as UTF-8.
    """
    source = origin.first
    for tag in list(source.keys()):
        try:
            source[tag]
        except Exception:  # not of its kind; pydicom documents no closed list of what it raises
            del source[tag]
    source.decode()
    source.SOPInstanceUID, source.SOPClassUID = origin.instances[0], COMPUTED_RADIOGRAPHY
    segmentation.copy_patient_and_study_information(source)
    segmentation.StudyInstanceUID = origin.study
    for keyword in TYPE_2:
        if keyword not in segmentation:
            setattr(segmentation, keyword, None)
    references = {text(header.dataset, "FrameOfReferenceUID", header.path) for header in origin.headers}
    shared = ("FrameOfReferenceUID", "PositionReferenceIndicator") if len(references) == 1 else ()
    for keyword in (*LOSSY, *shared):
        if source.get(keyword) not in (None, ""):
            segmentation[keyword] = source[keyword]
    if "FrameOfReferenceUID" in segmentation and "PositionReferenceIndicator" not in segmentation:
        segmentation.PositionReferenceIndicator = None
    names = [bundle.name, version_of(bundle), *(label.name for label in labels)]
    meanings = [label.code[2] for label in labels if label.code]
    if not all(words.isascii() for words in names + meanings):
        segmentation.SpecificCharacterSet = "ISO_IR 192"
    elif source.get("SpecificCharacterSet"):
        segmentation["SpecificCharacterSet"] = source["SpecificCharacterSet"]
