"""``medseg losses``, ``medseg models`` and their like: what there is to choose from."""

from __future__ import annotations

import math
import shutil
from typing import TYPE_CHECKING, Any

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
    import pandas as pd

    from medseg.metrics import METRICS
    from medseg.metrics.classification import CLASS_METRICS

    both = pd.concat([table(METRICS), table(CLASS_METRICS)], ignore_index=True)
    emit(both[["name", "task", "better", "unit", "needs", "summary"]], fmt)


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
    """List the models: size, work, backbone, paper and licence.

    Parameters and multiply-accumulates (MACs) are those of a model with its default arguments, for one colour
    image of 224 x 224 pixels and one class, of classifiers two. csv and json have the exact numbers and all facts.
    """
    from medseg.models import MODELS

    if fmt in ("csv", "json"):
        emit(table(MODELS).convert_dtypes(), fmt)
    elif fmt == "md":
        emit(overview(MODELS, "licence"), fmt)
    else:
        title = "Models, for one colour image of 224 x 224 and one class (classifiers: two)"
        emit(overview(MODELS), fmt, title=title)
        click.echo(f"Licences:\n{licences(MODELS)}")


def overview(room: Registry, *more: str) -> pd.DataFrame:
    """The models with rounded numbers, narrow enough for a terminal of 80 columns.

    Args:
        room: the registry of models.
        more: further facts as columns.
    """
    import pandas as pd

    columns = ("backbone", "paper", *more)
    return pd.DataFrame(
        {
            "name": entry.name,
            "params": rounded(entry.facts["parameters"] / 1e6, "M"),
            "MACs": rounded(entry.facts["macs"] / 1e9, "G"),
            **{column: entry.facts.get(column, "") for column in columns},
        }
        for entry in room
    )


def rounded(number: float, unit: str) -> str:
    """A number with one decimal, flush right; a small one with as many as it takes."""
    return f"{number:5.1f} {unit}" if number >= 0.1 else f"{number:.1g} {unit}"


def licences(room: Registry) -> str:
    """What is said of the models' licences, each note once, with the models that it holds for."""
    notes: dict[str, list[str]] = {}
    for entry in room:
        notes.setdefault(entry.facts["licence"], []).append(entry.name)
    width = shutil.get_terminal_size().columns
    lines = [f"{', '.join(names)}: {note}" for note, names in notes.items()]
    return "\n".join(click.wrap_text(line, width, "  ", "    ") for line in lines)


def table(room: Registry) -> pd.DataFrame:
    """The components of a room in alphabetical order: name, task, summary and one column for each fact."""
    import pandas as pd

    rows = [{"name": e.name, "task": e.task, **_facts(e), "summary": e.summary} for e in room]
    frame = pd.DataFrame(rows)
    return frame[[*(c for c in frame.columns if c != "summary"), "summary"]]


def _facts(entry: Entry) -> dict[str, object]:
    return {name: _plain(value) for name, value in entry.facts.items()}


def _plain(value: Any) -> Any:
    """A fact as a cell: several values with a plus between them, arguments as ``--set`` takes them."""
    if isinstance(value, (tuple, list)):
        return " + ".join(map(str, value))
    if isinstance(value, dict):
        import yaml

        return yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=math.inf).strip()
    return value
