"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

prepared_option: Callable[[Any], Any] = click.option(
    "--prepared",
    type=click.Path(path_type=Path),
    default=Path("prepared"),
    show_default=True,
    help="Folder of indexes, splits and decoded arrays.",
)
source_option: Callable[[Any], Any] = click.option(
    "--data",
    "folder",
    type=click.Path(path_type=Path),
    help="Folder of the data set, if it is not yet indexed.",
)
