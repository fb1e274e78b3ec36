"""Ordinary image files (PNG, JPEG, TIF, PGM and their like) as arrays of their own depth.

The orientation tag of EXIF is left alone: masks are drawn on the pixels as stored.
"""

from __future__ import annotations

import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image, UnidentifiedImageError

from medseg.data.faults import FileFault


def decode(path: Path) -> np.ndarray:
    """Pixels as ``(H, W)`` or ``(H, W, 3)``, ``uint8`` or ``uint16``."""
    if not path.is_file():
        raise FileFault(path, "no such file", "restore it")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            pixels = _read_tif(path) if path.suffix.lower() in (".tif", ".tiff") else _read_pillow(path)
    except FileFault:
        raise
    except UnidentifiedImageError:
        raise FileFault(path, "not an image that can be read", "replace it") from None
    except (
        OSError,
        ValueError,
        SyntaxError,
        EOFError,
        IndexError,
        KeyError,
        TypeError,
        struct.error,
        tifffile.TiffFileError,  # a ValueError in newer releases only
    ) as error:
        raise FileFault(path, f"cannot be read ({error})", "replace it") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning, MemoryError) as error:
        raise FileFault(path, f"too large ({error})", "cut or shrink it") from None
    if pixels.size == 0:
        raise FileFault(path, "has no pixels", "replace it")
    return pixels


def _read_pillow(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        if getattr(image, "n_frames", 1) > 1:
            raise FileFault(path, f"holds {image.n_frames} frames", "keep one frame per file")
        if image.mode == "RGB" and any(";16" in str(tile[3]) for tile in image.tile):
            raise FileFault(
                path, "has 16 bits per colour channel", "save it with 8 bits per channel, or grey"
            )
        image.load()
        return _pillow_pixels(image, path)


def _pillow_pixels(image: Image.Image, path: Path) -> np.ndarray:
    mode = image.mode
    if mode in ("1", "L"):
        return np.array(image.convert("L"))
    if mode == "LA":
        return np.array(image)[..., 0]
    if mode in ("P", "PA", "CMYK", "YCbCr"):
        return np.array(image.convert("RGB"))
    if mode in ("RGB", "RGBA", "RGBX"):
        return np.array(image)[..., :3]
    if mode.startswith("I"):
        return _sixteen_bits(np.array(image), path)
    raise FileFault(path, f"pixel type {mode!r} is not supported", "save it with 8 or 16 bits per pixel")


def _sixteen_bits(pixels: np.ndarray, path: Path) -> np.ndarray:
    if pixels.min(initial=0) < 0 or pixels.max(initial=0) > 65535:
        seen = f"values {pixels.min()} to {pixels.max()}"
        raise FileFault(path, f"{seen} do not fit 16 bits", "save it with 8 or 16 bits per pixel")
    return pixels.astype(np.uint16)


def _read_tif(path: Path) -> np.ndarray:
    """TIF by tifffile, which gets CVC-ClinicDB right; by Pillow where tifffile lacks the codec."""
    with tifffile.TiffFile(path) as tif:
        if not tif.pages:
            raise FileFault(path, "cannot be read (the file is cut short)", "replace it")
        if len(tif.pages) > 1:
            raise FileFault(path, f"holds {len(tif.pages)} pages", "keep one page per file")
        page: Any = tif.pages[0]
        palette = page.photometric == tifffile.PHOTOMETRIC.PALETTE
        if (
            page.compression in (1, 8, 32773, 32946)
            and page.predictor == 1
            and not palette
            and page.jpegtables is None
        ):
            _check_length(page, path)
            return _tif_pixels(page.asarray(), page, path)
    return _read_pillow(path)


def _check_length(page: Any, path: Path) -> None:
    """Refuse a file that ends before its last strip: its rest would read as zeros."""
    ends = [start + size for start, size in zip(page.dataoffsets, page.databytecounts, strict=False)]
    if not ends or max(ends) > path.stat().st_size:
        raise FileFault(path, "cannot be read (the file is cut short)", "replace it")


def _tif_pixels(pixels: np.ndarray, page: Any, path: Path) -> np.ndarray:
    if page.axes == "SYX":
        pixels = np.moveaxis(pixels, 0, -1)
    elif page.axes not in ("YX", "YXS"):
        raise FileFault(path, f"axes {page.axes} are not those of one flat image", "save it as a flat image")
    if pixels.dtype == bool:
        pixels = pixels.astype(np.uint8) * 255
    if pixels.dtype not in (np.uint8, np.uint16):
        raise FileFault(
            path, f"pixel type {pixels.dtype} is not supported", "save it with 8 or 16 bits per pixel"
        )
    if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
        pixels = np.iinfo(pixels.dtype).max - pixels
    if pixels.ndim == 3:
        pixels = pixels[..., :3] if pixels.shape[2] >= 3 else pixels[..., 0]
    return pixels
