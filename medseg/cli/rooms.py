"""``medseg losses``, ``medseg models`` and their like: what there is to choose from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from medseg.cli.output import emit, format_option

if TYPE_CHECKING:
    import pandas as pd

    from medseg.registry import Entry, Registry


@click.command()
@format_option
def losses(fmt: str) -> None:
    """List the losses."""
    from medseg.losses import LOSSES

    emit(table(LOSSES), fmt)


@click.command()
@format_option
def metrics(fmt: str) -> None:
    """List the metrics, with the direction that is better and the unit."""
    from medseg.metrics import METRICS

    emit(table(METRICS), fmt)


@click.command()
@format_option
def transforms(fmt: str) -> None:
    """List the preprocessing steps."""
    from medseg.transforms import TRANSFORMS

    emit(table(TRANSFORMS), fmt)


@click.command()
@format_option
def augmentations(fmt: str) -> None:
    """List the augmentations."""
    from medseg.augmentations import AUGMENTATIONS

    emit(table(AUGMENTATIONS), fmt)


@click.command()
@format_option
def models(fmt: str) -> None:
    """List the models, with their parameters for a colour image and one class."""
    from medseg.models import MODELS

    frame = table(MODELS)
    frame.insert(2, "parameters", [parameters(entry) for entry in MODELS])
    emit(frame, fmt)


def table(room: Registry) -> pd.DataFrame:
    """The components of a room in alphabetical order: name, task, summary and one column for each fact."""
    import pandas as pd

    rows = [{"name": e.name, "task": e.task, **_facts(e), "summary": e.summary} for e in room]
    frame = pd.DataFrame(rows)
    return frame[[*(c for c in frame.columns if c != "summary"), "summary"]]


def _facts(entry: Entry) -> dict[str, object]:
    return {
        name: " + ".join(map(str, value)) if isinstance(value, tuple) else value
        for name, value in entry.facts.items()
    }


def parameters(entry: Entry) -> int:
    """The parameters of a model for three channels in and one out, counted without making its weights."""
    import torch

    with torch.device("meta"):
        network = entry.build(in_channels=3, out_channels=1)
    return sum(parameter.numel() for parameter in network.parameters())
