"""The figures of rankings: means, heat maps, critical differences, places."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.patches import Rectangle

from medseg.errors import MedsegError
from medseg.ranking import rank
from medseg.ranking.evidence import Evidence, Omnibus
from medseg.report.figures import draw_critical_difference, draw_heatmap, draw_means, draw_places
from medseg.report.figures.critical_difference import cliques
from medseg.report.figures.heatmaps import cells
from medseg.report.figures.means import kind_of, mean_rows
from medseg.report.figures.places import percentage

NONE = pd.DataFrame()


def omnibus(ranks: dict[str, float], critical_difference: float, blocks: int = 5) -> Omnibus:
    values = pd.DataFrame(0.5, index=range(blocks), columns=list(ranks))
    tests = (20.0, 0.003, 9.0, 0.001)
    return Omnibus("dataset", values, pd.Series(ranks), *tests, critical_difference, NONE, NONE, NONE)


def evidence(
    means: dict[str, float],
    metric: str = "dice",
    of: str = "loss",
    groupings: dict[str, Omnibus] | None = None,
) -> Evidence:
    """Evidence of the given means with intervals of 0.1 to both sides, as far as figures read it."""
    names, values = list(means), np.array(list(means.values()))
    table = pd.DataFrame({"contestant": names, "mean": values, "low": values - 0.1, "high": values + 0.1})
    places = pd.DataFrame(np.eye(len(names)), index=names, columns=range(1, len(names) + 1))
    pairs = pd.DataFrame(columns=["a", "b", "verdict"])
    return Evidence(
        of, metric, "higher", 0.01, 0.95, 2000, 0, True, table, NONE, places, pairs, groupings or {}, ()
    )


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("dice", "single"),
        ("dice_bce", "compound"),
        ("focal_lin2017", "single"),
        ("tversky_focal_lin2017", "compound"),
        ("mine", "single"),
        ("mine_dice", "single"),
    ],
)
def test_single_and_compound_losses(name: str, kind: str) -> None:
    assert kind_of(name) == kind


def test_single_losses_stand_above_compound_ones_in_the_order_of_the_first_metric() -> None:
    found = {
        "dice": evidence({"dice_bce": 0.8, "bce": 0.7, "dice": 0.6}),
        "iou": evidence({"dice": 0.5, "bce": 0.4}, "iou"),
    }
    rows = mean_rows(found)
    first = rows[rows["metric"] == "dice"]
    assert first["contestant"].tolist() == ["bce", "dice", "dice_bce"]
    assert first["row"].tolist() == [0, 1, 2.7]
    second = rows[rows["metric"] == "iou"]
    assert second["mean"].tolist()[:2] == [0.4, 0.5] and np.isnan(second["mean"].iloc[2])


def test_models_are_not_told_apart_by_kind() -> None:
    rows = mean_rows({"dice": evidence({"dice_bce": 0.8, "unet": 0.7}, of="model")})
    assert rows["kind"].tolist() == ["", ""] and rows["row"].tolist() == [0, 1]


def test_bars_are_as_long_as_the_means_and_missing_ones_are_named() -> None:
    found = {"dice": evidence({"dice": 0.95, "bce": 0.7}), "iou": evidence({"dice": 0.5}, "iou")}
    drawing = draw_means(found)
    dice, iou = drawing.figure.axes
    assert [bar.get_width() for bar in dice.patches] == pytest.approx([0.95, 0.7])
    assert [text.get_text() for text in iou.texts] == ["0.500", "missing"]
    # no Dice is above 1, whatever the interval says
    assert max(point for line in dice.collections[0].get_segments() for point in line[:, 0]) == 1
    assert "dice is best for dice (0.950)" in drawing.alt


@pytest.fixture
def contests() -> pd.DataFrame:
    rows = [("a", "x", 0.9), ("a", "y", 0.8), ("a", "z", 0.8), ("a", "w", 0.1)]
    rows += [("b", "x", 0.5), ("b", "y", 0.6), ("b", "z", 0.4), ("b", "w", 0.55)]
    return pd.DataFrame(rows, columns=["dataset", "loss", "value"]).assign(metric="dice", better="higher")


def test_shades_are_gaps_and_one_collapse_does_not_flatten_them(contests: pd.DataFrame) -> None:
    rows = cells(rank(contests)).set_index(["contest", "contestant"])
    # the gaps above 0 are 0.05 0.1 0.1 0.1 0.2 0.8; the 90 % quantile, taken upwards, is 0.8
    assert rows["near"][("a", "y")] == pytest.approx(1 - 0.1 / 0.8)
    assert rows["near"][("a", "x")] == 1 and rows["near"][("a", "w")] == pytest.approx(0)
    many = pd.concat([contests.assign(dataset=contests["dataset"] + str(i)) for i in range(6)])
    many.loc[
        (many["loss"] == "w") & (many["dataset"] != "a0") & many["dataset"].str.startswith("a"), "value"
    ] = 0.7
    rows = cells(rank(many)).set_index(["contest", "contestant"])
    # one gap of 36 is 0.8; the scale is the 0.2 that others have
    assert rows["near"][("a1", "y")] == pytest.approx(0.5) and rows["near"][("a0", "w")] == 0


def test_a_heat_map_shows_means_places_points_and_ranks(contests: pd.DataFrame) -> None:
    drawing = draw_heatmap(rank(contests))
    heat, points = drawing.figure.axes
    texts = [text.get_text() for text in heat.texts]
    assert sorted(t for t in texts if t[0] == "0") == sorted(f"{v:.3f}" for v in contests["value"])
    # x first and y second on a, where z shares the second place; y first, w second, x third on b
    assert sorted(t for t in texts if t[0] != "0") == ["1st", "1st", "2nd", "2nd", "2nd", "3rd"]
    shown = [text.get_text() for text in points.texts]
    # y: 2 + 3 points, places 2.5 and 1; x: 3 + 1, places 1 and 3
    assert shown[:4] == ["5", "1.75", "4", "2.00"]
    assert drawing.title == "Mean dice of 4 losses by data set"
    assert "y with 5 points" in drawing.alt


def test_holes_are_hatched_and_doubts_marked(contests: pd.DataFrame) -> None:
    table = rank(contests.drop(index=7))
    table.contests.loc[table.contests["contestant"] == "x", "suspicious"] = 1
    drawing = draw_heatmap(table)
    heat = drawing.figure.axes[0]
    texts = [text.get_text() for text in heat.texts]
    assert {"0.900?", "0.500?", "\N{EN DASH}"} <= set(texts)
    assert len([patch for patch in heat.patches if isinstance(patch, Rectangle) and patch.get_hatch()]) == 4
    caption = drawing.figure.get_supxlabel()
    assert "Hatched: incomplete" in caption and "?: holds a suspicious run" in caption.replace("\n", " ")


def test_many_contests_go_below_each_other(contests: pd.DataFrame) -> None:
    many = pd.concat([contests.assign(dataset=contests["dataset"] + str(i)) for i in range(7)])
    figure = draw_heatmap(rank(many)).figure
    assert len(figure.axes) == 4
    assert [len(figure.axes[i].get_xticks()) for i in (0, 2)] == [12, 2]


def test_disagreement_of_points_and_mean_ranks_is_marked() -> None:
    # v is first once and last twice: 3 points, mean rank 11/3; z is second once and fourth twice: 2 points, 10/3
    levels = {"a": "vwxzy", "b": "wzxyv", "c": "ywxzv"}
    rows = [(d, name, 1 - 0.1 * i) for d, order in levels.items() for i, name in enumerate(order)]
    frame = pd.DataFrame(rows, columns=["dataset", "loss", "value"]).assign(metric="dice", better="higher")
    drawing = draw_heatmap(rank(frame))
    assert [t.get_text() for t in drawing.figure.axes[1].texts if "!" in t.get_text()] == ["3.67 !", "3.33 !"]
    assert "points and mean rank disagree" in drawing.figure.get_supxlabel()


def test_cliques_by_hand() -> None:
    ranks = pd.Series({"d": 4.0, "a": 1.0, "b": 2.0, "c": 2.5})
    # within 1.6: a to c; b and c to d lie 2 and 1.5 apart, so c and d
    assert cliques(ranks, 1.6) == [["a", "b", "c"], ["c", "d"]]
    # {b, c} lies within {a, b, c}; exactly the critical difference is told apart
    assert cliques(ranks, 1.5) == [["a", "b"], ["b", "c"]]
    assert cliques(ranks, 9.0) == [["a", "b", "c", "d"]]
    assert cliques(ranks, 0.4) == [] and cliques(ranks, float("nan")) == []


def test_ties_form_a_clique() -> None:
    assert cliques(pd.Series({"a": 1.5, "b": 1.5, "c": 3.0}), 1.0) == [["a", "b"]]


def test_a_critical_difference_diagram_shows_ranks_bars_and_the_difference() -> None:
    ranks = {"d": 4.0, "a": 1.0, "b": 2.0, "c": 2.5}
    means = dict.fromkeys("abcd", 0.5)
    drawing = draw_critical_difference(
        evidence(means, of="model", groupings={"dataset": omnibus(ranks, 1.6)}), "dataset"
    )
    axes = drawing.figure.axes[0]
    texts = [text.get_text() for text in axes.texts]
    assert {"a  1.00", "b  2.00", "2.50  c", "4.00  d", "critical difference 1.60"} <= set(texts)
    bars = [c.get_segments()[0][:, 0] for c in axes.collections if c.get_linewidth()[0] == 3.5]
    assert [bar.mean() for bar in bars] == pytest.approx([1.75, 3.25])
    # the bar of the critical difference is as long as it says
    line = next(line for line in axes.get_lines() if line.get_linewidth() == 2)
    assert np.ptp(line.get_xdata()) == pytest.approx(1.6)
    assert drawing.title == "Mean ranks of 4 models over 5 data sets (dice)"
    assert drawing.alt.endswith("not told apart from the best are b and c.")


def test_two_contestants_have_no_critical_difference() -> None:
    test = omnibus({"a": 1.0, "b": 2.0}, float("nan"))
    drawing = draw_critical_difference(evidence({"a": 0.6, "b": 0.5}, groupings={"overall": test}), "overall")
    assert not any("critical" in text.get_text() for text in drawing.figure.axes[0].texts)
    assert drawing.alt.endswith("no critical difference can be computed.")


def test_an_unknown_grouping_is_named() -> None:
    with pytest.raises(MedsegError, match=r"unknown grouping 'modell'.*'model'"):
        draw_critical_difference(evidence({"a": 1.0}, groupings={"model": omnibus({"a": 1.0}, 1)}), "modell")


@pytest.mark.parametrize(
    ("probability", "text"), [(0, ""), (0.0004, "<1"), (0.01, "1"), (0.425, "42"), (0.995, ">99"), (1, "100")]
)
def test_percentages(probability: float, text: str) -> None:
    assert percentage(probability) == text


def test_places_are_in_the_order_of_the_means() -> None:
    found = evidence({"b": 0.9, "a": 0.8})
    places = pd.DataFrame([[0.3, 0.7], [0.7, 0.3]], index=["a", "b"], columns=[1, 2])
    drawing = draw_places(Evidence(**{**vars(found), "places": places}))
    axes = drawing.figure.axes[0]
    assert [text.get_text() for text in axes.texts] == ["70", "30", "30", "70"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["b", "a"]
    assert drawing.alt.endswith("b is first in 70 % of the draws.")


def test_places_without_chance_are_refused() -> None:
    found = evidence({"b": 0.9, "a": 0.8})
    with pytest.raises(MedsegError, match="places have no probabilities"):
        draw_places(Evidence(**{**vars(found), "places": found.places * np.nan}))
