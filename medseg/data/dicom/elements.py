"""Single elements of a data set, checked: what is missing or of a wrong kind becomes one clear fault."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.data.dicom.header import REPLACE, guarded
from medseg.data.raster import FileFault

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


def named(keyword: str) -> str:
    """An element as the standard writes it: ``(0028,1051) Window Width``."""
    from pydicom.datadict import dictionary_description, tag_for_keyword

    tag = tag_for_keyword(keyword) or 0
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X}) {dictionary_description(tag)}"


def value(dataset: Dataset, keyword: str, path: Path) -> Any:
    """The value of an element, or nothing where it is missing or empty.

    Raises:
        FileFault: its bytes are not of its kind.
    """
    with guarded(path, f"reading {named(keyword)}", tell=False):
        found = dataset.get(keyword)
        return None if found is None or (hasattr(found, "__len__") and len(found) == 0) else found


def numbers(dataset: Dataset, keyword: str, path: Path) -> tuple[float, ...]:
    """All values of an element as finite numbers, none where it is missing.

    Raises:
        FileFault: a value is no finite number.
    """
    found = value(dataset, keyword, path)
    if found is None:
        return ()
    many = found if isinstance(found, (list, tuple)) or _is_multi(found) else [found]
    try:
        made = tuple(float(one) for one in many if one is not None and one != "")
    except (TypeError, ValueError, OverflowError):
        raise FileFault(path, f"{named(keyword)} is no number", REPLACE) from None
    if not all(math.isfinite(one) for one in made):
        raise FileFault(path, f"{named(keyword)} is not finite", REPLACE)
    return made


def _is_multi(found: Any) -> bool:
    from pydicom.multival import MultiValue

    return isinstance(found, MultiValue)


def number(dataset: Dataset, keyword: str, path: Path) -> float | None:
    """The first number of an element, or nothing where it is missing.

    Raises:
        FileFault: it is no finite number.
    """
    found = numbers(dataset, keyword, path)
    return found[0] if found else None


def whole(dataset: Dataset, keyword: str, path: Path, default: int | None = None) -> int:
    """A whole number.

    Raises:
        FileFault: it is missing and has no default, or is not whole.
    """
    found = number(dataset, keyword, path)
    if found is None:
        if default is None:
            raise FileFault(path, f"{named(keyword)} is missing", REPLACE)
        return default
    if found != int(found):
        raise FileFault(path, f"{named(keyword)} is {found}, not a whole number", REPLACE)
    return int(found)


def text(dataset: Dataset, keyword: str, path: Path) -> str:
    """An element as text, several values with ``\\`` between as in the file; empty where it is missing.

    What is longer than a text of this kind may be (PS3.5 6.2) has lost its end, and is cut before what follows it.

    Raises:
        FileFault: its bytes are not of its kind.
    """
    found = value(dataset, keyword, path)
    if found is None or isinstance(found, bytes):
        return ""
    return "\\".join(str(one)[:64] for one in found) if _is_multi(found) else str(found).strip()[:64]


def items(dataset: Dataset, keyword: str, path: Path) -> list[Dataset]:
    """The items of a sequence, none where it is missing.

    Raises:
        FileFault: it is no sequence.
    """
    from pydicom.sequence import Sequence

    found = value(dataset, keyword, path)
    if found is None:
        return []
    if not isinstance(found, Sequence):
        raise FileFault(path, f"{named(keyword)} is no sequence", REPLACE)
    with guarded(path, f"reading {named(keyword)}"):
        return list(found)


def group_item(header_set: Dataset, keyword: str, frame: int, path: Path) -> Dataset | None:
    """The item of a functional group that holds for one frame (PS3.3 C.7.6.16): its own, or the shared one."""
    own = items(header_set, "PerFrameFunctionalGroupsSequence", path)
    shared = items(header_set, "SharedFunctionalGroupsSequence", path)
    for group in (*own[frame : frame + 1], *shared[:1]):
        found = items(group, keyword, path)
        if found:
            return found[0]
    return None
