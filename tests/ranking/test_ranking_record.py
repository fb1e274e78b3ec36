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


def three(values: dict[str, list[float]], contests: str) -> Ranking:
    rows = [(d, loss, v) for loss, row in values.items() for d, v in zip(contests, row, strict=True)]
    frame = pd.DataFrame(rows, columns=["dataset", "loss", "value"])
    return rank(frame.assign(metric="dice", better="higher"))


def test_points_and_mean_ranks_that_disagree() -> None:
    # places of x 1 5 5, of y 4 2 4, of z 3 3 2, of v 2 1 3, of w 5 4 1: w has the mean rank of y
    values = {"x": [9, 1, 1], "y": [4, 8, 2], "z": [6, 6, 6], "v": [7, 9, 5], "w": [1, 4, 9]}
    ranking = three(values, "abc")
    table = ranking.table.set_index("contestant")
    assert table["points"].to_dict() == {"v": 6, "z": 4, "w": 3, "x": 3, "y": 2}
    assert ranking.disagreements() == [("x", "y")]
    assert ranking.disagreement() == (
        "! points and mean rank disagree by dataset: x is before y by points (3 to 2) and behind it by mean rank "
        "(3.67 to 3.33)."
    )
    shown = ranking.display().set_index("loss")["mean rank"]
    assert {name: cell.endswith(" !") for name, cell in shown.items()} == {
        "v": False, "z": False, "w": False, "x": True, "y": True,
    }  # fmt: skip
    assert f"- {ranking.disagreement()}" in ranking.markdown().splitlines()


def test_points_and_mean_ranks_that_agree(ranking: Ranking) -> None:
    assert ranking.disagreements() == []
    assert ranking.disagreement() == ""
    assert "!" not in ranking.markdown()


def test_equal_points_are_no_disagreement() -> None:
    # places of x 1 3, of y 3 1, of z 2 2: points 4 4 4
    ranking = three({"x": [3, 1], "y": [1, 3], "z": [2, 2]}, "ab")
    assert ranking.disagreements() == []


def test_many_disagreements_are_counted() -> None:
    # four take turns in winning and are last otherwise; c is always the fourth and has no points
    order = ["xabcd", "pabcd", "qabcd", "rabcd"]
    names = "xpqrabcd"
    values = {
        n: [float(len(names) - (o + "".join(sorted(set(names) - set(o)))).index(n)) for o in order]
        for n in names
    }
    ranking = three(values, "1234")
    pairs = ranking.disagreements()
    assert len(pairs) > 3
    assert f"; so are {len(pairs) - 3} more pairs." in ranking.disagreement()


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
