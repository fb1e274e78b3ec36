"""The documentation builds without a warning, and the files that it shows are true."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from medseg.data.datasets import DATASETS
from medseg.losses import LOSSES
from medseg.models import MODELS
from medseg.registry import Registry

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documentation, built from a copy so that the checkout stays as it is."""
    for module in ("sphinx", "furo", "myst_parser", "sphinx_click", "latex2mathml"):
        pytest.importorskip(module, reason="the documentation needs medseg[docs]")
    top = tmp_path_factory.mktemp("site")
    shutil.copytree(ROOT / "docs", top / "docs", ignore=shutil.ignore_patterns("_build", "generated"))
    for name in ("CHANGELOG.md", "CONTRIBUTING.md"):
        shutil.copy(ROOT / name, top)
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "docs", "html"]
    done = subprocess.run(command, cwd=top, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return top / "html"


def test_every_component_has_its_section(html: Path) -> None:
    for page, room in (("losses", LOSSES), ("models", MODELS), ("datasets", DATASETS)):
        text = (html / "generated" / f"{page}.html").read_text(encoding="utf-8")
        for entry in room:
            assert f"<h2>{entry.name}<" in text


def test_every_command_has_its_section(html: Path) -> None:
    from medseg.cli import COMMANDS

    text = (html / "cli.html").read_text(encoding="utf-8")
    for name in COMMANDS:
        assert re.search(rf"<h[23]>{name}<", text)
    assert "PosixPath" not in text


def test_pages_load_nothing_from_elsewhere(html: Path) -> None:
    pages = list(html.rglob("*.html"))
    assert len(pages) > 10
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"<(?:script|img|iframe)[^>]*\ssrc=[\"'](?:https?:)?//", text), page
        assert not re.search(r"<link[^>]*stylesheet[^>]*href=[\"'](?:https?:)?//", text), page


def test_formulas_are_set_in_the_page(html: Path) -> None:
    text = (html / "generated" / "losses.html").read_text(encoding="utf-8")
    dice = text[text.index("<h2>dice<") : text.index("<h2>dice_bce<")]
    (formula,) = re.findall(r'<div class="math">(.*?)</div>', dice, re.DOTALL)
    assert "<mfrac>" in formula and r"\frac" not in formula


def test_the_readme_names_what_there_is() -> None:
    rows = dict(
        re.findall(r"^\| ([a-z ,]+?) \| (.*) \|$", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE)
    )
    for row, room in (("losses", LOSSES), ("models", MODELS)):
        assert sorted(re.findall(r"`(\w+)`", rows[row])) == room.names()
    assert sorted(re.findall(r"`(\w+)`", rows["data sets"])) == DATASETS.names()


def test_the_pictures_of_the_readme_are_there_and_small() -> None:
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", (ROOT / "README.md").read_text("utf-8"))
    assert len(pictures) == 3
    for picture in pictures:
        assert 1_000 < (ROOT / picture).stat().st_size < 300_000


def pages_with_python() -> list[Path]:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    return [page for page in pages if "```python\n" in page.read_text(encoding="utf-8")]


@pytest.mark.parametrize("page", pages_with_python(), ids=lambda page: page.name)
def test_what_pages_show_is_python(page: Path) -> None:
    for code in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        compile(code, str(page), "exec", dont_inherit=True)


@pytest.mark.parametrize("page", ["docs/ranking.md", "docs/statistics.md"])
def test_the_rankings_of_the_pages_work(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [f"{d},{loss},dice,{v}" for d in "ab" for loss, v in (("bce", 0.5), ("iou", 0.6))]
    table = "\n".join(["dataset,loss,metric,value", *rows])
    (tmp_path / "results.csv").write_text(table, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    exec(compile(shown(page), page, "exec", dont_inherit=True), {})
    assert "iou is better than bce by 0.100" in capsys.readouterr().out


def shown(page: str) -> str:
    """The first Python file that a page shows."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]  # type: ignore[index]


@pytest.fixture
def add(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a page's file as if it lay in its room, and takes it out again after the test."""

    def run(page: str, room: Registry) -> dict[str, Any]:
        known = set(room.names())
        monkeypatch.setattr(room, "_entries", dict(room._entries))
        space: dict[str, Any] = {"__name__": f"{room.room}.shown"}
        # a file of its own must not inherit this one's future imports
        exec(compile(shown(page), page, "exec", dont_inherit=True), space)
        (name,) = set(room.names()) - known
        return {"name": name, "entry": room[name]}

    return run


def test_the_loss_of_the_page_works(add: Any) -> None:
    added = add("CONTRIBUTING.md", LOSSES)
    loss = LOSSES.build(added["name"])
    # p is 0.5 on four pixels, two of them true: -log((2 * 1 + 1) / (2 + 2 + 1))
    target = torch.tensor([[[[1.0, 1.0], [0.0, 0.0]]]])
    assert loss(torch.zeros(1, 1, 2, 2), target).item() == pytest.approx(-torch.tensor(3 / 5).log().item())
    assert loss(torch.full((1, 1, 2, 2), -1e4), torch.zeros(1, 1, 2, 2)).item() == 0


def test_the_model_of_the_page_works(add: Any) -> None:
    added = add("docs/extending/add_a_model.md", MODELS)
    network = MODELS.build(added["name"], in_channels=3, out_channels=2)
    assert network(torch.zeros(2, 3, 8, 12)).shape == (2, 2, 8, 12)
    facts = added["entry"].facts
    assert network.get_submodule(facts["cam_layer"]) is network.features
    assert set(facts) == {name for name in MODELS["unet"].facts if not name.startswith("published_")}
    # 3x3x3 to 16 and 16 to 1, with biases; as many products for each of 224 x 224 pixels, without
    assert (facts["parameters"], facts["macs"]) == ((27 + 1) * 16 + 17, (27 * 16 + 16) * 224**2)
    assert MODELS.build(added["name"], facts["small"], in_channels=3, out_channels=1).head.in_channels == 4


def test_every_fact_of_a_model_is_explained() -> None:
    page = (ROOT / "docs/extending/add_a_model.md").read_text("utf-8")
    explained = {
        name
        for row in re.findall(r"^\| (`.*?) \|", page, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", row)
    }
    assert explained >= {name for entry in MODELS for name in entry.facts}


def test_the_models_page_compares_sizes_with_the_published_ones(html: Path) -> None:
    text = (html / "generated" / "models.html").read_text(encoding="utf-8")
    row = re.search(r"<tr[^>]*>(?:(?!</tr>).)*31\.04 M.*?</tr>", text, re.DOTALL)
    cells = [
        re.sub(r"<[^>]+>", "", cell).strip() for cell in re.findall(r"<td>(.*?)</td>", row[0], re.DOTALL)
    ]
    assert cells[:5] == ["unet", "31.04 M", "31.04 M", "36.88 G", "36.88 G"]
    assert cells[6:] == ["one", "arXiv:1505.04597", "written from the paper"]
    assert "31,037,633" in text and "{widths:" in text


def test_the_data_set_of_the_page_works(add: Any, tmp_path: Path) -> None:
    spec = DATASETS.build(add("docs/extending/add_a_dataset.md", DATASETS)["name"])
    for file in ("images/p07_1.png", "masks/p07_1_mask.png"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    (sample,) = spec.index(spec.locate(tmp_path))
    assert (sample.image, sample.masks, sample.group) == (
        "images/p07_1.png",
        ("masks/p07_1_mask.png",),
        "p07",
    )
