"""The study file, read and checked as far as that needs no data."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medseg.bundle.choice import Choice
from medseg.bundle.settings import Settings


@dataclass(frozen=True)
class Cell:
    """One run of a study: one repeat of one bundle.

    Args:
        choice: what the bundle is made of.
        repeat: of the split, from 0.
        settings: how it trains.
    """

    choice: Choice
    repeat: int
    settings: Settings

    @property
    def name(self) -> str:
        """What people call the run: ``<bundle>/<repeat>``."""
        return f"{self.choice.name}/{self.repeat}"


@dataclass(frozen=True)
class Study:
    """A study file.

    Args:
        name: the study's, also that of its folder and MLflow experiment.
        axes: levels of ``dataset model loss preprocess augment repeat``, in the file's order.
        fixed: settings of every run (see ``medseg.bundle.settings.Settings``).
        rules: settings of some runs: ``{"where": {axis: levels}, "set": {setting: value}}``, later ones win.
        skip: cells left out: mappings axis -> levels, all of which must match.
        split: name of the split that the repeats are of.
        retries: how often a failed run is tried again.
        threads: CPU threads of one run; part of what makes its numbers, so not left to the machine.
        keep_weights: ``all``, ``best`` (only the best repeat of each bundle) or ``none``.
        text: the file as it was read.
    """

    name: str
    axes: dict[str, tuple[Any, ...]]
    fixed: dict[str, Any] = field(default_factory=dict)
    rules: tuple[dict[str, Any], ...] = ()
    skip: tuple[dict[str, Any], ...] = ()
    split: str = "holdout"
    retries: int = 2
    threads: int = 1
    keep_weights: str = "all"
    text: str = ""


def read_study(path: Path) -> Study:
    """Read and check a study file.

    Raises:
        MedsegError: it is missing, no YAML, or a key, name or value in it is wrong; the line or key is named.
    """
    raise NotImplementedError
