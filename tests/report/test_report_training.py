"""The figures of training: learning curves, and cost against quality."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import LinearConstraint, minimize

from medseg.errors import MedsegError
from medseg.ranking.evidence import REAL, TIED, UNDERPOWERED, Evidence
from medseg.report.figures import cheapest_tied, cost_words, draw_cost, draw_curves
from medseg.report.figures.cost import amount, mean_costs, pareto, spread
from medseg.report.figures.curves import curve_means, stops


def run(loss: str, repeat: int, values: list[float], dataset: str = "a") -> pd.DataFrame:
    epochs = range(1, len(values) + 1)
    return pd.DataFrame(
        {"dataset": dataset, "loss": loss, "repeat": repeat, "epoch": epochs, "val_dice": values}
    )


def test_means_over_the_runs_that_still_train() -> None:
    curves = pd.concat(
        [run("x", 0, [0.1, 0.5]), run("x", 1, [0.3, 0.7, 0.9]), run("x", 2, [0.2, 0.6, 0.8, 0.8])]
    )
    found = curve_means(curves, "loss", None)
    # the fourth epoch has one run of three, fewer than half
    assert found["epoch"].tolist() == [1, 2, 3] and found["runs"].tolist() == [3, 3, 2]
    assert found["mean"].tolist() == pytest.approx([0.2, 0.6, 0.85])
    assert found["low"].tolist() == [0.1, 0.5, 0.8] and found["high"].tolist() == [0.3, 0.7, 0.9]


def test_half_of_the_runs_is_enough() -> None:
    curves = pd.concat([run("x", 0, [0.1]), run("x", 1, [0.3, 0.7])])
    assert curve_means(curves, "loss", "dataset")["mean"].tolist() == pytest.approx([0.2, 0.7])


def test_where_runs_stopped() -> None:
    curves = pd.concat([run("x", i, [0.1] * n) for i, n in enumerate((2, 5, 3))] + [run("y", 0, [0.1] * 7)])
    assert stops(curves, "loss").to_dict("records") == [
        {"contestant": "x", "runs": 3, "first": 2, "median": 3, "last": 5},
        {"contestant": "y", "runs": 1, "first": 7, "median": 7, "last": 7},
    ]


def test_curves_are_lines_by_level_in_a_panel_each() -> None:
    curves = pd.concat([run("x", 0, [0.1, 0.2]), run("x", 0, [0.3, 0.4], "b"), run("y", 0, [0.5, 0.9, 0.7])])
    drawing = draw_curves(curves)
    panels = {axes.get_title(loc="left"): axes for axes in drawing.figure.axes if axes.get_title(loc="left")}
    # y ends higher and comes first
    assert list(panels) == ["y", "x"]
    lines = [list(line.get_ydata()) for line in panels["x"].get_lines() if len(line.get_xdata()) > 1]
    assert lines == [[0.1, 0.2], [0.3, 0.4]]
    assert [text.get_text() for text in panels["y"].texts] == ["stopped at 3"]
    assert "the mean validation Dice ends between 0.200 and 0.700; y trained longest" in drawing.alt
    assert drawing.title == "Validation Dice by epoch, 2 losses"


def test_faulty_curves_are_named() -> None:
    with pytest.raises(MedsegError, match="unknown column 'train_loss'"):
        draw_curves(run("x", 0, [0.1]), value="train_loss")
    with pytest.raises(MedsegError, match="no val_dice of the curves is finite"):
        draw_curves(run("x", 0, [float("nan")]))


def evidence(means: dict[str, float], verdicts: dict[str, str], better: str = "higher") -> Evidence:
    """Evidence with the verdicts of the best, the first one, against each other contestant."""
    names, values = list(means), np.array(list(means.values()))
    table = pd.DataFrame({"contestant": names, "mean": values, "low": values - 0.1, "high": values + 0.1})
    pairs = pd.DataFrame([(names[0], b, v) for b, v in verdicts.items()], columns=["a", "b", "verdict"])
    nothing = pd.DataFrame()
    return Evidence("loss", "dice", better, 0.01, 0.95, 100, 0, True, table, nothing, nothing, pairs, {}, ())


@pytest.fixture
def found() -> Evidence:
    means = {"best": 0.9, "tied": 0.895, "weak": 0.85, "bad": 0.5}
    return evidence(means, {"tied": TIED, "weak": UNDERPOWERED, "bad": REAL})


def costs(**seconds: float) -> pd.DataFrame:
    return pd.DataFrame({"loss": list(seconds), "seconds": list(seconds.values())})


def test_costs_are_means_over_runs() -> None:
    table = pd.concat([costs(x=10, y=5), costs(x=20)])
    assert mean_costs(table, "loss").to_dict() == {"x": 15, "y": 5}
    assert mean_costs(table.rename(columns={"loss": "contestant"}), "loss").to_dict() == {"x": 15, "y": 5}
    with pytest.raises(MedsegError, match="unknown column 'macs'"):
        mean_costs(table, "loss", "macs")


def test_the_cheapest_that_is_tied_with_the_best(found: Evidence) -> None:
    # the cheapest of all is shown to be worse
    assert cheapest_tied(found, costs(best=100, tied=40, weak=60, bad=1)) == "tied"
    assert cheapest_tied(found, costs(best=100, tied=140, weak=60, bad=1)) == "weak"
    assert cheapest_tied(found, costs(best=40, tied=40, weak=60, bad=1)) == "best"


def test_it_is_said_in_words(found: Evidence) -> None:
    assert cost_words(found, costs(best=100, tied=40, weak=60, bad=1)) == (
        "tied (dice 0.895) is tied with the best, best (0.900), at 40 % of its training time: 40 s instead of 100 s."
    )
    assert "weak (dice 0.850) is not shown to be worse than the best" in cost_words(
        found, costs(best=100, tied=140, weak=60, bad=1)
    )
    assert cost_words(found, costs(best=1, tied=40, weak=60, bad=1)) == (
        "No loss that may be as good as best costs less (1 s)."
    )


def test_the_pareto_front(found: Evidence) -> None:
    # weak costs more than tied and is worse
    assert pareto(found, costs(best=100, tied=40, weak=60, bad=1)) == ["bad", "tied", "best"]
    assert pareto(found, costs(best=1, tied=40, weak=60, bad=1)) == ["best"]


def test_the_front_of_a_metric_of_which_lower_is_better() -> None:
    found = evidence({"x": 1.0, "y": 2.0, "z": 3.0}, {"y": REAL, "z": REAL}, "lower")
    assert pareto(found, costs(x=9, y=5, z=7)) == ["y", "x"]


def test_equals_are_both_on_the_front() -> None:
    found = evidence({"x": 0.9, "y": 0.9}, {"y": TIED})
    assert pareto(found, costs(x=5, y=5)) == ["x", "y"]


def test_unknown_costs_are_named(found: Evidence) -> None:
    with pytest.raises(MedsegError, match="no seconds above 0 is known of loss weak and bad"):
        draw_cost(found, costs(best=100, tied=40, weak=0))


@pytest.mark.parametrize(
    ("value", "cost", "text"),
    [
        (90, "seconds", "90 s"),
        (119.96, "seconds", "120 s"),
        (120, "seconds", "2 min"),
        (7200, "seconds", "2 h"),
        (7.2e6, "seconds", "2000 h"),
        (31_437_000, "parameters", "31.4 M"),
        (999_600, "parameters", "1 M"),
        (9_999, "macs", "10 k"),
        (12.5, "epochs", "12.5"),
    ],
)
def test_amounts(value: float, cost: str, text: str) -> None:
    assert amount(value, cost) == text


def test_points_names_and_rings_are_where_they_belong(found: Evidence) -> None:
    drawing = draw_cost(found, costs(best=600, tied=240, weak=360, bad=6))
    axes = drawing.figure.axes[0]
    assert axes.get_xlabel() == "training time (min)"
    ring = next(line for line in axes.get_lines() if line.get_markersize() == 14)
    assert (ring.get_xdata()[0], ring.get_ydata()[0]) == (4, 0.895)
    filled = [
        line.get_xdata()[0]
        for line in axes.get_lines()
        if line.get_markersize() == 6.5 and line.get_markerfacecolor() != "white"
    ]
    assert sorted(filled) == pytest.approx([0.1, 4, 10])
    # from the lowest mean to the highest
    names = {text.get_text(): text.xyann[1] for text in axes.texts}
    assert sorted(names, key=lambda name: names[name]) == ["bad", "weak", "tied", "best"]
    assert "on the Pareto front are bad, tied and best" in drawing.alt


@given(st.lists(st.floats(0, 1), min_size=2, max_size=8))
def test_names_keep_their_distance_and_order(positions: list[float]) -> None:
    found = spread(np.sort(positions), 0.1, 0.0, 1.0)
    assert (np.diff(found) >= 0.1 - 1e-9).all() and found[0] >= 0 and found[-1] <= 1 + 1e-9


def test_names_move_as_little_as_they_can() -> None:
    assert spread(np.array([0.2, 0.5]), 0.1, 0, 1).tolist() == [0.2, 0.5]
    assert spread(np.array([0.5, 0.5]), 0.2, 0, 1).tolist() == pytest.approx([0.4, 0.6])
    assert spread(np.array([0.0, 0.0]), 0.2, 0, 1).tolist() == pytest.approx([0, 0.2])
    assert spread(np.array([0.3, 0.3, 0.3]), 0.9, 0, 1).tolist() == pytest.approx([0, 0.5, 1])
    positions = np.array([0.1, 0.15, 0.5, 0.52, 0.9])
    apart = LinearConstraint(np.diff(np.eye(5), axis=0), 0.12, np.inf)
    best = minimize(
        lambda x: ((x - positions) ** 2).sum(), positions, bounds=[(0, 1)] * 5, constraints=[apart]
    )
    assert spread(positions, 0.12, 0, 1) == pytest.approx(best.x, abs=1e-4)
