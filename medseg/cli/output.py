"""Tables for people and machines: every command that prints one goes through ``emit``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import pandas as pd

FORMATS = ("table", "csv", "json", "md")

format_option: Callable[[Any], Any] = click.option(
    "--format",
    "fmt",
    type=click.Choice(FORMATS),
    default="table",
    show_default=True,
    help="How to print the result.",
)


def emit(frame: pd.DataFrame, fmt: str, title: str | None = None) -> None:
    """Print a table in one of ``FORMATS``; only the console table shows the title and rounds numbers."""
    if fmt == "csv":
        click.echo(frame.to_csv(index=False), nl=False)
    elif fmt == "json":
        click.echo(frame.to_json(orient="records", indent=2, force_ascii=False))
    elif fmt == "md":
        click.echo(markdown(frame), nl=False)
    else:
        _console(frame, title)


def markdown(frame: pd.DataFrame) -> str:
    """A table as GitHub Markdown, numbers to the right."""
    import pandas as pd

    numeric = [pd.api.types.is_numeric_dtype(frame[c]) for c in frame.columns]
    lines = [
        "| " + " | ".join(map(str, frame.columns)) + " |",
        "|" + "|".join(" ---: " if right else " --- " for right in numeric) + "|",
    ]
    for row in frame.itertuples(index=False):
        lines.append("| " + " | ".join(text(v).replace("|", "\\|") for v in row) + " |")
    return "\n".join(lines) + "\n"


def printable(text: str) -> str:
    """A text in which what a terminal would obey or hide (escapes, changes of direction) is spelt out."""
    return "".join(
        char if char.isprintable() or char in "\n\u00a0" else char.encode("unicode_escape").decode()
        for char in text
    )


def text(value: object) -> str:
    """A cell as text: at most four decimals, a power of ten where they would hide it, nothing for a missing value."""
    if value is None or value != value:
        return ""
    if isinstance(value, float) and 0 < abs(value) < 5e-5:
        return f"{value:.2g}"
    if isinstance(value, float):
        return f"{value:.4f}".rstrip("0").rstrip(".") if abs(value) < 1e6 else f"{value:.4g}"
    return printable(str(value))


def _console(frame: pd.DataFrame, title: str | None) -> None:
    import pandas as pd
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", header_style="bold")
    for column in frame.columns:
        right = pd.api.types.is_numeric_dtype(frame[column])
        table.add_column(str(column), justify="right" if right else "left", overflow="fold")
    for row in frame.itertuples(index=False):
        table.add_row(*(Text(text(v)) for v in row))  # a text is no markup
    # a file or a pipe has no width: never fold there
    console = Console()
    if not console.is_terminal:
        console = Console(width=max(80, _width(frame)))
    console.print(table)


def _width(frame: pd.DataFrame) -> int:
    widths = (max([len(str(c)), *(len(text(v)) for v in frame[c])]) for c in frame.columns)
    return sum(widths) + 3 * len(frame.columns) + 4
