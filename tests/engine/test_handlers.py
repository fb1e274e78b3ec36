"""Checkpoints, early stopping, curves and seeds, on an engine without a network to train."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from ignite.engine import Engine, Events

from medseg.engine.handlers import CaseResults, Checkpoints, Curves, EpochSeed, mask_facts
from medseg.engine.record import RunRecord, read_run
from medseg.errors import MedsegError

DICE = [0.1, 0.5, 0.3, 0.4, 0.2, 0.45]
FACTS = {
    "dataset": "d",
    "model": "m",
    "loss": "l",
    "augment": "vanilla",
    "preprocess": "",
    "split": "s",
    "repeat": 0,
}


class Stage:
    """A trainer whose weight is the epoch's number, and a validator whose Dice is given."""

    def __init__(self, folder: Path, dice: list[float], loss: float = 1.0) -> None:
        self.record = RunRecord(str(folder), FACTS, {})
        self.network = torch.nn.Linear(1, 1)
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=0.1)
        self.validator = SimpleNamespace(
            state=SimpleNamespace(
                key_metric_name="val_dice", best_metric=-1.0, best_metric_epoch=-1, metrics={}
            )
        )
        self.trainer = Engine(self._step)
        self.trainer.scaler = None
        self.dice, self.loss = dice, loss
        self.trainer.add_event_handler(Events.EPOCH_COMPLETED, self._validate)

    def _step(self, engine: Engine, batch: object) -> dict[str, torch.Tensor]:
        with torch.no_grad():
            self.network.weight.fill_(engine.state.epoch)
        return {"loss": torch.tensor(self.loss * engine.state.epoch)}

    def _validate(self, engine: Engine) -> None:
        value, state = self.dice[engine.state.epoch - 1], self.validator.state
        state.metrics = {"val_dice": value}
        if value > state.best_metric:
            state.best_metric, state.best_metric_epoch = value, engine.state.epoch

    def run(self, patience: int = 99, epochs: int | None = None, **options) -> None:
        Curves(self.record, self.validator).attach(self.trainer)
        keep = Checkpoints(self.record, self.network, self.optimizer, self.validator, patience, **options)
        keep.attach(self.trainer)
        self.trainer.run([0, 0], max_epochs=epochs or len(self.dice))

    @property
    def kept_weight(self) -> float:
        return float(torch.load(self.record.folder / "model.pt", weights_only=True)["weight"])


def test_the_weights_of_the_best_epoch_are_kept(tmp_path: Path):
    stage = Stage(tmp_path, DICE)
    stage.run()
    assert stage.kept_weight == 2.0
    assert stage.network.weight.item() == 6.0


@pytest.mark.parametrize(("patience", "last"), [(1, 3), (2, 4), (3, 5), (99, 6)])
def test_training_stops_when_so_many_epochs_were_no_better(tmp_path: Path, patience: int, last: int):
    stage = Stage(tmp_path, DICE)
    stage.run(patience=patience)
    assert stage.trainer.state.epoch == last
    assert read_run(tmp_path)["epochs"] == last


@pytest.mark.parametrize("killed_after", [1, 2, 4])
def test_a_resumed_run_keeps_best_weights_count_and_curves(tmp_path: Path, killed_after: int):
    first = Stage(tmp_path, DICE)
    first.trainer.add_event_handler(Events.EPOCH_STARTED(once=killed_after + 1), lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        first.run(patience=3, every_seconds=0)
    assert not (tmp_path / "model.pt").exists()
    second = Stage(tmp_path, DICE)
    second.run(patience=3, every_seconds=0, resume=True)
    assert second.kept_weight == 2.0
    assert second.trainer.state.epoch == 5
    assert pd.read_csv(tmp_path / "curves.csv")["epoch"].tolist() == [1, 2, 3, 4, 5]


def test_checkpoints_wait_for_their_time(tmp_path: Path):
    stage = Stage(tmp_path, DICE)
    stage.trainer.add_event_handler(Events.EPOCH_STARTED(once=6), lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        stage.run(every_seconds=3600)
    assert not (tmp_path / "resume.pt").exists()


def test_curves_hold_the_mean_loss_of_each_epoch(tmp_path: Path):
    stage = Stage(tmp_path, DICE[:2], loss=0.5)
    stage.run()
    assert pd.read_csv(tmp_path / "curves.csv")["train_loss"].tolist() == [0.5, 1.0]


def test_a_loss_that_is_not_finite_stops_training(tmp_path: Path):
    with pytest.raises(MedsegError, match="loss became inf in epoch 1"):
        Stage(tmp_path, DICE, loss=float("inf")).run()


def test_draws_are_a_function_of_seed_epoch_and_rank():
    def draws(seed: int, rank: int) -> list[float]:
        epochs: list[int] = []
        loader = SimpleNamespace(sampler=SimpleNamespace(set_epoch=epochs.append))
        seen: list[float] = []
        engine = Engine(lambda engine, batch: seen.append(torch.rand(1).item()))
        EpochSeed(seed, loader, rank).attach(engine)
        engine.run([0], max_epochs=3)
        assert epochs == [1, 2, 3]
        return seen

    assert draws(1, 0) == draws(1, 0)
    assert len({*draws(1, 0), *draws(2, 0), *draws(1, 1)}) == 9


def test_the_areas_of_lesions_and_a_hash_of_the_predicted_mask():
    label = np.zeros((3, 1, 4, 5), np.uint8)
    label[0, 0, :2, :3] = 1
    label[2, 0] = 1
    prediction = np.zeros((3, 1, 4, 5), bool)
    prediction[0, 0, 0, 0] = prediction[1, 0, 0, 0] = True
    prediction[2, 0, :, 4] = True
    facts = mask_facts(prediction, label)
    assert facts["reference_px"].tolist() == [6, 0, 20]
    assert facts["predicted_px"].tolist() == [1, 1, 4]
    first, second, third = facts["prediction"]
    assert first == second != third
    assert all(len(text) == 8 and set(text) <= set("0123456789abcdef") for text in (first, third))
    moved = np.roll(prediction, 1, axis=3)
    assert mask_facts(moved, label)["prediction"][0] != first
    assert mask_facts(prediction.reshape(3, 1, 5, 4), label.reshape(3, 1, 5, 4))["prediction"][0] != first


def test_the_background_of_several_channels_does_not_count():
    label = np.zeros((1, 3, 2, 2), np.uint8)
    label[0, 0] = label[0, 1, 0] = label[0, 2, 1, 1] = 1
    prediction = np.zeros((1, 3, 2, 2), bool)
    prediction[0, 0] = prediction[0, 1, 0, 0] = True
    facts = mask_facts(prediction, label)
    assert (facts["reference_px"].tolist(), facts["predicted_px"].tolist()) == ([3], [1])
    prediction[0, 0] = False
    assert mask_facts(prediction, label)["prediction"] == facts["prediction"]


def test_each_row_of_the_cases_tells_both_areas_and_the_mask(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("medseg.engine.gallery.draw", lambda *_: None)
    record = RunRecord(str(tmp_path), FACTS, {})
    record.start()
    labels = torch.zeros(3, 1, 4, 8, dtype=torch.uint8)
    labels[0, 0, 0, :5] = labels[2, 0, 1] = 1
    logits = torch.full((3, 1, 4, 8), -4.0)
    logits[0, 0, 0, :2] = 4.0
    batches = [slice(0, 2), slice(2, 3)]
    evaluator = Engine(lambda _, rows: {"pred": logits[rows], "label": labels[rows]})
    part = SimpleNamespace(cases=["a", "b", "c"], groups=["g", "g", "h"])
    CaseResults(record, part).attach(evaluator)
    evaluator.run(batches)
    found = pd.read_csv(tmp_path / "cases.csv", dtype={"prediction": str})
    assert list(found.columns[-3:]) == ["reference_px", "predicted_px", "prediction"]
    assert found["reference_px"].tolist() == [5, 0, 8]
    assert found["predicted_px"].tolist() == [2, 0, 0]
    assert found["prediction"][1] == found["prediction"][2] != found["prediction"][0]
    assert set(read_run(tmp_path)["test"]).isdisjoint({"reference_px", "predicted_px", "prediction"})
