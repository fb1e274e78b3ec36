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
device_option: Callable[[Any], Any] = click.option(
    "--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N."
)
threshold_option: Callable[[Any], Any] = click.option(
    "--threshold",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.5,
    show_default=True,
    help="A pixel is of the lesion, or an image has one of several possible classes, from this probability on.",
)
