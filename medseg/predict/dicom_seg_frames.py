"""Frames of a DICOM SEG whose sources have no place in the patient: each refers to its source frame, and no more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medseg.predict.dicom_seg_sources import Frame, Sources

if TYPE_CHECKING:
    from highdicom.seg import Segmentation
    from pydicom.dataset import Dataset

FRAME_LABEL = 0x00209453
FRAME_CONTENT = 0x00209111


def spread(segmentation: Segmentation, masks: np.ndarray, origin: Sources) -> None:
    """Give a SEG of the first frame all frames, one for each segment and source frame.

    Without places a SEG needs the Derivation Image of each frame (PS3.3 A.51.5.1). Its dimensions (C.7.6.17) are the
    segment and the Frame Label, which is the number of the source frame among all, from 1: nothing is known of an
    order in space or time.

    Args:
        segmentation: of the first frame, as highdicom made it; it is changed.
        masks: ``(D, H, W)`` uint8.
        origin: the sources.
    """
    from pydicom.pixels import pack_bits

    if len(origin.frames) == 1 and not origin.frames[0].number:
        return
    segments = [int(item.SegmentNumber) for item in segmentation.SegmentSequence]
    pairs = [
        (segment, frame)
        for segment in segments
        for frame in range(len(masks))
        if not masks.any() or (masks[frame] == segment).any()
    ]
    shared = "SegmentIdentificationSequence" in segmentation.SharedFunctionalGroupsSequence[0]
    example = segmentation.PerFrameFunctionalGroupsSequence[0]
    segmentation.PerFrameFunctionalGroupsSequence = [
        _groups(example, segment, frame, origin, shared) for segment, frame in pairs
    ]
    segmentation.DimensionIndexSequence.append(_dimension(segmentation.DimensionIndexSequence[0]))
    segmentation.NumberOfFrames = len(pairs)
    planes = np.stack([masks[frame] == segment for segment, frame in pairs])
    segmentation.PixelData = pack_bits(planes.astype(np.uint8), pad=True)


def _dimension(first: Dataset) -> Dataset:
    from pydicom.dataset import Dataset

    item = Dataset()
    item.DimensionOrganizationUID = first.DimensionOrganizationUID
    item.DimensionIndexPointer = FRAME_LABEL
    item.FunctionalGroupPointer = FRAME_CONTENT
    item.DimensionDescriptionLabel = "Source frame"
    return item


def _groups(example: Dataset, segment: int, frame: int, origin: Sources, shared: bool) -> Dataset:
    """The functional groups of one frame."""
    from pydicom.dataset import Dataset

    content = Dataset()
    content.DimensionIndexValues = [segment, frame + 1]
    content.FrameLabel = str(frame + 1)
    item = Dataset()
    item.FrameContentSequence = [content]
    item.DerivationImageSequence = [_derivation(example, origin.frames[frame], origin)]
    if not shared:  # of a single segment it may be, by the version of highdicom
        identification = Dataset()
        identification.ReferencedSegmentNumber = segment
        item.SegmentIdentificationSequence = [identification]
    return item


def _derivation(example: Dataset, frame: Frame, origin: Sources) -> Dataset:
    from pydicom.dataset import Dataset

    made = example.DerivationImageSequence[0]
    source = Dataset()
    source.ReferencedSOPClassUID = origin.classes[frame.source]
    source.ReferencedSOPInstanceUID = origin.instances[frame.source]
    source.PurposeOfReferenceCodeSequence = made.SourceImageSequence[0].PurposeOfReferenceCodeSequence
    source.SpatialLocationsPreserved = "YES"
    if frame.number:
        source.ReferencedFrameNumber = frame.number
    item = Dataset()
    item.DerivationCodeSequence = made.DerivationCodeSequence
    item.SourceImageSequence = [source]
    return item
