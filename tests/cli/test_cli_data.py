from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from medseg.cli import main

OWN = ["--images", "a/*.png", "--masks", "b/{stem}_mask.png"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i in range(12):
        for name, pixels in (
            (f"a/p{i // 2}_{i}.png", np.random.default_rng(i).integers(0, 256, (8, 8), dtype=np.uint8)),
            (f"b/p{i // 2}_{i}_mask.png", np.eye(8, dtype=np.uint8)),
        ):
            (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / "set" / name)
    return tmp_path / "set"


def medseg(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["data", *map(str, arguments)])


def index(folder: Path, *more: object) -> Result:
    return medseg("index", "mine", "--data", folder, "--prepared", folder.parent / "prepared", *OWN, *more)


def test_list_in_each_format():
    for fmt in ("table", "csv", "md"):
        assert "kvasir_seg" in medseg("list", "--format", fmt).stdout
    rows = json.loads(medseg("list", "--format", "json").stdout)
    assert {row["name"]: row["images"] for row in rows}["cvc_clinicdb"] == 612


def test_index_of_a_folder_of_ones_own(folder):
    result = index(
        folder, "--group", r"(?P<group>p\d+)_", "--channels", 1, "--label", "mole", "--format", "json"
    )
    assert result.exit_code == 0
    row = json.loads(result.stdout)[0]
    assert (row["images"], row["groups"], row["channels"], row["left out"]) == (12, 6, 1, 0)
    written = json.loads((folder.parent / "prepared/mine/index.json").read_text())
    assert written["labels"][0]["name"] == "mole"


def test_index_reports_all_faults_and_exits_with_one(folder):
    (folder / "a/p0_0.png").write_bytes(b"")
    (folder / "b/p0_1_mask.png").unlink()
    result = index(folder, "--format", "csv")
    assert result.exit_code == 1
    assert [line.split(",")[0] for line in result.stdout.splitlines()] == ["case", "p0_0", "p0_1"]
    assert "--skip-faulty" in result.stderr
    assert not (folder.parent / "prepared/mine/index.json").exists()
    skipped = index(folder, "--skip-faulty", "--format", "json")
    assert skipped.exit_code == 0
    assert json.loads(skipped.stdout)[0]["left out"] == 2
    assert "left out p0_1: the image has no mask" in skipped.stderr


def test_index_tells_duplicates_and_the_official_number(tmp_path):
    for name in ("images", "masks"):
        (tmp_path / "k" / name).mkdir(parents=True)
        for stem in ("x", "y"):
            Image.new("L", (8, 8), 255).save(tmp_path / "k" / name / f"{stem}.png")
    result = medseg("index", "kvasir_seg", "--data", tmp_path / "k", "--prepared", tmp_path / "p")
    assert result.exit_code == 0
    assert "officially has 1000 images; here are 2" in result.stderr
    assert "the same picture, now one group: x, y" in result.stderr


def test_split_writes_its_file(folder):
    index(folder, "--group", r"(?P<group>p\d+)_")
    prepared = folder.parent / "prepared"
    result = medseg("split", "mine", "--repeats", 2, "--prepared", prepared, "--format", "json")
    rows = json.loads(result.stdout)
    assert [row["training"] + row["validation"] + row["testing"] for row in rows] == [12, 12]
    assert (prepared / "mine/splits/holdout.json").is_file()
    other = ["--kind", "kfold", "--folds", 3, "--ungrouped", "--seed", 1, "--prepared", prepared]
    assert medseg("split", "mine", *other).exit_code == 0
    document = json.loads((prepared / "mine/splits/kfold3-ungrouped.json").read_text())
    assert (document["seed"], document["grouped"], document["repeats"]) == (1, False, 3)
    named = ["--fractions", "0.5,0.25,0.25", "--name", "halves", "--prepared", prepared]
    assert medseg("split", "mine", *named).exit_code == 0
    document = json.loads((prepared / "mine/splits/halves.json").read_text())
    assert len(document["training_0"]) == 6


def test_the_phantom_needs_no_folder(tmp_path):
    result = medseg("split", "phantom", "--prepared", tmp_path, "--format", "json")
    assert result.exit_code == 0
    assert {row["training"] for row in json.loads(result.stdout)} == {72}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["index", "kvasir_seq", "--data", "."],
            "error: unknown data set 'kvasir_seq'. Did you mean 'kvasir_seg'",
        ),
        (["index", "kvasir_seg", "--data", "no"], "error: no: no such folder; get Kvasir-SEG from https://"),
        (["index", "kvasir_seg"], "say where its folder is (--data DIR)"),
        (["split", "mine"], "error: mine: not indexed in prepared"),
        (["split", "phantom", "--kind", "loocv"], "error: unknown split kind 'loocv'"),
        (["split", "phantom", "--fractions", "a,b"], "error: --fractions a,b: three numbers"),
        (["split", "phantom", "--kind", "external"], "(--test-on)"),
        (["split", "phantom", "--name", "a/b"], "error: split name 'a/b'"),
    ],
)
def test_mistakes_are_one_line(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    result = medseg(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_listing_and_splitting_import_no_torch():
    code = "import sys; import medseg.cli.data, medseg.data.store, medseg.data.splits; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
