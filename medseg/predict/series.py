"""Which DICOM files belong together: slices of one series whose places form a volume (PS3.3 C.7.6.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medseg.data.dicom.elements import text
from medseg.data.dicom.geometry import Plane, order, read_plane
from medseg.data.dicom.header import open_header
from medseg.data.dicom.stored import read_layout
from medseg.data.faults import FileFault

#: objects with pixels that are no images of the patient (PS3.4 B.5): segmentations, and their label maps
SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
#: of a file that cannot be read so far
NOWHERE = Plane(None, None, (1.0, 1.0), 1.0)


@dataclass(frozen=True)
class Slice:
    """A file of one frame that knows its place, or what is wrong with it."""

    path: Path
    size: tuple[int, int]
    colour: bool
    plane: Plane
    fault: FileFault | None = None


def no_image(path: Path) -> str:
    """Why a DICOM file is no image; empty for images, and for files that cannot be read."""
    try:
        header = open_header(path)
        kind = text(header.dataset, "SOPClassUID", path)
    except FileFault:
        return ""
    if kind in SEGMENTATIONS:
        return "is a segmentation, no image"
    if header.keyword or "Rows" in header.dataset or not kind:
        return ""
    from pydicom.uid import UID

    # an image that was cut before its pixels is told as a fault, not passed over
    name = UID(kind).name
    return "" if "Image Storage" in name else f"holds no image ({name})"


def volumes_of(files: Sequence[Path]) -> tuple[dict[Path, tuple[Path, ...]], dict[Path, str]]:
    """The volumes that files form, and why others of one series form none.

    Series without places (mammography, ultrasound, plain radiography) and files of several frames are left out.

    Args:
        files: DICOM files; those that cannot be read are left out.

    Returns:
        each file of a volume -> all its files in the order of their places, and file -> note.
    """
    found: dict[tuple[str, ...], list[Slice]] = {}
    for file in files:
        key, one = _slice(file)
        if one is not None:
            found.setdefault(key, []).append(one)
    volumes: dict[Path, tuple[Path, ...]] = {}
    notes: dict[Path, str] = {}
    for slices in found.values():
        if len(slices) == 1:
            continue
        try:
            ordered = tuple(slices[k].path for k in _order(slices))
        except FileFault as fault:
            note = f"predicted alone, its series is no volume: {fault.reason}"
            notes.update({one.path: note for one in slices})
            continue
        volumes.update(dict.fromkeys(ordered, ordered))
    return volumes, notes


def _slice(path: Path) -> tuple[tuple[str, ...], Slice | None]:
    """What files of one series share, and the slice that a file holds."""
    try:
        header = open_header(path)
        uid, place, number = (
            text(header.dataset, keyword, path)
            for keyword in ("SeriesInstanceUID", "FrameOfReferenceUID", "SeriesNumber")
        )
    except FileFault:
        return (), None
    if not place:
        return (), None
    # an anonymizer may have emptied the UID of the series
    key = (uid, place) if uid else (str(path.parent), place, number)
    try:
        layout, plane = read_layout(header), read_plane(header)
    except FileFault as fault:
        return key, Slice(path, (0, 0), False, NOWHERE, fault)
    if layout.frames > 1 or plane.position is None or plane.along is None:
        return (), None
    return key, Slice(path, (layout.rows, layout.columns), layout.colour, plane)


def _order(slices: Sequence[Slice]) -> list[int]:
    broken = next((one for one in slices if one.fault), None)
    if broken is not None and broken.fault is not None:
        raise FileFault(broken.path, f"{broken.path.name} {broken.fault.reason}", broken.fault.cure)
    first = slices[0]
    for one in slices:
        if one.size != first.size:
            seen = " and ".join(f"{size[1]}x{size[0]}" for size in (first.size, one.size))
            raise FileFault(one.path, f"its slices are {seen} (width x height)", "predict them one by one")
        if one.colour != first.colour:
            raise FileFault(one.path, "its slices are in grey and in colour", "predict them one by one")
    return order([one.plane for one in slices], first.path)
