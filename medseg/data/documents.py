"""The data room's JSON files: one item per line, so that a person can read and compare them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from medseg.errors import MedsegError
from medseg.results import atomic_write


def write_document(document: dict[str, Any], path: Path) -> None:
    """Write a JSON object atomically, each key on a line and each item of a list of objects on its own."""
    with atomic_write(path) as file:
        file.write("{\n" + ",\n".join(_entry(key, value) for key, value in document.items()) + "\n}\n")


def _entry(key: str, value: Any) -> str:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        items = ",\n".join(f"  {_text(item)}" for item in value)
        return f" {_text(key)}: [\n{items}\n ]"
    return f" {_text(key)}: {_text(value)}"


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def read_document(path: Path, cure: str) -> dict[str, Any]:
    """Read a JSON object.

    Args:
        path: the file.
        cure: what to do when it is missing or broken, for the message.

    Raises:
        MedsegError: it is missing, unreadable or no JSON object.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MedsegError(f"{path}: no such file; {cure}") from None
    except (OSError, ValueError) as error:
        raise MedsegError(f"{path}: not readable as JSON ({error}); {cure}") from None
    if not isinstance(document, dict):
        raise MedsegError(f"{path}: holds no JSON object; {cure}")
    return document


def digest(value: Any) -> str:
    """SHA-256 of a JSON value, the same on every machine."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()
