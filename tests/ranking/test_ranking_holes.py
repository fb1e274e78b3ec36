from __future__ import annotations

import itertools

import pandas as pd
import pytest

from medseg.ranking.holes import lines, missing, other_factors
from medseg.ranking.table import normalise


@pytest.fixture
def full() -> pd.DataFrame:
    """Two data sets, two losses, two repeats, two cases, two metrics, no hole."""
    grid = itertools.product("ab", ["bce", "dice"], [1, 2], ["p", "q"], ["dice", "hd95"])
    frame = pd.DataFrame(grid, columns=["dataset", "loss", "repeat", "case", "metric"])
    return normalise(frame.assign(model="unet", preprocess="", value=0.5))


def drop(table: pd.DataFrame, **keys: str) -> pd.DataFrame:
    hit = pd.concat([table[c] == v for c, v in keys.items()], axis=1).all(axis=1)
    assert hit.any()
    return table[~hit]


def test_a_full_grid_has_no_hole(full: pd.DataFrame) -> None:
    holes = missing(full, "loss", "dataset")
    assert len(holes) == 0
    assert lines(holes) == []


def test_a_missing_run_is_named_once_per_metric(full: pd.DataFrame) -> None:
    holes = missing(drop(full, dataset="a", loss="bce", repeat="1"), "loss", "dataset")
    assert lines(holes) == [
        "dataset=a model=unet loss=bce repeat=1 metric=dice",
        "dataset=a model=unet loss=bce repeat=1 metric=hd95",
    ]
    assert holes[["expected", "found"]].to_numpy().tolist() == [[2, 0], [2, 0]]


def test_a_run_that_nobody_has_is_no_hole(full: pd.DataFrame) -> None:
    assert len(missing(drop(full, dataset="a", repeat="2"), "loss", "dataset")) == 0


def test_a_metric_that_nobody_has_in_one_contest_is_a_hole_of_everyone(full: pd.DataFrame) -> None:
    holes = missing(drop(full, dataset="b", metric="hd95"), "loss", "dataset")
    assert set(holes["loss"]) == {"bce", "dice"}
    assert set(holes["metric"]) == {"hd95"}
    assert len(holes) == 4


def test_a_missing_case_is_named(full: pd.DataFrame) -> None:
    table = drop(full, dataset="b", loss="dice", repeat="2", case="q", metric="dice")
    assert lines(missing(table, "loss", "dataset")) == [
        "dataset=b model=unet loss=dice repeat=2 metric=dice: 1 case, first: case=q"
    ]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_value_that_is_no_number_is_named(full: pd.DataFrame, value: float) -> None:
    full.loc[0, "value"] = value
    assert lines(missing(full, "loss", "dataset")) == [
        f"dataset=a model=unet loss=bce repeat=1 metric=dice: 1 case, first: case=p value={value}"
    ]


def test_nan_of_everyone_is_still_a_hole(full: pd.DataFrame) -> None:
    full.loc[full["case"] == "p", "value"] = float("nan")
    assert len(missing(full, "loss", "dataset")) == 16


def test_nan_without_cases() -> None:
    frame = pd.DataFrame({"dataset": "a", "loss": ["x", "y"], "metric": "dice", "value": [0.5, float("nan")]})
    assert lines(missing(normalise(frame), "loss", "dataset")) == ["dataset=a loss=y metric=dice: value=nan"]


def test_other_factors_are_the_run_keys_that_the_table_has(full: pd.DataFrame) -> None:
    assert other_factors(full, "loss", "dataset") == ["model", "preprocess", "repeat"]


def test_a_leaking_contestant_has_cases_of_its_own() -> None:
    rows = [
        {"dataset": "d", "augment": augment, "repeat": "0", "case": case, "metric": "dice", "value": 0.5}
        for augment, cases in (("vanilla", "ab"), ("filter-offline", "ab"), ("filter-leaking", "cdefg"))
        for case in cases
    ]
    frame = pd.DataFrame(rows)
    assert len(missing(frame, "augment", "dataset")) == 0
    frame.loc[frame["case"] == "e", "value"] = float("nan")
    holes = missing(frame, "augment", "dataset")
    assert holes[["augment", "expected", "found"]].values.tolist() == [["filter-leaking", 5, 4]]
    holes = missing(frame[frame["case"] != "b"], "augment", "dataset")
    assert holes["augment"].tolist() == ["filter-leaking"]
    holes = missing(frame[(frame["case"] != "b") | (frame["augment"] == "vanilla")], "augment", "dataset")
    assert holes["augment"].tolist() == ["filter-offline", "filter-leaking"]
