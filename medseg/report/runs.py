"""The runs behind a results table: their bundles, what they were run with, their curves and their cost."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.bundle.choice import Choice
from medseg.bundle.open import Bundle
from medseg.engine.record import best_value, read_run
from medseg.errors import MedsegError
from medseg.results import RUN_KEYS, read_csv

if TYPE_CHECKING:
    import pandas as pd

#: what of a run's settings a reader wants to know, and what it is called
SHOWN = {
    "image_size": "image size (px)",
    "epochs": "epochs at most",
    "patience": "patience (epochs)",
    "batch_size": "batch size",
    "optimizer": "optimiser",
    "learning_rate": "learning rate",
    "sampling": "sampling",
    "layer_decay": "layer decay",
    "frozen_stages": "frozen stages",
    "protocol": "augmentation protocol",
    "seed": "seed",
    "amp": "mixed precision",
    "world_size": "processes per run",
}
TAGS = {
    "pretrained": "began with weights",
    "device": "device",
    "code_version": "medseg",
    "torch_version": "torch",
}
#: the side for which a model's multiply-accumulates are registered
MACS_SIDE = 224
#: path-like text: names between two or more slashes, or one that begins with a slash, ``~`` or a drive
PATH = re.compile(
    r"""(?:[^\s\\/'"(=,;]*[\\/]){2,}[^\s\\/:,;'")]*|(?:(?<=[\s'"(=])|^)(?:~|[A-Za-z]:)?[\\/][^\s\\/:,;'")]+""",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Run:
    """One run of a table that left its folder.

    Args:
        keys: ``RUN_KEYS`` of the run, all as text.
        bundle: its bundle.
        folder: ``repeats/<k>`` with ``run.json``, ``curves.csv`` and perhaps ``model.pt``.
        record: ``run.json``.
    """

    keys: dict[str, str]
    bundle: Bundle
    folder: Path
    record: dict[str, Any]

    @property
    def weights(self) -> Path | None:
        """The file of its weights: its own, or the bundle's where that one was taken from it; None if not kept."""
        import json

        if (self.folder / "model.pt").is_file():
            return self.folder / "model.pt"
        released = self.bundle.root / "models" / "model.pt"
        try:
            told = json.loads((released.parent / "model.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return released if told.get("repeat") == self.folder.name and released.is_file() else None


def runs_of(table: pd.DataFrame, bundles: Path) -> list[Run]:
    """The runs of a table whose record lies below a folder of bundles, in the order of the table.

    Args:
        table: a normalised table; one without all of ``RUN_KEYS`` names no run.
        bundles: the folder.
    """
    if not set(RUN_KEYS) <= set(table.columns):
        return []
    found = []
    for row in table[list(RUN_KEYS)].drop_duplicates().itertuples(index=False):
        keys = dict(zip(RUN_KEYS, map(str, row), strict=True))
        run = _run(keys, bundles)
        if run:
            found.append(run)
    return found


def _run(keys: dict[str, str], bundles: Path) -> Run | None:
    preprocess = tuple(keys["preprocess"].split("-")) if keys["preprocess"] else ()
    choice = Choice(keys["dataset"], keys["model"], keys["loss"], keys["augment"], preprocess)
    bundle = Bundle(bundles / choice.name)
    if not keys["repeat"].isdigit():
        return None
    folder = bundle.run_folder(int(keys["repeat"]), keys["split"])
    record = read_run(folder)
    return Run(keys, bundle, folder, record) if record else None


def curves(runs: Sequence[Run]) -> pd.DataFrame:
    """The learning curves below each other; empty if none was kept.

    Returns:
        ``RUN_KEYS monitor epoch train_loss val_dice ...``: ``monitor`` is the column of the metric that chose the run's
        weights.
    """
    import pandas as pd

    parts = []
    for run in runs:
        try:
            part = read_csv(run.folder / "curves.csv")
        except MedsegError:
            continue
        best = best_value(run.record)
        monitor = f"val_{best[0] if best else run.record.get('monitor', 'dice')}"
        if {"epoch", monitor} <= set(part.columns):
            parts.append(part.assign(**run.keys, monitor=monitor))
    if not parts:
        return pd.DataFrame(columns=[*RUN_KEYS, "monitor", "epoch", "train_loss"])
    whole = pd.concat(parts, ignore_index=True)
    first = [*RUN_KEYS, "monitor"]
    return whole[[*first, *(c for c in whole.columns if c not in first)]]


def monitored(curves: pd.DataFrame) -> list[str]:
    """The columns of the metrics that chose the weights of the runs, such as ``val_dice``."""
    return list(dict.fromkeys(curves["monitor"])) if "monitor" in curves.columns else ["val_dice"]


def costs(runs: Sequence[Run]) -> pd.DataFrame:
    """What each run cost: ``RUN_KEYS seconds epochs best_epoch parameters macs``, NaN where it is not known.

    ``seconds`` are of training; ``macs``, the multiply-accumulates for one image, are those registered for the model,
    so they are known where it was built with its own defaults for images of 224 x 224 pixels.
    """
    import pandas as pd

    rows = []
    for run in runs:
        record = run.record
        rows.append(
            {
                **run.keys,
                **{name: _number(record.get(name)) for name in ("seconds", "epochs", "best_epoch")},
                "parameters": _number(record.get("tags", {}).get("parameters")),
                "macs": _macs(run),
            }
        )
    return pd.DataFrame(
        rows, columns=[*RUN_KEYS, "seconds", "epochs", "best_epoch", "parameters", "macs"]
    ).astype(dict.fromkeys(("seconds", "epochs", "best_epoch", "parameters", "macs"), float))


def _macs(run: Run) -> float:
    from medseg.models import MODELS

    settings = run.record.get("settings", {})
    usual = settings.get("model_arguments") in ("{}", None) and settings.get("image_size") == [MACS_SIDE] * 2
    if not usual or run.keys["model"] not in MODELS:
        return math.nan
    return _number(MODELS[run.keys["model"]].facts.get("macs"))


def _number(value: object) -> float:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return math.nan


def settings(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """What the runs were run with, as (what, values): one value where all agree, else each with its number of runs."""
    shown = []
    for kind, names in (("settings", SHOWN), ("tags", TAGS)):
        for key, name in names.items():
            values = [_said(run.record.get(kind, {}).get(key)) for run in runs]
            counts = {value: values.count(value) for value in dict.fromkeys(values) if value}
            if counts:
                every = next(iter(counts)) if len(counts) == 1 else _counted(counts)
                shown.append((name, every))
    return shown


def _counted(counts: dict[str, int], most: int = 6) -> str:
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    named = [f"{value} ({number} runs)" if number > 1 else f"{value} (1 run)" for value, number in ordered]
    return ", ".join(named[:most]) + (f" and {len(named) - most} more" if len(named) > most else "")


def _said(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return " x ".join(map(str, value))
    return without_paths(str(value))


def dates(runs: Sequence[Run]) -> tuple[str, str]:
    """The days of the first start and the last end, as ``YYYY-MM-DD``; empty if no run says."""
    started = sorted(run.record["started"] for run in runs if run.record.get("started"))
    ended = sorted(run.record["ended"] for run in runs if run.record.get("ended"))
    return (started[0][:10] if started else "", ended[-1][:10] if ended else "")


def without_paths(text: str) -> str:
    """A text whose paths are cut to their last name: a page goes to people who need not know a machine's folders.

    >>> without_paths("cannot read /home/ann/data/p1.png (no such file)")
    'cannot read p1.png (no such file)'
    """
    return PATH.sub(lambda match: re.split(r"[\\/]", match[0].rstrip("\\/"))[-1], text)
