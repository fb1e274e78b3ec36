from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from medseg.cli import main

TABLE = """dataset,model,loss,repeat,metric,better,value
busi,unet,bce,1,dice,higher,.5
busi,unet,dice,1,dice,higher,.7
busi,unet,iou,1,dice,higher,.6
kvasir,unet,bce,1,dice,higher,.8
kvasir,unet,dice,1,dice,higher,.7
kvasir,unet,iou,1,dice,higher,.9
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "results.csv"
    path.write_text(TABLE, encoding="utf-8")
    return path


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["rank", *map(str, arguments)])


def test_json(table: Path) -> None:
    result = call(table, "--format", "json")
    assert result.exit_code == 0
    rows = json.loads(result.stdout)
    assert [(r["contestant"], r["points"], r["mean_rank"]) for r in rows] == [
        ("iou", 5, 1.5),
        ("dice", 4, 2.0),
        ("bce", 3, 2.5),
    ]
    assert rows[0]["busi"] == 0.6


def test_csv(table: Path) -> None:
    lines = call(table, "--format", "csv").stdout.splitlines()
    assert lines[0] == "contestant,points,mean_rank,firsts,mean,sd,busi,kvasir"
    assert lines[1].startswith("iou,5,1.5,1,0.75,")


def test_markdown(table: Path) -> None:
    lines = call(table, "--format", "md").stdout.splitlines()
    assert lines[0].startswith("| loss | points | mean rank |")
    assert len(lines) == 5


def test_console_table_explains_itself(table: Path) -> None:
    out = call(table).stdout
    assert "0.9000 (1)" in out
    assert "3-2-1 points" in out


def test_by_another_column_and_where(table: Path) -> None:
    rows = json.loads(call(table, "--by", "model", "--where", "dataset=busi", "--format", "json").stdout)
    assert [r["contestant"] for r in rows] == ["dice", "iou", "bce"]
    assert rows[0]["unet"] == 0.7


def test_where_takes_several_levels_and_several_conditions(table: Path) -> None:
    options = ["--where", "loss=bce,dice", "--where", "dataset=kvasir", "--format", "json"]
    assert [r["contestant"] for r in json.loads(call(table, *options).stdout)] == ["bce", "dice"]


def test_direction_of_an_unknown_metric(table: Path) -> None:
    table.write_text(TABLE.replace("dice,higher", "blur,"), encoding="utf-8")
    result = call(table, "--metric", "blur", "--better", "blur=lower", "--format", "json")
    assert json.loads(result.stdout)[0]["contestant"] == "bce"


def test_missing_cells_go_to_stderr(table: Path) -> None:
    table.write_text(TABLE.replace("busi,unet,iou,1,dice,higher,.6\n", ""), encoding="utf-8")
    result = call(table, "--format", "csv")
    assert result.exit_code == 0
    assert result.stderr == "missing: dataset=busi model=unet loss=iou repeat=1 metric=dice\n"
    assert "missing" not in result.stdout


def test_files(table: Path, tmp_path: Path) -> None:
    result = call(table, "-o", tmp_path / "out.md", "--plot", tmp_path / "out.svg")
    assert result.exit_code == 0
    assert (tmp_path / "out.md").read_text(encoding="utf-8").startswith("| loss |")
    assert "<svg" in (tmp_path / "out.svg").read_text(encoding="utf-8")


def test_bundles_are_collected(tmp_path: Path) -> None:
    for loss, dice in [("bce", 0.5), ("iou", 0.6)]:
        folder = tmp_path / "bundles" / f"busi__unet__{loss}" / "repeats" / "0"
        folder.mkdir(parents=True)
        keys = "dataset,model,loss,preprocess,augment,split,repeat,case,group,dice,hd95"
        row = f"busi,unet,{loss},,vanilla,holdout,0,c1,p1,{dice},{10 * dice}"
        (folder / "cases.csv").write_text(f"{keys}\n{row}\n", encoding="utf-8")
    options = ["--bundles", tmp_path / "bundles", "--metric", "dice,hd95", "--format", "json"]
    rows = json.loads(call(*options).stdout)
    assert {r["contestant"]: r["points"] for r in rows} == {"bce": 5, "iou": 5}


def test_mlflow(tmp_path: Path) -> None:
    from medseg.engine.tracking import connect

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    client = connect(uri)
    experiment = client.create_experiment("mine")
    for loss, dice in [("bce", 0.5), ("iou", 0.6)]:
        run = client.create_run(experiment, tags={"dataset": "busi", "loss": loss}).info.run_id
        client.log_metric(run, "test/dice", dice)
        client.set_terminated(run)
    result = call("--tracking-uri", uri, "--experiment", "mine", "--format", "json")
    assert [r["contestant"] for r in json.loads(result.stdout)] == ["iou", "bce"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--metric", "dcie"], "Did you mean 'dice'"),
        (["--of", "los"], "Did you mean 'loss'"),
        (["--where", "dataset=bsui"], "Did you mean 'busi'"),
        (["--where", "dataset"], "COLUMN=LEVEL"),
        (["--better", "dice=up"], "neither dice=higher nor dice=lower"),
        (["--tracking-uri", "sqlite:///x.db"], "not both"),
        (["-o", "out.txt"], "out.txt"),
    ],
)
def test_mistakes_are_told_in_words(table: Path, options: list[str], words: str) -> None:
    result = call(table, *options)
    assert result.exit_code == 2
    assert words in result.stderr
    assert "Traceback" not in result.stderr


def test_no_finished_run(tmp_path: Path) -> None:
    result = call("--bundles", tmp_path)
    assert result.exit_code == 2
    assert "medseg bundle run" in result.stderr


def test_a_missing_table(tmp_path: Path) -> None:
    result = call(tmp_path / "none.csv")
    assert result.exit_code == 2
    assert "no such file" in result.stderr
