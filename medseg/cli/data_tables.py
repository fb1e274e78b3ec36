"""What ``medseg data`` says of an index and of a split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import pandas as pd

    from medseg.data.index_file import Index
    from medseg.data.splits_file import Splits


def tell(made: Index) -> None:
    """What a person should know of an index besides its figures."""
    if made.expected and len(made.samples) != made.expected:
        click.echo(
            f"note: {made.title} officially has {made.expected} images; here are {len(made.samples)}",
            err=True,
        )
    for cases in made.duplicates[:10]:
        click.echo(f"note: the same picture, now one group: {', '.join(cases)}", err=True)
    if len(made.duplicates) > 10:
        click.echo(
            f"note: ... and {len(made.duplicates) - 10} more sets of duplicates, listed in the index",
            err=True,
        )
    if made.task == "classification":
        _tell_classes(made)
    for fault in made.faults:
        click.echo(f"note: left out {fault.case}: {fault.reason} ({fault.file})", err=True)


def _tell_classes(made: Index) -> None:
    for cases in made.contradictions:
        click.echo(f"note: the same picture has several classes: {', '.join(cases)}", err=True)
    for name, number in made.class_counts().items():
        if number < 2:
            seen = f"class {name} has {number} image{'s' * (number != 1)}"
            click.echo(f"note: {seen}, so that parts of a split lack it", err=True)


def index_table(made: Index, path: Path) -> pd.DataFrame:
    """The figures of an index, one row."""
    import pandas as pd

    shown: dict[str, object] = {"empty": sum(sample.lesion_fraction == 0 for sample in made.samples)}
    if made.task == "classification":
        shown = {"classes": ", ".join(f"{name} {number}" for name, number in made.class_counts().items())}
    row = {
        "dataset": made.dataset,
        "images": len(made.samples),
        "expected": made.expected or None,
        "groups": made.groups,
        "duplicates": len(made.duplicates),
        **shown,
        "left out": len(made.faults),
        "channels": made.channels,
        "depth": made.depth,
        "index": str(path),
    }
    return pd.DataFrame([row])


def fault_table(faults: Any) -> pd.DataFrame:
    """One row per fault: case, file, reason and what to do."""
    from dataclasses import asdict

    import pandas as pd

    return pd.DataFrame([asdict(fault) for fault in faults])


def split_table(made: Splits, classes: Sequence[str] = ()) -> pd.DataFrame:
    """One row per repeat: images and groups of each part; given classes, one row per part with the images of each."""
    import pandas as pd

    if classes:
        return pd.DataFrame(
            {"split": made.name, "repeat": k, "part": part, **_counted(items, classes)}
            for k, parts in enumerate(made.repeats)
            for part, items in parts.items()
        )
    rows = []
    for k, parts in enumerate(made.repeats):
        images = {part: len(items) for part, items in parts.items()}
        groups = {f"{part} groups": len({item["group"] for item in items}) for part, items in parts.items()}
        rows.append({"split": made.name, "repeat": k, **images, **groups})
    return pd.DataFrame(rows)


def _counted(items: Sequence[Mapping[str, Any]], classes: Sequence[str]) -> dict[str, int]:
    """Images, groups, and images of each class."""
    found = {name: sum(name in item["classes"] for item in items) for name in classes}
    return {"images": len(items), "groups": len({item["group"] for item in items}), **found}
