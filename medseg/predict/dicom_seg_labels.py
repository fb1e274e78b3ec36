"""Labels as segments of a DICOM SEG: names, codes, and the bundle that found them (PS3.3 C.8.20.4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from medseg.bundle.open import Bundle
from medseg.data.sample import Label

if TYPE_CHECKING:
    from highdicom.seg import SegmentDescription
    from pydicom.sr.coding import Code

#: characters of the value representation LO (PS3.5 6.2)
LONG_STRING = 64
#: types by the words of labels that have no code: morphologic abnormalities of SNOMED CT, most in PS3.16 CID 7159
WORDS = {
    "abnormality": ("49755003", "SCT", "Morphologically Abnormal Structure"),
    "cyst": ("367643001", "SCT", "Cyst"),
    "lesion": ("52988006", "SCT", "Lesion"),
    "mass": ("4147007", "SCT", "Mass"),
    "neoplasm": ("108369006", "SCT", "Neoplasm"),
    "nodule": ("27925004", "SCT", "Nodule"),
    "polyp": ("41329004", "SCT", "Polyp"),
    "tumor": ("108369006", "SCT", "Neoplasm"),
    "tumour": ("108369006", "SCT", "Neoplasm"),
    "ulcer": ("56208002", "SCT", "Ulcer"),
}
#: categories (PS3.16 CID 7150)
ABNORMAL = ("49755003", "SCT", "Morphologically Abnormal Structure")
SPATIAL = ("309825002", "SCT", "Spatial and Relational Concept")
#: coding scheme of labels that nobody has coded: private, as its 99 says (PS3.3 8.2)
PRIVATE = "99MEDSEG"


def codes_of(label: Label) -> tuple[tuple[str, str, str], tuple[str, str, str]]:
    """The category (PS3.16 CID 7150) and the type (CID 7151) of what a label shows.

    A label with a code is an abnormal structure of that type. So is one without whose name ends in the word of a
    lesion, such as ``benign lesion``. Of any other nothing is claimed: its type is a private code that means its name.

    >>> codes_of(Label("optic disc"))[1]
    ('optic disc', '99MEDSEG', 'optic disc')
    """
    if label.code is not None:
        return ABNORMAL, label.code
    words = label.name.lower().replace("_", " ").split()
    found = WORDS.get(words[-1]) if words else None
    if found is not None:
        return ABNORMAL, found
    name = plain(label.name)
    # 16 characters of the value representation SH
    return SPATIAL, (name[:16].strip() or "label", PRIVATE, name or "label")


def plain(words: str, most: int = LONG_STRING) -> str:
    """Text as one value of LO: without what parts values or lines, and not too long."""
    kept = "".join(" " if mark == "\\" or not mark.isprintable() else mark for mark in words)
    return " ".join(kept.split())[:most].strip()


def version_of(bundle: Bundle) -> str:
    """The version in a bundle's metadata."""
    return plain(str(bundle.metadata.get("version") or "")) or "unknown"


def describe(labels: Sequence[Label], bundle: Bundle) -> list[SegmentDescription]:
    """A segment for each label, numbered from 1, found automatically by the bundle."""
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.seg import SegmentAlgorithmTypeValues, SegmentDescription
    from pydicom.sr.codedict import codes
    from pydicom.uid import generate_uid

    name = plain(bundle.name) or "medseg"
    algorithm = AlgorithmIdentificationSequence(
        name, codes.cid7162.ArtificialIntelligence, version_of(bundle), source="medseg"
    )
    segments = []
    for number, label in enumerate(labels, 1):
        category, kind = (_code(*code) for code in codes_of(label))
        segments.append(
            SegmentDescription(
                number,
                plain(label.name) or f"label {number}",
                category,
                kind,
                SegmentAlgorithmTypeValues.AUTOMATIC,
                algorithm,
                tracking_uid=generate_uid(prefix=None),
                tracking_id=plain(f"{number} {label.name}"),
            )
        )
    return segments


def _code(value: str, scheme: str, meaning: str) -> Code:
    from pydicom.sr.coding import Code

    return Code(value, scheme, meaning)
