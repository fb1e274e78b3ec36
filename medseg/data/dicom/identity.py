"""The UIDs that a DICOM file is known by, also where a de-identifier has emptied some of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medseg.data.dicom.elements import named, text
from medseg.data.dicom.header import REPLACE, UID, Header, guarded
from medseg.data.faults import FileFault

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


def is_uid(words: str) -> bool:
    """Whether text is a UID (PS3.5 9.1)."""
    return len(words) <= 64 and UID.fullmatch(words) is not None


def read_identity(header: Header, keyword: str) -> str:
    """``SOPInstanceUID`` or ``SOPClassUID``, of the file's meta information where the data set has none (PS3.10 7.1).

    Raises:
        FileFault: neither has one.
    """
    found = text(header.dataset, keyword, header.path)
    meta: Dataset | None = getattr(header.dataset, "file_meta", None)
    if not found and meta is not None:
        with guarded(header.path, f"reading {named('MediaStorage' + keyword)}", tell=False):
            found = str(meta.get("MediaStorage" + keyword) or "")
    if not is_uid(found):
        seen = f"{named(keyword)} is missing or no UID, so that nothing can refer to the file"
        raise FileFault(header.path, seen, REPLACE)
    return found


def read_context(header: Header, keyword: str) -> str:
    """``StudyInstanceUID`` or ``SeriesInstanceUID``; where there is none, always the same new one for the same images.

    It is made from the frame of reference, else from the image; a UID of a UUID needs no root (PS3.5 B.2).

    Raises:
        FileFault: the image has no identity either.
    """
    from uuid import NAMESPACE_OID, uuid5

    found = text(header.dataset, keyword, header.path)
    if is_uid(found):
        return found
    reference = text(header.dataset, "FrameOfReferenceUID", header.path)
    origin = reference or read_identity(header, "SOPInstanceUID")
    return f"2.25.{uuid5(NAMESPACE_OID, f'medseg {keyword} {origin}').int}"
