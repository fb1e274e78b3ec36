"""What MLflow on a local sqlite store costs a training, by three ways of telling it the same curves, interleaved.

    python scripts/bench/tracking.py [--rounds 20] [--epochs 10] [--steps 10] [--json FILE]

A round stands for ``SEND_EVERY`` seconds of training (20), in which ``--epochs`` epochs of ``--steps`` steps end:

- medseg: the curves are written to their file and ``medseg.engine.tracking.send`` brings MLflow up to date, once;
- log_metric: one call per value of every epoch;
- MLFlowHandler: MONAI's handler by its defaults, a ``log_batch`` for the loss and one for the learning rate of every
  step, and one for every epoch;
- MLFlowHandler, epochs only: the same with ``iteration_log=False``.

Each way has a store of its own. Afterwards all must hold the same curves of the epochs, or the bench stops. Times are
medians of wall time, for which a training stands still; the share is that of the round's 20 seconds. With fewer, longer
epochs medseg sends at most once in each, so that its share can only fall.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from medseg.engine import tracking
from medseg.engine.record import SEND_EVERY, RunRecord

if TYPE_CHECKING:
    from mlflow import MlflowClient

Values = dict[str, float]
Round = Callable[[list[Values]], None]
FACTS = {
    "dataset": "bench",
    "model": "unet",
    "loss": "dice_bce",
    "preprocess": "",
    "augment": "vanilla",
    "split": "holdout",
    "repeat": 0,
}


def epoch_values(epoch: int) -> Values:
    """What the engine keeps of one epoch."""
    metrics = {"train_loss": 1 / epoch, "val_dice": 1 - 1 / epoch, "val_iou": 1 - 2 / (epoch + 1)}
    return {"epoch": epoch, **metrics, "epoch_seconds": 2.0, "time": 1.7e9 + 2 * epoch}


def curve(values: Values) -> Values:
    """The values that become curves."""
    return {name: value for name, value in values.items() if name not in ("epoch", "time")}


def by_medseg(folder: Path, uri: str) -> Round:
    """A run's record as the engine keeps it, without the pause between two messages."""
    record = RunRecord(str(folder / "bundle" / "repeats" / "0"), FACTS, {"epochs": 200}, experiment="bench")
    record.start()

    def run(epochs: list[Values]) -> None:
        for values in epochs:
            record.add_epoch(values)
        record.save_curves()
        tracking.send(record.folder, uri)

    return run


def by_log_metric(folder: Path, uri: str) -> Round:
    """One call per value."""
    client = tracking.connect(uri)
    run_id = client.create_run(tracking.experiment_id(client, uri, "bench")).info.run_id

    def run(epochs: list[Values]) -> None:
        for values in epochs:
            for name, value in curve(values).items():
                client.log_metric(run_id, name, value, step=int(values["epoch"]))

    return run


def by_handler(folder: Path, uri: str, steps: int) -> Round:
    """MONAI's handler, called as an engine would; no calls for steps if there are none."""
    from ignite.engine import Engine
    from monai.handlers import MLFlowHandler

    tracking.experiment_id(tracking.connect(uri), uri, "bench")
    engine = Engine(lambda engine, batch: None)
    engine.optimizer = torch.optim.Adam([torch.zeros(1, requires_grad=True)])
    engine.state.output = [{"loss": 0.5}]
    handler = MLFlowHandler(
        uri,
        experiment_name="bench",
        iteration_log=steps > 0,
        output_transform=lambda output: output[0]["loss"],
        optimizer_param_names="lr",
    )
    handler.start(engine)

    def run(epochs: list[Values]) -> None:
        for values in epochs:
            for _ in range(steps):
                engine.state.iteration += 1
                handler.iteration_completed(engine)
            engine.state.epoch, engine.state.metrics = int(values["epoch"]), curve(values)
            handler.epoch_completed(engine)

    return run


def stored(uri: str) -> dict[str, dict[int, float]]:
    """The curves of the epochs that a store holds: name -> epoch -> value."""
    client = tracking.connect(uri)
    (run,) = client.search_runs([tracking.experiment_id(client, uri, "bench")])
    return {name: history(client, run.info.run_id, name) for name in curve(epoch_values(1))}


def history(client: MlflowClient, run_id: str, name: str) -> dict[int, float]:
    """One curve."""
    return {metric.step: metric.value for metric in client.get_metric_history(run_id, name)}


def measure(arguments: argparse.Namespace, folder: Path) -> tuple[dict[str, list[float]], float]:
    """Seconds of each round by each way, and of medseg's first message, which makes experiment and run."""
    tracking.connect(f"sqlite:///{folder / 'empty.db'}")
    makers: dict[str, Callable[[Path, str], Round]] = {
        "medseg": by_medseg,
        "log_metric": by_log_metric,
        "MLFlowHandler": lambda folder, uri: by_handler(folder, uri, arguments.steps),
        "MLFlowHandler, epochs only": lambda folder, uri: by_handler(folder, uri, 0),
    }
    ways, uris = {}, {}
    for number, (way, make) in enumerate(makers.items()):
        place = folder / str(number)
        place.mkdir()
        shutil.copy(folder / "empty.db", place / "mlflow.db")
        uris[way] = f"sqlite:///{place / 'mlflow.db'}"
        ways[way] = make(place, uris[way])
    rounds: list[dict[str, float]] = []
    for number in range(arguments.rounds + 1):
        first = 1 + number * arguments.epochs
        epochs = [epoch_values(epoch) for epoch in range(first, first + arguments.epochs)]
        rounds.append({})
        for way, run in ways.items():
            began = time.perf_counter()
            run(epochs)
            rounds[-1][way] = time.perf_counter() - began
    expected = stored(uris["medseg"])
    if set(expected["val_dice"]) != set(range(1, 1 + (arguments.rounds + 1) * arguments.epochs)):
        sys.exit("medseg's store lacks epochs, so its time says nothing")
    for way, uri in uris.items():
        if stored(uri) != expected:
            sys.exit(f"the curves of {way} and medseg differ, so their times say nothing")
    return {way: [seconds[way] for seconds in rounds[1:]] for way in ways}, rounds[0]["medseg"]


def report(seconds: dict[str, list[float]], first: float) -> list[dict[str, Any]]:
    """One row per way; the ratio is to medseg in the same round."""
    rows = []
    quarter = max(1, len(seconds["medseg"]) // 4)
    print(f"medseg's first message, which makes the run: {1000 * first:.0f} ms")
    for way, values in seconds.items():
        ratios = [value / ours for value, ours in zip(values, seconds["medseg"], strict=True)]
        row = {
            "way": way,
            "ms": 1000 * statistics.median(values),
            "ms_early": 1000 * statistics.median(values[:quarter]),
            "ms_late": 1000 * statistics.median(values[-quarter:]),
            "share": statistics.median(values) / SEND_EVERY,
            "ratio": statistics.median(ratios),
            "ratio_min": min(ratios),
            "ratio_max": max(ratios),
        }
        print(
            f"{way:28} {row['ms']:8.1f} ms a round ({row['ms_early']:.1f} early, {row['ms_late']:.1f} late)"
            f" {row['share']:8.3%} of training {row['ratio']:7.2f} of medseg"
            f" ({row['ratio_min']:.2f} to {row['ratio_max']:.2f})"
        )
        rows.append(row)
    return rows


def main(command: Sequence[str] | None = None) -> None:
    """Measure, print and optionally write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=10, help="epochs per round")
    parser.add_argument("--steps", type=int, default=10, help="steps per epoch; Kvasir-SEG has 75")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args(command)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        seconds, first = measure(arguments, Path(folder))
    rows = report(seconds, first)
    if arguments.json:
        settings = vars(arguments) | {"json": None, "send_every_s": SEND_EVERY}
        arguments.json.write_text(
            json.dumps({"settings": settings, "first_message_s": first, "results": rows}, indent=2)
        )


if __name__ == "__main__":
    main()
