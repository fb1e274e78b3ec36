"""Small tables with the answers written out."""

from __future__ import annotations

import itertools
import math

import pandas as pd
import pytest

from medseg.errors import MedsegError
from medseg.ranking import rank
from medseg.ranking.podium import groupings


def table(values: dict[str, list[float]], datasets: tuple[str, ...] = ("a",), **more: object) -> pd.DataFrame:
    """``{loss: one value per dataset}`` as a tidy table."""
    rows = [
        {"dataset": dataset, "loss": loss, "metric": "dice", "better": "higher", "value": value, **more}
        for loss, row in values.items()
        for dataset, value in zip(datasets, row, strict=True)
    ]
    return pd.DataFrame(rows)


def points(ranking: object) -> dict[str, int]:
    return dict(zip(ranking.table["contestant"], ranking.table["points"], strict=True))  # type: ignore[attr-defined]


def test_three_rows() -> None:
    ranking = rank(table({"x": [0.7], "y": [0.9], "z": [0.8]}))
    assert list(ranking.table["contestant"]) == ["y", "z", "x"]
    assert list(ranking.table["points"]) == [3, 2, 1]
    assert list(ranking.table["mean_rank"]) == [1, 2, 3]
    assert list(ranking.table["firsts"]) == [1, 0, 0]
    assert list(ranking.table["mean"]) == [0.9, 0.8, 0.7]
    assert list(ranking.table["a"]) == [0.9, 0.8, 0.7]
    assert len(ranking.missing) == 0


def test_rows_of_the_published_benchmark() -> None:
    # Dice of four models on three data sets as printed, the leading zero left out there
    dice = {
        "fcbformer": [0.8642, 0.8406, 0.9830],
        "segnet": [0.8328, 0.8470, 0.8672],
        "esfpnet": [0.8541, 0.8077, 0.9804],
        "colonformer": [0.8456, 0.8393, 0.9773],
    }
    ranking = rank(table(dice, ("isic2017", "foot_ulcer", "kvasir_seg")))
    # isic: fcb 3 esf 2 col 1; foot ulcer: seg 3 fcb 2 col 1; kvasir: fcb 3 esf 2 col 1
    assert points(ranking) == {"fcbformer": 8, "esfpnet": 4, "segnet": 3, "colonformer": 3}
    # mean ranks: colonformer 3 3 3 = 3, segnet 4 1 4 = 3: the names decide last
    assert list(ranking.table["contestant"]) == ["fcbformer", "esfpnet", "colonformer", "segnet"]
    assert ranking.table["mean_rank"].tolist() == pytest.approx([4 / 3, 8 / 3, 3, 3])


@pytest.mark.parametrize(
    ("values", "expected_places", "expected_points", "expected_ranks"),
    [
        ([0.9, 0.9, 0.8, 0.7], [1, 1, 3, 4], [3, 3, 1, 0], [1.5, 1.5, 3, 4]),
        ([0.9, 0.8, 0.8, 0.7], [1, 2, 2, 4], [3, 2, 2, 0], [1, 2.5, 2.5, 4]),
        ([0.9, 0.8, 0.7, 0.7], [1, 2, 3, 3], [3, 2, 1, 1], [1, 2, 3.5, 3.5]),
        ([0.9, 0.9, 0.9, 0.7], [1, 1, 1, 4], [3, 3, 3, 0], [2, 2, 2, 4]),
        ([0.5, 0.5, 0.5, 0.5], [1, 1, 1, 1], [3, 3, 3, 3], [2.5, 2.5, 2.5, 2.5]),
    ],
)
def test_ties_share_the_better_place(
    values: list[float], expected_places: list[int], expected_points: list[int], expected_ranks: list[float]
) -> None:
    contests = rank(table({name: [v] for name, v in zip("pqrs", values, strict=True)})).contests
    contests = contests.set_index("contestant").loc[list("pqrs")]
    assert contests["place"].tolist() == expected_places
    assert contests["points"].tolist() == expected_points
    assert contests["rank"].tolist() == expected_ranks


def test_equal_points_are_ordered_by_mean_rank() -> None:
    # places on a: x y z v w, on b: z v y w x; x has 3 points and mean rank 3, y 3 points and 2.5
    values = {"x": [0.9, 0.5], "y": [0.8, 0.7], "z": [0.7, 0.9], "v": [0.6, 0.8], "w": [0.5, 0.6]}
    table_ = rank(table(values, ("a", "b"))).table
    assert list(table_["contestant"]) == ["z", "y", "x", "v", "w"]
    assert list(table_["points"]) == [4, 3, 3, 2, 0]


def test_floating_noise_is_a_tie() -> None:
    assert 0.1 + 0.2 != 0.3
    assert points(rank(table({"x": [0.1 + 0.2], "y": [0.3], "z": [0.1]}))) == {"x": 3, "y": 3, "z": 1}


def test_a_difference_in_the_eleventh_digit_counts() -> None:
    assert points(rank(table({"x": [0.30000000001], "y": [0.3]}))) == {"x": 3, "y": 2}


def test_lower_is_better_from_the_column() -> None:
    frame = table({"x": [3.0], "y": [9.0], "z": [5.0]}).assign(metric="distance", better="lower")
    assert points(rank(frame, metrics=["distance"])) == {"x": 3, "z": 2, "y": 1}


def test_lower_is_better_from_the_argument() -> None:
    frame = table({"x": [3.0], "y": [9.0]}).assign(metric="distance").drop(columns="better")
    assert points(rank(frame, metrics=["distance"], better={"distance": "lower"})) == {"x": 3, "y": 2}
    assert points(rank(frame, metrics=["distance"], better={"distance": "higher"})) == {"y": 3, "x": 2}


def test_direction_from_the_registry() -> None:
    frame = table({"x": [3.0], "y": [9.0]}).drop(columns="better")
    assert points(rank(frame.assign(metric="hd95"), metrics=["hd95"])) == {"x": 3, "y": 2}
    assert points(rank(frame.assign(metric="dice"))) == {"y": 3, "x": 2}


def test_several_metrics_are_contests_of_their_own() -> None:
    dice = table({"x": [0.9], "y": [0.8]})
    distance = table({"x": [7.0], "y": [5.0]}).assign(metric="hd95", better="lower")
    ranking = rank(pd.concat([dice, distance]), metrics=["dice", "hd95"])
    assert points(ranking) == {"x": 5, "y": 5}
    columns = ["mean dice", "sd dice", "mean hd95", "sd hd95", "a dice", "a hd95"]
    assert list(ranking.table.columns[4:]) == columns
    assert ranking.table.loc[0, ["mean dice", "mean hd95"]].tolist() == [0.9, 7.0]


def test_every_run_counts_the_same_whatever_its_number_of_cases() -> None:
    # x: repeat 1 has one case of 1.0, repeat 2 three of 0.0: macro mean 0.5, pooled mean 0.25
    cases = [("1", "c1"), ("2", "c2"), ("2", "c3"), ("2", "c4")]
    rows = [
        {"dataset": "a", "loss": loss, "repeat": repeat, "case": case, "metric": "dice", "value": value}
        for loss, values in {"x": [1.0, 0.0, 0.0, 0.0], "y": [0.4, 0.4, 0.4, 0.4]}.items()
        for (repeat, case), value in zip(cases, values, strict=True)
    ]
    ranking = rank(pd.DataFrame(rows), better={"dice": "higher"})
    assert list(ranking.table["contestant"]) == ["x", "y"]
    assert list(ranking.table["mean"]) == [0.5, 0.4]


def test_every_setting_counts_the_same_whatever_its_number_of_repeats() -> None:
    # unet has three repeats, emcad one: (mean(0, 0, 0) + 1) / 2, not 1 / 4
    runs = [("unet", 1), ("unet", 2), ("unet", 3), ("emcad", 1)]
    rows = [
        {"dataset": "a", "loss": loss, "model": model, "repeat": repeat, "metric": "dice", "value": value}
        for loss, values in {"x": [0.0, 0.0, 0.0, 1.0], "y": [0.4, 0.4, 0.4, 0.4]}.items()
        for (model, repeat), value in zip(runs, values, strict=True)
    ]
    ranking = rank(pd.DataFrame(rows), better={"dice": "higher"})
    assert list(ranking.table["mean"]) == [0.5, 0.4]


def test_spread_is_over_runs() -> None:
    # runs of x: 0.5 (mean of two cases) and 0.7; standard deviation 0.1 * sqrt(2)
    rows = [("x", 1, "p", 0.4), ("x", 1, "q", 0.6), ("x", 2, "p", 0.7), ("x", 2, "q", 0.7)]
    rows += [("y", repeat, case, 0.1) for repeat in (1, 2) for case in "pq"]
    frame = pd.DataFrame(rows, columns=["loss", "repeat", "case", "value"]).assign(dataset="a", metric="dice")
    contests = rank(frame, better={"dice": "higher"}).contests.set_index("contestant")
    assert contests.loc["x", "spread"] == pytest.approx(0.1 * math.sqrt(2))
    assert contests.loc["y", "spread"] == pytest.approx(0)
    assert contests["n"].tolist() == [2, 2]


def test_spread_of_the_table_is_the_root_mean_square_over_contests() -> None:
    # spreads 0.1 * sqrt(2) and 0.3 * sqrt(2): root mean square sqrt((0.02 + 0.18) / 2)
    values = {("a", 1): 0.4, ("a", 2): 0.6, ("b", 1): 0.2, ("b", 2): 0.8}
    frame = pd.concat(
        table({"x": [value], "y": [0.1]}, (dataset,), repeat=repeat)
        for (dataset, repeat), value in values.items()
    )
    row = rank(frame).table.set_index("contestant").loc["x"]
    assert row["sd"] == pytest.approx(math.sqrt(0.1))
    assert row["mean"] == pytest.approx(0.5)


def test_one_run_has_no_spread() -> None:
    assert rank(table({"x": [0.5], "y": [0.4]})).table["sd"].isna().all()


def test_an_incomplete_contest_earns_nothing() -> None:
    frame = table({"x": [0.9, 0.1], "y": [0.8, 0.9], "z": [0.7, 0.8]}, ("a", "b"))
    frame = frame[~((frame["loss"] == "z") & (frame["dataset"] == "b"))]
    ranking = rank(frame)
    assert ranking.holes() == ["dataset=b loss=z metric=dice"]
    assert points(ranking) == {"x": 3, "y": 2, "z": 1}
    assert ranking.table["mean"].tolist() == [0.9, 0.8, 0.7]
    lost = ranking.contests[ranking.contests["contest"] == "b"].set_index("contestant")
    assert not lost["complete"].any()
    assert lost["place"].isna().all() and lost["points"].isna().all() and lost["rank"].isna().all()
    assert lost.loc["y", "mean"] == 0.9 and math.isnan(lost.loc["z", "mean"])
    assert any("incomplete" in note and "b" in note for note in ranking.notes)


def test_a_missing_repeat_is_never_averaged_over() -> None:
    full = pd.concat(table({"x": [v], "y": [0.5]}, ("a",), repeat=r) for r, v in [(1, 0.4), (2, 0.9)])
    other = table({"x": [0.5], "y": [0.6]}, ("b",), repeat=1)
    ranking = rank(pd.concat([full[~((full["loss"] == "x") & (full["repeat"] == 1))], other]))
    assert ranking.holes() == ["dataset=a loss=x repeat=1 metric=dice"]
    # without the contest on a, where the one repeat of x that is left would have won
    assert points(ranking) == {"y": 3, "x": 2}


def test_no_complete_contest_names_ten_holes_and_counts_the_rest() -> None:
    frame = pd.concat(table({"x": [0.5], "y": [0.6]}, ("a",), repeat=r) for r in range(13))
    frame = frame[~((frame["loss"] == "x") & (frame["repeat"] > 0))]
    with pytest.raises(MedsegError) as error:
        rank(frame)
    text = str(error.value)
    assert "dataset=a loss=x repeat=1 metric=dice" in text
    assert text.count("loss=x") == 10
    assert text.endswith("and 2 more")


def test_factors_of_interest_can_be_any() -> None:
    frame = pd.concat(
        table({"x": [0.5], "y": [0.6]}, model=model, augment=augment)
        for model in ("unet", "emcad")
        for augment in ("vanilla", "all")
    )
    frame.loc[frame["augment"].eq("all"), "value"] += 0.1
    ranking = rank(frame, of="augment", by="model")
    assert list(ranking.table["contestant"]) == ["all", "vanilla"]
    assert list(ranking.table.columns[-2:]) == ["unet", "emcad"]
    # unet and emcad, each over both losses: (0.6 + 0.7) / 2
    assert ranking.table["unet"].tolist() == pytest.approx([0.65, 0.55])


def test_the_callers_table_is_left_alone() -> None:
    frame = table({"x": [0.5], "y": [0.6]}, repeat=1)
    before = frame.copy()
    rank(frame)
    pd.testing.assert_frame_equal(frame, before)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"of": "losss"}, ["column", "'losss'", "'loss'"]),
        ({"by": "model"}, ["column", "'model'", "dataset"]),
        ({"of": "loss", "by": "loss"}, ["two different columns"]),
        ({"metrics": ["dcie"]}, ["metric", "'dcie'", "'dice'"]),
        ({"better": {"dice": "lower"}}, ["dice", "higher and lower"]),
        ({"better": {"dice": "up"}}, ["dice", "up"]),
    ],
)
def test_mistakes(arguments: dict, words: list[str]) -> None:
    with pytest.raises(MedsegError) as error:
        rank(table({"x": [0.5], "y": [0.6]}), **arguments)
    assert all(word in str(error.value) for word in words)


def test_unknown_direction() -> None:
    frame = table({"x": [0.5], "y": [0.6]}).assign(metric="roughness").drop(columns="better")
    with pytest.raises(MedsegError, match="'roughness' has no known direction"):
        rank(frame, metrics=["roughness"])


def test_one_contestant_is_no_contest() -> None:
    with pytest.raises(MedsegError, match=r"only one loss in the table \(x\)"):
        rank(table({"x": [0.5]}))


def test_overall_makes_a_contest_of_every_combination_but_repeats() -> None:
    frame = pd.concat(
        table({"x": [a], "y": [b]}, (dataset,), model=model, repeat=repeat, split="holdout")
        for dataset, model, a, b in [("a", "u", 0.9, 0.8), ("a", "v", 0.6, 0.7), ("b", "u", 0.3, 0.2)]
        for repeat in (0, 1)
    )
    ranking = rank(frame, by="overall")
    assert list(ranking.contests["contest"].unique()) == ["a/u", "a/v", "b/u"]
    assert points(ranking) == {"x": 8, "y": 7}
    assert ranking.table["mean_rank"].tolist() == pytest.approx([4 / 3, 5 / 3])
    assert ranking.contests["n"].tolist() == [2] * 6


def test_overall_without_other_factors_is_one_contest() -> None:
    frame = table({"x": [0.9], "y": [0.8]}).drop(columns="dataset")
    ranking = rank(frame, by="overall")
    assert ranking.contests["contest"].tolist() == ["overall"] * 2
    assert points(ranking) == {"x": 3, "y": 2}


def test_a_hole_is_the_same_whatever_the_grouping() -> None:
    frame = pd.concat(table({"x": [0.9], "y": [0.8]}, (d,), model=m) for d in "ab" for m in "uv")
    frame = frame[~((frame["loss"] == "x") & (frame["dataset"] == "a") & (frame["model"] == "u"))]
    rankings = [rank(frame, by=by) for by in ("dataset", "model", "overall")]
    assert [r.holes() for r in rankings] == [["dataset=a model=u loss=x metric=dice"]] * 3
    complete = [set(zip(r.contests["contest"], r.contests["complete"], strict=True)) for r in rankings]
    assert complete == [
        {("a", False), ("b", True)},
        {("u", False), ("v", True)},
        {("a/u", False), ("a/v", True), ("b/u", True), ("b/v", True)},
    ]


@pytest.mark.parametrize(
    ("levels", "of", "expected"),
    [
        ({"dataset": "ab", "model": "uv", "repeat": "01"}, "loss", ["dataset", "model", "overall"]),
        ({"dataset": "ab", "model": "u", "repeat": "01"}, "loss", ["dataset"]),
        ({"dataset": "ab", "model": "u", "augment": "pq"}, "loss", ["dataset", "overall"]),
        ({"dataset": "a", "model": "u", "augment": "pq"}, "loss", ["overall"]),
        ({"dataset": "a", "model": "u", "repeat": "01"}, "loss", ["dataset"]),
        ({"dataset": "ab", "loss": "xy"}, "model", ["dataset", "overall"]),
        ({"repeat": "01"}, "loss", ["repeat"]),
    ],
)
def test_what_to_rank_by_if_nobody_says(levels: dict[str, str], of: str, expected: list[str]) -> None:
    grid = itertools.product(*levels.values(), "xy")
    frame = pd.DataFrame(grid, columns=[*levels, "loss" if of == "loss" else "model"])
    assert groupings(frame, of) == expected


def test_nothing_to_rank_by() -> None:
    with pytest.raises(MedsegError, match="nothing to rank loss by"):
        groupings(pd.DataFrame({"loss": ["x", "y"]}), "loss")
