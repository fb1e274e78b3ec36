"""What MLflow on a local sqlite store costs a training, by three ways of telling it the same curves, interleaved.

    python scripts/bench/tracking.py [--rounds 20] [--epochs 10] [--steps 10] [--json FILE]

A round stands for ``SEND_EVERY`` seconds of training (20), in which ``--epochs`` epochs of ``--steps`` steps end:

- medseg: the curves are written to their file and ``medseg.engine.tracking.send`` brings MLflow up to date, once;
- log_metric: one call per value of every epoch;
- MLFlowHandler: MONAI's handler by its defaults, a ``log_batch`` for the loss and one for the learning rate of every
  step, and one for every epoch;
- MLFlowHandler, epochs only: the same with ``iteration_log=False``.

Each way has a store of its own. Afterwards each must hold the same curves of the epochs, or the bench stops. Times are
medians; the share is that of the round's 20 seconds. Wall time is what a training stands still for; on a machine where
others work it counts their time too, so ratios are of processor time, which counts no waiting for the disk. With
fewer, longer epochs medseg sends at most once in each, so that its share can only fall.
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
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from medseg.engine import tracking
from medseg.engine.record import SEND_EVERY, RunRecord

if TYPE_CHECKING:
    from mlflow import MlflowClient

Values = dict[str, float]
Round = Callable[[list[Values]], None]
#: name -> epoch -> value
Curves = dict[str, dict[int, float]]
FACTS = {
    "dataset": "bench",
    "model": "unet",
    "loss": "dice_bce",
    "preprocess": "",
    "augment": "vanilla",
    "split": "holdout",
    "repeat": 0,
}


class Seconds(NamedTuple):
    """Time of one round."""

    cpu: float
    wall: float


def epoch_values(epoch: int) -> Values:
    """What the engine keeps of one epoch."""
    metrics = {"train_loss": 1 / epoch, "val_dice": 1 - 1 / epoch, "val_iou": 1 - 2 / (epoch + 1)}
    return {"epoch": epoch, **metrics, "epoch_seconds": 2.0, "time": 1.7e9 + 2 * epoch}


def curve(values: Values) -> Values:
    """The values that become curves, by their names in MLflow."""
    return {
        tracking.metric_name(name): value for name, value in values.items() if name not in ("epoch", "time")
    }


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


def stored(uri: str) -> Curves:
    """The curves of the epochs that a store holds."""
    client = tracking.connect(uri)
    (run,) = client.search_runs([tracking.experiment_id(client, uri, "bench")])
    return {name: history(client, run.info.run_id, name) for name in curve(epoch_values(1))}


def history(client: MlflowClient, run_id: str, name: str) -> dict[int, float]:
    """One curve."""
    return {metric.step: metric.value for metric in client.get_metric_history(run_id, name)}


def prepare(arguments: argparse.Namespace, folder: Path) -> tuple[dict[str, Round], dict[str, str]]:
    """Every way, and the address of its store, a copy of one empty database."""
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
    return ways, uris


def measure(ways: dict[str, Round], rounds: int, epochs: int) -> dict[str, list[Seconds]]:
    """Time of each round by each way; every round starts with another way."""
    names = list(ways)
    seconds: dict[str, list[Seconds]] = {way: [] for way in names}
    for number in range(rounds):
        values = [epoch_values(epoch) for epoch in range(1 + number * epochs, 1 + (number + 1) * epochs)]
        first = number % len(names)
        for way in names[first:] + names[:first]:
            cpu, wall = time.process_time(), time.perf_counter()
            ways[way](values)
            seconds[way].append(Seconds(time.process_time() - cpu, time.perf_counter() - wall))
    return seconds


def check(curves: dict[str, Curves], epochs: int) -> None:
    """Stop the bench if a store lacks values or holds other values than it was given."""
    names = curve(epoch_values(1))
    expected = {
        name: {epoch: curve(epoch_values(epoch))[name] for epoch in range(1, epochs + 1)} for name in names
    }
    for way, held in curves.items():
        if held != expected:
            sys.exit(
                f"{way}: its store does not hold the curves of {epochs} epochs, so its time says nothing"
            )


def report(seconds: dict[str, list[Seconds]]) -> list[dict[str, Any]]:
    """One row per way; the ratio is to medseg in the same round."""
    rows = []
    quarter = max(1, len(seconds["medseg"]) // 4)
    for way, values in seconds.items():
        cpu = [value.cpu for value in values]
        ratios = [value / ours.cpu for value, ours in zip(cpu, seconds["medseg"], strict=True)]
        wall = statistics.median(value.wall for value in values)
        row = {
            "way": way,
            "cpu_ms": 1000 * statistics.median(cpu),
            "cpu_ms_early": 1000 * statistics.median(cpu[:quarter]),
            "cpu_ms_late": 1000 * statistics.median(cpu[-quarter:]),
            "wall_ms": 1000 * wall,
            "cpu_share": statistics.median(cpu) / SEND_EVERY,
            "wall_share": wall / SEND_EVERY,
            "ratio": statistics.median(ratios),
            "ratio_min": min(ratios),
            "ratio_max": max(ratios),
        }
        print(
            f"{way:28} {row['cpu_ms']:7.1f} ms processor ({row['cpu_ms_early']:.1f} early,"
            f" {row['cpu_ms_late']:.1f} late) {row['cpu_share']:7.2%}  {row['wall_ms']:7.1f} ms wall"
            f" {row['wall_share']:7.2%}  {row['ratio']:6.2f} of medseg"
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
        ways, uris = prepare(arguments, Path(folder))
        seconds = measure(ways, arguments.rounds + 1, arguments.epochs)
        check({way: stored(uri) for way, uri in uris.items()}, (arguments.rounds + 1) * arguments.epochs)
    first = seconds["medseg"][0]
    print(f"medseg's first message, which makes the run: {1000 * first.cpu:.0f} ms processor")
    rows = report({way: values[1:] for way, values in seconds.items()})
    if arguments.json:
        settings = vars(arguments) | {"json": None, "send_every_s": SEND_EVERY}
        arguments.json.write_text(
            json.dumps({"settings": settings, "first_message_cpu_s": first.cpu, "results": rows}, indent=2)
        )


if __name__ == "__main__":
    main()
