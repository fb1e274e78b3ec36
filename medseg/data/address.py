"""What the name of a file says: its kind, its stem, and which slice or part of it is meant.

``ct/p1.nii.gz#12`` is slice 12 (from 0) of the volume ``ct/p1.nii.gz``; without ``#`` a name means the whole file.
"""

from __future__ import annotations

import re
from pathlib import Path

#: endings of ordinary image files, in lower case
RASTER_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".pgm", ".ppm")
NIFTI_SUFFIXES = (".nii.gz", ".nii")
DICOM_SUFFIXES = (".dcm", ".dicom")
#: endings of all files that hold images, in lower case
IMAGE_SUFFIXES = (*RASTER_SUFFIXES, *NIFTI_SUFFIXES, *DICOM_SUFFIXES)

#: endings of files that often lie beside images and need not be opened to know that they are none
_TEXTS = (".txt", ".csv", ".json", ".md", ".xml", ".html", ".pdf", ".zip")


def suffix(name: str) -> str:
    """The ending of an image file's name, in lower case; empty where it is no ending of an image.

    >>> suffix("ct/p1.NII.gz"), suffix("1.2.840.113")
    ('.nii.gz', '')
    """
    lower = name.lower()
    return next((ending for ending in IMAGE_SUFFIXES if lower.endswith(ending)), "")


def stem(name: str) -> str:
    """The name of an image file without its folder and ending; numbers of a DICOM UID are no ending.

    >>> stem("ct/p1.nii.gz"), stem("ct/1.2.840.113")
    ('p1', '1.2.840.113')
    """
    last = name.rsplit("/", 1)[-1]
    return last[: len(last) - len(suffix(last))]


def natural_key(text: str) -> list[tuple[int, int, str]]:
    """Sort key that puts ``frame 9`` before ``frame 10``."""
    return [(0, int(t), "") if t.isdigit() else (1, 0, t) for t in re.findall(r"[0-9]+|[^0-9]+", text)]


def split_address(path: Path) -> tuple[Path, str]:
    """The file and the part of it that a path means, such as ``12``; empty for the whole file.

    A file whose own name contains ``#`` is itself.
    """
    if "#" not in path.name or path.exists():
        return path, ""
    name, _, part = path.name.rpartition("#")
    return path.with_name(name), part


def file_of(path: Path) -> Path:
    """The file itself, without the address of a slice."""
    return split_address(path)[0]


def holds_image(path: Path) -> bool:
    """Whether a file holds an image by its ending or, where that says nothing, is DICOM by its first bytes."""
    return bool(suffix(path.name)) or (path.suffix.lower() not in _TEXTS and has_dicom_prefix(path))


def has_dicom_prefix(path: Path) -> bool:
    """Whether a file begins as DICOM files do: 128 bytes of preamble, then ``DICM`` (PS3.10 7.1)."""
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False
