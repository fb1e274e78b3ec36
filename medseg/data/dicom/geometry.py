"""Where slices lie in the patient (PS3.3 C.7.6.2), and the affine matrix of those that form a volume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medseg.data.dicom.elements import REPLACE, group_item, named, number, numbers
from medseg.data.dicom.header import Header
from medseg.data.raster import FileFault

#: from the patient's left, posterior, superior of DICOM to right, anterior, superior of NIfTI
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
#: how far direction cosines of one series may differ
COSINES = 1e-3
#: how far, as a share of the usual distance, the distance of two slices may be from it
SPACING = 0.02


@dataclass(frozen=True)
class Plane:
    """Place and size of one slice.

    Args:
        position: of the middle of the first pixel, in mm; nothing where it is unknown.
        along: directions of growing column and row, ``(2, 3)`` unit vectors; nothing where unknown.
        spacing: distance of rows and of columns, in mm; 1 where it is unknown.
        thickness: distance to the next slice that the file claims, in mm; 1 where it is unknown.
    """

    position: np.ndarray | None
    along: np.ndarray | None
    spacing: tuple[float, float]
    thickness: float

    @property
    def normal(self) -> np.ndarray:
        """Direction in which slices are counted; along the third axis where the orientation is unknown."""
        if self.along is None:
            return np.array([0.0, 0.0, 1.0])
        return np.cross(self.along[0], self.along[1])

    @property
    def height(self) -> float | None:
        """Place along the normal, in mm."""
        return None if self.position is None else float(self.normal @ self.position)


def read_spacing(header: Header, frame: int = 0) -> tuple[float, float] | None:
    """Distance of rows and of columns in mm, in the patient, else at the detector (PS3.3 10.7.1.3).

    Zeros, as some devices write for an unknown distance, count as none.

    Raises:
        FileFault: there are not two numbers, or one is below 0.
    """
    own = group_item(header.dataset, "PixelMeasuresSequence", frame, header.path)
    for source, keyword in (
        (header.dataset if own is None else own, "PixelSpacing"),
        (header.dataset, "ImagerPixelSpacing"),
    ):
        found = numbers(source, keyword, header.path)
        if found and (len(found) != 2 or min(found) < 0):
            raise FileFault(header.path, f"{named(keyword)} is {found}, not two lengths", REPLACE)
        if found and min(found) > 0:
            return found[0], found[1]
    return None


def read_plane(header: Header, frame: int = 0) -> Plane:
    """The place of one frame, from its functional groups (PS3.3 C.7.6.16.2) or from the file.

    Raises:
        FileFault: numbers are missing, or directions are not perpendicular unit vectors.
    """
    path, dataset = header.path, header.dataset
    sources = [
        group_item(dataset, f"{name}Sequence", frame, path) or dataset
        for name in ("PlanePosition", "PlaneOrientation", "PixelMeasures")
    ]
    position = numbers(sources[0], "ImagePositionPatient", path)
    along = numbers(sources[1], "ImageOrientationPatient", path)
    if len(position) not in (0, 3) or len(along) not in (0, 6):
        seen = f"{named('ImagePositionPatient')} or {named('ImageOrientationPatient')} is incomplete"
        raise FileFault(path, seen, REPLACE)
    thickness = number(sources[2], "SpacingBetweenSlices", path) or number(sources[2], "SliceThickness", path)
    place = np.array(position) if position else None
    offsets = numbers(dataset, "GridFrameOffsetVector", path)
    plane = Plane(
        place,
        _directions(along, path) if along else None,
        read_spacing(header, frame) or (1.0, 1.0),
        abs(thickness) if thickness else 1.0,
    )
    if place is not None and frame < len(offsets):  # dose grids (PS3.3 C.8.8.3.2)
        return Plane(place + plane.normal * offsets[frame], plane.along, plane.spacing, plane.thickness)
    return plane


def _directions(numbers_of_file: Sequence[float], path: Path) -> np.ndarray:
    along = np.array(numbers_of_file).reshape(2, 3)
    lengths = np.linalg.norm(along, axis=1)
    if (abs(lengths - 1) > 0.01).any() or abs(along[0] @ along[1]) > 0.01:
        seen = f"{named('ImageOrientationPatient')} is not two perpendicular unit vectors"
        raise FileFault(path, seen, REPLACE)
    return along / lengths[:, None]


def order(planes: Sequence[Plane], path: Path) -> list[int]:
    """The order of slices along their normal; as they come where no place is known.

    Args:
        planes: of the slices.
        path: of the series, for messages.

    Raises:
        FileFault: sizes of pixels or directions differ, only some places are known, two slices share a place,
            or one is missing between others.
    """
    first = planes[0]
    for plane in planes[1:]:
        same = np.allclose(plane.spacing, first.spacing, rtol=1e-3, atol=0)
        both = plane.along is not None and first.along is not None
        turned = (plane.along is None) != (first.along is None) or (
            both and not np.allclose(plane.along, first.along, atol=COSINES)  # type: ignore[arg-type]
        )
        if not same or turned:
            seen = "slices of one series differ in pixel spacing or orientation"
            raise FileFault(path, seen, "convert them one by one")
    heights = [plane.height for plane in planes]
    known = [height for height in heights if height is not None]
    # frames of one place without functional groups, such as a film: in their own order
    if not known or (len(planes) > 1 and len(set(known)) == 1 == len({_key(p) for p in planes})):
        return list(range(len(planes)))
    if len(known) < len(planes):
        raise FileFault(path, f"{len(planes) - len(known)} slices have no place", "convert them one by one")
    places = sorted(range(len(planes)), key=known.__getitem__)
    _check_gaps([known[k] for k in places], path)
    return places


def _key(plane: Plane) -> tuple[float, ...]:
    return () if plane.position is None else tuple(plane.position)


def _check_gaps(heights: Sequence[float], path: Path) -> None:
    steps = np.diff(heights)
    if len(steps) == 0:
        return
    usual = float(np.median(steps))
    if (steps < 0.01 * max(usual, 1e-3)).any():
        at = heights[int(steps.argmin())]
        raise FileFault(path, f"two slices lie at {at:.2f} mm", "convert one of the two at a time")
    wrong = np.flatnonzero(abs(steps - usual) > SPACING * usual)
    if len(wrong):
        k = int(wrong[0])
        seen = f"slices are {usual:.2f} mm apart, but {steps[k]:.2f} mm after {heights[k]:.2f} mm"
        raise FileFault(path, seen, "add the missing slices, or convert them one by one")


def affine(planes: Sequence[Plane]) -> np.ndarray:
    """From (column, row, slice) to millimetres in right, anterior, superior, ``(4, 4)``.

    Args:
        planes: in order.
    """
    first, last = planes[0], planes[-1]
    along = np.eye(3)[:2] if first.along is None else first.along
    matrix = np.eye(4)
    matrix[:3, 0] = along[0] * first.spacing[1]
    matrix[:3, 1] = along[1] * first.spacing[0]
    matrix[:3, 2] = first.normal * first.thickness
    if first.position is not None and last.position is not None:
        step = (last.position - first.position) / max(len(planes) - 1, 1)
        if np.linalg.norm(step) > 0:
            matrix[:3, 2] = step
        matrix[:3, 3] = first.position
    return LPS_TO_RAS @ matrix
