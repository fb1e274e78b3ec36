"""``medseg report``: from each kind of source, and mistakes in words."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from medseg.cli import main

MEANS = """set,net,metric,better,value
busi,unet,dice,higher,.5
busi,fcn,dice,higher,.7
kvasir,unet,dice,higher,.8
kvasir,fcn,dice,higher,.9
"""


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["report", *map(str, arguments)])


@pytest.fixture
def means(tmp_path: Path) -> Path:
    path = tmp_path / "means.csv"
    path.write_text(MEANS, encoding="utf-8")
    return path


def test_a_csv_of_means_with_columns_of_other_names(means, tmp_path, no_plots):
    mapped = ["--column", "dataset=set", "--column", "model=net"]
    result = call(means, "--of", "model", *mapped, "--title", "Two nets", "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == str(tmp_path / "out" / "report.html")
    text = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "<h1>Two nets</h1>" in text
    assert "fcn has the highest mean Dice of 2 models: 0.800" in text
    command = "medseg report means.csv --of model --column dataset=set --column model=net --title &#39;Two nets&#39;"
    assert command in text


def test_a_study_by_its_folder_its_file_and_as_bundles(tiny_study, tmp_path, no_plots):
    (tmp_path / "tiny.yaml").write_text(
        "study: tiny\naxes: {dataset: discs, model: unet, loss: [bce, dice]}\n"
    )
    sources = [
        [tiny_study],
        [tmp_path / "tiny.yaml", "--studies", tiny_study.parent],
        ["--bundles", tiny_study / "bundles", "--prepared", tiny_study.parents[1] / "prepared"],
    ]
    for number, source in enumerate(sources):
        out = tmp_path / str(number)
        result = call(*source, "--draws", "100", "--no-images", "-o", out)
        assert result.exit_code == 0, result.output
        text = (out / "report.html").read_text(encoding="utf-8")
        assert "On this data set" in text
        assert "--draws 100 --no-images" in text
        assert ("4 of 6 planned" in text) == (number < 2)
        assert str(tmp_path) not in text


def test_only_some_rows(tiny_study, tmp_path, no_plots):
    result = call(tiny_study, "--where", "repeat=1", "--draws", "100", "--no-images", "-o", tmp_path)
    assert result.exit_code == 0, result.output
    assert "--where repeat=1" in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--of", "modle"], "Did you mean 'model'"),
        (["--metric", "dcie", "--of", "model"], "Did you mean 'dice'"),
        (["--of", "model", "--where", "dataset=bsui"], "Did you mean 'busi'"),
        (["--tracking-uri", "sqlite:///x.db"], "not both"),
        (["--of", "model", "--device", "gpu"], "unknown device"),
    ],
)
def test_mistakes_are_told_in_words(tmp_path, options, words):
    path = tmp_path / "means.csv"
    path.write_text(MEANS.replace("set,net", "dataset,model"), encoding="utf-8")
    result = call(path, *options, "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert words in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "out" / "report.html").exists()


def test_a_source_that_is_not_there(tmp_path):
    result = call(tmp_path / "none.csv", "-o", tmp_path)
    assert result.exit_code == 2
    assert "no such file" in result.stderr
