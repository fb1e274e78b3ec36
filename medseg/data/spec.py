"""What a data set is: labels, channels, where its files lie, and how images find their masks and groups."""

from __future__ import annotations

import fnmatch
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from medseg.errors import MedsegError

#: file endings that are images, in lower case
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif")
#: the parts of a split, in the order of a study
PARTS = ("training", "validation", "testing")


@dataclass(frozen=True)
class Label:
    """One structure that masks show.

    Args:
        name: plain name, such as ``polyp``.
        code: code value, coding scheme and meaning as in a DICOM code sequence (PS3.3 8.8), such as
            ``("4147007", "SCT", "Mass")``; ``None`` where no code is certain.
    """

    name: str
    code: tuple[str, str, str] | None = None


@dataclass(frozen=True)
class Sample:
    """One image and its masks; paths are relative to the data set's top folder, with ``/``.

    Args:
        case: unique name of the image.
        image: its file; empty for a mask that has no image, which the index reports.
        masks: its mask files, united when there are several; empty when none was found.
        group: patient, video or slide: samples of one group never lie on both sides of a split.
        part: official ``training``, ``validation`` or ``testing``; ``None`` where the set has no parts.
    """

    case: str
    image: str
    masks: tuple[str, ...]
    group: str
    part: str | None = None


IndexFunction = Callable[[Path], list[Sample]]


@dataclass(frozen=True)
class DatasetSpec:
    """One data set, in full.

    Args:
        title: name as its authors write it.
        channels: channels of an image, 1 or 3.
        labels: the structures of the masks.
        index: top folder -> samples.
        layout: folders that the top folder holds, by which it is recognised.
        homepage: the official download page.
        licence: terms of use, as best known.
        citation: the paper to cite.
        expected: official number of images with masks.
        grey_masks: masks carry intermediate grey levels and are cut at half of full scale.
        empty_masks: masks without any lesion are part of the data set.
        notes: known faults and how they are handled.
        draw: draws the data set into an empty folder (built-in sets only).
    """

    title: str
    channels: int
    labels: tuple[Label, ...]
    index: IndexFunction
    layout: tuple[str, ...]
    homepage: str = ""
    licence: str = ""
    citation: str = ""
    expected: int = 0
    grey_masks: bool = False
    empty_masks: bool = False
    notes: tuple[str, ...] = ()
    draw: Callable[[Path], None] | None = None

    def locate(self, folder: Path) -> Path:
        """The top folder: the one given, one at most three levels below, or one above by its layout.

        Raises:
            MedsegError: there is none, or several.
        """
        if not folder.is_dir():
            raise MedsegError(
                f"{folder}: no such folder; get {self.title} from {self.homepage or 'its authors'}"
            )
        if self.found_in(folder):
            return folder.resolve()
        above = [top for top in self._above(folder.resolve()) if self.found_in(top)]
        if above:
            return above[0]
        for depth in ("*", "*/*", "*/*/*"):
            below = [top for top in sorted(folder.glob(depth)) if top.is_dir() and self.found_in(top)]
            if len(below) > 1:
                names = ", ".join(str(top) for top in below[:4])
                raise MedsegError(f"{folder}: holds {self.title} several times ({names}); name one of them")
            if below:
                return below[0].resolve()
        wanted = ", ".join(f"{name}/" for name in self.layout)
        raise MedsegError(f"{folder}: {self.title} not found: no folder here or below holds {wanted}")

    def found_in(self, top: Path) -> bool:
        """Whether a folder has the layout of the data set."""
        return all((top / name).is_dir() for name in self.layout)

    def _above(self, folder: Path) -> list[Path]:
        """The folders of which ``folder`` would be a part of the layout: ``X`` for ``X/images``."""
        tops = []
        for name in self.layout:
            parts = PurePosixPath(name).parts
            for length in range(1, len(parts) + 1):
                if folder.parts[-length:] == parts[:length] and len(folder.parts) > length:
                    tops.append(folder.parents[length - 1])
        return tops


def natural_key(text: str) -> list[tuple[int, int, str]]:
    """Sort key that puts ``frame 9`` before ``frame 10``."""
    return [(0, int(t), "") if t.isdigit() else (1, 0, t) for t in re.findall(r"[0-9]+|[^0-9]+", text)]


def paired(
    images: str,
    masks: str,
    *,
    group: str | Callable[[str], str] | None = None,
    part: str | None = None,
    exclude: str | None = None,
) -> IndexFunction:
    """An index function that pairs images and masks by the stem of their names.

    Args:
        images: glob pattern of the images, such as ``images/*``; only image files count.
        masks: glob pattern of an image's masks with ``{stem}`` for the image's stem, such as
            ``masks/{stem}.*``; it may match several files, which are united.
        group: regular expression with a part named ``group``, searched in the image's path, or a function
            of the image's stem; without it each image is its own group.
        part: the official part that all these samples belong to.
        exclude: glob pattern of files that are no images of the set.

    Raises:
        MedsegError: ``masks`` lacks ``{stem}``, or ``group`` is no such expression.
    """
    if masks.count("{stem}") != 1 or "[" in masks:
        raise MedsegError(
            f"mask pattern {masks!r}: needs {{stem}} once, where the image's stem stands, and no '['"
        )
    for pattern in (images, masks):
        if not pattern or pattern.startswith("/") or ".." in PurePosixPath(pattern).parts:
            raise MedsegError(f"pattern {pattern!r}: must be relative to the data folder and stay within it")
    group_of = _grouper(group)

    def index(folder: Path) -> list[Sample]:
        candidates = [
            name for name in _files(folder, images) if not exclude or not fnmatch.fnmatch(name, exclude)
        ]
        found = _masks_by_stem(folder, masks, {PurePosixPath(name).stem for name in candidates})
        chosen = _without_masks(candidates, found)
        samples = []
        for name in chosen:
            stem = PurePosixPath(name).stem
            own = tuple(mask for mask in found.get(stem, ()) if mask != name)
            samples.append(Sample(stem, name, own, group_of(name), part))
        stems = {sample.case for sample in samples}
        orphans = [
            Sample(stem, "", tuple(files), stem, part) for stem, files in found.items() if stem not in stems
        ]
        return samples + sorted(orphans, key=lambda sample: natural_key(sample.case))

    return index


def joined(*indexes: IndexFunction) -> IndexFunction:
    """One index function of several, such as one for each official part."""
    return lambda folder: [sample for index in indexes for sample in index(folder)]


def _files(folder: Path, pattern: str) -> list[str]:
    found = (
        path for path in folder.glob(pattern) if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()
    )
    # hidden files, such as the ._* copies that macOS leaves, are no images
    names = [path.relative_to(folder).as_posix() for path in found if not path.name.startswith(".")]
    return sorted(names, key=natural_key)


def _masks_by_stem(folder: Path, pattern: str, stems: set[str]) -> dict[str, list[str]]:
    """Mask files by the stem of the image they belong to."""
    before, after = pattern.split("{stem}")
    shortest, longest = (
        re.compile(f"{_regex(before)}({any_})(?:{_regex(after)})$") for any_ in ("[^/]+?", "[^/]+")
    )
    found: dict[str, list[str]] = {}
    for name in _files(folder, f"{before}*{after}"):
        matches = [match[1] for match in (shortest.match(name), longest.match(name)) if match]
        if matches:
            stem = next((m for m in matches if m in stems), matches[0])
            found.setdefault(stem, []).append(name)
    return found


def _regex(glob: str) -> str:
    """A glob pattern as a regular expression; ``*`` stays within one folder, ``**/`` does not."""
    text = re.escape(glob).replace(r"\*\*/", "(?:.*/)?")
    return text.replace(r"\*", "[^/]*").replace(r"\?", "[^/]")


def _without_masks(candidates: list[str], found: dict[str, list[str]]) -> list[str]:
    """The candidates that are not masks of another candidate (images and masks may share a folder)."""
    owners = Counter(PurePosixPath(name).stem for name in candidates)
    known = set(candidates)
    masks = set()
    for stem, files in found.items():
        others = owners[stem] - sum(PurePosixPath(file).stem == stem and file in known for file in files)
        if others > 0:
            masks.update(files)
    return [name for name in candidates if name not in masks]


def _grouper(group: str | Callable[[str], str] | None) -> Callable[[str], str]:
    if group is None:
        return lambda name: PurePosixPath(name).stem
    if callable(group):
        return lambda name: group(PurePosixPath(name).stem)
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
