"""NIfTI volumes: axial slices as a radiologist looks at them, and masks back in the volume's own orientation.

A slice shows the patient from below: row 0 is anterior, column 0 the patient's right; slices count from the feet
up. A file of one plane is shown in that plane, head or nose up. Volumes of values that are no whole numbers are
mapped linearly to ``uint16``, 0 for the smallest value of the volume and 65535 for its largest; a window in their
unit is refused then.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from medseg.data.address import NIFTI_SUFFIXES, suffix
from medseg.data.faults import FileFault
from medseg.errors import MedsegError
from medseg.transforms.picture import Picture

#: axes of columns, rows and slices, each by the side of the patient to which it grows: the axial view, and for
#: files of a single plane the coronal and the sagittal one, by the side to which that plane's axis points
AXIAL, CORONAL, SAGITTAL = ("L", "P", "S"), ("L", "I", "P"), ("P", "I", "L")
VIEWS = {"S": AXIAL, "I": AXIAL, "A": CORONAL, "P": CORONAL, "L": SAGITTAL, "R": SAGITTAL}
#: gzip cannot shrink data further than this, so a file that promises more is cut short
GZIP_LIMIT = 1032
#: millimetres of the units that a header may name; of none or an unknown one, as most volumes, it is millimetres
UNITS = {1: 1000.0, 2: 1.0, 3: 0.001}
_decoding = threading.Lock()


@dataclass(frozen=True)
class Volume:
    """A decoded volume.

    Args:
        values: ``(D, H, W)``, integers.
        low: the smallest value; 0 of bytes.
        high: the largest; 255 of bytes.
        whole: the values are the file's own; otherwise they were mapped to ``uint16``.
        affine: ``(4, 4)`` from (column, row, slice) to millimetres, whatever the file's unit, RAS+.
    """

    values: np.ndarray
    low: float
    high: float
    whole: bool
    affine: np.ndarray


def slices(path: Path) -> int:
    """Number of slices, by the header alone.

    Raises:
        FileFault: the header cannot be read, or the file holds several volumes.
    """
    image = _opened(path)
    return int(_spatial(path, image.shape)[_order(path, image)[2]])


def read_slice(path: Path, k: int = 0) -> Picture:
    """One slice of a volume, ``(1, H, W)`` in the units of the modality; the range is that of the whole volume.

    Raises:
        FileFault: the file cannot be read or has no such slice.
    """
    volume = read_volume(path)
    return Picture(_plane(path, volume, k)[None], volume.low, volume.high, unitless=not volume.whole)


def read_labels(path: Path, k: int = 0) -> np.ndarray:
    """One slice of a label volume, ``(H, W)`` of whole numbers.

    Raises:
        FileFault: the file cannot be read, has no such slice, or holds values that are no labels.
    """
    volume = read_volume(path)
    if not volume.whole:
        raise FileFault(path, "labels are no whole numbers", "save the mask with whole numbers")
    return _plane(path, volume, k)


def read_volume(path: Path) -> Volume:
    """A volume, decoded once for all its slices.

    Raises:
        FileFault: the file is missing, broken, or no single volume of numbers.
    """
    try:
        status = path.stat()
    except OSError:
        raise FileFault(path, "no such file", "restore it") from None
    with _decoding:
        volume = _kept(path, (status.st_size, status.st_mtime_ns))
    if isinstance(volume, FileFault):
        raise FileFault(path, volume.reason, volume.cure)
    return volume


def shift(image: Path, mask: Path) -> float:
    """How far the corners of a mask volume lie from those of its image, in voxels of the image.

    Raises:
        FileFault: one of them cannot be read.
    """
    one, other = read_volume(image), read_volume(mask)
    sizes = other.values.shape[::-1]
    corners = np.array([[i, j, k, 1] for i in (0, sizes[0]) for j in (0, sizes[1]) for k in (0, sizes[2])]).T
    moved = np.linalg.solve(one.affine, other.affine @ corners)
    return float(np.abs(moved - corners).max())


def write_mask(slices: np.ndarray, like: Path, out: Path) -> None:
    """Write the masks of a volume's slices, at once, as a NIfTI file in that volume's orientation, shape and affine.

    Args:
        slices: ``(D, H, W)``, 0 and 1 or labels of up to 255, as the slices of ``like`` are shown.
        like: the volume that the slices were read from.
        out: the file to write, ``.nii`` or ``.nii.gz``.

    Raises:
        MedsegError: the slices do not fit the volume, or ``out`` has another ending.
        FileFault: ``like`` cannot be read.
    """
    if suffix(out.name) not in NIFTI_SUFFIXES:
        raise MedsegError(f"{out}: a NIfTI file ends in .nii or .nii.gz")
    image = _opened(like)
    shape, order = _spatial(like, image.shape), _order(like, image)
    wanted = tuple(shape[axis] for axis in order[::-1])
    if slices.shape != wanted:
        raise MedsegError(f"{out}: masks are {slices.shape}, {like.name} has slices of {wanted} (D, H, W)")
    from nibabel.orientations import apply_orientation, ornt_transform

    from medseg.data.dicom.volume import write_volume

    stored, shown = _orientations(like, image)
    data = apply_orientation(slices.astype(np.uint8).transpose(2, 1, 0), ornt_transform(shown, stored))
    header = image.header.copy()
    header.set_data_dtype(np.uint8)
    header.set_slope_inter(1, 0)
    header["cal_min"], header["cal_max"] = 0, 0
    write_volume(type(image)(data.reshape(image.shape), image.affine, header), out)


def _plane(path: Path, volume: Volume, k: int) -> np.ndarray:
    number = len(volume.values)
    if not 0 <= k < number:
        raise FileFault(path, f"has slices 0 to {number - 1}, not {k}", "index the data set again")
    return volume.values[k]


def _opened(path: Path) -> Any:
    """The nibabel image, of which only the header has been read."""
    import nibabel

    if not path.is_file():
        raise FileFault(path, "no such file", "restore it")
    try:
        return nibabel.load(path)
    except Exception as error:  # nibabel lets errors of many kinds through for a broken header
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: BaseException) -> FileFault:
    words = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
    return FileFault(path, f"cannot be read as NIfTI ({words})", "replace it")


def _spatial(path: Path, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """The three sizes of a volume; a plane has one slice."""
    if any(size > 1 for size in shape[3:]):
        seen = " x ".join(map(str, shape))
        raise FileFault(path, f"holds several volumes ({seen})", "save each volume in its own file")
    if len(shape) < 2 or min(shape) < 1:
        raise FileFault(path, f"has the shape {shape}", "save a volume of two or three axes")
    x, y, z = (*shape, 1)[:3]
    return x, y, z


def _orientations(path: Path, image: Any) -> tuple[np.ndarray, np.ndarray]:
    """The orientation of the file, and the one in which its slices are shown."""
    from nibabel.orientations import axcodes2ornt, io_orientation, ornt2axcodes

    affine = np.asarray(image.affine, dtype=np.float64)
    cure = "correct the affine in its header"
    if not np.isfinite(affine).all():
        raise FileFault(path, "its affine is not finite", cure)
    with np.errstate(all="ignore"):
        stored = io_orientation(affine)
        singular = np.isnan(stored).any() or np.linalg.det(affine[:3, :3]) == 0
    if singular:
        raise FileFault(path, "its affine does not say where its axes point", cure)
    flat = _spatial(path, image.shape)[2] == 1
    view = VIEWS[ornt2axcodes(stored)[2]] if flat else AXIAL
    return stored, axcodes2ornt(view)


def _order(path: Path, image: Any) -> list[int]:
    """The file's axes that become columns, rows and slices."""
    from nibabel.orientations import ornt_transform

    turn = ornt_transform(*_orientations(path, image))
    return [int(np.flatnonzero(turn[:, 0] == axis)[0]) for axis in range(3)]


@lru_cache(maxsize=4)
def _kept(path: Path, stamp: tuple[int, int]) -> Volume | FileFault:
    """The volume or what is wrong with it: neither is decoded again for the next slice."""
    try:
        return _decoded(path, stamp[0])
    except FileFault as fault:
        return fault


def _decoded(path: Path, size: int) -> Volume:
    from nibabel.orientations import apply_orientation, inv_ornt_aff, ornt_transform

    image = _opened(path)
    shape = _spatial(path, image.shape)
    type_ = image.get_data_dtype()
    if type_.kind not in "iufb":
        raise FileFault(path, f"pixel type {type_} is not supported", "save it with one number per pixel")
    if np.prod(shape, dtype=np.float64) * type_.itemsize > (size + 1) * GZIP_LIMIT:
        raise FileFault(path, "cannot be read as NIfTI (the file is cut short)", "replace it")
    turn = ornt_transform(*_orientations(path, image))
    try:
        data = np.asanyarray(image.dataobj).reshape(shape)
    except Exception as error:  # of gzip, zlib, mmap and numpy
        raise _unreadable(path, error) from None
    scale = UNITS.get(int(image.header["xyzt_units"]) & 7, 1.0)
    affine = np.diag([scale, scale, scale, 1]) @ image.affine @ inv_ornt_aff(turn, shape)
    values, whole = _as_integers(path, data)
    values = np.ascontiguousarray(apply_orientation(values, turn).transpose(2, 1, 0))
    values.flags.writeable = False
    low, high = _limits(values, whole)
    return Volume(values, low, high, whole, affine)


def _limits(values: np.ndarray, whole: bool) -> tuple[int, int]:
    # bytes keep the range of their type: stretched by volume, some would need 16 bits and others not
    if values.dtype == np.uint8 or not whole:
        return 0, int(np.iinfo(values.dtype).max)
    return int(values.min()), int(values.max())


def _as_integers(path: Path, data: np.ndarray) -> tuple[np.ndarray, bool]:
    """Whole numbers as they are; others mapped to ``uint16`` by the volume's smallest and largest value."""
    if data.dtype.kind in "iu":
        return data, True
    if not np.isfinite(data).all():
        number = int((~np.isfinite(data)).sum())
        raise FileFault(path, f"{number} of its values are no numbers", "replace them, such as by 0")
    low, high = float(data.min()), float(data.max())
    if abs(low) < 2**31 and abs(high) < 2**31 and (data == np.rint(data)).all():
        return data.astype(np.int32), True
    share = (data.astype(np.float64) - low) / ((high - low) or 1.0)
    return np.rint(share * 65535).astype(np.uint16), False


def forget() -> None:
    """Let go of the volumes that are kept for the next slice."""
    _kept.cache_clear()
