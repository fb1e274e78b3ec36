"""What every figure of a report has: words, legible letters, a bounded width, and the same bytes each time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

from medseg.ranking import rank
from medseg.ranking.evidence import Evidence
from medseg.ranking.judge import judge
from medseg.ranking.table import normalise
from medseg.report import figures
from medseg.report.figures.canvas import clip, ink_on, line_style, listed, plural, short

LOSSES, MODELS, DATASETS = ["dice", "bce", "dice_bce"], ["unet", "fcn"], ["kvasir_seg", "busi_benign"]


def case_table() -> pd.DataFrame:
    """Three losses, two models, two data sets, two repeats of twenty cases each; dice is the best, bce the worst."""
    draw, frames = np.random.default_rng(0), []
    good = {"dice": 0.85, "dice_bce": 0.8, "bce": 0.6}
    area = np.r_[0, 0, np.geomspace(10, 4000, 18).round()]
    for dataset in DATASETS:
        for model in MODELS:
            for loss in LOSSES:
                for repeat in range(2):
                    dice = np.clip(draw.normal(good[loss], 0.1, 20), 0, 1)
                    keys = {"dataset": dataset, "model": model, "loss": loss, "repeat": repeat}
                    cases = [f"c{i:02d}" for i in range(20)]
                    values = {"case": cases, "dice": dice, "recall": dice**2, "reference_px": area}
                    frames.append(pd.DataFrame({**keys, **values}))
    return normalise(pd.concat(frames))


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return case_table()


@pytest.fixture(scope="module")
def evidence(table: pd.DataFrame) -> Evidence:
    return judge(table, "loss", "dice", draws=200)


def learning(table: pd.DataFrame) -> pd.DataFrame:
    runs = table[["dataset", "model", "loss", "repeat"]].drop_duplicates()
    epochs = pd.DataFrame(
        {"epoch": range(1, 6), "val_dice": np.linspace(0.1, 0.8, 5), "train_loss": 1 / np.arange(1, 6)}
    )
    return runs.merge(epochs, how="cross")


def picture() -> figures.CasePicture:
    y, x = np.mgrid[:16, :16] / 15
    outputs = {loss: np.clip(x * y * k, 0, 1) for k, loss in enumerate(LOSSES, start=1)}
    return figures.CasePicture("kvasir_seg c00", np.stack([x, y, x]), x * y > 0.5, outputs)


DRAWN = [
    "means",
    "heatmap",
    "critical_difference",
    "places",
    "distributions",
    "sizes",
    "curves",
    "training_loss",
    "cost",
    "binarised",
    "failures",
]


def draw(name: str, table: pd.DataFrame, evidence: Evidence) -> figures.Drawing:
    """The figure of that name of the small study."""
    costs = pd.DataFrame({"loss": LOSSES, "seconds": [100.0, 50.0, 200.0]})
    case = picture()
    failure = figures.FailurePicture("kvasir_seg c00", case.image, case.reference, {"bce": case.reference})
    makers: dict[str, Callable[[], figures.Drawing]] = {
        "means": lambda: figures.draw_means(
            {"dice": evidence, "recall": judge(table, "loss", "recall", draws=50)}
        ),
        "heatmap": lambda: figures.draw_heatmap(rank(table, "loss", "dataset")),
        "critical_difference": lambda: figures.draw_critical_difference(evidence, "overall"),
        "places": lambda: figures.draw_places(evidence),
        "distributions": lambda: figures.draw_distributions(table),
        "sizes": lambda: figures.draw_sizes(table, image_px=65536),
        "curves": lambda: figures.draw_curves(learning(table)),
        "training_loss": lambda: figures.draw_curves(learning(table), by=None, value="train_loss"),
        "cost": lambda: figures.draw_cost(evidence, costs),
        "binarised": lambda: figures.draw_binarised([case]),
        "failures": lambda: figures.draw_failures([failure]),
    }
    return makers[name]()


@pytest.mark.parametrize("name", DRAWN)
def test_a_figure_has_words_legible_letters_and_the_width_of_a_page(
    name: str, table: pd.DataFrame, evidence: Evidence
) -> None:
    drawing = draw(name, table, evidence)
    assert drawing.title and drawing.alt.endswith(".") and "nan" not in drawing.alt
    assert drawing.figure.get_suptitle().replace("\n", " ") == drawing.title
    assert drawing.figure.get_figwidth() <= 8
    texts = [text for text in drawing.figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    assert min(text.get_fontsize() for text in texts) >= 8


@pytest.mark.parametrize("name", ["heatmap", "sizes", "binarised"])
def test_the_same_numbers_give_the_same_bytes_whatever_the_user_has_set(
    name: str, table: pd.DataFrame, evidence: Evidence, tmp_path: Path
) -> None:
    first = figures.save(draw(name, table, evidence), tmp_path / "a")
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "red", "svg.hashsalt": "other"}):
        second = figures.save(draw(name, table, evidence), tmp_path / "b")
        assert matplotlib.rcParams["font.size"] == 20
    assert [file.suffix for file in first] == [".png", ".svg"]
    assert [file.read_bytes() for file in first] == [file.read_bytes() for file in second]
    drawing = draw(name, table, evidence)
    figures.save(drawing, tmp_path / "c")
    again = figures.save(drawing, tmp_path / "c")
    assert [file.read_bytes() for file in first] == [file.read_bytes() for file in again]
    assert b"<dc:date>" not in first[1].read_bytes()


def test_files_are_named_after_the_figure_or_as_told(
    table: pd.DataFrame, evidence: Evidence, tmp_path: Path
) -> None:
    drawing = draw("places", table, evidence)
    assert [file.name for file in figures.save(drawing, tmp_path)] == ["places_loss.png", "places_loss.svg"]
    figures.save(drawing, tmp_path / "deep", "other")
    assert sorted(file.name for file in (tmp_path / "deep").iterdir()) == ["other.png", "other.svg"]


@pytest.mark.parametrize("name", DRAWN)
def test_nothing_is_cut_off(name: str, table: pd.DataFrame, evidence: Evidence) -> None:
    figure = draw(name, table, evidence).figure
    figure.canvas.draw()
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert box.x0 >= -0.02 and box.y0 >= -0.02
    assert box.x1 <= width + 0.02 and box.y1 <= height + 0.02


def test_lines_differ_in_colour_or_dashes() -> None:
    styles = [(line_style(i)["color"], str(line_style(i)["linestyle"])) for i in range(18)]
    assert len(set(styles)) == 18


@pytest.mark.parametrize(
    ("value", "text"), [(0.12345, "0.123"), (12.345, "12.3"), (float("nan"), "\N{EN DASH}"), (-20.0, "-20.0")]
)
def test_short_numbers(value: float, text: str) -> None:
    assert short(value) == text


def test_words() -> None:
    assert plural(3, "loss") == "3 losses" and plural(1, "dataset") == "1 data set"
    assert listed(["a"]) == "a" and listed(["a", ""]) == "a and none" and listed([]) == ""
    assert listed(list("abcd"), limit=2) == "a, b and 2 more"
    assert clip("abcdefghij", 10) == "abcdefghij" and clip("abcdefghijk", 5) == "ab…jk"


def test_letters_stand_out_from_their_ground() -> None:
    assert (ink_on("black"), ink_on("white"), ink_on("#08519c")) == ("white", "#1a1a1a", "white")
    # mid grey of luminance 0.21 is better read in ink: 0.26 / 0.06 against 1.05 / 0.26
    assert ink_on((0.5, 0.5, 0.5)) == "#1a1a1a"
