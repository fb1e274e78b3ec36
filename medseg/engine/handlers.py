"""Handlers for MONAI's engines: order and seeds, curves, checkpoints with early stopping, and a value per case."""

from __future__ import annotations

import hashlib
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Events
from monai.engines import Evaluator, Trainer
from monai.engines.workflow import Workflow
from torch import Tensor, nn
from torch.optim import Optimizer

from medseg.engine.device import seed_all
from medseg.engine.record import RunRecord, now
from medseg.errors import MedsegError
from medseg.results import atomic_write


class EpochSeed:
    """Makes every random draw of an epoch a function of (seed, epoch, rank).

    A run that resumes at an epoch therefore draws what the uninterrupted run would have drawn.

    Args:
        seed: the run's seed.
        loader: a loader whose sampler has ``set_epoch``.
        rank: of this process.
    """

    def __init__(self, seed: int, loader: Any, rank: int = 0) -> None:
        self.seed = seed
        self.loader = loader
        self.rank = rank

    def attach(self, engine: Trainer) -> None:
        """Act when each epoch starts."""
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Trainer) -> None:
        self.loader.sampler.set_epoch(engine.state.epoch)
        seed_all(self.seed, engine.state.epoch, self.rank)


class Curves:
    """Adds one row per epoch to the record: training loss, validation metrics, seconds.

    The loss is summed on the device and read once an epoch.

    Args:
        record: the run's record.
        validator: the evaluator that has just run.
    """

    def __init__(self, record: RunRecord, validator: Evaluator) -> None:
        self.record = record
        self.validator = validator

    def attach(self, engine: Trainer) -> None:
        """Act on every step and at the end of every epoch."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._begin)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._end)

    def _begin(self, engine: Trainer) -> None:
        self._total: Tensor | float = 0.0
        self._began = time.perf_counter()

    def _add(self, engine: Trainer) -> None:
        self._total = self._total + engine.state.output["loss"].detach()

    def _end(self, engine: Trainer) -> None:
        loss = float(self._total) / engine.state.epoch_length
        if not math.isfinite(loss):
            raise MedsegError(
                f"the training loss became {loss} in epoch {engine.state.epoch} of {self.record.name}:"
                " lower learning_rate, or try another loss"
            )
        engine.state.metrics["train_loss"] = loss
        values = {"epoch": engine.state.epoch, "train_loss": loss, **self.validator.state.metrics}
        seconds = round(time.perf_counter() - self._began, 3)
        self.record.add_epoch({**values, "epoch_seconds": seconds, "time": round(time.time(), 3)})
        self.record.send()


class Checkpoints:
    """Keeps the best weights, stops early, and makes a killed run resumable, all in one atomic file.

    ``resume.pt`` holds network, optimiser, gradient scaler, epoch, best weights and curves as they stood at the end
    of one epoch; the count of early stopping is the distance to the best epoch. It is written when ``every_seconds``
    have passed, so that small epochs are not slowed by it. ``model.pt`` is written when training ends.

    Args:
        record: the run's record.
        network: the bare network (not wrapped for several processes).
        optimizer: its optimiser.
        validator: its key metric decides which weights are best (higher is better).
        patience: epochs without a better value before training stops.
        every_seconds: at least so long between two checkpoints; 0 writes one every epoch.
        resume: take up ``resume.pt`` if there is one.
    """

    def __init__(
        self,
        record: RunRecord,
        network: nn.Module,
        optimizer: Optimizer,
        validator: Evaluator,
        patience: int,
        every_seconds: float = 30.0,
        resume: bool = False,
    ) -> None:
        self.record = record
        self.network = network
        self.optimizer = optimizer
        self.validator = validator
        self.patience = patience
        self.every_seconds = every_seconds
        self.resume = resume
        self.best_weights: dict[str, Tensor] = {}
        self._written = time.monotonic()

    @property
    def path(self) -> Path:
        """The checkpoint's file."""
        return self.record.folder / "resume.pt"

    def attach(self, engine: Trainer) -> None:
        """Act at the start, after every epoch, and at the end."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._epoch)
        engine.add_event_handler(Events.COMPLETED, self._complete)

    def _start(self, engine: Trainer) -> None:
        going_on = self.resume and self.path.is_file()
        self.record.start(going_on=going_on)
        if going_on:
            self._load(engine)

    def _epoch(self, engine: Trainer) -> None:
        if self.validator.state.best_metric_epoch == engine.state.epoch:
            weights = self.network.state_dict().items()
            self.best_weights = {key: value.detach().to("cpu", copy=True) for key, value in weights}
        if self._stale(engine) >= self.patience:
            engine.terminate()
        if time.monotonic() - self._written >= self.every_seconds:
            self._save(engine)

    def _stale(self, engine: Trainer) -> int:
        """Epochs since the best one."""
        return int(engine.state.epoch - self.validator.state.best_metric_epoch)

    def _complete(self, engine: Trainer) -> None:
        if not self.record.active:
            return
        save_weights(self.best_weights, self.record.folder / "model.pt")
        self.record.save_curves()
        state = self.validator.state
        self.record.update(
            status="trained",
            monitor=state.key_metric_name.removeprefix("val_"),
            **{f"best_{state.key_metric_name}": float(state.best_metric)},
            best_epoch=int(state.best_metric_epoch),
            epochs=int(engine.state.epoch),
            seconds=round(sum(row["epoch_seconds"] for row in self.record.curves), 3),
        )
        self.path.unlink(missing_ok=True)

    def _save(self, engine: Trainer) -> None:
        self._written = time.monotonic()
        if not self.record.active:
            return
        self.record.save_curves()
        scaler = engine.scaler.state_dict() if engine.scaler else {}
        state = {
            "epoch": engine.state.epoch,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": scaler,
            "best_weights": self.best_weights,
            "best_metric": float(self.validator.state.best_metric),
            "best_metric_epoch": int(self.validator.state.best_metric_epoch),
            "curves": self.record.curves,
        }
        with atomic_write(self.path, "wb") as file:
            torch.save(state, file)

    def _load(self, engine: Trainer) -> None:
        state = torch.load(self.path, map_location="cpu", weights_only=True)
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        if state["scaler"] and engine.scaler:
            engine.scaler.load_state_dict(state["scaler"])
        self.best_weights = state["best_weights"]
        self.validator.state.best_metric = state["best_metric"]
        self.validator.state.best_metric_epoch = state["best_metric_epoch"]
        self.record.curves = state["curves"]
        engine.state.epoch = state["epoch"]
        engine.state.iteration = state["epoch"] * engine.state.epoch_length
        if self._stale(engine) >= self.patience:
            engine.terminate()


def save_weights(weights: dict[str, Tensor], path: Path) -> None:
    """Write a plain state dict, atomically: the form that MONAI, MONAI Label and ``torch.load`` take."""
    with atomic_write(path, "wb") as file:
        torch.save(weights, file)


class CaseResults:
    """Writes a value per test case and metric, a picture of best, median and worst, and closes the record.

    ``cases.csv`` is written last and at once: where it is, the run is done.

    Args:
        record: the run's record.
        part: the prepared part that is evaluated, in the order of the loader.
    """

    def __init__(self, record: RunRecord, part: Any) -> None:
        self.record = record
        self.part = part

    def attach(self, engine: Workflow) -> None:
        """Act on every batch and at the end."""
        engine.add_event_handler(Events.STARTED, self._begin)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)
        engine.add_event_handler(Events.COMPLETED, self._end)

    def _begin(self, engine: Workflow) -> None:
        self._values: dict[str, list[np.ndarray]] = {}
        self._predictions: list[np.ndarray] = []
        self._facts: dict[str, list[np.ndarray]] = {}

    def _add(self, engine: Workflow) -> None:
        from medseg.metrics import per_case
        from medseg.metrics.overlap import binarise

        prediction = binarise(engine.state.output["pred"])
        for name, values in per_case(prediction, engine.state.output["label"]).items():
            self._values.setdefault(name, []).append(values)
        masks = prediction.cpu().numpy()
        self._predictions.append(np.packbits(masks, axis=-1))
        for name, facts in mask_facts(masks, engine.state.output["label"].cpu().numpy()).items():
            self._facts.setdefault(name, []).append(facts)

    def _end(self, engine: Workflow) -> None:
        import pandas as pd

        from medseg.engine.gallery import draw
        from medseg.results import write_csv

        values = {name: np.concatenate(parts) for name, parts in self._values.items()}
        predictions = np.unpackbits(np.concatenate(self._predictions), axis=-1)
        facts = {**self.record.facts, "case": self.part.cases, "group": self.part.groups}
        measured = {name: np.concatenate(parts) for name, parts in self._facts.items()}
        frame = pd.DataFrame({**facts, **values, **measured})
        draw(self.part, predictions, values["dice"], self.record.name, self.record.folder / "cases.png")
        means = {name: round(float(v.mean()), 6) for name, v in values.items()}
        self.record.update(status="done", test=means, cases=len(frame), ended=now())
        write_csv(frame, self.record.folder / "cases.csv")
        self.record.send(force=True)


def mask_facts(prediction: np.ndarray, label: np.ndarray) -> dict[str, np.ndarray]:
    """What is known of each case's masks besides its metrics.

    Args:
        prediction: ``(N, K, H, W)`` of 0 and 1 or bool.
        label: of that shape, 0 and 1.

    Returns:
        ``reference_px`` and ``predicted_px``, the lesion's pixels in label and prediction, and ``prediction``, 8 hex
        digits that are equal where predicted masks are. Of several channels the first is background and does not
        count.
    """
    first = 0 if prediction.shape[1] == 1 else 1
    lesions, marked = label[:, first:] != 0, np.ascontiguousarray(prediction[:, first:], dtype=bool)
    # a hash of pixels alone would not tell 2 x 8 from 4 x 4
    shape = str(marked.shape[1:]).encode()
    hashes = [hashlib.sha256(shape + np.packbits(mask).tobytes()).hexdigest()[:8] for mask in marked]
    return {
        "reference_px": np.count_nonzero(lesions, axis=(1, 2, 3)),
        "predicted_px": np.count_nonzero(marked, axis=(1, 2, 3)),
        "prediction": np.array(hashes, dtype=object),
    }
