"""Image and mask files of every kind: pictures with what their numbers mean, masks of 0 and 1.

A file that cannot be read right is refused. One slice of a volume or one frame is addressed as ``file#12``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from medseg.data.address import DICOM_SUFFIXES, NIFTI_SUFFIXES, has_dicom_prefix, split_address, suffix
from medseg.data.faults import FileFault
from medseg.data.raster import decode
from medseg.transforms.picture import LUMA, Picture
from medseg.transforms.resize import resize_mask

__all__ = ["FileFault", "read_image", "read_mask", "read_picture", "slices"]

#: endings of formats that lose detail, whose masks may ripple around an edge
LOSSY = (".jpg", ".jpeg", ".webp")
#: how far, as a share of full scale, the values of a lossy mask may lie from black or white
RIPPLE = 0.25
#: how far the proportions of a mask that is fitted to its image may differ from the image's
FIT = 0.02


def read_picture(path: Path, channels: int) -> Picture:
    """Read an image, a slice of a volume or a frame, with the range and the windows of its values.

    A grey image repeats into three channels; a colour image becomes one channel by ITU-R BT.601 luma
    (unchanged where its channels are equal). Alpha is dropped, a palette looked up.

    Args:
        path: an ordinary image, DICOM or NIfTI file; a slice or frame of it as ``file#12``, counted from 0.
        channels: 1 or 3.

    Raises:
        FileFault: the file is missing, broken, or of a kind that is not read, or has no such slice.
    """
    file, part = split_address(path)
    kind = _kind(file)
    if kind == "nifti":
        from medseg.data.nifti import read_slice

        picture = read_slice(file, _number(file, part))
        return picture.having(_repeated(picture.values[0], channels))
    if kind == "dicom":
        from medseg.data import dicom

        return dicom.read_picture(file, channels, frame=_number(file, part))
    if part:
        raise FileFault(path, "no such file", "restore it")
    pixels = decode(file)
    if pixels.ndim == 2:
        return Picture.of(_repeated(pixels, channels))
    return Picture.of(
        np.ascontiguousarray(pixels.transpose(2, 0, 1)) if channels == 3 else _grey(pixels)[None]
    )


def read_image(path: Path, channels: int) -> np.ndarray:
    """Read an image as ``(C, H, W)`` as arrays keep it: ``uint8``, ``uint16`` or ``float32``.

    Raises:
        FileFault: as ``read_picture``.
    """
    return read_picture(path, channels).stored()


def slices(file: Path) -> int:
    """Number of slices of a volume or frames of a DICOM file, by its header; 1 for other files.

    Raises:
        FileFault: the header cannot be read.
    """
    kind = _kind(file)
    if kind == "nifti":
        from medseg.data import nifti

        return nifti.slices(file)
    if kind == "dicom":
        from medseg.data import dicom

        return dicom.frames(file)
    return 1


def read_mask(
    paths: Sequence[Path],
    grey: bool = False,
    empty_ok: bool = False,
    value: int | None = None,
    fit: tuple[int, int] | None = None,
) -> np.ndarray:
    """Read the masks of one image, united, as ``(H, W)`` ``uint8`` of 0 and 1.

    Masks may be 0/1, 0/255, one bit, or 16 bits; they are cut at half of full scale. In a NIfTI label volume
    every label but 0 is lesion.

    Args:
        paths: the mask files, or slices of them.
        grey: intermediate grey levels are expected.
        empty_ok: a mask without lesion is expected.
        value: the one value that means lesion, for label maps.
        fit: height and width to which masks of the same proportions (within 2 %) are stretched.

    Raises:
        FileFault: a file is missing or broken, holds other values (they are given), differs in size from the
            first or in proportions from ``fit``, or no pixel is set.
    """
    united: np.ndarray | None = None
    for path in paths:
        mask = _read_one_mask(path, grey, value)
        mask = mask if fit is None else _fitted(mask, fit, path)
        if united is None:
            united = mask
        elif mask.shape != united.shape:
            seen = f"is {_size(mask)}, {paths[0].name} is {_size(united)} (width x height)"
            raise FileFault(path, seen, "masks of one image need one size")
        else:
            united |= mask
    if united is None:
        raise ValueError("no mask given")
    if not empty_ok and not united.any():
        raise FileFault(paths[0], "the mask is empty", "allow empty masks (--allow-empty) or remove the pair")
    return united


def _kind(file: Path) -> str:
    ending = suffix(file.name)
    if ending in NIFTI_SUFFIXES:
        return "nifti"
    dicom = ending in DICOM_SUFFIXES or (not ending and has_dicom_prefix(file))
    return "dicom" if dicom else "raster"


def _number(file: Path, part: str) -> int:
    if part and not part.isdecimal():
        raise FileFault(file, f"no slice {part!r}", "name a slice by its number from 0, as in file#12")
    return int(part or 0)


def _repeated(pixels: np.ndarray, channels: int) -> np.ndarray:
    return np.ascontiguousarray(np.broadcast_to(pixels, (channels, *pixels.shape)))


def _size(pixels: np.ndarray) -> str:
    return f"{pixels.shape[-1]}x{pixels.shape[-2]}"


def _read_one_mask(path: Path, grey: bool, value: int | None) -> np.ndarray:
    pixels = _mask_pixels(path)
    lossy = path.suffix.lower() in LOSSY
    if pixels.ndim == 3:
        spread = np.ptp(pixels.astype(np.int32), axis=2).max(initial=0)
        if spread > (RIPPLE * 255 if lossy else 0):
            raise FileFault(path, "the mask is coloured", "save it in black and white")
        pixels = pixels[..., 0]
    if value is not None:
        return (pixels == value).astype(np.uint8)
    if pixels.min(initial=0) < 0:
        raise _unexpected(path, pixels, "0 and one value above it", "correct the mask")
    if _kind(split_address(path)[0]) == "nifti":
        return (pixels != 0).astype(np.uint8)
    scale = _full_scale(pixels)
    if not grey:
        slack = int(RIPPLE * scale) if lossy else 0
        if ((pixels > slack) & (pixels < scale - slack)).any():
            cure = (
                "correct the mask, or declare grey masks (--grey-masks), which are cut at half of full scale"
            )
            raise _unexpected(path, pixels, f"0 and {scale}", cure)
    return (pixels > scale / 2).astype(np.uint8)


def _mask_pixels(path: Path) -> np.ndarray:
    """The values of a mask as they are meant: DICOM as shown, NIfTI labels as whole numbers."""
    file, part = split_address(path)
    kind = _kind(file)
    if kind == "raster":
        return decode(file if not part else path)
    if kind == "nifti":
        from medseg.data.nifti import read_labels

        return read_labels(file, _number(file, part))
    picture = read_picture(path, 1)
    values = picture.values[0]
    return picture.low + picture.high - values if picture.inverted else values


def _unexpected(path: Path, pixels: np.ndarray, wanted: str, cure: str) -> FileFault:
    return FileFault(path, f"unexpected mask values {_listed(np.unique(pixels))}, wanted {wanted}", cure)


def _full_scale(pixels: np.ndarray) -> int:
    """1, 255 or 65535: the value that means lesion, by the largest one seen."""
    highest = int(pixels.max(initial=0))
    return next((scale for scale in (1, 255, 65535) if highest <= scale), highest)


def _listed(values: np.ndarray) -> str:
    shown = ", ".join(str(value) for value in values[:8])
    return f"{shown} ... {values[-1]} ({len(values)} values)" if len(values) > 8 else shown


def _fitted(mask: np.ndarray, size: tuple[int, int], path: Path) -> np.ndarray:
    off = abs(mask.shape[0] * size[1] / (mask.shape[1] * size[0]) - 1)
    if off > FIT:
        seen = f"mask is {_size(mask)}, image is {size[1]}x{size[0]} (width x height)"
        raise FileFault(
            path, f"{seen}: their proportions differ by {off:.1%}", "replace the mask or the image"
        )
    return resize_mask(mask, size)


def _grey(pixels: np.ndarray) -> np.ndarray:
    if (pixels == pixels[..., :1]).all():
        return np.ascontiguousarray(pixels[..., 0])
    return np.rint(pixels @ LUMA).astype(pixels.dtype)
