"""Files, folders and DICOM series as items to predict, each with a name of its own for what is written."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medseg.data.address import NIFTI_SUFFIXES, RASTER_SUFFIXES, holds_image, natural_key, suffix
from medseg.data.faults import FileFault
from medseg.errors import MedsegError
from medseg.predict.names import named_apart
from medseg.predict.spacing import Spacing, dicom_spacing, nifti_spacing
from medseg.transforms.picture import Picture

#: files by which folders of predictions and of explanations are known
OUTPUTS = ("predict.json", "explanations.csv")
#: how slices of an item are named: by ``medseg predict`` in a folder, by ``medseg explain`` beside the others
SLICE = re.compile(r"(.+)_(?:slices/)?(\d{4,})")


@dataclass(frozen=True)
class Item:
    """What becomes one mask file: an image, a volume, a DICOM file, or the slices of a DICOM series.

    Args:
        name: of the outputs, unique among the items: a relative path with ``/`` and without ending.
        files: one, or the slices of a series in the order of their places.
        kind: ``raster``, ``dicom`` or ``nifti``.
        note: why files of one series are items of their own; empty where there is nothing to say.
    """

    name: str
    files: tuple[Path, ...]
    kind: str
    note: str = ""

    def frames(self) -> int:
        """How many slices of a series, slices of a volume or frames of a file it has; 1 for an image.

        Raises:
            FileFault: the header cannot be read.
        """
        if len(self.files) > 1:
            return len(self.files)
        if self.kind == "raster":
            return 1
        if self.kind == "nifti":
            from medseg.data import nifti

            return nifti.slices(self.files[0])
        from medseg.data import dicom

        return dicom.frames(self.files[0])

    def place(self, frame: int) -> tuple[Path, int]:
        """The file that holds a frame, and the number that the frame has in that file, from 0."""
        return (self.files[frame], 0) if len(self.files) > 1 else (self.files[0], frame)

    def read(self, frame: int, channels: int) -> Picture:
        """One frame as training reads it, ``(C, H, W)``.

        Raises:
            FileFault: the file is missing, broken, or of a kind that is not read, or has no such frame.
        """
        file, number = self.place(frame)
        if self.kind == "dicom":
            from medseg.data import dicom

            return dicom.read_picture(file, channels, number)
        from medseg.data.images import read_picture

        return read_picture(Path(f"{file}#{number}") if self.kind == "nifti" else file, channels)

    def spacing(self, frame: int) -> Spacing | None:
        """Distance of rows and columns of a frame, where the file knows it.

        Raises:
            FileFault: the header cannot be read, or what it says is no distance.
        """
        file, number = self.place(frame)
        if self.kind == "dicom":
            return dicom_spacing(file, number)
        return nifti_spacing(file) if self.kind == "nifti" else None


@dataclass(frozen=True)
class Problem:
    """An input that is no item.

    Args:
        path: as given.
        reason: what is wrong with it, and what to do.
    """

    path: Path
    reason: str


def find_items(
    paths: Sequence[Path], series: bool = True, without: Path | None = None
) -> tuple[list[Item], list[Problem]]:
    """The items of files and of folders with all that lies below them, in the order given.

    In folders, files that hold no image are passed over, hidden files, DICOM segmentations and folders of earlier
    outputs too. DICOM files of one series whose places form a volume are one item; where a slice is missing, two share
    a place, or sizes differ, each file is an item of its own, and its note says why.

    Args:
        paths: files and folders.
        series: join the slices of DICOM series.
        without: a folder that is passed over, such as that of the outputs.

    Returns:
        the items, and the paths that are none.

    Raises:
        MedsegError: ``without`` is itself one of the folders.
    """
    problems: list[Problem] = []
    found: dict[
        Path, tuple[Path, Path]
    ] = {}  # resolved -> the file as found, and the folder that it is named from
    for path in paths:
        try:
            if without is not None and path.is_dir() and path.resolve() == without.resolve():
                raise MedsegError(
                    f"{path}: is an input and the folder of the outputs, which would become inputs; give another"
                )
            files, fault = _files(path, without, problems)
        except OSError as error:
            files, fault = (
                [],
                f"cannot be read ({error.strerror or error}); give another, or the right to read it",
            )
        if fault:
            problems.append(Problem(path, fault))
        for file in files:
            # two links to one file are two images, as in folders that keep equal files once
            found.setdefault(
                file.parent.resolve() / file.name, (file, path if path.is_dir() else path.parent)
            )
    tops = dict(found.values())
    groups = _grouped(list(tops), series)
    names = named_apart([(tops[files[0]], files[0], len(files) > 1) for files, _, _ in groups])
    items = [Item(n, files, kind, note) for n, (files, kind, note) in zip(names, groups, strict=True)]
    return _apart_from_slices(items), problems


def _apart_from_slices(items: Sequence[Item]) -> list[Item]:
    """Items of which none has the name of a slice of another: ``v_0003`` beside a volume ``v`` is ``v_0003~2``."""
    named = {item.name.casefold(): item for item in items}
    return [replace(item, name=_free(item.name, named)) if _is_slice(item, named) else item for item in items]


def _is_slice(item: Item, named: Mapping[str, Item]) -> bool:
    match = SLICE.fullmatch(item.name.casefold())
    whole = named.get(match[1]) if match else None
    try:
        return match is not None and whole is not None and 1 < whole.frames() > int(match[2])
    except (FileFault, OSError):
        return False


def _free(name: str, named: Mapping[str, Item]) -> str:
    number = 2
    while f"{name}~{number}".casefold() in named:
        number += 1
    return f"{name}~{number}"


def kind_of(path: Path) -> str:
    """``dicom`` by content or ending, ``nifti`` by ending, else ``raster``; empty for a file that is none of them."""
    from medseg.data.dicom import is_dicom

    ending = suffix(path.name)
    if ending in NIFTI_SUFFIXES:
        return "nifti"
    if ending in RASTER_SUFFIXES:
        return "raster"
    return "dicom" if ending or is_dicom(path) else ""


def _files(path: Path, without: Path | None, problems: list[Problem]) -> tuple[list[Path], str]:
    """The image files that an input stands for, or what is wrong with it; sub-folders that are closed are noted."""
    if path.is_dir():
        below = _below(path, without, problems)
        files = [file for file in below if holds_image(file) and not _is_no_image(file)]
        return files, "" if files else "holds no image; give a folder of images or DICOM files"
    if not path.is_file():
        return [], "no such file or folder; correct the path"
    if not kind_of(path):
        return [], "not an image by its ending or content; give PNG, JPEG, TIFF, DICOM or NIfTI"
    reason = _is_no_image(path)
    return ([], f"{reason}; give a DICOM image") if reason else ([path], "")


def _below(folder: Path, without: Path | None, problems: list[Problem]) -> Iterator[Path]:
    """Files in natural order, those of a folder before those of its sub-folders; links to folders are not followed."""
    hidden = None if without is None else without.resolve()
    entries = sorted(folder.iterdir(), key=lambda entry: natural_key(entry.name))
    entries = [entry for entry in entries if not entry.name.startswith(".")]
    yield from (entry for entry in entries if entry.is_file())
    for entry in entries:
        if not entry.is_dir() or entry.is_symlink() or entry.resolve() == hidden:
            continue
        try:
            if not any((entry / name).is_file() for name in OUTPUTS):
                yield from _below(entry, without, problems)
        except OSError as error:
            reason = (
                f"cannot be read ({error.strerror or error}); give it the right to be read, or leave it out"
            )
            problems.append(Problem(entry, reason))


def _is_no_image(path: Path) -> str:
    """Why a DICOM file is no image: a report, a directory, a segmentation. Broken ones are told when they are read."""
    if kind_of(path) != "dicom":
        return ""
    from medseg.predict.series import no_image

    return no_image(path)


def _grouped(files: Sequence[Path], series: bool) -> list[tuple[tuple[Path, ...], str, str]]:
    """Files that belong together, with their kind and a note, in the order of the first of each."""
    kinds = {file: kind_of(file) for file in files}
    volumes: Mapping[Path, tuple[Path, ...]] = {}
    notes: Mapping[Path, str] = {}
    if series:
        from medseg.predict.series import volumes_of

        volumes, notes = volumes_of([file for file in files if kinds[file] == "dicom"])
    taken: set[Path] = set()
    groups: list[tuple[tuple[Path, ...], str, str]] = []
    for file in files:
        if file not in taken:
            together = volumes.get(file, (file,))
            taken.update(together)
            groups.append((together, kinds[file], notes.get(file, "")))
    return groups
