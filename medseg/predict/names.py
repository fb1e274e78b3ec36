"""Names of outputs, of which no two are equal even where capitals do not count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from medseg.data.address import stem


def plain(words: str) -> str:
    """Text that every file and console takes: bytes of a file name that are no UTF-8 are written as ``\\udcff``."""
    return words.encode("utf-8", "backslashreplace").decode()


def shown(path: Path) -> str:
    """A path for a table; one that begins as a formula does in spreadsheets is given as ``./=a.png``."""
    words = plain(str(path))
    return f"./{words}" if words.startswith(("=", "+", "-", "@")) else words


def named_apart(files: Sequence[tuple[Path, Path, bool]]) -> list[str]:
    """A name for each file: its path below the folder given, without the ending; longer only where two are equal.

    Equal names get the whole file name, then the folder that was given, then a number.

    Args:
        files: the folder that was given, a file below it, and whether it stands for a whole folder of slices.
    """
    choices = [_choices(top, file, several) for top, file, several in files]
    level = [0] * len(files)
    for _ in range(max(map(len, choices), default=1) - 1):
        names = [own[at] for own, at in zip(choices, level, strict=True)]
        counts = Counter(name.casefold() for name in names)
        level = [
            min(at + (counts[name.casefold()] > 1), len(own) - 1)
            for own, at, name in zip(choices, level, names, strict=True)
        ]
    return _numbered([own[at] for own, at in zip(choices, level, strict=True)])


def _choices(top: Path, file: Path, several: bool) -> list[str]:
    folder = file.parent.relative_to(top)
    if several:  # a series is called after its folder; only where that holds several, after its first slice
        own = folder.as_posix() if folder.parts else top.resolve().name
        names = [own, f"{own}/{stem(file.name)}"]
    else:
        names = [(folder / stem(file.name)).as_posix(), (folder / file.name).as_posix()]
    given = top.resolve().name
    return [plain(name) for name in (*names, *(f"{given}/{name}" for name in names))]


def _numbered(names: Sequence[str]) -> list[str]:
    taken = {name.casefold() for name in names}
    seen: set[str] = set()
    done = []
    for name in names:
        unique, number = name, 2
        while unique.casefold() in seen or (number > 2 and unique.casefold() in taken):
            unique, number = f"{name}~{number}", number + 1
        seen.add(unique.casefold())
        done.append(unique)
    return done
