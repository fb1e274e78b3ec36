from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from medseg.errors import MedsegError
from medseg.ranking import Ranking, rank
from medseg.ranking.plots import closeness, plot
from medseg.ranking.record import number


@pytest.fixture
def ranking() -> Ranking:
    """Two losses on a and b, two repeats; b is incomplete."""
    rows = [("a", "x", 1, 0.8), ("a", "x", 2, 0.9), ("a", "y", 1, 0.5), ("a", "y", 2, 0.5)]
    rows += [("b", "x", 1, 0.4), ("b", "y", 1, 0.3), ("b", "y", 2, 0.2)]
    frame = pd.DataFrame(rows, columns=["dataset", "loss", "repeat", "value"])
    return rank(frame.assign(metric="dice", better="higher"))


def test_markdown(ranking: Ranking) -> None:
    lines = ranking.markdown().splitlines()
    assert lines[:4] == [
        "| loss | points | mean rank | firsts | dice mean ± sd | a | b * |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| x | 3 | 1.00 | 1 | 0.8500 ± 0.0707 | 0.8500 (1) |  |",
        "| y | 2 | 2.00 | 0 | 0.5000 ± 0.0000 | 0.5000 (2) | 0.2500 |",
    ]
    assert "- * incomplete, without points or ranks: b." in lines
    assert lines[-1] == "- missing: dataset=b loss=x repeat=2 metric=dice"


def test_only_the_first_three_places_are_marked() -> None:
    frame = pd.DataFrame({"dataset": "a", "loss": list("wxyz"), "value": [0.4, 0.3, 0.2, 0.1]})
    shown = rank(frame.assign(metric="dice", better="higher")).display()
    assert shown["a"].tolist() == ["0.4000 (1)", "0.3000 (2)", "0.2000 (3)", "0.1000"]


def test_csv_keeps_the_numbers(ranking: Ranking, tmp_path: Path) -> None:
    ranking.write(tmp_path / "out.csv")
    back = pd.read_csv(tmp_path / "out.csv")
    assert list(back.columns) == ["contestant", "points", "mean_rank", "firsts", "mean", "sd", "a", "b"]
    assert back["mean"].tolist() == pytest.approx([0.85, 0.5])


def test_markdown_file(ranking: Ranking, tmp_path: Path) -> None:
    ranking.write(tmp_path / "deep" / "out.md")
    assert (tmp_path / "deep" / "out.md").read_text(encoding="utf-8") == ranking.markdown()


def test_other_files_are_refused(ranking: Ranking, tmp_path: Path) -> None:
    with pytest.raises(MedsegError, match=r"out.xlsx: .*\.csv or \.md"):
        ranking.write(tmp_path / "out.xlsx")
    with pytest.raises(MedsegError, match=r"out.bmp: .*\.png"):
        plot(ranking, tmp_path / "out.bmp")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("value", "like", "text"),
    [
        (0.83, None, "0.8300"),
        (12.345, None, "12.35"),
        (9.99996, None, "10.0000"),
        (float("nan"), None, ""),
        (0.5, 12.0, "0.50"),
    ],
)
def test_number(value: float, like: float | None, text: str) -> None:
    assert number(value, like) == text


def test_closeness_is_relative_to_the_widest_gap_of_the_metric() -> None:
    rows = [("a", "x", 0.9), ("a", "y", 0.7), ("b", "x", 0.5), ("b", "y", 0.6)]
    frame = pd.DataFrame(rows, columns=["dataset", "loss", "value"]).assign(metric="dice", better="higher")
    # the gap of 0.2 on a is the widest; that of 0.1 on b is half of it
    assert closeness(rank(frame)).tolist() == [pytest.approx([1, 0.5]), pytest.approx([0, 1])]


@pytest.mark.parametrize(("suffix", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_plot_formats(ranking: Ranking, tmp_path: Path, suffix: str, start: bytes) -> None:
    plot(ranking, tmp_path / f"plot.{suffix}")
    assert (tmp_path / f"plot.{suffix}").read_bytes().startswith(start)


def test_plot_of_equal_contestants(tmp_path: Path) -> None:
    frame = pd.DataFrame({"dataset": "a", "loss": ["x", "y"], "metric": "dice", "value": [0.5, 0.5]})
    tied = rank(frame, better={"dice": "higher"})
    assert closeness(tied).tolist() == [[1], [1]]
    plot(tied, tmp_path / "plot.png")


def test_plot_says_what_the_table_says(ranking: Ranking, tmp_path: Path) -> None:
    from medseg.ranking.plots import draw

    figure = draw(ranking)
    written = [text.get_text().strip() for axes in figure.axes for text in axes.texts]
    assert written.count("missing") == 1
    for text in ("0.8500", "0.5000", "0.2500", "1", "2", "3", "1.00", "2.00"):
        assert text in written
