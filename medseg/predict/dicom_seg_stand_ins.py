"""What highdicom is told of the sources of a DICOM SEG in their stead."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.predict.dicom_seg_sources import Sources

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

#: classes under which highdicom takes what it must know of the sources; references name the true ones
COMPUTED_RADIOGRAPHY = "1.2.840.10008.5.1.4.1.1.1"
CT = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
#: required of every SEG, empty where the source has none (PS3.3 C.7.1.1, C.7.2.1)
TYPE_2 = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
)


def stand_ins(origin: Sources) -> list[Dataset]:
    """What highdicom must know of the sources, and nothing that it could stumble over.

    It holds the identity, size and place of frames. Broken or overlong values of patient and study, and classes that
    highdicom does not know, never reach it: ``dicom_seg`` copies context and classes into the SEG.
    """
    stands = [_stand_in(origin, number) for number in range(len(origin.headers))]
    places = origin.places
    if places is None:
        return stands
    if origin.frames[0].number:
        stands[0].SOPClassUID = ENHANCED_CT
        stands[0].NumberOfFrames = len(origin.frames)
        orientation = [_group(ImageOrientationPatient=_decimals(places.orientation))]
        measures = [_measured(_group(), origin)]
        shared = _group(PixelMeasuresSequence=measures, PlaneOrientationSequence=orientation)
        stands[0].SharedFunctionalGroupsSequence = [shared]
        stands[0].PerFrameFunctionalGroupsSequence = [
            _group(PlanePositionSequence=[_group(ImagePositionPatient=_decimals(place))])
            for place in places.positions
        ]
    else:
        for stand, place in zip(stands, places.positions, strict=True):
            stand.SOPClassUID = CT
            stand.ImageOrientationPatient = _decimals(places.orientation)
            stand.ImagePositionPatient = _decimals(place)
    for stand in stands:
        stand.FrameOfReferenceUID = places.frame_of_reference
        stand.PositionReferenceIndicator = None
    return stands


def _stand_in(origin: Sources, number: int) -> Dataset:
    stand = _group(**dict.fromkeys(TYPE_2))
    stand.SOPClassUID = COMPUTED_RADIOGRAPHY
    stand.SOPInstanceUID = origin.instances[number]
    stand.StudyInstanceUID, stand.SeriesInstanceUID = origin.study, origin.series
    stand.Modality = "OT"
    stand.Rows, stand.Columns = origin.rows, origin.columns
    return _measured(stand, origin)


def _measured(item: Dataset, origin: Sources) -> Dataset:
    places = origin.places
    measures = (*places.spacing, places.thickness) if places else origin.measures
    if measures is not None:
        rows, columns, item.SliceThickness = _decimals(measures)
        item.PixelSpacing = [rows, columns]
    return item


def _group(**elements: Any) -> Dataset:
    from pydicom.dataset import Dataset

    item = Dataset()
    for keyword, value in elements.items():
        setattr(item, keyword, value)
    return item


def _decimals(values: Sequence[float] | np.ndarray) -> list[Any]:
    """Numbers as decimal strings, of 16 characters at most (PS3.5 6.2)."""
    from pydicom.valuerep import DSfloat

    return [DSfloat(float(value), auto_format=True) for value in values]
