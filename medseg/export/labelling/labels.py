"""Corrected labels as label maps, whatever form a viewer saved them in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from medseg.data.address import NIFTI_SUFFIXES, suffix
from medseg.data.faults import FileFault
from medseg.data.images import LOSSY
from medseg.data.raster import decode


def read_label(path: Path, classes: int, image: Path) -> np.ndarray:
    """A label file as slices, in the order of the slices of its image.

    Labels of a NIfTI image are turned as it is, by their own affine. Those of other images are taken on the grid as it
    is stored, which viewers leave alone whatever affine they write for it.

    PNG and its like may be 0 and 1, 0 and 255, or 0 and any one other value; NIfTI and NRRD volumes hold whole
    numbers. With several classes the values are the numbers of the labels.

    Args:
        path: of the label.
        classes: channels of the network's logits; 1 makes every value but 0 lesion.
        image: the file or folder that is labelled.

    Returns:
        ``(D, H, W)`` uint8.

    Raises:
        FileFault: it cannot be read, or holds values that are no labels.
    """
    slices = _slices(path, suffix(image.name) in NIFTI_SUFFIXES)
    if not np.isfinite(slices).all() or (slices != np.rint(slices)).any() or slices.min(initial=0) < 0:
        raise FileFault(path, "labels are no whole numbers from 0 on", "save the label again")
    if classes == 1:
        return (slices > 0).astype(np.uint8)
    if slices.max(initial=0) >= classes:
        seen = f"holds the label {int(slices.max())}"
        raise FileFault(path, seen, f"this network has the labels 1 to {classes - 1}")
    return slices.astype(np.uint8)


def _slices(path: Path, of_nifti: bool) -> np.ndarray:
    nifti = suffix(path.name) in NIFTI_SUFFIXES
    if of_nifti and not nifti:
        raise FileFault(path, "is no NIfTI file, as its image is", "save the label as NIfTI")
    if nifti and of_nifti:
        from medseg.data.nifti import read_labels, slices

        return np.stack([read_labels(path, k) for k in range(slices(path))])
    if nifti:
        return _by_slice(_nifti(path), path)
    if path.suffix.lower() == ".nrrd":
        return _by_slice(_nrrd(path), path)
    pixels = decode(path)
    if pixels.ndim == 3:
        if np.ptp(pixels.astype(np.int32), axis=2).any():
            raise FileFault(path, "the label is coloured", "save it in black and white")
        pixels = pixels[..., 0]
    if path.suffix.lower() in LOSSY:
        return (pixels > np.iinfo(pixels.dtype).max / 2).astype(np.uint8)[None]
    values = np.unique(pixels)
    if len(values) > 2 and values[-1] > MOST_LABELS:
        seen = f"holds {len(values)} grey levels up to {values[-1]}"
        raise FileFault(path, seen, "save it without smoothing: 0 and one value per label")
    return pixels[None]


#: a label map of a picture has values up to this; grey levels beyond are a smoothed mask
MOST_LABELS = 32


def _nifti(path: Path) -> np.ndarray:
    import nibabel

    try:
        image: Any = nibabel.load(path)
        return np.asanyarray(image.dataobj)
    except Exception as error:  # nibabel lets errors of many kinds through
        raise FileFault(path, f"cannot be read as NIfTI ({error})", "save the label again") from None


def _nrrd(path: Path) -> np.ndarray:
    import nrrd

    try:
        return nrrd.read(str(path))[0]
    except Exception as error:  # pynrrd lets errors of many kinds through
        raise FileFault(path, f"cannot be read as NRRD ({error})", "save the label again") from None


def _by_slice(values: np.ndarray, path: Path) -> np.ndarray:
    """Columns, rows and slices as slices ``(D, H, W)``."""
    if values.ndim == 2:
        values = values[..., None]
    if values.ndim != 3:
        raise FileFault(path, f"has {values.ndim} axes", "save one label map, not one layer per segment")
    return values.transpose(2, 1, 0)
