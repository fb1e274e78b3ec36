"""A bundle that came from elsewhere, as one zip or folder, opened without trusting it."""

from __future__ import annotations

import re
import shutil
import stat
import tempfile
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from medseg.data.faults import FileFault

#: what a package may hold at most; the largest models' weights have a few hundred megabytes
MOST_FILES = 1_000
MOST_BYTES = 4 * 2**30
#: how much a file may shrink in a zip; weights shrink little and text tenfold
MOST_RATIO = 100
#: a file of that size may shrink as it likes
SMALL = 2**20
#: files that are read whole, and what they may hold at most; medseg's own have a few kilobytes
TEXTS = ("configs/", "MANIFEST.json", "models/model.json")
MOST_TEXT = 2**20
#: parts of a folder that version control and the hub's client keep there
PASSED_OVER = (".git", ".cache", ".huggingface", ".gitignore", ".gitattributes", ".lock")
#: names of devices on Windows, with any ending
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?$", re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}$")
_CURE = "do not use it; ask its sender for one made by 'medseg bundle export --to zip'"


@dataclass(frozen=True)
class Package:
    """The files of a bundle from elsewhere, none of which has been run or believed.

    Args:
        source: the zip or folder.
        name: the bundle's name: the one top folder of a zip, or the folder's own.
        root: where the files lie for now.
        files: their paths below it, with ``/``, in order.
    """

    source: Path
    name: str
    root: Path
    files: tuple[str, ...]


@contextmanager
def opened(source: Path) -> Iterator[Package]:
    """Open a zip (unpacked to a temporary folder that goes away) or a folder (where it lies).

    Raises:
        FileFault: it is neither, is damaged, too large, or holds a path that could land outside or on another file.
    """
    if source.is_dir():
        source = source.resolve()
        yield Package(source, demand_name(source, source.name), source, _listed(source))
        return
    if not source.is_file():
        raise FileFault(source, "no such file or folder", "give a zip or a folder of a bundle")
    temporary = Path(tempfile.mkdtemp(prefix="medseg-bundle-"))
    try:
        yield _unpacked(source, temporary)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def demand_name(source: Path, name: str) -> str:
    """The name itself, where it can be a bundle's.

    Raises:
        FileFault: it is not letters, digits, ``_``, ``-`` and ``.``.
    """
    if not _NAME.match(name) or _RESERVED.match(name):
        raise FileFault(source, f"{name!r} cannot be a bundle's name", "use letters, digits, _, - and .")
    return name


def path_fault(name: str) -> str | None:
    """Why a path in a package is not safe on every system, or None.

    >>> path_fault("b/configs/train.yaml"), path_fault("b/../x")
    (None, 'leads out of its folder')
    """
    parts = name.split("/")
    if not name or any(ord(char) < 32 or ord(char) == 127 for char in name):
        return "holds control characters, or nothing"
    if "\\" in name or ":" in name:
        return "holds a backslash or a colon"
    if name.startswith("/") or name.startswith("~"):
        return "is absolute"
    if ".." in parts:
        return "leads out of its folder"
    if any(part in ("", ".") or part != part.rstrip(". ") for part in parts):
        return "has an empty part, or one that ends in a dot or space"
    if any(_RESERVED.match(part) for part in parts) or len(name) > 400:
        return "is a device's name, or too long"
    return None


def _unpacked(source: Path, folder: Path) -> Package:
    try:
        with zipfile.ZipFile(source) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            _check_entries(source, archive.infolist())
            tops = {entry.filename.partition("/")[0] for entry in entries}
            if len(tops) != 1 or not all("/" in entry.filename for entry in entries):
                raise FileFault(source, "does not hold one folder, the bundle's", _CURE)
            name = demand_name(source, tops.pop())
            for entry in entries:
                _extract(archive, entry, folder)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, OSError, ValueError) as error:
        raise FileFault(source, f"not a whole zip ({error})", "fetch it again") from None
    return Package(source, name, folder / name, _listed(folder / name))


def _check_entries(source: Path, entries: list[zipfile.ZipInfo]) -> None:
    """Refuse a zip by its table of contents, before a byte is written."""
    if len(entries) > MOST_FILES:
        raise FileFault(source, f"holds {len(entries)} files, more than {MOST_FILES}", _CURE)
    size = sum(entry.file_size for entry in entries)
    if size > MOST_BYTES:
        raise FileFault(source, f"unpacks to {size / 2**30:.1f} GiB, more than {MOST_BYTES / 2**30:g}", _CURE)
    for entry in entries:
        name = entry.orig_filename.rstrip("/") if entry.is_dir() else entry.orig_filename
        reason = path_fault(name) or _entry_fault(entry)
        if reason:
            raise FileFault(source, f"its entry {name[:80]!r} {reason}", _CURE)
    twin = _twin(entries)
    if twin:
        raise FileFault(source, f"its entry {twin[:80]!r} is there twice, or differs by case alone", _CURE)


def _twin(entries: list[zipfile.ZipInfo]) -> str | None:
    """An entry that is, or lies in, another entry's file: also where the system does not tell capitals apart."""
    spelt: dict[str, str] = {}
    files: set[str] = set()
    folders: set[str] = set()
    for entry in entries:
        name = entry.filename.rstrip("/")
        above = [str(parent) for parent in PurePosixPath(name).parents][:-1]
        for path in (*above, name):
            key = unicodedata.normalize("NFC", path).casefold()
            if spelt.setdefault(key, path) != path or path in files:
                return name
        if not entry.is_dir() and name in folders:
            return name
        (folders if entry.is_dir() else files).add(name)
        folders.update(above)
    return None


def _entry_fault(entry: zipfile.ZipInfo) -> str | None:
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a device, not a plain file"
    if entry.flag_bits & 0x1:
        return "is encrypted"
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "is packed in a way that zip files seldom are"
    if entry.file_size > max(SMALL, MOST_RATIO * entry.compress_size):
        return f"unpacks to more than {MOST_RATIO} times its size"
    return None


def _extract(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, folder: Path) -> None:
    """Write one checked entry; zipfile holds its bytes against the size and the checksum that the entry promises."""
    path = folder / entry.filename
    path.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(entry) as packed, path.open("xb") as file:
        shutil.copyfileobj(packed, file, 2**20)


def _listed(root: Path) -> tuple[str, ...]:
    """The files below a folder, less those of version control; nothing is followed.

    Raises:
        FileFault: one is a link or no plain file, or there are too many.
    """
    found: list[str] = []
    size, waiting = 0, [root]
    while waiting:
        for path in sorted(waiting.pop().iterdir()):
            if path.name in PASSED_OVER:
                continue
            if reason := path_fault(path.name):
                raise FileFault(root, f"its file {path.name[:80]!r} {reason}", _CURE)
            facts = path.lstat()
            if stat.S_ISDIR(facts.st_mode):
                waiting.append(path)
            elif stat.S_ISREG(facts.st_mode):
                found.append(path.relative_to(root).as_posix())
                size += facts.st_size
                if found[-1].startswith(TEXTS) and facts.st_size > MOST_TEXT:
                    raise FileFault(path, f"its {facts.st_size} bytes are too many for a config", _CURE)
            else:
                raise FileFault(path, "is a link or a device, not a plain file", "copy the file itself there")
            if len(found) > MOST_FILES or size > MOST_BYTES:
                raise FileFault(root, "holds too many files, or too large ones, for a bundle", _CURE)
    return tuple(sorted(found))
