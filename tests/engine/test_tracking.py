"""MLflow is told all of a run, once, whatever happens on the way."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml
from mlflow import MlflowClient

from medseg.bundle.choice import Choice
from medseg.bundle.compose import compose
from medseg.engine import tracking, workflow
from medseg.engine.record import RunRecord
from medseg.engine.workflow import Options
from medseg.errors import MedsegError
from medseg.results import write_csv

FACTS = {
    "dataset": "d",
    "model": "m",
    "loss": "l",
    "preprocess": "",
    "augment": "vanilla",
    "split": "holdout",
}


def a_run(folder: Path, repeat: int = 0, epochs: int = 3) -> RunRecord:
    """A finished run's files, as the engine leaves them."""
    record = RunRecord(str(folder), {**FACTS, "repeat": repeat}, {"image_size": [32, 32], "epochs": epochs})
    record.start()
    for epoch in range(1, epochs + 1):
        record.add_epoch(
            {"epoch": epoch, "train_loss": 1 / epoch, "val_dice": 0.1 * epoch, "time": 1000.0 + epoch}
        )
    record.save_curves()
    write_csv(pd.DataFrame({"case": ["001"], "dice": [0.5]}), folder / "cases.csv")
    record.update(status="done", test={"dice": 0.5, "hd95": 3.0}, best_val_dice=0.3, best_epoch=3)
    return record


def database(folder: Path) -> str:
    return f"sqlite:///{folder / 'mlruns' / 'mlflow.db'}"


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with MLflow's schema and nothing in it; making the schema takes seconds, copying it none."""
    folder = tmp_path_factory.mktemp("store")
    tracking.connect(database(folder))
    return folder / "mlruns" / "mlflow.db"


@pytest.fixture
def uri(tmp_path: Path, empty_store: Path) -> str:
    """The address of a fresh copy of it."""
    (tmp_path / "mlruns").mkdir()
    shutil.copy(empty_store, tmp_path / "mlruns" / "mlflow.db")
    return database(tmp_path)


def runs_in(uri: str, experiment: str = "medseg") -> list:
    client = MlflowClient(uri)
    found = client.get_experiment_by_name(experiment)
    return client.search_runs([found.experiment_id]) if found else []


def test_a_run_carries_parameters_tags_curves_results_and_files(tmp_path: Path, uri: str):
    folder = tmp_path / "b" / "repeats" / "0"
    a_run(folder)
    (tmp_path / "b" / "configs").mkdir()
    (tmp_path / "b" / "configs" / "train.yaml").write_text("epochs: 3\n")
    assert tracking.send(folder, uri)
    (run,) = runs_in(uri)
    assert run.info.run_name == "d m l r0"
    assert run.info.status == "FINISHED"
    assert run.data.params["image_size"] == "32 x 32"
    assert run.data.params["preprocess"] == "none"
    assert {run.data.tags[key] for key in ("dataset", "model", "loss", "augment")} == {
        "d",
        "m",
        "l",
        "vanilla",
    }
    assert run.data.tags["code_version"].startswith("0.")
    assert run.data.metrics["test/dice"] == 0.5
    assert run.data.metrics["test/hd95_px"] == 3.0
    client = MlflowClient(uri)
    history = client.get_metric_history(run.info.run_id, "val/dice")
    assert [(m.step, m.value, m.timestamp) for m in history][-1] == (3, pytest.approx(0.3), 1003000)
    names = {a.path for a in client.list_artifacts(run.info.run_id)}
    assert {"cases.csv", "curves.csv", "run.json", "configs"} <= names
    assert (tmp_path / "mlruns" / "artifacts").is_dir()


def test_files_are_sent_without_the_folders_of_this_machine(tmp_path: Path, uri: str):
    folder = tmp_path / "b" / "repeats" / "0"
    a_run(folder)
    place = "/home/somebody/it's here/weights.pth"
    changed = {"pretrained": place, "dataset_dir": "/home/somebody/images", "epochs": 3, "device": "$a / b"}
    content = {**json.loads((folder / "run.json").read_text()), "overrides": changed}
    (folder / "run.json").write_text(json.dumps(content))
    (tmp_path / "b" / "configs").mkdir()
    config = tmp_path / "b" / "configs" / "train.yaml"
    config.write_text("epochs: 3\npretrained: '" + place.replace("'", "''") + "'\nseed: 1\n")
    before = config.read_text()
    assert tracking.send(folder, uri)
    files = [p for p in (tmp_path / "mlruns" / "artifacts").rglob("*") if p.is_file()]
    assert not [p for p in files if b"somebody" in p.read_bytes()]
    sent = {p.name: p for p in files}
    kept = {"pretrained": "weights.pth", "dataset_dir": "images", "epochs": 3, "device": "$a / b"}
    assert json.loads(sent["run.json"].read_text()) == {**content, "overrides": kept}
    told = yaml.safe_load(sent["train.yaml"].read_text())
    assert told == {"epochs": 3, "pretrained": "weights.pth", "seed": 1}
    assert config.read_text() == before and json.loads((folder / "run.json").read_text()) == content


def test_nothing_is_sent_twice(tmp_path: Path, uri: str):
    folder = tmp_path / "b" / "repeats" / "0"
    a_run(folder)
    assert tracking.send(folder, uri) is True
    assert tracking.send(folder, uri) is False
    assert len(runs_in(uri)) == 1


def test_curves_go_on_where_they_stopped(tmp_path: Path, uri: str):
    folder = tmp_path / "b" / "repeats" / "0"
    record = a_run(folder)
    record.update(status="running")
    tracking.send(folder, uri)
    (run,) = runs_in(uri)
    assert run.info.status == "RUNNING"
    record.add_epoch({"epoch": 4, "train_loss": 0.1, "val_dice": 0.9, "time": 1004.0})
    record.save_curves()
    record.update(status="done")
    tracking.send(folder, uri)
    (run,) = runs_in(uri)
    assert run.info.status == "FINISHED"
    steps = [m.step for m in MlflowClient(uri).get_metric_history(run.info.run_id, "val/dice")]
    assert steps == [1, 2, 3, 4]


def test_more_curves_than_one_call_may_carry(tmp_path: Path, uri: str):
    folder = tmp_path / "b" / "repeats" / "0"
    a_run(folder, epochs=700)
    tracking.send(folder, uri)
    (run,) = runs_in(uri)
    assert len(MlflowClient(uri).get_metric_history(run.info.run_id, "train/loss")) == 700


def test_a_server_that_cannot_be_reached_does_not_stop_training(
    workspace: Path, small_settings, caplog, uri: str
):
    name = Choice("discs", "unet", "dice")
    bundle = compose(name, Path("bundles"), small_settings, prepared=Path("prepared"))
    away = f"http://127.0.0.1:{free_port()}"
    folder = workflow.run(bundle, Options(tracking_uri=away, progress=False))
    assert (folder / "cases.csv").is_file()
    assert sum("Training goes on" in message for message in caplog.messages) == 1
    assert tracking.sync(Path("bundles"), uri) == [{"run": "discs__unet__dice/0", "result": "sent"}]
    (run,) = runs_in(uri)
    assert run.data.metrics["test/dice"] == json.loads((folder / "run.json").read_text())["test"]["dice"]
    assert len(MlflowClient(uri).get_metric_history(run.info.run_id, "val/dice")) == 4
    assert tracking.sync(Path("bundles"), uri)[0]["result"] == "up to date"


def test_one_run_that_cannot_be_sent_does_not_keep_others_back(tmp_path: Path, uri: str):
    a_run(tmp_path / "bundles" / "a" / "repeats" / "0")
    a_run(tmp_path / "bundles" / "b" / "repeats" / "0")
    (tmp_path / "bundles" / "a" / "repeats" / "0" / "run.json").write_text("{cut")
    rows = tracking.sync(tmp_path / "bundles", uri)
    assert [row["result"].split(":")[0] for row in rows] == ["failed", "sent"]


def test_a_folder_without_run_is_refused(tmp_path: Path):
    with pytest.raises(MedsegError, match="no run here"):
        tracking.send(tmp_path, database(tmp_path))


def test_processes_that_start_on_a_fresh_database_lose_nothing(tmp_path: Path):
    """Four at once: without the lock most of them fail in the schema's migration."""
    for number in range(8):
        a_run(tmp_path / "bundles" / f"b{number}" / "repeats" / "0", repeat=number)
    code = (
        "import sys, pathlib; from medseg.engine.tracking import send;"
        "[send(pathlib.Path(f), sys.argv[1]) for f in sys.argv[2:]]"
    )
    uri = database(tmp_path)
    folders = sorted(str(p) for p in tmp_path.glob("bundles/*/repeats/0"))
    jobs = [subprocess.Popen([sys.executable, "-c", code, uri, *folders[k::4]]) for k in range(4)]
    assert [job.wait(timeout=120) for job in jobs] == [0, 0, 0, 0]
    runs = runs_in(uri)
    assert sorted(run.data.params["repeat"] for run in runs) == [str(k) for k in range(8)]
    assert all(run.data.metrics["test/dice"] == 0.5 for run in runs)


def test_a_real_server_takes_a_run_with_its_files(tmp_path: Path, uri: str):
    port = free_port()
    place = ["--backend-store-uri", uri, "--artifacts-destination", str(tmp_path / "files")]
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    with (tmp_path / "server.log").open("w") as log:
        server = subprocess.Popen([*command, *place], stdout=log, stderr=log, start_new_session=True)
    try:
        wait_for(port, server)
        folder = tmp_path / "b" / "repeats" / "0"
        a_run(folder)
        tracking.send(folder, f"http://127.0.0.1:{port}")
        (run,) = runs_in(uri)
        assert run.info.status == "FINISHED"
        assert run.data.metrics["test/dice"] == 0.5
        assert list((tmp_path / "files").rglob("cases.csv"))
    finally:
        os.killpg(server.pid, signal.SIGTERM)  # some releases of MLflow leave their workers behind
        server.wait(timeout=30)


def wait_for(port: int, server: subprocess.Popen) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        assert server.poll() is None, "the server ended"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError("the server did not start")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
