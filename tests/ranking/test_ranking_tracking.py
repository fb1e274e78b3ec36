from __future__ import annotations

import shutil
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


def test_a_database_is_no_folder_of_files(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").touch()
    with pytest.raises(MedsegError, match=r"named as sqlite:///.*mlflow\.db"):
        from_mlflow(str(tmp_path / "mlflow.db"), "medseg")


def test_a_database_that_does_not_exist_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(MedsegError, match="no such database"):
        from_mlflow(f"sqlite:///{tmp_path / 'other' / 'mlflow.db'}", "medseg")
    assert not list(tmp_path.iterdir())


def test_a_server_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(MedsegError, match="cannot read experiment"):
        from_mlflow("http://127.0.0.1:9", "medseg")


CASES = "dataset,model,loss,preprocess,augment,split,repeat,case,group,dice,hd95\n"


@pytest.fixture
def kept(store: str, tmp_path: Path) -> str:
    """An experiment of two runs that keep their cases, each tracked with a mean that its cases do not have."""
    client = connect(store)
    name = tmp_path.name
    experiment = client.create_experiment(name, artifact_location=(tmp_path / "artifacts").as_uri())
    for loss, dice in [("bce", 0.25), ("iou", 0.5)]:
        run = client.create_run(
            experiment, tags={"dataset": "busi", "loss": loss}, run_name=f"a {loss}"
        ).info.run_id
        client.log_metric(run, "test/dice", 0.9)
        file = tmp_path / "cases.csv"
        file.write_text(
            CASES + "".join(f"busi,unet,{loss},,vanilla,holdout,0,{case},g,{dice},3\n" for case in "pq")
        )
        client.log_artifact(run, str(file))
        client.set_terminated(run)
    return name


def test_cases_are_read_where_every_run_keeps_them(store: str, kept: str) -> None:
    said: list[str] = []
    counted: list[tuple[int, int]] = []
    table = from_mlflow(store, kept, ["dice"], said.append, lambda *counts: counted.append(counts))
    assert table[["loss", "case", "metric", "value"]].sort_values(["loss", "case"]).to_numpy().tolist() == [
        ["bce", "p", "dice", 0.25],
        ["bce", "q", "dice", 0.25],
        ["iou", "p", "dice", 0.5],
        ["iou", "q", "dice", 0.5],
    ]
    assert said == []
    assert counted == [(1, 2), (2, 2)]


def test_one_run_without_cases_leaves_the_means_and_says_so(store: str, kept: str, tmp_path: Path) -> None:
    next((tmp_path / "artifacts").rglob("cases.csv")).unlink()
    said: list[str] = []
    table = from_mlflow(store, kept, say=said.append)
    assert table["value"].tolist() == [0.9, 0.9]
    assert "case" not in table.columns
    assert len(said) == 1 and "without their cases: 1 of 2 runs have no cases.csv, first: a " in said[0]


def test_cases_that_are_no_table_leave_the_means(store: str, kept: str, tmp_path: Path) -> None:
    next((tmp_path / "artifacts").rglob("cases.csv")).write_text("")
    said: list[str] = []
    assert from_mlflow(store, kept, say=said.append)["value"].tolist() == [0.9, 0.9]
    assert "not a readable CSV table" in said[0]


def test_cases_behind_a_server_are_downloaded(
    store: str, kept: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    files = {file.parent.parent.name: file for file in (tmp_path / "artifacts").rglob("cases.csv")}
    made = MlflowClient.search_runs

    def search_runs(*arguments: object, **options: object) -> object:
        page = made(*arguments, **options)
        for run in page:
            run.info._artifact_uri = f"mlflow-artifacts:/0/{run.info.run_id}/artifacts"
        return page

    def download(self: object, run_id: str, path: str, folder: str) -> str:
        return str(shutil.copy(files[run_id], Path(folder) / path))

    monkeypatch.setattr(MlflowClient, "search_runs", search_runs)
    monkeypatch.setattr(MlflowClient, "download_artifacts", download)
    assert sorted(from_mlflow(store, kept, ["dice"])["value"]) == [0.25, 0.25, 0.5, 0.5]
    files.popitem()
    assert from_mlflow(store, kept)["value"].tolist() == [0.9, 0.9]
