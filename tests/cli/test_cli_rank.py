from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pandas as pd
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


def first_rows(result: Result) -> list[dict[str, Any]]:
    """The table of the first grouping of ``--format json``."""
    assert result.exit_code == 0, result.output
    return next(iter(json.loads(result.stdout)["groupings"].values()))["table"]


def test_json(table: Path) -> None:
    result = call(table, "--format", "json")
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert list(found) == ["of", "metrics", "groupings", "evidence", "suspicious", "missing", "notes"]
    rows = found["groupings"]["dataset"]["table"]
    assert [(r["contestant"], r["points"], r["mean_rank"]) for r in rows] == [
        ("iou", 5, 1.5),
        ("dice", 4, 2.0),
        ("bce", 3, 2.5),
    ]
    assert rows[0]["busi"] == 0.6


def test_csv(table: Path) -> None:
    lines = call(table, "--format", "csv", "--no-evidence").stdout.splitlines()
    assert lines[0] == "contestant,points,mean_rank,firsts,mean,sd,busi,kvasir"
    assert lines[1].startswith("iou,5,1.5,1,0.75,")


def test_markdown(table: Path) -> None:
    lines = call(table, "--format", "md", "--no-evidence").stdout.splitlines()
    assert lines[0].startswith("| loss | points | mean rank |")
    assert [line[0] for line in lines[:5]] == ["|"] * 5
    assert all(line.startswith("- ") for line in lines[6:])


def test_console_table_explains_itself(table: Path) -> None:
    out = call(table).stdout
    assert "0.9000 (1)" in out
    assert "3-2-1 points" in out


def test_by_another_column_and_where(table: Path) -> None:
    rows = first_rows(call(table, "--by", "model", "--where", "dataset=busi", "--format", "json"))
    assert [r["contestant"] for r in rows] == ["dice", "iou", "bce"]
    assert rows[0]["unet"] == 0.7


def test_where_takes_several_levels_and_several_conditions(table: Path) -> None:
    options = ["--where", "loss=bce,dice", "--where", "dataset=kvasir", "--format", "json"]
    assert [r["contestant"] for r in first_rows(call(table, *options))] == ["bce", "dice"]


def test_direction_of_an_unknown_metric(table: Path) -> None:
    table.write_text(TABLE.replace("dice,higher", "blur,"), encoding="utf-8")
    result = call(table, "--metric", "blur", "--better", "blur=lower", "--format", "json")
    assert first_rows(result)[0]["contestant"] == "bce"


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
    rows = first_rows(call(*options))
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
    assert [r["contestant"] for r in first_rows(result)] == ["iou", "bce"]
    assert "bce" not in result.stderr and "have no cases.csv" in result.stderr


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
        (["--by", "datset"], "Did you mean 'dataset'"),
        (["--rope", "wide"], "'wide' is not [METRIC=]WIDTH"),
        (["--rope", "dice=-1"], "a width is 0 or more"),
        (["--column", "loss"], "KEY=NAME"),
        (["--column", "loss=a,b"], "loss is given 2 columns: a, b"),
        (["--column", "los=x"], "Did you mean 'loss'"),
        (["--column", "case=imge"], "unknown column 'imge'"),
    ],
)
def test_mistakes_are_told_in_words(table: Path, options: list[str], words: str) -> None:
    result = call(table, *options)
    assert result.exit_code == 2
    assert words in result.stderr
    assert "Traceback" not in result.stderr


def test_three_groupings_where_two_factors_vary(tmp_path: Path) -> None:
    lines = [
        f"{d},{m},{loss},{value}"
        for d, m, values in [("a", "u", (7, 8)), ("a", "v", (5, 6)), ("b", "u", (4, 3)), ("b", "v", (1, 2))]
        for loss, value in zip(("x", "y"), values, strict=True)
    ]
    path = tmp_path / "t.csv"
    path.write_text("dataset,model,loss,value,metric,better\n" + "".join(f"{x},f,higher\n" for x in lines))
    options = [path, "--metric", "f", "--no-evidence"]
    groupings = json.loads(call(*options, "--format", "json").stdout)["groupings"]
    assert list(groupings) == ["dataset", "model", "overall"]
    contests = [[c["contest"] for c in g["contests"][::2]] for g in groupings.values()]
    assert contests == [["a", "b"], ["u", "v"], ["a/u", "a/v", "b/u", "b/v"]]
    # y wins a u, a v and b v; x wins b u
    assert [(r["contestant"], r["points"]) for r in groupings["overall"]["table"]] == [("y", 11), ("x", 9)]
    titles = [line.strip() for line in call(*options).stdout.splitlines() if line.startswith("loss ")]
    assert titles == ["loss by dataset", "loss by model", "loss overall"]
    frame = pd.read_csv(io.StringIO(call(*options, "--format", "csv").stdout))
    assert frame["by"].tolist() == ["dataset"] * 2 + ["model"] * 2 + ["overall"] * 2
    assert list(frame.columns) == ["by", "contestant", "points", "mean_rank", "firsts", "mean", "sd"]


CASES = (
    "dataset,model,loss,preprocess,augment,split,repeat,case,group,dice,reference_px,predicted_px,prediction"
)


def write_run(folder: Path, loss: str, repeat: int, values: list[float], predictions: list[str]) -> None:
    rows = [
        f"busi,unet,{loss},,vanilla,holdout,{repeat},c{i},g{i},{value},9,9,{prediction}"
        for i, (value, prediction) in enumerate(zip(values, predictions, strict=True))
    ]
    path = folder / f"busi__unet__{loss}" / "repeats" / str(repeat) / "cases.csv"
    path.parent.mkdir(parents=True)
    path.write_text("\n".join([CASES, *rows]) + "\n", encoding="utf-8")


@pytest.fixture
def bundles(tmp_path: Path) -> Path:
    """bce predicts one mask for everything, iou is sound and better."""
    for repeat in (0, 1):
        write_run(tmp_path / "runs", "bce", repeat, [0.2, 0.3, 0.1 + repeat / 10], ["00000001"] * 3)
        names = [f"{repeat}000000{i}" for i in range(3)]
        write_run(tmp_path / "runs", "iou", repeat, [0.8, 0.9, 0.7 + repeat / 10], names)
    return tmp_path / "runs"


@pytest.mark.parametrize("fmt", ["table", "md", "json"])
def test_suspicious_runs_are_named_in_every_output(bundles: Path, fmt: str) -> None:
    result = call(bundles, "--no-evidence", "--format", fmt)
    assert result.exit_code == 0, result.output
    assert result.stdout.count("one and the same prediction in all 3 cases") == 2
    if fmt == "json":
        found = json.loads(result.stdout)["suspicious"]
        assert [(row["loss"], row["repeat"], row["kind"]) for row in found] == [
            ("bce", "0", "constant"),
            ("bce", "1", "constant"),
        ]
    else:
        assert "0.2167 ± 0.0236 ?" in result.stdout
        assert "? suspicious runs" in result.stdout


def test_suspicious_runs_are_named_beside_a_csv(bundles: Path) -> None:
    result = call(bundles, "--no-evidence", "--format", "csv")
    assert "suspicious" not in result.stdout
    assert result.stderr.count("suspicious: ") == 2


def test_the_evidence_stands_beside_the_points(bundles: Path) -> None:
    result = call(bundles, "--rope", "dice=0.3", "--seed", "3", "--draws", "500")
    assert result.exit_code == 0, result.output
    assert "P(first)" in result.stdout
    assert "evidence: dice (higher is better), from values per case" in result.stdout
    assert "Differences within ±0.3 count as none; bootstrap of 500 draws, seed 3." in result.stdout
    record = json.loads(call(bundles, "--format", "json", "--level", "0.9").stdout)
    evidence = record["evidence"]["dice"]
    names = {"means", "levels", "places", "pairs", "groupings", "rope", "level", "draws", "seed", "notes"}
    assert names <= set(evidence)
    assert (evidence["level"], evidence["rope"]) == (0.9, 0.01)
    assert [row["contestant"] for row in evidence["means"]] == ["iou", "bce"]
    assert evidence["places"][0]["name"] == "iou"


def test_evidence_that_cannot_be_had_is_a_note(table: Path) -> None:
    table.write_text(TABLE.replace("dice,higher,.", "blur,lower,1."), encoding="utf-8")
    result = call(table, "--metric", "blur")
    assert result.exit_code == 0, result.output
    assert "no evidence of blur: " in result.stdout and "--rope" in result.stdout
    assert "evidence: blur" in call(table, "--metric", "blur", "--rope", "0.1").stdout


def test_anyones_columns_are_mapped(tmp_path: Path) -> None:
    path = tmp_path / "theirs.csv"
    rows = [f"busi,{c},0{i},7,{v}" for c, v in [("bce", 0.5), ("iou", 0.6)] for i in range(3)]
    path.write_text("data,criterion,image_id,colour,dice\n" + "\n".join(rows) + "\n", encoding="utf-8")
    options = ["--column", "dataset=data", "--column", "loss=criterion", "--column", "case=image_id"]
    result = call(path, *options, "--no-evidence", "--format", "json")
    assert [(r["contestant"], r["busi"]) for r in first_rows(result)] == [("iou", 0.6), ("bce", 0.5)]
    assert f"note: {path}: columns not read: colour" in result.stderr


def test_a_column_is_named_as_a_metric(tmp_path: Path) -> None:
    path = tmp_path / "theirs.csv"
    path.write_text("dataset,loss,DSC\na,x,0.5\na,y,0.6\n", encoding="utf-8")
    result = call(path, "--column", "dice=DSC", "--format", "json")
    assert [(r["contestant"], r["mean"]) for r in first_rows(result)] == [("y", 0.6), ("x", 0.5)]
    assert "--column dice=NAME" in call(path).stderr


def test_rows_are_told_apart_by_a_column_that_is_no_key(tmp_path: Path) -> None:
    path = tmp_path / "theirs.csv"
    rows = ["4,a,x,0.5", "4,a,y,0.6", "5,a,x,0.9", "5,a,y,0.6"]
    path.write_text("table,dataset,loss,dice\n" + "\n".join(rows) + "\n", encoding="utf-8")
    assert "given twice" in call(path).stderr
    result = call(path, "--where", "table=5", "--format", "json")
    assert [(r["contestant"], r["mean"]) for r in first_rows(result)] == [("x", 0.9), ("y", 0.6)]
    assert "not read" not in result.stderr
    assert "unknown table '6'" in call(path, "--where", "table=6").stderr
    assert "Did you mean 'table'" in call(path, "--where", "tabel=5").stderr


def test_one_block_is_tested_by_nothing(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("dataset,loss,dice\na,x,0.5\na,y,0.6\n", encoding="utf-8")
    said = call(path).stdout
    assert "There is one block" in said and "Wilcoxon's signed-rank" not in said


def test_columns_need_a_table(bundles: Path) -> None:
    result = call(bundles, "--column", "case=image")
    assert result.exit_code == 2 and "--column" in result.stderr


def test_all_files_are_written(table: Path, tmp_path: Path) -> None:
    for suffix, start in [("md", "| loss |"), ("csv", "contestant,"), ("json", "{")]:
        file = tmp_path / f"out.{suffix}"
        assert call(table, "-o", file, "--format", "csv").exit_code == 0
        assert file.read_text(encoding="utf-8").startswith(start)


def test_pairs_of_the_best_or_all(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    values = {"bce": (0.3, 0.2), "dice": (0.5, 0.6), "iou": (0.9, 0.8)}
    lines = [f"{d},{loss},dice,{v[i]}" for loss, v in values.items() for i, d in enumerate("ab")]
    path.write_text("dataset,loss,metric,value\n" + "\n".join(lines) + "\n", encoding="utf-8")
    best, every = call(path).stdout, call(path, "--pairs").stdout
    assert "1 more pair" in best and "more pair" not in every
    assert every.count(" against ") + every.count(" differ by ") + every.count(" is better than ") == 3
    assert "pairs by dice" in every


def test_what_holds_on_these_data_sets_stands_beside_the_verdict(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    gains = {"bce": (0, 0, 0), "dice": (2, 10, 20), "iou": (2, 10, 21)}
    lines = [
        f"{d},{loss},{r},dice,{0.5 + 0.01 * gains[loss][i] + 0.001 * r}"
        for loss in gains
        for i, d in enumerate("pqr")
        for r in range(3)
    ]
    path.write_text("dataset,loss,repeat,metric,value\n" + "\n".join(lines) + "\n", encoding="utf-8")
    said = call(path).stdout
    assert "from means of runs in 3 blocks of 3 data sets" in said
    # (0 + 0 + 1) / 300, with nothing to vary it between repeats, whose noise is shared
    assert "more data sets needed; on these 3 data sets alone (0.003 to 0.003): tied" in said
    assert "1 more pair: 1 under-powered; on these 3 data sets alone: 1 real (--pairs shows all)." in said
    table = call(path, "--pairs").stdout
    assert "on these data sets" in table and "real (0.1067 to 0.1067)" in table
    assert "on these data sets" not in call(path, "--pairs", "--fixed-datasets").stdout
    pair = json.loads(call(path, "--format", "json").stdout)["evidence"]["dice"]["pairs"][1]
    assert (pair["verdict"], pair["here"], pair["more_repeats"]) == ("under-powered", "real", 0)
    assert pair["low_here"] == pytest.approx(0.11) and pair["low"] < 0


def test_a_study_is_read_by_its_folder_and_by_its_file(
    bundles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medseg.results import case_files

    monkeypatch.chdir(tmp_path)
    asked: list[Path] = []

    def study_files(root: Path) -> list[Path]:
        asked.append(root)
        return case_files(bundles)

    monkeypatch.setattr("medseg.study.table.study_files", study_files)
    monkeypatch.setattr("medseg.study.table.notes", lambda root: ["1 of 5 runs failed"])
    Path("studies/small").mkdir(parents=True)
    Path("studies/small/ledger.db").touch()
    Path("small.yaml").write_text("study: small\naxes: {dataset: [busi], model: [unet], loss: [bce, iou]}\n")
    for source in ("studies/small", "small.yaml"):
        result = call(source, "--no-evidence", "--format", "json")
        assert [row["contestant"] for row in first_rows(result)] == ["iou", "bce"]
        assert "note: 1 of 5 runs failed" in result.stderr
    assert asked == [Path("studies/small")] * 2


def test_a_folder_of_nothing(tmp_path: Path) -> None:
    result = call(tmp_path)
    assert result.exit_code == 2 and "neither a study" in result.stderr


@pytest.mark.parametrize(
    ("name", "options", "winner"),
    [
        ("benchmark_2022_dice.csv", ["--of", "model"], "fcbformer"),
        ("breast_study_tables_4_to_8.csv", ["--where", "loss=bce", "--of", "model"], None),
    ],
)
def test_published_tables(shared_data: Path, name: str, options: list[str], winner: str | None) -> None:
    result = call(shared_data.parent / "reference" / name, *options, "--format", "json")
    if winner:
        assert first_rows(result)[0]["contestant"] == winner
    else:
        assert result.exit_code == 2 and "given twice" in result.stderr and "augmentation" in result.stderr


def test_no_finished_run(tmp_path: Path) -> None:
    result = call("--bundles", tmp_path)
    assert result.exit_code == 2
    assert "medseg bundle run" in result.stderr


def test_a_missing_table(tmp_path: Path) -> None:
    result = call(tmp_path / "none.csv")
    assert result.exit_code == 2
    assert "no such file" in result.stderr
