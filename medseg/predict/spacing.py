"""How large a pixel is, where the file knows it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

#: units of PhysicalUnitsXDirection and of PhysicalUnitsYDirection: centimetres (PS3.3 C.8.5.5.1.15)
CENTIMETRES = 3
#: RegionSpatialFormat of a two-dimensional picture, of tissue or of flow (PS3.3 C.8.5.5.1.1)
TWO_DIMENSIONAL = 1


class Spacing(NamedTuple):
    """Distance of neighbouring rows and columns.

    Args:
        row: in mm.
        column: in mm.
        plane: where it was measured: ``patient``; ``detector``, where lesions look larger than they are by the
            magnification of the projection (PS3.3 10.7.1.3); ``region`` of an ultrasound image; ``volume`` of NIfTI.
    """

    row: float
    column: float
    plane: str


def dicom_spacing(path: Path, frame: int = 0) -> Spacing | None:
    """The spacing of one frame of a DICOM file: in the patient, else at the detector, else of ultrasound regions.

    Pixel Spacing that equals Imager Pixel Spacing has not been corrected for magnification (PS3.3 10.7.1.3), and
    counts as the detector's.

    Raises:
        FileFault: the file cannot be read, or what it says is no distance.
    """
    from medseg.data.dicom.elements import numbers
    from medseg.data.dicom.geometry import read_spacing
    from medseg.data.dicom.header import open_header

    header = open_header(path)
    found = read_spacing(header, frame)
    if found is None:
        return _region_spacing(path, header.dataset)
    detector = numbers(header.dataset, "ImagerPixelSpacing", path)
    at_detector = len(detector) == 2 and np.allclose(detector, found, rtol=1e-6, atol=0)
    return Spacing(*found, "detector" if at_detector else "patient")


def _region_spacing(path: Path, dataset: object) -> Spacing | None:
    """Spacing of the two-dimensional regions of an ultrasound image (PS3.3 C.8.5.5), where they agree."""
    from medseg.data.dicom.elements import items, number

    sizes = set()
    for region in items(dataset, "SequenceOfUltrasoundRegions", path):  # type: ignore[arg-type]
        units = {number(region, f"PhysicalUnits{axis}Direction", path) for axis in "XY"}
        if number(region, "RegionSpatialFormat", path) != TWO_DIMENSIONAL or units != {CENTIMETRES}:
            continue
        across, down = (number(region, f"PhysicalDelta{axis}", path) for axis in "XY")
        if across and down:
            sizes.add((abs(down) * 10, abs(across) * 10))
    return Spacing(*sizes.pop(), "region") if len(sizes) == 1 else None


def nifti_spacing(path: Path) -> Spacing:
    """The spacing of the slices of a NIfTI volume as they are shown, by its affine in mm.

    Raises:
        FileFault: the file cannot be read.
    """
    from medseg.data.nifti import read_volume

    column, row = np.linalg.norm(read_volume(path).affine[:3, :2], axis=0)
    return Spacing(float(row), float(column), "volume")
