"""A study file as YAML: values, the line that each stands on, and all its mistakes told at once."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from medseg.errors import MedsegError

#: keys and positions from the top of the file to a value, such as ``("axes", "loss", 2)``
Place = tuple[Any, ...]


class _Loader(yaml.SafeLoader):
    """YAML 1.1 without code, that reads 1e-3 as the number that people mean."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


@dataclass
class Document:
    """A YAML mapping with the lines of its values, which collects what is wrong with them.

    Args:
        path: the file.
        text: its content.
        content: its values.
        lines: place -> line, from 1.
        faults: what was found so far, one line each.
    """

    path: Path
    text: str
    content: Any
    lines: dict[Place, int]
    faults: list[str] = field(default_factory=list)

    def fault(self, place: Place, reason: object) -> None:
        """Note a mistake at a place; one that lies in a value not in the file has the line of its parent."""
        known = next((place[:n] for n in range(len(place), 0, -1) if place[:n] in self.lines), ())
        line = f"line {self.lines[known]}, " if known else ""
        named = ": ".join(str(key) for key in place if not isinstance(key, int))
        told = f"{line}{named}: {reason}" if named else f"{line}{reason}"
        if told not in self.faults:
            self.faults.append(told)

    def raise_faults(self) -> None:
        """Raise if there is a mistake; several are listed, one a line.

        Raises:
            MedsegError: the mistakes.
        """
        if len(self.faults) == 1:
            raise MedsegError(f"{self.path}: {self.faults[0]}")
        if self.faults:
            listed = "\n".join(f"  {fault}" for fault in sorted(self.faults, key=_line))
            raise MedsegError(f"{self.path}: {len(self.faults)} mistakes\n{listed}")


def _line(fault: str) -> int:
    """The line that a fault names; 0 for none."""
    found = re.match(r"line (\d+), ", fault)
    return int(found[1]) if found else 0


def read_yaml(path: Path) -> Document:
    """Read a file that holds one YAML mapping.

    Raises:
        MedsegError: it is missing, no YAML, no mapping, or holds a key twice; the line is named.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise MedsegError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise MedsegError(f"{path}: not readable as text ({error})") from None
    document = Document(path, text, {}, {})
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        _walk(node, (), document, set())
        document.raise_faults()
        document.content = loader.construct_document(node) if node else None  # refused below
    except (yaml.YAMLError, ValueError) as error:
        raise MedsegError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from None
    if not isinstance(document.content, dict):
        raise MedsegError(f"{path}: holds no mapping of keys to values")
    return document


def _walk(node: Any, place: Place, document: Document, above: set[int]) -> None:
    """Note the line of each value and each key that stands twice; ``above`` are the nodes around this one."""
    if node is None or id(node) in above:
        return
    document.lines[place] = node.start_mark.line + 1
    above = above | {id(node)}
    if isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            _walk(item, (*place, number), document, above)
    elif isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name = str(key.value) if isinstance(key, yaml.ScalarNode) else ""
            at = (*place, name)
            _walk(value, at, document, above)
            document.lines[at] = key.start_mark.line + 1
            if name in seen:
                document.fault(at, "stands twice; keep one of them")
            seen.add(name)
