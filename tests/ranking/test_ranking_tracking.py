from __future__ import annotations

from pathlib import Path

import pytest

from medseg.engine.tracking import connect
from medseg.errors import MedsegError
from medseg.ranking import rank
from medseg.ranking.tracking import from_mlflow


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two losses, one run twice, one failed run, one without test metrics, and an empty experiment."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}"
    client = connect(uri)
    experiment = client.create_experiment("medseg")
    client.create_experiment("empty")
    keys = {"dataset": "busi", "model": "unet", "preprocess": "none", "repeat": "0"}

    def run(loss: str, status: str, start: int, **metrics: float) -> None:
        made = client.create_run(experiment, tags={**keys, "loss": loss, "device": "cpu"}, start_time=start)
        for name, value in metrics.items():
            client.log_metric(made.info.run_id, name, value)
        client.set_terminated(made.info.run_id, status, end_time=start + 1)

    run("bce", "FINISHED", 2000, **{"test/dice": 0.6, "test/hd95_px": 9.0, "val/dice": 0.9})
    run("bce", "FINISHED", 1000, **{"test/dice": 0.1, "test/hd95_px": 99.0})
    run("dice", "FINISHED", 1000, **{"test/dice": 0.5, "test/hd95_px": 7.0})
    run("dice", "FAILED", 9000, **{"test/dice": 0.9, "test/hd95_px": 1.0})
    run("iou", "FINISHED", 1000, val_dice=0.9)
    return uri


def test_finished_tested_runs_the_newest_of_each(store: str) -> None:
    table = from_mlflow(store, "medseg").sort_values(["loss", "metric"])
    assert table[["loss", "metric", "value"]].to_numpy().tolist() == [
        ["bce", "dice", 0.6],
        ["bce", "hd95", 9.0],
        ["dice", "dice", 0.5],
        ["dice", "hd95", 7.0],
    ]
    assert set(table["preprocess"]) == {""}
    assert "case" not in table.columns


def test_ranked_with_the_registered_directions(store: str) -> None:
    ranking = rank(from_mlflow(store, "medseg"), metrics=["dice", "hd95"])
    places = ranking.contests.set_index(["contestant", "metric"])["place"]
    assert places["bce", "dice"] == 1
    assert places["dice", "hd95"] == 1


def test_an_experiment_that_does_not_exist(store: str) -> None:
    with pytest.raises(MedsegError, match=r"unknown experiment 'medsge'. Did you mean 'medseg'"):
        from_mlflow(store, "medsge")


def test_an_experiment_without_tested_runs(store: str) -> None:
    with pytest.raises(MedsegError, match="'empty' has no finished run"):
        from_mlflow(store, "empty")


def test_a_database_that_does_not_exist_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(MedsegError, match="no such database"):
        from_mlflow(f"sqlite:///{tmp_path / 'other' / 'mlflow.db'}", "medseg")
    assert not list(tmp_path.iterdir())


def test_a_server_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(MedsegError, match="cannot read experiment"):
        from_mlflow("http://127.0.0.1:9", "medseg")
