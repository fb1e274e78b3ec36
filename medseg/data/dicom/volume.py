"""Slices of one series, or frames of one file, as one NIfTI volume of modality values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medseg.data.dicom.frame import picture_of
from medseg.data.dicom.geometry import Plane, affine, order, read_plane
from medseg.data.dicom.header import Header, open_header
from medseg.data.dicom.stored import Layout, read_layout
from medseg.data.raster import FileFault
from medseg.results import atomic_write
from medseg.transforms.picture import Picture

if TYPE_CHECKING:
    import nibabel

#: the most bytes of one volume
MAX_BYTES = 1 << 33


@dataclass(frozen=True)
class Slice:
    """One frame of one file, with its place."""

    header: Header
    layout: Layout
    frame: int
    plane: Plane


def slices_of(paths: Sequence[Path]) -> list[Slice]:
    """The frames of files that form one volume, in the order of their places.

    Raises:
        FileFault: a file is broken or in colour, sizes differ, or the places form no volume.
    """
    found: list[Slice] = []
    for path in paths:
        header = open_header(path)
        layout = read_layout(header)
        if layout.colour:
            raise FileFault(path, f"{layout.photometric} pixels do not fit a volume", "convert it to PNG")
        if found and (layout.rows, layout.columns) != (found[0].layout.rows, found[0].layout.columns):
            first = found[0]
            seen = f"is {layout.columns}x{layout.rows}, {first.header.path.name} of the same series is "
            seen += f"{first.layout.columns}x{first.layout.rows} (width x height)"
            raise FileFault(path, seen, "convert them one by one")
        found += [Slice(header, layout, k, read_plane(header, k)) for k in range(layout.frames)]
    return [found[k] for k in order([one.plane for one in found], paths[0])]


def read_volume(slices: Sequence[Slice], show: Callable[[Picture], np.ndarray]) -> np.ndarray:
    """Pixels of slices as ``(W, H, D)``, the order of NIfTI.

    Args:
        slices: in order.
        show: what becomes of each picture: its values, or grey levels ``(1, H, W)``.

    Raises:
        FileFault: a slice cannot be read, or the volume is too large.
    """
    first = slices[0]
    size = first.layout.rows * first.layout.columns * len(slices) * 4
    if size > MAX_BYTES:
        seen = f"too large ({len(slices)} slices of {first.layout.columns}x{first.layout.rows})"
        raise FileFault(first.header.path, seen, "convert it to PNG")
    layers = [show(picture_of(one.header, one.layout, 1, one.frame))[0] for one in slices]
    kind = np.result_type(*{layer.dtype for layer in layers})
    volume = np.empty((first.layout.columns, first.layout.rows, len(layers)), _kept(kind))
    for k, layer in enumerate(layers):
        volume[..., k] = layer.T
    return volume


def _kept(kind: np.dtype) -> np.dtype:
    """Slices of different slopes may differ in type; a mixture of floats and large integers stays single."""
    return np.dtype(np.float32) if kind.kind == "f" else kind


def as_nifti(volume: np.ndarray, planes: Sequence[Plane]) -> nibabel.Nifti1Image:
    """A NIfTI image without any text; its place is marked as the scanner's where the file knows it."""
    import nibabel

    matrix = affine(planes)
    image = nibabel.Nifti1Image(volume, matrix, dtype=volume.dtype)
    known = planes[0].position is not None and planes[0].along is not None
    image.set_sform(matrix, code="scanner" if known else "aligned")
    axes = matrix[:3, :3] / np.linalg.norm(matrix[:3, :3], axis=0)
    # a tilted gantry shears the volume, which the quaternion cannot say
    straight = np.allclose(axes.T @ axes, np.eye(3), atol=1e-3)
    image.set_qform(matrix if straight else None, code=("scanner" if known else "aligned") if straight else 0)
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = b""
    return image


def write_volume(image: nibabel.Nifti1Image, path: Path) -> None:
    """Write a NIfTI file, compressed if it ends in ``.gz``; the same volume always gives the same bytes."""
    import gzip

    content = image.to_bytes()
    with atomic_write(path, "wb") as file:
        if path.suffix != ".gz":
            file.write(content)
            return
        with gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0, compresslevel=6) as packed:
            packed.write(content)
