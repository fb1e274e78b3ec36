"""Runs as they go wrong, each beside a sound one, and what may be said of them."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

from medseg.ranking import rank
from medseg.ranking.suspicion import lines, suspicious

CASES = [f"c{i}" for i in range(8)]


def run(
    loss: str, repeat: int, values: list[float], cases: list[str] | None = None, **more: object
) -> pd.DataFrame:
    """One run as a tidy table."""
    keys = {
        "dataset": "busi",
        "model": "unet",
        "loss": loss,
        "repeat": repeat,
        "metric": "dice",
        "better": "higher",
    }
    return pd.DataFrame({**keys, "case": cases or CASES[: len(values)], "value": values, **more})


def sound(seed: int, count: int = 8) -> list[float]:
    return np.random.default_rng(seed).uniform(0.5, 0.9, count).tolist()


def told(*runs: pd.DataFrame) -> list[tuple[str, str, str, str]]:
    found = suspicious(pd.concat(runs, ignore_index=True))
    return list(found[["loss", "repeat", "metric", "kind"]].itertuples(index=False, name=None))


def hashes(start: int, count: int = 8) -> list[str]:
    return [f"{start + i:08x}" for i in range(count)]


def test_sound_runs_are_not_suspected() -> None:
    runs = [run(loss, repeat, sound(10 * i + repeat)) for i, loss in enumerate("xy") for repeat in range(3)]
    assert told(*runs) == []


def test_what_is_missing_is_named_once_and_not_a_number_as_such() -> None:
    values = sound(3)
    values[2] = float("nan")
    runs = [
        run("x", 0, sound(0)),
        run("x", 1, sound(1)),
        run("y", 0, values),
        run("z", 0, sound(4)),
        run("z", 1, sound(5)[:7]),
    ]
    assert told(*runs) == [
        ("y", "1", "dice", "missing"),
        ("z", "1", "dice", "missing"),
        ("y", "0", "dice", "nan"),
    ]
    found = suspicious(pd.concat(runs, ignore_index=True))
    assert found["reason"].tolist() == [
        "not in the table",
        "1 case, first: case=c7",
        "1 of 8 values not finite, first: case=c2 value=nan",
    ]


def test_repeats_with_the_same_values_in_their_common_cases() -> None:
    values = sound(0)
    # six common cases agree; the others differ
    other = [0.1, 0.2, *values[:6]]
    runs = [run("x", 0, values), run("x", 1, other, ["d0", "d1", *CASES[:6]]), run("x", 2, sound(2))]
    assert told(*runs) == [("x", "0", "dice", "identical"), ("x", "1", "dice", "identical")]
    reasons = suspicious(pd.concat(runs))["reason"].tolist()
    assert reasons == [
        "the same values as repeat 1 in all 6 common cases",
        "the same values as repeat 0 in all 6 common cases",
    ]


@pytest.mark.parametrize(("common", "suspected"), [(4, False), (5, True)])
def test_few_common_cases_prove_nothing(common: int, suspected: bool) -> None:
    values = sound(0)
    other = [*values[:common], *sound(1)[common:]]
    cases = [*CASES[:common], *(f"d{i}" for i in range(8 - common))]
    assert bool(told(run("x", 0, values), run("x", 1, other, cases))) is suspected


def test_one_value_that_differs_is_enough() -> None:
    values = sound(0)
    other = [*values[:7], values[7] + 1e-15]
    assert values[7] != other[7]
    assert told(run("x", 0, values), run("x", 1, other)) == []


def test_perfect_values_are_no_proof_of_sameness() -> None:
    assert told(run("x", 0, [1.0] * 8), run("x", 1, [1.0] * 8)) == []


def test_hashes_decide_where_they_are_known() -> None:
    values = sound(0)
    # the values agree and the masks do not: no finding; and the other way round
    runs = [run("x", r, values, prediction=hashes(8 * r)) for r in (0, 1)]
    runs += [run("y", r, sound(5 + r), prediction=hashes(100)) for r in (0, 1)]
    assert told(*runs) == [("y", "0", "", "identical"), ("y", "1", "", "identical")]


def test_hashes_are_told_once_whatever_the_metrics() -> None:
    runs = [run("x", r, sound(r), prediction=hashes(100)) for r in (0, 1)]
    runs += [frame.assign(metric="iou", value=frame["value"] / 2) for frame in runs]
    assert [kind for *_, kind in told(*runs)] == ["identical"] * 2


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"prediction": "0000000a"}, "one and the same prediction in all 8 cases"),
        ({"predicted_px": 0, "reference_px": 7}, "every prediction is empty, in 8 cases"),
        ({"predicted_px": 0, "reference_px": 7, "prediction": "0a"}, "every prediction is empty, in 8 cases"),
        ({"predicted_px": 1024, "reference_px": 7}, "every prediction has 1024 pixels, in 8 cases"),
    ],
)
def test_constant_predictions(facts: dict[str, object], reason: str) -> None:
    found = suspicious(pd.concat([run("x", 0, sound(0), **facts), run("y", 0, sound(1))]))
    assert found[["loss", "metric", "kind", "reason"]].to_numpy().tolist() == [["x", "", "constant", reason]]


def test_empty_predictions_of_empty_references_are_right() -> None:
    empty = {"predicted_px": 0, "reference_px": 0, "prediction": "0000000a"}
    assert told(run("x", 0, [1.0] * 8, **empty), run("y", 0, sound(1))) == []


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([0.25] * 8, "dice=0.25 in each of 8 cases"),
        ([0.0] * 8, "dice=0 in each of 8 cases"),
        ([0.0] * 6 + [1.0] * 2, "dice is 0 or 1 in each of 8 cases, as of empty predictions"),
        ([1.0] * 8, None),
        ([0.0, 1.0], None),
        ([0.5, 0.5], None),
    ],
)
def test_constant_values_without_facts(values: list[float], reason: str | None) -> None:
    found = suspicious(pd.concat([run("x", 0, values), run("y", 0, sound(1)[: len(values)])]))
    assert found["reason"].tolist() == ([reason] if reason else [])


def test_the_best_distance_is_zero() -> None:
    runs = [run("x", 0, [0.0] * 8), run("y", 0, [30.0] * 8)]
    frame = pd.concat(runs).assign(metric="hd95", better="lower")
    assert suspicious(frame)["reason"].tolist() == ["hd95=30 in each of 8 cases"]


def test_a_copied_column_is_named_on_both_sides() -> None:
    values = sound(0)
    shuffled = run("y", 0, values).sample(frac=1, random_state=0)
    runs = [run("x", 0, values), shuffled, run("z", 0, sound(1))]
    found = suspicious(pd.concat(runs))
    assert lines(found) == [
        "dataset=busi model=unet loss=x repeat=0 metric=dice: identical: the same value for every case as loss=y: a copy, or the same by definition?",
        "dataset=busi model=unet loss=y repeat=0 metric=dice: identical: the same value for every case as loss=x: a copy, or the same by definition?",
    ]


def test_the_same_values_for_other_cases_are_no_copy() -> None:
    values = sound(0)
    assert told(run("x", 0, values), run("x", 1, values, [f"d{i}" for i in range(8)])) == []


def means(values: dict[tuple[str, int], float]) -> pd.DataFrame:
    rows = [
        {"dataset": "busi", "loss": loss, "repeat": r, "metric": "dice", "value": v}
        for (loss, r), v in values.items()
    ]
    return pd.DataFrame(rows)


def test_means_of_many_digits_do_not_agree_by_chance() -> None:
    long, short = 0.8123456789012, 0.8123
    frame = means({("x", 0): long, ("x", 1): long + 1e-15, ("y", 0): short, ("y", 1): short})
    found = suspicious(frame)
    assert found[["loss", "repeat", "kind", "reason"]].to_numpy().tolist() == [
        ["x", "0", "identical", "the same mean as repeat=1, to 12 digits"],
        ["x", "1", "identical", "the same mean as repeat=0, to 12 digits"],
    ]


def test_a_mean_dice_of_zero() -> None:
    frame = means({("x", 0): 0.0, ("y", 0): 0.7})
    assert suspicious(frame)["reason"].tolist() == ["dice is 0: no prediction meets its lesion"]


def test_tables_with_few_keys() -> None:
    frame = pd.DataFrame({"loss": list("xy"), "metric": "dice", "value": [0.0, 0.7]})
    assert suspicious(frame)[["loss", "kind"]].to_numpy().tolist() == [["x", "constant"]]
    assert len(suspicious(pd.DataFrame({"metric": ["dice"], "value": [0.5]}))) == 0


def test_a_ranking_marks_them() -> None:
    runs = [run("x", 0, [0.25] * 8), run("y", 0, sound(1)), run("y", 1, sound(2)), run("x", 1, sound(3))]
    ranking = rank(pd.concat(runs))
    assert ranking.doubts() == [
        "dataset=busi model=unet loss=x repeat=0 metric=dice: constant: dice=0.25 in each of 8 cases"
    ]
    counts = ranking.contests.set_index("contestant")["suspicious"]
    assert counts.to_dict() == {"x": 1, "y": 0}
    shown = ranking.display().set_index("loss")
    for column in ("dice mean ± sd", "busi"):
        assert shown.loc["x", column].endswith(" ?") and "?" not in shown.loc["y", column]
    assert "- suspicious: dataset=busi model=unet loss=x" in ranking.markdown()


def test_findings_do_not_depend_on_the_order_of_rows() -> None:
    values = sound(0)
    runs = [
        run(loss, r, values if loss == "x" else sound(r + 7)) for loss, r in itertools.product("xy", range(3))
    ]
    frame = pd.concat(runs)
    key = ["loss", "repeat", "metric", "kind", "reason"]
    one, other = (suspicious(f)[key].sort_values(key).to_numpy().tolist() for f in (frame, frame[::-1]))
    assert {tuple(row[:4]) for row in one} == {tuple(row[:4]) for row in other}
    assert len(one) == 3
