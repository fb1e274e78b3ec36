"""``medseg data`` with classes: what is said of an index, of a split, and drawn."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from medseg.cli import main


def medseg(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["data", *map(str, arguments)])


@pytest.fixture
def tree(tmp_path: Path, save, monkeypatch) -> Path:
    """Two classes of twelve images of eight patients, and one image of a third class."""
    monkeypatch.chdir(tmp_path)
    for i in range(24):
        pixels = np.random.default_rng(i).integers(0, 256, (12, 12), dtype=np.uint8)
        save(tmp_path / "tree" / ("ill" if i % 2 else "well") / f"p{i // 3}_{i}.png", pixels)
    save(tmp_path / "tree" / "rare" / "p9_99.png", np.eye(12, dtype=np.uint8))
    return tmp_path / "tree"


OWN = ("--classes", "{class}/*", "--group", r"(?P<group>p\d+)_", "--channels", 1, "--format", "json")


def test_index_and_split_count_the_classes(tree):
    shutil.copy(tree / "ill" / "p0_1.png", tree / "well" / "p5_copy.png")
    result = medseg("index", "mine", "--data", tree, *OWN)
    assert result.exit_code == 0, result.output
    (row,) = json.loads(result.stdout)
    assert (row["images"], row["groups"], row["classes"]) == (26, 8, "ill 12, rare 1, well 13")
    assert "note: the same picture has several classes: p0_1, p5_copy" in result.stderr
    assert "note: class rare has 1 image, so that parts of a split lack it" in result.stderr
    result = medseg("split", "mine", "--repeats", 2, "--format", "json")
    rows = json.loads(result.stdout)
    assert [(row["repeat"], row["part"]) for row in rows][:4] == [
        (0, "training"),
        (0, "validation"),
        (0, "testing"),
        (1, "training"),
    ]
    for name, number in (("images", 26), ("groups", 8), ("ill", 12), ("rare", 1), ("well", 13)):
        assert sum(row[name] for row in rows[:3]) == number


def test_an_ungrouped_split_is_tile_wise(tree):
    assert medseg("index", "mine", "--data", tree, *OWN).exit_code == 0
    rows = json.loads(medseg("split", "mine", "--ungrouped", "--repeats", 1, "--format", "json").stdout)
    assert rows[0]["split"] == "holdout-ungrouped"
    assert sum(row["groups"] for row in rows) > 9


def test_a_table_from_the_command_line(tree):
    lines = [f"p{i // 3}_{i},{i % 2},{int(i % 5 == 0)},{i // 3}" for i in range(24)]
    (tree / "labels.csv").write_text("\n".join(["name,odd,fifth,patient", *lines]))
    columns = ["--image-column", "name", "--class-column", "odd", "--class-column", "fifth"]
    more = ["--group-column", "patient", "--multilabel", "--channels", 1, "--format", "json"]
    result = medseg("index", "tabled", "--data", tree, "--table", "labels.csv", *columns, *more)
    assert result.exit_code == 0, result.output
    (row,) = json.loads(result.stdout)
    assert (row["images"], row["groups"], row["classes"]) == (24, 8, "odd 12, fifth 5")
    # the folder is read again, by the same columns
    result = medseg("split", "tabled", "--format", "json")
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--classes", "{class}/*", "--multilabel"], "give --table FILE.csv"),
        (["--classes", "{class}/*", "--group-column", "patient"], "give --table FILE.csv"),
        (["--classes", "*/*"], "needs {class} once"),
        (["--table", "no.csv"], "no.csv: no such table"),
        ([], "or for classes --classes '{class}/*' or --table FILE.csv"),
    ],
)
def test_mistakes_in_the_options(tree, arguments, message):
    result = medseg("index", "mine", "--data", tree, *arguments)
    assert result.exit_code != 0
    assert message in " ".join(result.output.split())


def test_faulty_images_are_a_table(tree):
    (tree / "ill" / "p0_1.png").write_bytes(b"")
    result = medseg("index", "mine", "--data", tree, "--classes", "{class}/*")
    assert result.exit_code == 1
    assert "mine: 1 faulty image; nothing written" in " ".join(result.output.split())


def test_a_preview_names_the_classes(tree, tmp_path, monkeypatch):
    from matplotlib.axes import Axes

    titles: list[str] = []
    usual = Axes.set_title
    monkeypatch.setattr(Axes, "set_title", lambda *a, **k: (titles.append(a[1]), usual(*a, **k))[1])
    assert medseg("index", "mine", "--data", tree, *OWN).exit_code == 0
    result = medseg("preview", "mine", "--augment", "noise", "--cases", 3, "-o", tmp_path / "sheet.png")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "sheet.png").read_bytes()[:4] == b"\x89PNG"
    named = [title.split("\n")[1] for title in titles if "\n" in title]
    # ordered by class: the first, the middle and the last image
    assert named == ["ill", "rare", "well"]


def test_the_list_tells_the_task():
    rows = {row["name"]: row for row in json.loads(medseg("list", "--format", "json").stdout)}
    assert (rows["bhi"]["task"], rows["phantom"]["task"]) == ("classification", "segmentation")
    assert rows["chest_xray14"]["labels"] == "atelectasis, cardiomegaly, effusion, ..."
    assert rows["busi_class"]["labels"] == "normal, benign, malignant"
