"""Name -> callable and facts, one registry per room; a room's modules are found by themselves."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from medseg.errors import MedsegError, unknown

T = TypeVar("T", bound=Callable[..., Any])


@dataclass(frozen=True)
class Entry:
    """One registered component.

    Args:
        name: the name that configs, bundles and tables use.
        build: class or function that makes the component.
        task: ``segmentation`` or ``classification``.
        facts: what other rooms need to know about it (size divisor, better direction, ...).
    """

    name: str
    build: Callable[..., Any]
    task: str
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def doc(self) -> str:
        """The whole docstring, unindented."""
        return inspect.getdoc(self.build) or ""

    @property
    def summary(self) -> str:
        """The first paragraph of the docstring, on one line."""
        return " ".join(self.doc.split("\n\n")[0].split())


class Registry:
    """The components of one room (a package), loaded on first use.

    Args:
        kind: singular noun for messages, such as ``loss``.
        room: name of the package whose public modules hold the registrations.
    """

    def __init__(self, kind: str, room: str) -> None:
        self.kind = kind
        self.room = room
        self._entries: dict[str, Entry] = {}
        self._loaded = False

    def register(self, name: str, *, task: str = "segmentation", **facts: Any) -> Callable[[T], T]:
        """Decorate a class or function as the component ``name``.

        Raises:
            ValueError: the name is taken.
        """

        def keep(build: T) -> T:
            if name in self._entries:
                raise ValueError(f"{self.kind} {name!r} is registered twice")
            self._entries[name] = Entry(name, build, task, facts)
            return build

        return keep

    def _load(self) -> None:
        if not self._loaded:
            package = sys.modules[self.room]
            for module in pkgutil.iter_modules(package.__path__):
                if not module.name.startswith("_"):
                    importlib.import_module(f"{self.room}.{module.name}")
            self._loaded = True

    def names(self, task: str | None = None) -> list[str]:
        """The registered names in alphabetical order, of one task if given."""
        self._load()
        return sorted(e.name for e in self._entries.values() if task in (None, e.task))

    def __iter__(self) -> Iterator[Entry]:
        return (self._entries[name] for name in self.names())

    def __contains__(self, name: object) -> bool:
        self._load()
        return name in self._entries

    def __getitem__(self, name: str) -> Entry:
        """The entry of that name.

        Raises:
            MedsegError: there is none; the nearest names are given.
        """
        self._load()
        if name not in self._entries:
            raise unknown(self.kind, name, self._entries)
        return self._entries[name]

    def build(self, name: str, arguments: Mapping[str, Any] | None = None, **more: Any) -> Any:
        """Build the component ``name``.

        Args:
            name: the registered name.
            arguments: arguments of the component, as a config holds them.
            more: further arguments; they win.

        Raises:
            MedsegError: the name or an argument is unknown, or a needed argument is missing.
        """
        entry = self[name]
        arguments = {**(arguments or {}), **more}
        signature = inspect.signature(entry.build)
        try:
            signature.bind(**arguments)
        except TypeError as error:
            takes = ", ".join(signature.parameters) or "nothing"
            raise MedsegError(f"{self.kind} {name!r}: {error}; it takes {takes}") from None
        return entry.build(**arguments)
