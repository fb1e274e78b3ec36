"""Fine-tuned weights that replace the served ones only if they are better, and at once."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events

from medseg.errors import MedsegError

logger = logging.getLogger(__name__)


class KeepBest:
    """Handler of a trainer: validates before the first epoch and after each, and keeps the best weights.

    The served weights take part, so that a training which makes the network worse changes nothing. Without labels to
    validate on, the weights of the last epoch are kept. The file is replaced in one step: a server that reads it
    meanwhile sees the old or the new one. Weights that are not finite are never kept.

    Args:
        network: that is trained.
        validator: evaluator with the metric.
        metric: name of it; higher is better.
        path: of the weights, a state dict.
        record: file of what happened, for people and for the server's ``train_stats``.
    """

    def __init__(self, network: torch.nn.Module, validator: Any, metric: str, path: str, record: str) -> None:
        self.network, self.validator, self.metric = network, validator, metric
        self.path, self.record = Path(path), Path(record)
        self.scores: list[float] = []
        self.kept: int | None = None

    def attach(self, engine: Engine) -> None:
        """Listen to a trainer; last of its handlers, so that the weights to begin with are loaded."""
        engine.add_event_handler(Events.STARTED, self.begin)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.epoch)
        engine.add_event_handler(Events.COMPLETED, self.end)

    def begin(self, engine: Engine) -> None:
        """Validate the weights that are served."""
        self.scores, self.kept = [], 0
        if self._validates:
            self.scores.append(self._score(0))

    def epoch(self, engine: Engine) -> None:
        """Validate after an epoch, and keep better weights."""
        if not self._validates:
            return
        score = self._score(engine.state.epoch)
        if score > max(self.scores):
            self.kept = engine.state.epoch
            self._save()
        self.scores.append(score)

    def end(self, engine: Engine) -> None:
        """Keep the last weights where nothing tells which are best; say what became of the training."""
        if not self._validates:
            self.kept = engine.state.epoch
            self._save()
        if not self.kept:
            logger.warning("no epoch was better than the weights that are served; they stay")
        record = {
            "epochs": engine.state.epoch,
            "kept_epoch": self.kept,
            "validated_images": len(self.validator.data_loader.dataset),
            f"{self.metric}_before": self.scores[0] if self.scores else None,
            f"{self.metric}_by_epoch": self.scores[1:],
        }
        beside = _beside(self.record)
        beside.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        beside.replace(self.record)

    @property
    def _validates(self) -> bool:
        return len(self.validator.data_loader.dataset) > 0

    def _score(self, epoch: int) -> float:
        self.validator.run(max(epoch, 1))
        return float(self.validator.state.metrics[self.metric])

    def _save(self) -> None:
        state = self.network.state_dict()
        if not all(torch.isfinite(values).all() for values in state.values()):
            raise MedsegError("training made weights that are not finite; train with a lower learning_rate")
        beside = _beside(self.path)
        torch.save(state, beside)
        beside.replace(self.path)


def _beside(path: Path) -> Path:
    """A hidden name in the same folder, from which a whole file is moved into place."""
    return path.with_name(f".{path.name}.new")
