"""Mask and probability files: PNG for images, NIfTI for volumes, DICOM SEG for DICOM, each at the input's own size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from medseg.bundle.open import Bundle
from medseg.data.sample import Label
from medseg.errors import MedsegError
from medseg.predict.inputs import Item
from medseg.predict.overlay import write_picture
from medseg.results import atomic_write

#: kind of item -> kind of its masks, unless another is asked for
OWN = {"raster": "png", "nifti": "nifti", "dicom": "dicom-seg"}
KINDS = ("auto", "png", "nifti", "dicom-seg")


def write_masks(
    item: Item, masks: np.ndarray, labels: tuple[Label, ...], folder: Path, bundle: Bundle, kind: str = "auto"
) -> list[Path]:
    """Write the masks of an item.

    PNG holds 0 and 255 for one label and the numbers of several; several slices become ``<name>_slices/0000.png``
    and so on. NIfTI and DICOM SEG hold the numbers, in the place of the input.

    Args:
        item: what was predicted.
        masks: ``(D, H, W)`` uint8, of its frames in order.
        labels: of the bundle.
        folder: of masks; the file is named after the item.
        bundle: that predicted.
        kind: of ``KINDS``; ``auto`` for the item's own.

    Returns:
        the files.

    Raises:
        MedsegError: the kind does not fit the item.
        FileFault: the input cannot be referred to.
    """
    chosen = OWN[item.kind] if kind == "auto" else kind
    if chosen == "png":
        return _write_png(item, masks, len(labels), folder)
    if chosen == "nifti":
        return [_write_nifti(item, masks, folder / f"{item.name}.nii.gz")]
    if item.kind != "dicom":
        raise MedsegError(f"{item.files[0]}: DICOM SEG needs a DICOM file to refer to; give --masks auto")
    from medseg.predict.dicom_seg import write_dicom_seg

    path = folder / f"{item.name}.dcm"
    write_dicom_seg(masks, item.files, labels, path, bundle=bundle)
    return [path]


def write_probabilities(item: Item, probabilities: np.ndarray, labels: Sequence[Label], folder: Path) -> Path:
    """Write ``(D, K, H, W)`` as numpy's ``.npz``: ``probabilities`` in half precision and the names of ``labels``."""
    path = folder / f"{item.name}.npz"
    names = np.array([label.name for label in labels])
    with atomic_write(path, "wb") as file:
        np.savez_compressed(file, probabilities=probabilities.astype(np.float16), labels=names)
    return path


def _write_png(item: Item, masks: np.ndarray, labels: int, folder: Path) -> list[Path]:
    several = len(masks) > 1
    paths = [
        folder / (f"{item.name}_slices/{k:04d}.png" if several else f"{item.name}.png")
        for k in range(len(masks))
    ]
    for mask, path in zip(masks, paths, strict=True):
        write_picture(mask * np.uint8(255) if labels == 1 else mask, path)
    return paths


def _write_nifti(item: Item, masks: np.ndarray, path: Path) -> Path:
    if item.kind == "nifti":
        from medseg.data.nifti import write_mask

        write_mask(masks, item.files[0], path)
        return path
    if item.kind == "raster":
        raise MedsegError(f"{item.files[0]}: an ordinary image knows no place for NIfTI; give --masks png")
    from medseg.data.dicom.volume import as_nifti, slices_of, write_volume

    # sorted by place, which frames of one file need not be
    slices = slices_of(item.files)
    numbers = {file: number for number, file in enumerate(item.files)}
    order = [numbers[one.header.path] + one.frame for one in slices]
    volume = np.ascontiguousarray(masks[order].transpose(2, 1, 0))
    write_volume(as_nifti(volume, [one.plane for one in slices]), path)
    return path
