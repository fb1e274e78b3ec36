"""MLflow: brings a store up to date with a run's files, in few calls, and again after a failure."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.engine.monitor import MONITORED, best_value
from medseg.errors import MedsegError
from medseg.results import atomic_write

if TYPE_CHECKING:
    from mlflow import MlflowClient

#: MLflow's own limits for one ``log_batch`` call
MAX_METRICS = 1000
MAX_PARAMS = 100
#: what a run leaves as artifacts beside its configs
ARTIFACTS = ("cases.csv", "metrics.csv", "curves.csv", "cases.png", "run.json")
#: settings that may hold a path: where files lie is nobody's business on a shared server
PLACES = ("pretrained", "bundle_root", "ckpt_dir", "dataset_dir", "prepared_dir", "run_dir", "tracking_uri")
#: before a test metric's name; MLflow draws one section for each word before a slash
TEST = "test/"
#: the unit behind a final metric's name, so that a column of numbers explains itself
UNITS = {"hd95": "px"}
#: other names in MLflow than in the files
NAMES = {
    "train_loss": "train/loss",
    "epoch_seconds": "time/epoch_s",
    "best_epoch": "val/best_epoch",
    "seconds": "time/total_s",
}

NOTE = "Best validation {monitor} {best:.4f} in epoch {epoch}; test metrics are {of}."
LEAKING = "**LEAKING: copies of test images were trained on; the scores are too good.** "


def send(folder: Path, uri: str) -> bool:
    """Send what MLflow has not had yet of a run: the run itself, new epochs, and once done its results.

    What was sent is kept in ``tracking.json`` beside the run, so that nothing is sent twice to the same store.

    Args:
        folder: a repeat's folder with ``run.json``.
        uri: MLflow store or server.

    Returns:
        True if something was sent.

    Raises:
        MedsegError: there is no run in the folder.
        Exception: whatever MLflow raises when the store cannot be reached.
    """
    run = _read_json(folder / "run.json")
    if not run.get("facts"):
        raise MedsegError(f"{folder}: no run here (run.json is missing or cut short)")
    state = _read_json(folder / "tracking.json")
    if state.get("uri") != uri:
        state = {"uri": uri, "run_id": None, "epochs": 0, "record": None}
    if state["record"] == _digest(run) and state["epochs"] >= _epochs(folder):
        return False
    client = connect(uri)
    if state["run_id"] is None:
        state["run_id"] = _create(client, uri, run)
        _write_state(folder, state)
    run_id = state["run_id"]
    state["epochs"] = _send_curves(client, run_id, folder, state["epochs"])
    _write_state(folder, state)
    if state["record"] != _digest(run):
        if run["status"] in ("done", "failed"):
            _send_results(client, run_id, folder, run)
        else:
            client.update_run(run_id, status="RUNNING")
        state["record"] = _digest(run)
        _write_state(folder, state)
    return True


def _digest(run: dict[str, Any]) -> str:
    """Changes when the run's record does: another status, or results of a new evaluation."""
    return hashlib.sha256(json.dumps(run, sort_keys=True).encode()).hexdigest()[:16]


@lru_cache(maxsize=8)
def connect(uri: str) -> MlflowClient:
    """A client for a store, whose sqlite schema is made once, under a lock, before anyone uses it."""
    # a training must not stand still for minutes when a server is away: we try again ourselves
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # standard output is for tables
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    from mlflow import MlflowClient

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)

    database = sqlite_file(uri)
    if database is None:
        return MlflowClient(uri)
    from filelock import FileLock

    database.parent.mkdir(parents=True, exist_ok=True)
    # several processes that first touch a fresh database break its migration
    with FileLock(database.with_suffix(".lock")):
        client = MlflowClient(uri)
        client.search_experiments(max_results=1)
    return client


def sqlite_file(uri: str) -> Path | None:
    """The file of a ``sqlite:///`` store, or None for a server."""
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


def experiment_id(client: MlflowClient, uri: str, name: str) -> str:
    """The id of an experiment, made if missing; a local store keeps artifacts beside its database."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    database = sqlite_file(uri)
    location = (database.parent / "artifacts" / name).resolve().as_uri() if database else None
    try:
        return str(client.create_experiment(name, artifact_location=location))
    except MlflowException:
        # another process was quicker
        found = client.get_experiment_by_name(name)
        if found is None:
            raise
        return str(found.experiment_id)


def _create(client: MlflowClient, uri: str, run: dict[str, Any]) -> str:
    from mlflow.entities import Dataset, DatasetInput, Param, RunTag

    tags = {**run["facts"], **run["tags"], "mlflow.source.name": "medseg", "mlflow.source.type": "LOCAL"}
    began = _milliseconds(run.get("started"))
    created = client.create_run(
        experiment_id(client, uri, run["experiment"]), start_time=began, run_name=run["name"]
    )
    run_id = str(created.info.run_id)
    settings = {**run["facts"], **run["settings"]}
    params = [Param(key, _short(value)) for key, value in settings.items()][:MAX_PARAMS]
    client.log_batch(run_id, params=params, tags=[RunTag(k, _short(v)) for k, v in tags.items()])
    fingerprint = run["tags"].get("data_fingerprint")
    if fingerprint:
        # a name and a hash: where the images lie is nobody's business on a shared server
        data = Dataset(run["facts"]["dataset"], fingerprint, "medseg", "{}")
        client.log_inputs(run_id, [DatasetInput(data)])
    return run_id


def _milliseconds(moment: str | None) -> int | None:
    """A time of ``run.json`` as MLflow counts it."""
    return int(datetime.fromisoformat(moment).timestamp() * 1000) if moment else None


def metric_name(name: str) -> str:
    """A curve's name in MLflow.

    >>> metric_name("val_dice"), metric_name("best_val_dice"), metric_name("train_loss")
    ('val/dice', 'val/best_dice', 'train/loss')
    """
    return NAMES.get(name, name.replace("best_val_", "val/best_", 1).replace("val_", "val/", 1))


def _short(value: Any) -> str:
    """A value as MLflow text; no value reads ``none`` so that a column is never blank."""
    if isinstance(value, (list, tuple)):
        return " x ".join(map(str, value)) or "none"
    return str(value)[:500] if value not in ("", "{}") else "none"


def _epochs(folder: Path) -> int:
    path = folder / "curves.csv"
    return max(0, len(path.read_text(encoding="utf-8").splitlines()) - 1) if path.is_file() else 0


def _send_curves(client: MlflowClient, run_id: str, folder: Path, sent: int) -> int:
    from mlflow.entities import Metric

    if not (folder / "curves.csv").is_file():
        return sent
    from medseg.results import read_csv

    curves = read_csv(folder / "curves.csv")
    metrics = [
        Metric(metric_name(str(name)), float(value), int(row["time"] * 1000), int(row["epoch"]))
        for row in curves.iloc[sent:].to_dict("records")
        for name, value in row.items()
        if name not in ("time", "epoch") and value == value
    ]
    for first in range(0, len(metrics), MAX_METRICS):
        client.log_batch(run_id, metrics=metrics[first : first + MAX_METRICS])
    return max(sent, len(curves))


def _send_results(client: MlflowClient, run_id: str, folder: Path, run: dict[str, Any]) -> None:
    from mlflow.entities import Metric, RunTag

    now = int(time.time() * 1000)
    final = {f"{TEST}{name}{_unit(name)}": value for name, value in run.get("test", {}).items()}
    best = best_value(run)
    names = (f"best_val_{best[0]}" if best else "", "best_epoch", "seconds")
    final |= {metric_name(name): run[name] for name in names if name in run}
    tags = [RunTag("mlflow.note.content", _note(run, *best))] if best else []
    # what is undefined, such as the ROC-AUC of a single class, is null in run.json
    known = {name: float(value) for name, value in final.items() if value is not None and value == value}
    client.log_batch(run_id, metrics=[Metric(k, v, now, 0) for k, v in known.items()], tags=tags)
    with tempfile.TemporaryDirectory() as place:
        _copy_artifacts(folder, Path(place))
        client.log_artifacts(run_id, place)
    status = "FINISHED" if run["status"] == "done" else "FAILED"
    client.set_terminated(run_id, status, _milliseconds(run.get("ended")))


def _note(run: Mapping[str, Any], monitor: str, best: float) -> str:
    """What a run's page says first."""
    of = "of all test cases together" if run.get("task") == "classification" else "means over cases"
    name = MONITORED.get(monitor, monitor)
    text = NOTE.format(monitor=name, best=best, epoch=run.get("best_epoch"), of=of)
    return (LEAKING if run["tags"].get("leaking") else "") + text


def _copy_artifacts(folder: Path, place: Path) -> None:
    """What of a run's files goes to a store: all but the folders of this machine."""
    for name in ARTIFACTS:
        if (folder / name).is_file():
            shutil.copy(folder / name, place)
    configs = folder.parents[1] / "configs"
    if configs.is_dir():
        shutil.copytree(configs, place / "configs")
    run, config = place / "run.json", place / "configs" / "train.yaml"
    content = _read_json(run)
    content["overrides"] = {key: _nameless(key, v) for key, v in content.get("overrides", {}).items()}
    run.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    if config.is_file():
        lines = config.read_text(encoding="utf-8").splitlines(keepends=True)
        config.write_text("".join(map(_nameless_line, lines)), encoding="utf-8")


def _nameless(key: str, value: Any) -> Any:
    """A setting without the folder that a path in it is in."""
    return Path(value).name if key in PLACES and isinstance(value, str) else value


def _nameless_line(line: str) -> str:
    """A line of a config with a path of ``pretrained`` cut to its last part."""
    import yaml

    if not line.startswith("pretrained: "):
        return line
    value = _nameless("pretrained", yaml.safe_load(line)["pretrained"])
    return f"pretrained: {json.dumps(value)}\n"


def _unit(metric: str) -> str:
    return f"_{UNITS[metric]}" if metric in UNITS else ""


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _write_state(folder: Path, state: dict[str, Any]) -> None:
    with atomic_write(folder / "tracking.json") as file:
        json.dump(state, file, indent=2)
        file.write("\n")


def sync(bundles: Path, uri: str) -> list[dict[str, str]]:
    """Send what a store lacks of every run below a folder of bundles.

    Returns:
        One row per run: ``run`` and ``result`` (``sent``, ``up to date`` or ``failed: why``).
    """
    rows = []
    for file in sorted(bundles.glob("*/repeats/*/run.json")):
        folder = file.parent
        name = f"{folder.parents[1].name}/{folder.name}"
        try:
            rows.append({"run": name, "result": "sent" if send(folder, uri) else "up to date"})
        except Exception as error:  # one run that cannot be sent must not keep the others back
            rows.append({"run": name, "result": f"failed: {' '.join(str(error).split())[:100]}"})
    return rows
