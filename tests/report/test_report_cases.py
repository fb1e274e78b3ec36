"""The figures of cases: distributions, sizes, pictures of outputs, failures."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from medseg.errors import MedsegError
from medseg.report.figures import (
    CasePicture,
    FailurePicture,
    draw_binarised,
    draw_distributions,
    draw_failures,
    draw_sizes,
    failing_cases,
    worst_cases,
)
from medseg.report.figures.binarised import binarise, overlap
from medseg.report.figures.distributions import dots, summaries
from medseg.report.figures.failures import case_means
from medseg.report.figures.sizes import binned, by_size, without_lesion


def tidy(rows: list[tuple[object, ...]], metric: str = "dice", better: str = "higher") -> pd.DataFrame:
    columns = ["dataset", "loss", "repeat", "case", "value", "reference_px"]
    return pd.DataFrame(rows, columns=columns[: len(rows[0])]).assign(metric=metric, better=better)


def test_quantiles_of_cases() -> None:
    rows = [("a", "x", "0", f"c{i}", i / 20) for i in range(21)] + [("a", "y", "0", "c0", 0.5)]
    found = summaries(tidy(rows), "loss", "dice").set_index("contestant")
    assert found.loc["x", ["low", "lower", "median", "upper", "high"]].tolist() == pytest.approx(
        [0.05, 0.25, 0.5, 0.75, 0.95]
    )
    assert found["n"].tolist() == [21, 1] and found.loc["y", "low"] == 0.5


@given(st.lists(st.floats(0, 1), min_size=1, max_size=50), st.integers(2, 20))
def test_dots_are_some_of_the_values_with_both_ends(values: list[float], most: int) -> None:
    found = dots(values, most)
    assert len(found) == min(most, len(values)) and set(found) <= set(values)
    assert (found[0], found[-1]) == (min(values), max(values))


def test_boxes_and_dots_are_drawn_where_the_values_are() -> None:
    rows = [("a", "x", "0", f"c{i}", 0.5 + i / 40) for i in range(21)]
    rows += [("a", "y", "0", f"c{i}", i / 40) for i in range(21)]
    drawing = draw_distributions(tidy(rows))
    axes = drawing.figure.axes[0]
    # x has the greater mean and stands on top
    assert [label.get_text() for label in axes.get_yticklabels()] == ["x", "y"]
    boxes = sorted((box.get_y() + box.get_height() / 2, box.get_x(), box.get_width()) for box in axes.patches)
    assert boxes == [pytest.approx((-0.13, 0.625, 0.25)), pytest.approx((0.87, 0.125, 0.25))]
    assert sorted(len(line.get_xdata()) for line in axes.get_lines() if line.get_marker() == "o") == [21, 21]
    assert "best median is 0.750 (x, a), the worst 0.250 (y, a)" in drawing.alt


def test_a_table_without_cases_has_no_distribution() -> None:
    frame = tidy([("a", "x", "0", "c", 0.5)]).drop(columns="case")
    with pytest.raises(MedsegError, match="unknown column 'case'"):
        draw_distributions(frame)
    with pytest.raises(MedsegError, match="unknown metric 'dise'.*'dice'"):
        draw_distributions(tidy([("a", "x", "0", "c", 0.5)]), metric="dise")
    with pytest.raises(MedsegError, match="no value of dice in the table is finite"):
        draw_distributions(tidy([("a", "x", "0", "c", float("nan"))]))


def test_a_case_counts_once_whatever_its_runs() -> None:
    rows = [("a", "x", "0", "c", 0.4, 100), ("a", "x", "1", "c", 0.8, 100), ("b", "x", "0", "c", 1.0, 0)]
    points = by_size(tidy(rows), "loss").set_index("dataset")
    assert points["value"].to_dict() == pytest.approx({"a": 0.6, "b": 1.0})
    assert points["size"].to_dict() == {"a": 100, "b": 0}


def test_sizes_in_per_cent_of_each_data_sets_images() -> None:
    rows = [("a", "x", "0", "c", 0.4, 100), ("b", "x", "0", "c", 1.0, 100)]
    assert by_size(tidy(rows), "loss", image_px=1000)["size"].tolist() == [10, 10]
    assert by_size(tidy(rows), "loss", image_px={"a": 1000, "b": 400})["size"].tolist() == [10, 25]
    with pytest.raises(MedsegError, match="image_px has no size for 'b'"):
        by_size(tidy(rows), "loss", image_px={"a": 1000})


def test_unknown_areas_are_left_out_and_none_is_an_error() -> None:
    rows = [("a", "x", "0", "c", 0.4, np.nan), ("a", "x", "0", "d", 1.0, 7)]
    assert by_size(tidy(rows), "loss")["case"].tolist() == ["d"]
    with pytest.raises(MedsegError, match="no reference_px"):
        by_size(tidy(rows[:1]), "loss")
    with pytest.raises(MedsegError, match="no reference_px"):
        by_size(tidy([row[:5] for row in rows]), "loss")
    with pytest.raises(MedsegError, match="there is no lesion"):
        draw_sizes(tidy([("a", "x", "0", "c", 0.4, 0)]))


def test_medians_of_bins_and_their_intervals() -> None:
    rows = [("a", "x", "0", f"c{i}", i / 20, 10 * (i + 1)) for i in range(20)]
    rows.append(("a", "x", "0", "empty", 0.0, 0))
    found = binned(by_size(tidy(rows), "loss"))
    # twenty lesions make two bins of ten; the order statistics of a median of ten at 95 %: the 2nd and the 9th
    assert found["n"].tolist() == [10, 10] and found["size"].tolist() == [55, 155]
    assert found["median"].tolist() == pytest.approx([0.225, 0.725])
    assert found["low"].tolist() == pytest.approx([0.05, 0.55])
    assert found["high"].tolist() == pytest.approx([0.4, 0.9])
    assert 1 - 2 * binom.cdf(1, 10, 0.5) >= 0.95 > 1 - 2 * binom.cdf(2, 10, 0.5)


def test_few_cases_have_a_median_without_an_interval() -> None:
    found = binned(by_size(tidy([("a", "x", "0", f"c{i}", i / 4, i + 1) for i in range(5)]), "loss"))
    assert found["median"].tolist() == [0.5] and found[["low", "high"]].isna().all(axis=None)


def test_contestants_share_the_bins() -> None:
    rows = [("a", name, "0", f"c{i}", 0.5, i + 1) for name in "xy" for i in range(40)]
    found = binned(by_size(tidy(rows), "loss"))
    sizes = [group["size"].tolist() for _, group in found.groupby("contestant")]
    assert len(sizes[0]) == 5 and sizes[0] == sizes[1]


def test_cases_without_a_lesion_are_kept_apart() -> None:
    rows = [("a", "x", "0", "c", 1.0, 0), ("a", "x", "0", "d", 0.0, 0), ("a", "x", "0", "e", 0.7, 50)]
    points = by_size(tidy(rows), "loss")
    assert without_lesion(points).to_dict("records") == [{"contestant": "x", "n": 2, "mean": 0.5}]
    drawing = draw_sizes(tidy(rows))
    assert [text.get_text() for text in drawing.figure.axes[0].texts] == ["2 without lesion: mean 0.500"]


def test_masks_of_an_output() -> None:
    output = np.array([[0.0, 0.1, 0.5, 0.6]])
    half, mean = binarise(output)
    # the mean is 0.3
    assert half.tolist() == [[False, False, True, True]] and mean.tolist() == [[False, False, True, True]]
    half, mean = binarise(output / 4)
    assert not half.any() and mean.tolist() == [[False, False, True, True]]
    half, mean = binarise(np.full((2, 2), 0.7, dtype=np.float32))
    assert half.all() and not mean.any()


def test_dice_of_masks() -> None:
    one, two = np.array([[1, 1, 0, 0]]), np.array([[1, 0, 0, 0]])
    assert overlap(one, two) == pytest.approx(2 / 3)
    assert overlap(0 * one, 0 * one) == 1 and overlap(one, 0 * one) == 0


def case(outputs: int = 2) -> CasePicture:
    reference = np.zeros((8, 8), bool)
    reference[2:6, 2:6] = True
    image = np.arange(192, dtype=np.uint8).reshape(3, 8, 8)
    return CasePicture("a c0", image, reference, {f"l{i}": reference * (i + 1) / 20 for i in range(outputs)})


def test_outputs_are_drawn_in_three_rows_with_their_dice() -> None:
    drawing = draw_binarised([case(11)])
    titles = [axes.get_title(loc="left") for axes in drawing.figure.axes]
    # outputs reach 0.05, 0.1 ... 0.55: two of eleven reach 0.5, all are above their mean within the lesion
    assert titles.count("Dice 1.000") == 2 + 11 and titles.count("Dice 0.000") == 9
    assert len(drawing.figure.axes) == 2 * 3 * 6
    assert "a c0 is best under l9 (Dice 1.000 at 0.5)" in drawing.alt


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (np.zeros((8, 7)), r"l has the shape \(8, 7\), its image \(8, 8\)"),
        (np.full((8, 8), 1.2), "the output of l is no probability"),
        (np.full((8, 8), np.nan), "the output of l is no probability"),
    ],
)
def test_outputs_are_checked(output: np.ndarray, message: str) -> None:
    with pytest.raises(MedsegError, match=message):
        CasePicture("a", np.zeros((1, 8, 8)), np.zeros((8, 8)), {"l": output})


def test_nothing_to_draw_is_an_error() -> None:
    with pytest.raises(MedsegError, match="no case with an output"):
        draw_binarised([])
    with pytest.raises(MedsegError, match="no case with an output"):
        draw_binarised([case(0)])
    with pytest.raises(MedsegError, match="no failure"):
        draw_failures([])


@pytest.fixture
def failures() -> pd.DataFrame:
    rows = [("a", "x", "0", "c", 0.1), ("a", "x", "1", "c", 0.3), ("a", "y", "0", "c", 0.4)]
    rows += [("a", "x", "0", "d", 0.9), ("a", "y", "0", "d", 0.1), ("a", "x", "0", "e", 0.2)]
    rows += [("b", "x", "0", "c", 0.45), ("b", "y", "0", "c", 0.49)]
    return tidy(rows)


def test_means_per_case(failures: pd.DataFrame) -> None:
    found = case_means(failures, "loss").set_index(["contestant", "dataset", "case"])
    assert found["value"][("x", "a", "c")] == pytest.approx(0.2) and found["runs"][("x", "a", "c")] == 2


def test_cases_that_all_fail(failures: pd.DataFrame) -> None:
    found = failing_cases(failures)
    # d is done by x; e was not given to y
    assert found[["dataset", "case", "by"]].to_numpy().tolist() == [["a", "c", "y"], ["b", "c", "y"]]
    assert found["best"].tolist() == pytest.approx([0.4, 0.49]) and found["mean"].tolist() == pytest.approx(
        [0.3, 0.47]
    )
    assert failing_cases(failures, below=0.45)["dataset"].tolist() == ["a"]
    assert failing_cases(failures, below=0.4).empty


def test_the_worst_cases_of_each(failures: pd.DataFrame) -> None:
    found = worst_cases(failures, count=2, order=["y", "x"])
    rows = found[["contestant", "dataset", "case"]].to_numpy().tolist()
    # c and e of x are both 0.2 in the mean: in the order of their names
    assert rows == [["y", "a", "d"], ["y", "a", "c"], ["x", "a", "c"], ["x", "a", "e"]]


def test_distances_fail_upwards(failures: pd.DataFrame) -> None:
    found = tidy(
        [
            ("a", "x", "0", "c", 30.0),
            ("a", "y", "0", "c", 20.0),
            ("a", "x", "0", "d", 5.0),
            ("a", "y", "0", "d", 60.0),
        ],
        "hd95",
        "lower",
    )
    assert failing_cases(found, metric="hd95", below=10)[["case", "best", "by"]].to_numpy().tolist() == [
        ["c", 20.0, "y"]
    ]
    assert worst_cases(found, metric="hd95", count=1)["value"].tolist() == [30.0, 60.0]


def test_a_failure_is_drawn_with_its_words() -> None:
    blank = np.zeros((6, 6))
    pictures = [FailurePicture("kvasir_seg\nc0 dice 0.000", np.zeros((1, 6, 6)), blank, {"x": np.eye(6)})] * 5
    drawing = draw_failures(pictures, "Cases that all fail")
    shown = [axes.get_title() for axes in drawing.figure.axes if axes.get_title()]
    assert shown == ["kvasir_seg\nc0 dice 0.000\n(no lesion)"] * 5
    assert drawing.title == "Cases that all fail" and "kvasir_seg, c0 dice 0.000" in drawing.alt
    with pytest.raises(MedsegError, match=r"x has the shape \(2, 2\)"):
        FailurePicture("c", np.zeros((1, 6, 6)), blank, {"x": np.eye(2)})
