"""The images that a DICOM SEG is drawn upon: who they belong to, and where their frames lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medseg.data.dicom.elements import group_item, named, numbers, text
from medseg.data.dicom.geometry import read_plane
from medseg.data.dicom.header import Header, open_header
from medseg.data.dicom.identity import is_uid, read_context, read_identity
from medseg.data.dicom.stored import read_layout
from medseg.data.faults import FileFault
from medseg.errors import MedsegError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

#: how far direction cosines of frames that share one orientation may differ: 0.05 mm at half a metre
COSINES = 1e-4


@dataclass(frozen=True)
class Frame:
    """One frame of a source.

    Args:
        source: number of its file, from 0.
        number: of the frame within a multi-frame file, from 1; 0 for a file of one image.
    """

    source: int
    number: int


@dataclass(frozen=True, eq=False)
class Places:
    """Where frames lie in the patient (PS3.3 C.7.6.2).

    Args:
        frame_of_reference: its UID.
        positions: ``(D, 3)``, of the middle of each frame's first pixel, in mm.
        orientation: six direction cosines, the same for all frames.
        spacing: distance of rows and of columns, in mm.
        thickness: of a slice in mm; the distance to the next where the file does not say.
    """

    frame_of_reference: str
    positions: np.ndarray
    orientation: tuple[float, ...]
    spacing: tuple[float, float]
    thickness: float


@dataclass(frozen=True, eq=False)
class Sources:
    """The files of one series, or one multi-frame file, in the order of the masks.

    Args:
        headers: of the files.
        classes: SOP class UID of each file.
        instances: SOP instance UID of each file.
        study: study instance UID.
        series: series instance UID.
        rows: height of every frame in pixels.
        columns: width.
        frames: of all files.
        places: of the frames; nothing where they are unknown, or do not tell frames apart.
        measures: distance of rows and of columns in the patient, and thickness, in mm; nothing where one is unknown,
            since readers, highdicom's among them, want all three.
    """

    headers: tuple[Header, ...] = field(repr=False)
    classes: tuple[str, ...]
    instances: tuple[str, ...]
    study: str
    series: str
    rows: int
    columns: int
    frames: tuple[Frame, ...]
    places: Places | None
    measures: tuple[float, float, float] | None

    @property
    def first(self) -> Dataset:
        """The data set of the first file."""
        return self.headers[0].dataset


def read_sources(paths: Sequence[Path]) -> Sources:
    """Read the headers of one single- or multi-frame file, or of the slices of one series.

    Raises:
        MedsegError: there is no path.
        FileFault: a file is broken, of another size, study or series than the first, or lacks an identity.
    """
    if not paths:
        raise MedsegError("a DICOM SEG needs at least one source image")
    headers = tuple(open_header(path) for path in paths)
    layouts = [read_layout(header) for header in headers]
    first = layouts[0]
    for header, layout in zip(headers, layouts, strict=True):
        if (layout.rows, layout.columns) != (first.rows, first.columns):
            seen = f"is {layout.columns}x{layout.rows}, {headers[0].path.name} of the same series is "
            seen += f"{first.columns}x{first.rows} (width x height)"
            raise FileFault(header.path, seen, "give each size its own DICOM SEG")
        if len(headers) > 1 and layout.frames > 1:
            seen = f"has {layout.frames} frames, and there are other files with it"
            raise FileFault(header.path, seen, "give a multi-frame file its own DICOM SEG")
        _check_same(header, headers[0])
    frames = tuple(
        Frame(source, number + 1 if layout.frames > 1 else 0)
        for source, layout in enumerate(layouts)
        for number in range(layout.frames)
    )
    return Sources(
        headers,
        tuple(read_identity(header, "SOPClassUID") for header in headers),
        tuple(read_identity(header, "SOPInstanceUID") for header in headers),
        read_context(headers[0], "StudyInstanceUID"),
        read_context(headers[0], "SeriesInstanceUID"),
        first.rows,
        first.columns,
        frames,
        _places(headers, frames),
        _own_measures(headers[0]),
    )


def _check_same(header: Header, first: Header) -> None:
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID"):
        if text(header.dataset, keyword, header.path) != text(first.dataset, keyword, first.path):
            seen = f"{named(keyword)} is not that of {first.path.name}"
            raise FileFault(header.path, seen, "give each series its own DICOM SEG")


def _places(headers: Sequence[Header], frames: Sequence[Frame]) -> Places | None:
    """Where frames lie, if all of them say so, in one orientation and spacing, no two at one place."""
    first = headers[0]
    reference = text(first.dataset, "FrameOfReferenceUID", first.path)
    if not is_uid(reference):
        return None
    try:
        planes = [read_plane(headers[f.source], max(f.number - 1, 0)) for f in frames]
    except FileFault:
        return None
    found = [_spacing(headers[f.source], max(f.number - 1, 0)) for f in frames]
    spacings = [spacing for spacing in found if spacing is not None]
    known = all(plane.position is not None and plane.along is not None for plane in planes)
    if not known or len(spacings) < len(frames):
        return None
    positions = np.array([plane.position for plane in planes])
    along = np.array([plane.along for plane in planes])
    same_reference = all(
        text(header.dataset, "FrameOfReferenceUID", header.path) == reference for header in headers
    )
    alike = np.allclose(along, along[0], atol=COSINES) and np.allclose(spacings, spacings[0], rtol=1e-4)
    if not (same_reference and alike) or len(np.unique(positions.round(4), axis=0)) < len(positions):
        return None
    thickness = _thickness(first) or _distance(positions, planes[0].normal)
    if thickness is None:
        return None
    orientation = tuple(float(cosine) for cosine in along[0].ravel())
    return Places(reference, positions, orientation, spacings[0], thickness)


def _distance(positions: np.ndarray, normal: np.ndarray) -> float | None:
    """Distance of the two slices nearest to each other along their normal, in mm."""
    heights = np.sort(positions @ normal)
    steps = np.diff(heights)
    return float(steps.min()) if len(steps) and steps.min() > 0.001 else None


def _own_measures(header: Header) -> tuple[float, float, float] | None:
    spacing, thickness = _spacing(header, 0), _thickness(header)
    return (*spacing, thickness) if spacing and thickness else None


def _measures(header: Header, frame: int) -> Dataset:
    own = group_item(header.dataset, "PixelMeasuresSequence", frame, header.path)
    return header.dataset if own is None else own


def _spacing(header: Header, frame: int) -> tuple[float, float] | None:
    """Pixel spacing in the patient alone: distances at a detector (PS3.3 10.7.1.3) are no Pixel Measures."""
    try:
        found = numbers(_measures(header, frame), "PixelSpacing", header.path)
    except FileFault:
        return None
    return (found[0], found[1]) if len(found) == 2 and min(found) > 0 else None


def _thickness(header: Header) -> float | None:
    for keyword in ("SliceThickness", "SpacingBetweenSlices"):
        try:
            found = numbers(_measures(header, 0), keyword, header.path)
        except FileFault:
            continue
        if found and found[0] > 0:
            return found[0]
    return None
