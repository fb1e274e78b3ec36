"""A file or a folder as slices, and masks of them in the shape and place that the server answers with."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medseg.data.address import NIFTI_SUFFIXES, has_dicom_prefix, split_address, stem, suffix
from medseg.data.faults import FileFault
from medseg.data.images import read_picture, slices
from medseg.transforms.picture import Picture


@dataclass(frozen=True)
class Place:
    """Where the slices of a source belong.

    Args:
        path: the file, or the folder of a DICOM series.
        kind: ``plane`` (one picture, answered as PNG), ``nifti`` (answered in the file's own grid), or ``stack``
            (frames of a file or slices of a series, answered as NIfTI).
        shape: of the answer: (width, height), or three axes of a volume.
        affine: ``(4, 4)`` to millimetres, RAS+; the identity where nothing tells it.
    """

    path: Path
    kind: str
    shape: tuple[int, ...]
    affine: np.ndarray

    @property
    def ending(self) -> str:
        """The ending of the answer's file: never that of a format that loses detail."""
        return ".png" if self.kind == "plane" else ".nii.gz"

    def laid(self, masks: np.ndarray) -> np.ndarray:
        """Masks of the slices as the answer holds them, columns first.

        Shape:
            ``(D, H, W)`` uint8 to ``shape``.
        """
        if self.kind == "plane":
            return np.ascontiguousarray(masks[0].T)
        if self.kind == "stack":
            return np.ascontiguousarray(masks.transpose(2, 1, 0))
        return _as_stored(masks, self.path).reshape(self.shape)


def read_slices(source: Path | str, channels: int) -> tuple[list[Picture], Place]:
    """The pictures of an image file, a slice ``file#12``, a volume, a multi-frame file or a folder of one series.

    Args:
        source: the file or folder.
        channels: 1 or 3.

    Raises:
        FileFault: it cannot be read, or a folder holds no DICOM series.
    """
    path = Path(source)
    if path.is_dir():
        return _series(path, channels)
    file, part = split_address(path)
    count = 1 if part else slices(file)
    if suffix(file.name) in NIFTI_SUFFIXES and not part:
        return _nifti(file, count, channels)
    if count == 1:
        picture = read_picture(path, channels)
        return [picture], Place(path, "plane", picture.values.shape[:0:-1], np.eye(4))
    pictures = [read_picture(file.with_name(f"{file.name}#{k}"), channels) for k in range(count)]
    shape = (*pictures[0].values.shape[:0:-1], count)
    return pictures, Place(path, "stack", shape, np.eye(4))


def _nifti(file: Path, count: int, channels: int) -> tuple[list[Picture], Place]:
    import nibabel

    pictures = [read_picture(file.with_name(f"{file.name}#{k}"), channels) for k in range(count)]
    image: Any = nibabel.load(file)
    # a plane keeps a third axis, or the server's writer would drop its affine
    shape = (*image.shape, 1, 1)[:3]
    return pictures, Place(file, "nifti", tuple(int(length) for length in shape), np.asarray(image.affine))


def _series(folder: Path, channels: int) -> tuple[list[Picture], Place]:
    """A folder of one DICOM series, as a DICOMweb store hands it over."""
    from medseg.data.dicom.frame import picture_of
    from medseg.data.dicom.geometry import affine, read_plane
    from medseg.data.dicom.header import open_header
    from medseg.data.dicom.volume import slices_of

    files = sorted(file for file in folder.iterdir() if file.is_file() and has_dicom_prefix(file))
    if not files:
        raise FileFault(folder, "holds no DICOM file", "give an image file or the folder of one series")
    if len(files) == 1:
        # colour, of which no volume is made, or one grey image: with a third axis and its place, as viewers expect
        pictures, _ = read_slices(files[0], channels)
        header = open_header(files[0])
        planes = [read_plane(header, k) for k in range(len(pictures))]
        shape = (*pictures[0].values.shape[:0:-1], len(pictures))
        return pictures, Place(folder, "stack", shape, affine(planes))
    found = slices_of(files)
    pictures = [picture_of(one.header, one.layout, channels, one.frame) for one in found]
    shape = (found[0].layout.columns, found[0].layout.rows, len(found))
    return pictures, Place(folder, "stack", shape, affine([one.plane for one in found]))


def _as_stored(masks: np.ndarray, like: Path) -> np.ndarray:
    """Masks of a volume's slices in the order of the volume's own axes."""
    import nibabel

    from medseg.data.nifti import write_mask

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / f"{stem(like.name)[:40]}.nii"
        write_mask(masks, like, out)
        written: Any = nibabel.load(out)
        return np.array(np.asanyarray(written.dataobj), dtype=np.uint8)
