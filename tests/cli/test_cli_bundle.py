"""``medseg bundle``: what is printed, in which form, and with which exit code."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner, Result

from medseg.cli import main

NAME = "discs__unet__dice"
SMALL = ["--set", "image_size=32", "--set", "model_arguments={widths: [4, 8]}", "--set", "epochs=2"]
RUN = ["--tracking-uri", "", "--quiet", "--device", "cpu"]


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["bundle", *map(str, arguments)])


@pytest.fixture
def created(workspace: Path) -> Path:
    result = call("create", NAME, *SMALL)
    assert result.exit_code == 0, result.output
    return workspace / "bundles" / NAME


def test_create_prints_where_the_bundle_is(workspace: Path) -> None:
    result = call("create", NAME, "discs__unet__bce", *SMALL)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [str(workspace / "bundles" / n) for n in (NAME, "discs__unet__bce")]
    assert all(
        (workspace / "bundles" / n / "configs" / "train.yaml").is_file() for n in (NAME, "discs__unet__bce")
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["create", "discs__unett__dice"], "unknown model 'unett'. Did you mean 'unet'"),
        (["create", "disks__unet__dice"], "Did you mean 'discs'"),
        (["create", NAME, "--set", "epochs"], "write KEY=VALUE"),
        (["create", NAME, "--set", "epochz=3"], "Did you mean 'epochs'"),
        (["create", NAME, "--set", "epochs=[1"], "is no YAML value"),
        (["create", NAME, "--set", "image_size=30"], "divisible by 16"),
        (["create", f"{NAME}__vanilla-offline"], "vanilla makes no copies"),
        (["create", f"{NAME}__vanilla-leaking"], "vanilla makes no copies"),
        (["verify"], "no bundle here"),
        (["verify", "discs__unet__dise"], "unknown bundle 'discs__unet__dise'"),
        (["run", "discs"], "unknown bundle 'discs'"),
        (["run", "discs__unet__dise", *RUN], "Did you mean 'dice'"),
        (["evaluate", NAME, *RUN], "unknown bundle"),
        (["run", NAME, *SMALL, *RUN[:-1], "tpu7"], "unknown device 'tpu7'"),
        (["run", NAME, *SMALL, *RUN, "--set", "epochz=3"], "Did you mean 'epochs'"),
        (["run", NAME, *SMALL, *RUN, "--repeat", "9"], "repeat"),
        (["run", NAME, *SMALL, *RUN, "--split", "nosuch"], "nosuch"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else None,
)
def test_mistakes_are_one_line_and_exit_2(workspace: Path, arguments: list[str], words: str) -> None:
    result = call(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("error: ")
    assert words in result.stderr


@pytest.mark.parametrize("mistake", [["--set", "batchsize=3"], ["--repeat", "9"], ["--split", "nosuch"]])
def test_a_run_that_never_began_leaves_no_bundle_with_its_settings(
    workspace: Path, mistake: list[str]
) -> None:
    assert call("run", NAME, *SMALL, *RUN, *mistake).exit_code == 2
    assert list((workspace / "bundles").iterdir()) == []


def test_a_mistaken_run_leaves_a_bundle_that_was_there(created: Path) -> None:
    assert call("run", NAME, *RUN, "--repeat", "9").exit_code == 2
    assert (created / "configs" / "train.yaml").is_file()


def test_create_twice_is_a_mistake(created: Path) -> None:
    result = call("create", NAME, *SMALL)
    assert result.exit_code == 2
    assert "exists" in result.stderr


def test_verify_of_sound_bundles(created: Path) -> None:
    assert call("verify").stdout == "1 bundle(s) sound\n"
    result = call("verify", created, "--no-execute", "--format", "json")
    assert (result.exit_code, json.loads(result.stdout)) == (0, [])


@pytest.mark.parametrize("fmt", ["table", "csv", "json", "md"])
def test_verify_of_a_faulty_bundle_exits_1(created: Path, fmt: str) -> None:
    (created / "LICENSE").unlink()
    metadata = json.loads((created / "configs" / "metadata.json").read_text())
    (created / "configs" / "metadata.json").write_text(json.dumps({**metadata, "task": 3}))
    result = call("verify", "--no-execute", "--format", fmt)
    assert result.exit_code == 1
    if fmt == "json":
        rows = json.loads(result.stdout)
    elif fmt == "csv":
        rows = pd.read_csv(io.StringIO(result.stdout), keep_default_na=False).to_dict("records")
    else:
        assert all(
            word in result.stdout for word in ("LICENSE", "file is missing", "configs/metadata.json", "task")
        )
        return
    assert [(r["bundle"], r["file"], r["key"]) for r in rows] == [
        (NAME, "LICENSE", ""),
        (NAME, "configs/metadata.json", "task"),
    ]


def test_list_before_and_without_bundles(created: Path, tmp_path: Path) -> None:
    row = json.loads(call("list", "--format", "json").stdout)[0]
    assert (row["bundle"], row["dataset"], row["model"], row["loss"]) == (NAME, "discs", "unet", "dice")
    assert (row["repeats"], row["metric"], row["test"]) == ("", "", None)
    empty = call("list", "--bundles", tmp_path / "none", "--format", "json")
    assert (empty.exit_code, json.loads(empty.stdout)) == (0, [])


def test_run_evaluate_and_list(workspace: Path) -> None:
    done = call("run", NAME, *SMALL, *RUN, "--format", "json")
    assert done.exit_code == 0, done.output
    rows = {row["metric"]: row for row in json.loads(done.stdout)}
    cases = pd.read_csv(workspace / "bundles" / NAME / "repeats" / "0" / "cases.csv")
    assert rows["dice"]["mean"] == pytest.approx(cases["dice"].mean())
    assert rows["dice"]["sd"] == pytest.approx(cases["dice"].std(ddof=1))
    assert (rows["hd95"]["better"], rows["hd95"]["unit"], rows["hd95"]["cases"]) == (
        "lower",
        "px",
        len(cases),
    )

    again = call("evaluate", NAME, *RUN, "--format", "csv")
    assert again.exit_code == 0
    table = pd.read_csv(io.StringIO(again.stdout)).set_index("metric")
    assert table.loc["dice", "mean"] == pytest.approx(rows["dice"]["mean"])

    listed = json.loads(call("list", "--format", "json").stdout)[0]
    assert listed["repeats"] == "0"
    assert listed["metric"] == "dice" and listed["test"] == pytest.approx(rows["dice"]["mean"], abs=1e-6)
    assert NAME in call("list").stdout
    assert call("list", "--format", "md").stdout.startswith("| bundle |")

    twice = call("run", NAME, *RUN)
    assert twice.exit_code == 2
    assert "--overwrite" in twice.stderr
    assert call("run", NAME, *SMALL, *RUN, "--resume").exit_code == 0


def test_settings_of_a_run_shape_the_bundle_that_it_creates(workspace: Path) -> None:
    result = call("run", NAME, *SMALL, *RUN, "--set", "train#trainer#max_epochs=1")
    assert result.exit_code == 0, result.output
    train = (workspace / "bundles" / NAME / "configs" / "train.yaml").read_text()
    assert "epochs: 2\n" in train
    assert len(pd.read_csv(workspace / "bundles" / NAME / "repeats" / "0" / "curves.csv")) == 1
    assert "weights, curves, cases and picture" in result.stdout
    assert "mlflow ui" not in result.stdout


def test_sync_of_nothing(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    result = call("sync", "--bundles", tmp_path / "none", "--tracking-uri", uri, "--format", "json")
    assert (result.exit_code, json.loads(result.stdout)) == (0, [])


def test_a_classifier_is_told_with_intervals(workspace: Path) -> None:
    small = [
        "--set",
        "model_arguments={depths: [1, 1, 1, 1], widths: [4, 4, 4, 4]}",
        "--set",
        "pretrained=false",
    ]
    name = "phantom_class__resnet50__cross_entropy"
    done = call("run", name, *small, "--set", "image_size=32", "--set", "epochs=1", *RUN, "--format", "json")
    assert done.exit_code == 0, done.output
    rows = {row["metric"]: row for row in json.loads(done.stdout)}
    cases = pd.read_csv(workspace / "bundles" / name / "repeats" / "0" / "cases.csv")
    assert rows["accuracy"]["value"] == pytest.approx(cases["accuracy"].mean())
    assert rows["roc_auc"]["low"] < rows["roc_auc"]["value"] < rows["roc_auc"]["high"]
    assert (rows["brier"]["better"], rows["brier"]["cases"]) == ("lower", len(cases))
    assert rows["brier"]["groups"] == cases["group"].nunique()
    listed = next(row for row in json.loads(call("list", "--format", "json").stdout) if row["bundle"] == name)
    assert listed["metric"] == "balanced_accuracy"
    assert listed["test"] == pytest.approx(rows["balanced_accuracy"]["value"], abs=1e-6)
