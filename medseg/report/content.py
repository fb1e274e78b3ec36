"""What a page is made of: sections of paragraphs, lists, tables, pictures and commands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    import pandas as pd

#: rows of a table that are shown; its CSV has them all
ROWS = 60


@dataclass(frozen=True)
class Paragraph:
    """A paragraph.

    Args:
        text: plain text.
        tone: empty, ``lead`` for the answer, or ``warning`` for what must not be overlooked.
    """

    kind: ClassVar[str] = "paragraph"
    text: str
    tone: str = ""


@dataclass(frozen=True)
class Points:
    """A list, one sentence each."""

    kind: ClassVar[str] = "points"
    items: tuple[str, ...]
    tone: str = ""


@dataclass(frozen=True)
class Facts:
    """What is what: pairs of a term and its value."""

    kind: ClassVar[str] = "facts"
    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Commands:
    """Lines of a terminal or of a file."""

    kind: ClassVar[str] = "commands"
    text: str


@dataclass(frozen=True)
class Table:
    """A table as it is shown.

    Args:
        title: what stands above it.
        columns: their heads.
        rows: cells as text, the first of each row its head.
        right: of each column, whether it holds numbers and is set to the right.
        note: how to read it.
    """

    kind: ClassVar[str] = "table"
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    right: tuple[bool, ...]
    note: str = ""


@dataclass(frozen=True)
class Picture:
    """A picture as it is shown.

    Args:
        name: of its files below ``figures/``.
        title: what stands above it.
        caption: what it shows and how to read it.
        alt: one sentence for those who cannot see it.
        source: the whole picture as a ``data:`` address.
        width: in CSS pixels.
        height: in CSS pixels.
    """

    kind: ClassVar[str] = "picture"
    name: str
    title: str
    caption: str
    alt: str
    source: str = field(repr=False)
    width: int
    height: int


Block = Paragraph | Points | Facts | Commands | Table | Picture


@dataclass(frozen=True)
class Section:
    """A part of the page with a heading; an empty one is left out.

    Args:
        anchor: of links to it.
        title: the heading.
        blocks: what it holds.
    """

    anchor: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Page:
    """A page, its answer first.

    Args:
        title: the heading.
        subtitle: one line below it.
        sections: in order.
        footer: the last line.
    """

    title: str
    subtitle: str
    sections: tuple[Section, ...]
    footer: str


def table_of(
    frame: pd.DataFrame, title: str, note: str = "", right: Sequence[str] = (), rows: int = ROWS
) -> Table:
    """A table of a frame whose cells are text already, cut after ``rows``.

    Args:
        frame: the cells; numbers are written as they are.
        title: what stands above it.
        note: how to read it.
        right: columns of text that hold numbers; columns of numbers need not be named.
        rows: how many are shown.
    """
    import pandas as pd

    if len(frame) > rows:
        note = f"{note} The first {rows} of {len(frame)} rows; the file has them all.".strip()
    numbers = [c in right or pd.api.types.is_numeric_dtype(frame[c]) for c in frame.columns]
    cells = tuple(tuple(_cell(v) for v in row) for row in frame.head(rows).itertuples(index=False, name=None))
    return Table(title, tuple(map(str, frame.columns)), cells, tuple(numbers), note)


def _cell(value: object) -> str:
    return "" if value is None or value != value else str(value)
