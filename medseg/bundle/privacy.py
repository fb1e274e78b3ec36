"""What must not leave with a bundle: paths of the machine and the person that trained it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from medseg.errors import MedsegError

#: a text that as a whole is a path of one machine: also an address of SQLite's, or of any server with who logs in
_ABSOLUTE = re.compile(r"\s*(/|~|[A-Za-z]:[\\/]|\\\\|file:|sqlite:/{4}|[A-Za-z][\w+.-]*://[^/\s]*@)")
#: a home folder anywhere in a text
_HOME = re.compile(r"(/home/|/Users/|/root/|[A-Za-z]:\\+Users\\+)", re.IGNORECASE)


def local_paths(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """The texts in nested values that hold a path of one machine, with their keys joined by ``::``.

    >>> list(local_paths({"data": ["/mnt/scans"], "url": "https://example.org/a"}))
    [('data::0', '/mnt/scans')]
    """
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from local_paths(inner, f"{key}::{name}" if key else str(name))
    elif isinstance(value, (list, tuple)):
        for number, inner in enumerate(value):
            yield from local_paths(inner, f"{key}::{number}" if key else str(number))
    elif isinstance(value, str) and (_ABSOLUTE.match(value) or _home(value)):
        yield key, value


def demand_no_local_path(value: Any, file: str) -> None:
    """Refuse values that hold a path of one machine.

    Args:
        value: a config, a record or a text.
        file: what it is read from, for the message.

    Raises:
        MedsegError: the first such key is named; the path itself is shown, as its owner must find it.
    """
    for key, text in local_paths(value):
        where = f"{file}: {key} holds" if key else f"{file} holds"
        raise MedsegError(
            f"{where} the local path {_shown(text)!r}, which must not leave; write a relative one, or take it out"
        )


def _home(text: str) -> bool:
    home = str(Path.home())
    return bool(_HOME.search(text)) or (len(home) > 1 and f"{home}/" in text)


def _shown(text: str) -> str:
    found = _HOME.search(text)
    start = found.start() if found else 0
    return " ".join(text[start : start + 80].split())
