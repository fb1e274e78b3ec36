"""``medseg study compare`` and ``medseg study premium``, on files as runs leave them and on runs of their own."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result

from medseg.cli import main
from medseg.results import RUN_KEYS
from medseg.study.entry import Entry
from medseg.study.ledger import Ledger

PUBLISHED = """table,dataset,model,loss,augmentation,metric,value
8,bhi,vgg19,cross_entropy,vanilla,accuracy,0.79
8,bhi,resnet50,cross_entropy,vanilla,accuracy,0.84
8,bhi,efficientnetv2,cross_entropy,vanilla,accuracy,0.83
8,bhi,vgg19,cross_entropy,mixup,accuracy,0.84
9,bhi,vgg19,cross_entropy,vanilla,roc_auc,0.90
"""
MODELS = {"vgg19": 0.7, "resnet50": 0.8, "efficientnetv2_s": 0.85}


def write_run(folder: Path, model: str, right: float, split: str = "holdout", repeat: int = 0) -> None:
    name = f"{'' if split == 'holdout' else f'{split}-'}{repeat}"
    place = folder / f"bhi__{model}__cross_entropy" / "repeats" / name
    place.mkdir(parents=True)
    keys = dict(zip(RUN_KEYS, ("bhi", model, "cross_entropy", "", "vanilla", split, repeat), strict=True))
    good = np.arange(40) % 20 < round(20 * right)
    cases = [f"{split}{repeat}_{i}" for i in range(40)]
    frame = pd.DataFrame(
        {**keys, "case": cases, "group": [f"p{i % 10}" for i in range(40)], "accuracy": good * 1.0}
    )
    frame.to_csv(place / "cases.csv", index=False)
    (place / "metrics.csv").write_text(
        f"metric,value,low,high\nroc_auc,{right + 0.1},{right},{right + 0.15}\n"
    )


@pytest.fixture
def bundles(tmp_path: Path) -> Path:
    for model, right in MODELS.items():
        write_run(tmp_path / "bundles", model, right)
        write_run(tmp_path / "bundles", model, right + 0.1, "holdout-ungrouped")
    (tmp_path / "published.csv").write_text(PUBLISHED, encoding="utf-8")
    return tmp_path / "bundles"


def call(command: str, *arguments: object) -> Result:
    return CliRunner().invoke(main, ["study", command, *map(str, arguments)])


def rows(result: Result) -> list[dict]:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)["rows"]


def test_every_published_cell_against_ours(bundles: Path) -> None:
    result = call("compare", bundles, bundles.parent / "published.csv", "--table", 8, "--format", "json")
    found = [
        (row["model"], row["split"], row["published"], row["ours"], row["groups"])
        for row in rows(result)
        if row["status"] == "compared"
    ]
    assert found == [
        ("vgg19", "holdout", 0.79, 0.7, 10),
        ("vgg19", "holdout-ungrouped", 0.79, pytest.approx(0.8), 10),
        ("resnet50", "holdout", 0.84, 0.8, 10),
        ("resnet50", "holdout-ungrouped", 0.84, pytest.approx(0.9), 10),
        ("efficientnetv2_s", "holdout", 0.83, 0.85, 10),
        ("efficientnetv2_s", "holdout-ungrouped", 0.83, pytest.approx(0.95), 10),
    ]
    content = json.loads(result.stdout)
    orders = {row["split"]: (row["cells"], row["tau"], row["winner_ours"]) for row in content["orders"]}
    assert orders["holdout"] == (3, pytest.approx(1 / 3), "efficientnetv2_s")
    assert any("efficientnetv2 is taken for efficientnetv2_s" in note for note in content["notes"])


def test_the_terminal_has_both_tables_and_the_notes(bundles: Path) -> None:
    result = call("compare", bundles, bundles.parent / "published.csv")
    assert result.exit_code == 0
    for words in (
        "published and ours",
        "order of the cells",
        "Kendall's tau",
        "1 published values have no run of ours",
    ):
        assert words in result.stdout
    assert "mixup" not in result.stdout
    listed = call("compare", bundles, bundles.parent / "published.csv", "--all").stdout
    assert "published, not run" in listed and "mixup" in listed and "run, not published" in listed


def test_a_metric_of_the_whole_set_has_the_runs_interval(bundles: Path) -> None:
    result = call(
        "compare", bundles, bundles.parent / "published.csv", "--metric", "roc_auc", "--format", "csv"
    )
    frame = pd.read_csv(io.StringIO(result.stdout))
    assert frame["split"].tolist() == ["holdout", "holdout-ungrouped"]
    half = 0.075
    assert frame["low"].tolist() == pytest.approx([0.8 - half, 0.9 - half])
    assert frame["inside"].tolist() == ["no", "yes"]
    assert "note: 2 comparisons of 1 published values" in result.stderr


def test_files(bundles: Path, tmp_path: Path) -> None:
    files = ("--csv", tmp_path / "out.csv", "--plot", tmp_path / "out.png")
    result = call("compare", bundles, bundles.parent / "published.csv", *files, "--format", "md")
    assert result.exit_code == 0 and result.stdout.startswith("| table | dataset | model |")
    written = pd.read_csv(tmp_path / "out.csv")
    assert set(written["status"]) == {"compared", "not run", "not published"}
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")


def test_a_study_by_its_folder(bundles: Path, study_folder, plan) -> None:
    """Only what the ledger knows as done counts."""
    write_run(study_folder.bundles, "vgg19", 0.7)
    write_run(study_folder.bundles, "resnet50", 0.8)
    ledger = Ledger(study_folder.ledger)
    entry = plan(1)[0]
    choice = replace(entry.cell.choice, dataset="bhi", model="vgg19", loss="cross_entropy")
    ledger.enter([Entry("k", "b", "c0", replace(entry.cell, choice=choice), "holdout")])
    ledger.finish(ledger.claim())
    result = call("compare", study_folder.root, bundles.parent / "published.csv", "--format", "json")
    assert [row["model"] for row in rows(result) if row["status"] == "compared"] == ["vgg19", "vgg19"]


def test_several_results_are_read_together(bundles: Path, tmp_path: Path) -> None:
    for split in ("holdout", "holdout-ungrouped"):
        write_run(tmp_path / split, "vgg19", 0.7 if split == "holdout" else 0.8, split)
    sources = (tmp_path / "holdout", tmp_path / "holdout-ungrouped")
    found = rows(call("compare", *sources, bundles.parent / "published.csv", "--format", "json"))
    assert sum(row["status"] == "compared" for row in found) == 4
    assert [row["premium"] for row in rows(call("premium", *sources, "--format", "json"))] == [
        pytest.approx(0.1)
    ]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--table", "7"], "unknown table '7'"),
        (["--metric", "acuracy"], "Did you mean 'accuracy'"),
        (["--alias", "model"], "COLUMN:THEIRS=OURS"),
        (["--alias", "model:vgg=vgg19"], "unknown published model 'vgg'. Did you mean 'vgg19'"),
        (["--alias", "model:vgg19=a", "--alias", "model:vgg19=b"], "model:vgg19 is given twice"),
        (["--column", "model=net"], "unknown column 'net'"),
        (["--where", "model=alexnet"], "unknown model 'alexnet'"),
        (["--plot", "out.gif"], "a plot is written as"),
    ],
)
def test_mistakes(bundles: Path, options: list[str], words: str) -> None:
    result = call("compare", bundles, bundles.parent / "published.csv", *options)
    assert result.exit_code == 2 and words in result.stderr
    assert "Traceback" not in result.stderr


def test_the_premium_of_the_split(bundles: Path, tmp_path: Path) -> None:
    result = call("premium", bundles, "--csv", tmp_path / "out.csv", "--format", "json")
    found = json.loads(result.stdout)
    assert [(row["model"], row["premium"]) for row in found["rows"]] == [
        (model, pytest.approx(0.1)) for model in ("efficientnetv2_s", "resnet50", "vgg19")
    ]
    assert [row["dataset"] for row in found["overall"]] == ["bhi"]
    assert len(pd.read_csv(tmp_path / "out.csv")) == 3
    both = rows(
        call("premium", bundles, "--metric", "accuracy,roc_auc", "--where", "model=vgg19", "--format", "json")
    )
    assert [row["metric"] for row in both] == ["accuracy", "roc_auc"]
    # Welch's interval of two normal ones of the same half width
    assert both[1]["high"] - both[1]["premium"] == pytest.approx(0.075 * 2**0.5)
    words = call("premium", bundles).stdout
    assert "bhi, accuracy: a split that ignores groups is worth +0.1000" in words


def test_no_twins(bundles: Path) -> None:
    result = call("premium", bundles, "--of", "protocol")
    assert result.exit_code == 2 and "an augmentation ending in -leaking" in result.stderr


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from click.testing import CliRunner; from medseg.cli import main\n"
        "assert CliRunner().invoke(main, ['study', 'compare', '--help']).exit_code == 0\n"
        "print([name for name in ('torch', 'pandas', 'numpy', 'scipy', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_trained_masks_against_a_published_table(workspace: Path, small_settings) -> None:
    """Trained, tested, compared: a segmentation under both splits and both protocols of copies."""
    from medseg.bundle.choice import Choice
    from medseg.bundle.compose import compose
    from medseg.engine import workflow
    from medseg.engine.workflow import Options

    settings = replace(small_settings, epochs=1)
    for augment, splits in (
        ("vanilla", ("holdout", "holdout-ungrouped")),
        ("vertical_flip-offline", ("holdout",)),
        ("vertical_flip-leaking", ("holdout",)),
    ):
        choice = Choice("discs", "unet", "dice", augment)
        made = compose(choice, Path("bundles"), settings, prepared=Path("prepared"))
        for split in splits:
            workflow.run(made, Options(tracking_uri="", progress=False, split=split))
    Path("theirs.csv").write_text(
        "network,augmentation,DSC,MeanIOU\nU-Net,vanilla,71,60\nU-Net,vertical_flip,80,70\n", encoding="utf-8"
    )
    options = [
        "--column",
        "model=network",
        "--column",
        "dice=DSC",
        "--column",
        "mean_iou=MeanIOU",
        "--percent",
    ]
    options += ["--alias", "model:U-Net=unet", "--format", "json"]
    compared = [
        row for row in rows(call("compare", "bundles", "theirs.csv", *options)) if row["status"] == "compared"
    ]
    assert {(row["augment"], row["split"], row["protocol"]) for row in compared} == {
        ("vanilla", "holdout", ""),
        ("vanilla", "holdout-ungrouped", ""),
        ("vertical_flip", "holdout", "offline"),
        ("vertical_flip", "holdout", "leaking"),
    }
    cases = pd.read_csv("bundles/discs__unet__dice/repeats/0/cases.csv")
    mine = next(
        row
        for row in compared
        if row["split"] == "holdout" and row["metric"] == "dice" and not row["protocol"]
    )
    assert mine["ours"] == pytest.approx(cases["dice"].mean())
    assert (mine["published"], mine["cases"], mine["groups"]) == (0.71, len(cases), cases["group"].nunique())
    found = rows(call("premium", "bundles", "--format", "json"))
    assert [(row["of"], row["augment"]) for row in found] == [
        ("split", "vanilla"),
        ("protocol", "vertical_flip-offline"),
    ]
