"""Images and masks that belong together by their names, and the group that a name tells."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from medseg.data.address import holds_image, natural_key, stem
from medseg.errors import MedsegError


def files_of(folder: Path, pattern: str) -> list[str]:
    # hidden files, such as the ._* copies that macOS leaves, are no images
    found = (path for path in folder.glob(pattern) if not path.name.startswith(".") and path.is_file())
    names = [path.relative_to(folder).as_posix() for path in found if holds_image(path)]
    return sorted(names, key=natural_key)


def masks_by_stem(folder: Path, pattern: str, stems: set[str]) -> dict[str, list[str]]:
    """Mask files by the stem of the image they belong to."""
    before, after = pattern.split("{stem}")
    shortest, longest = (
        re.compile(f"{glob_regex(before)}({any_})(?:{glob_regex(after)})$") for any_ in ("[^/]+?", "[^/]+")
    )
    found: dict[str, list[str]] = {}
    for name in files_of(folder, f"{before}*{after}"):
        matches = [match[1] for match in (shortest.match(name), longest.match(name)) if match]
        if matches:
            owner = next((m for m in matches if m in stems), matches[0])
            found.setdefault(owner, []).append(name)
    return found


def glob_regex(glob: str) -> str:
    """A glob pattern as a regular expression; ``*`` stays within one folder, ``**/`` does not."""
    text = re.escape(glob).replace(r"\*\*/", "(?:.*/)?")
    return text.replace(r"\*", "[^/]*").replace(r"\?", "[^/]")


def without_masks(candidates: list[str], found: dict[str, list[str]]) -> list[str]:
    """The candidates that are not masks of another candidate (images and masks may share a folder)."""
    owners = Counter(stem(name) for name in candidates)
    known = set(candidates)
    masks = set()
    for owner, files in found.items():
        others = owners[owner] - sum(stem(file) == owner and file in known for file in files)
        if others > 0:
            masks.update(files)
    return [name for name in candidates if name not in masks]


def grouper(group: str | Callable[[str], str] | None) -> Callable[[str], str]:
    if group is None:
        return stem
    if callable(group):
        return lambda name: group(stem(name))
    try:
        expression = re.compile(group)
    except re.error as error:
        raise MedsegError(f"group pattern {group!r}: no regular expression ({error})") from None
    if "group" not in expression.groupindex:
        raise MedsegError(rf"group pattern {group!r}: name the group's part, as in '(?P<group>p\d+)_'")

    def of(name: str) -> str:
        match = expression.search(name)
        if not match or not match["group"]:
            raise MedsegError(f"{name}: the group pattern {group!r} does not match it")
        return match["group"]

    return of
