"""The record of one run as plain files: run.json, curves.csv, cases.csv; MLflow is told from them."""

from __future__ import annotations

import json
import logging
import subprocess
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from torch import nn

from medseg import __version__
from medseg.augmentations.protocol import leaks
from medseg.engine import tracking
from medseg.engine.monitor import best_value
from medseg.models import provenance
from medseg.results import atomic_write, write_csv

__all__ = ["RunRecord", "best_value", "code_version", "leak_tags", "now", "read_run", "weight_tags"]

log = logging.getLogger(__name__)

#: seconds between two messages to MLflow while a run goes on
SEND_EVERY = 20.0


class RunRecord:
    """One repeat of a bundle: its folder, what it was run with, its curves, and its place in MLflow.

    The files are the truth. Sending them to MLflow may fail without harm: ``medseg bundle sync`` sends the rest.

    Args:
        folder: the repeat's folder, ``<bundle>/repeats/<k>``.
        facts: what the run is keyed by (``medseg.results.RUN_KEYS``).
        settings: everything else that decides its numbers.
        samples: the prepared data, for their fingerprints; None when unknown.
        network: for its parameter count.
        device: where it runs.
        tracking_uri: an MLflow store or server; empty for none.
        experiment: name of the MLflow experiment.
        active: False on all processes but the first of a distributed run: nothing is written there.
    """

    def __init__(
        self,
        folder: str,
        facts: dict[str, Any],
        settings: dict[str, Any],
        samples: Any = None,
        network: nn.Module | None = None,
        device: torch.device | None = None,
        tracking_uri: str = "",
        experiment: str = "medseg",
        active: bool = True,
    ) -> None:
        self.folder = Path(folder)
        self.facts = dict(facts)
        self.settings = dict(settings)
        self.tracking_uri = tracking_uri or ""
        self.experiment = experiment
        self.active = active
        self.curves: list[dict[str, float]] = []
        self._weights = provenance(network) if network is not None else []
        self._tags = _tags(samples, network, device) | leak_tags(self.facts)
        self._last_sent = time.monotonic()
        self._warned = False

    @property
    def name(self) -> str:
        """The run's name in one glance: data set, model, loss, what differs from plain, repeat."""
        facts = self.facts
        extra = [facts["augment"]] if facts.get("augment", "vanilla") != "vanilla" else []
        extra += [facts["preprocess"]] if facts.get("preprocess") else []
        return " ".join([facts["dataset"], facts["model"], facts["loss"], *extra, f"r{facts['repeat']}"])

    @property
    def monitor(self) -> str:
        """The validation metric that chooses the weights: the first of the curves."""
        return next(name for name in self.curves[-1] if name.startswith("val_")).removeprefix("val_")

    def read(self) -> dict[str, Any]:
        """``run.json`` as it stands; empty when there is none."""
        return read_run(self.folder)

    def start(self, *, going_on: bool = False) -> None:
        """Write ``run.json`` for a run that begins, or goes on and keeps what is known of its weights."""
        before = self.read()
        if going_on:
            self._weights = before.get("weights", self._weights)
        began = before.get("started") or now()
        self.update(**self._base(), status="running", started=began)

    def update(self, **changes: Any) -> None:
        """Change fields of ``run.json``, atomically; what it was trained with stays."""
        if not self.active:
            return
        content = {**self._base(), **self.read(), **changes}
        with atomic_write(self.folder / "run.json") as file:
            json.dump(content, file, indent=2)
            file.write("\n")

    def _base(self) -> dict[str, Any]:
        facts = {"name": self.name, "facts": self.facts, "settings": self.settings}
        tags = self._tags | weight_tags(self._weights)
        return {**facts, "tags": tags, "weights": self._weights, "experiment": self.experiment}

    def add_epoch(self, values: dict[str, float]) -> None:
        """Keep the values of one epoch; they reach the disk with ``save_curves``."""
        self.curves.append(values)

    def save_curves(self) -> None:
        """Write ``curves.csv``: one row per epoch."""
        if self.active and self.curves:
            import pandas as pd

            write_csv(pd.DataFrame(self.curves), self.folder / "curves.csv")

    def send(self, *, force: bool = False) -> None:
        """Bring MLflow up to date with the files, at most every ``SEND_EVERY`` seconds unless forced.

        A store that cannot be reached costs one warning; what it missed stays on disk.
        """
        if not (self.active and self.tracking_uri):
            return
        if not force and time.monotonic() - self._last_sent < SEND_EVERY:
            return
        self.save_curves()
        try:
            tracking.send(self.folder, self.tracking_uri)
        except Exception as error:  # whatever a store or the network throws must not end a training
            if not self._warned:
                reason = " ".join(str(error).split())[:120]
                log.warning(
                    "MLflow at %s cannot be reached (%s). Training goes on; 'medseg bundle sync' sends it later.",
                    self.tracking_uri,
                    reason,
                )
            self._warned = True
        self._last_sent = time.monotonic()


def read_run(folder: Path) -> dict[str, Any]:
    """``run.json`` of a repeat's folder; empty when there is none or it was cut short."""
    try:
        content = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def now() -> str:
    """This moment, as ``run.json`` keeps it: UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _tags(samples: Any, network: nn.Module | None, device: torch.device | None) -> dict[str, str]:
    tags = {"code_version": code_version(), "torch_version": torch.__version__}
    if samples is not None:
        tags |= {"data_fingerprint": samples.fingerprint, "split_fingerprint": samples.split_fingerprint[:16]}
        for part in ("training", "validation", "testing"):
            tags[f"cases_{part}"] = str(len(samples.part(part)))
    if network is not None:
        tags["parameters"] = str(sum(p.numel() for p in network.parameters()))
    if device is not None:
        tags["device"] = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    return tags


def leak_tags(facts: dict[str, Any]) -> dict[str, str]:
    """What marks a run whose test images were trained on as copies."""
    return {"leaking": "true"} if leaks(str(facts.get("augment", ""))) else {}


def weight_tags(weights: list[dict[str, str]]) -> dict[str, str]:
    """What the network began with: ``pretrained`` is ``none`` for random weights, else their names and more.

    >>> weight_tags([])
    {'pretrained': 'none'}
    """
    if not weights:
        return {"pretrained": "none"}
    keys = {"pretrained": "weights", "pretrained_source": "source", "pretrained_sha256": "sha256"}
    keys |= {"pretrained_data": "trained_on"}
    return {tag: " + ".join(record[key] for record in weights) for tag, key in keys.items()}


def code_version() -> str:
    """medseg's version, with the commit when it runs from a checkout."""
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():
        return __version__
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=10"]
    try:
        commit = subprocess.run(
            command, capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return __version__
    return f"{__version__}+{commit}"
