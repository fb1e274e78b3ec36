from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medseg.errors import MedsegError
from medseg.ranking.evidence import Evidence
from medseg.ranking.judge import judge
from medseg.ranking.table import load, normalise

PUBLISHED = Path(__file__).resolve().parents[3] / "shared" / "reference" / "benchmark_2022_dice.csv"
GAINS = {"bce": 0.0, "dice": 0.003, "iou": 0.15}


def study(
    datasets: int = 4, models: int = 2, repeats: int = 3, cases: int = 20, gains: dict[str, float] = GAINS
) -> pd.DataFrame:
    """A tidy table: the gains, and noise of data sets, repeats and cases; two cases to a patient."""
    draws = np.random.default_rng(0)
    names = list(gains)
    shape = (datasets, models, len(names), repeats, cases)
    values = 0.6 + np.array(list(gains.values()))[:, None, None] + draws.normal(0, 0.01, shape)
    values += draws.normal(0, 0.002, shape[:4])[..., None] + draws.normal(
        0, 0.1, (datasets, 1, 1, repeats, cases)
    )
    index = itertools.product(
        [f"set{d}" for d in range(datasets)],
        [f"net{m}" for m in range(models)],
        names,
        range(repeats),
        range(cases),
    )
    frame = pd.DataFrame(index, columns=["dataset", "model", "loss", "repeat", "case"])
    # the test cases of each repeat are others
    frame["case"] = frame["repeat"] * cases + frame["case"]
    frame["group"] = "p" + (frame["case"] // 2).astype(str)
    return normalise(frame.assign(preprocess="", augment="vanilla", metric="dice", value=values.ravel()))


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return study()


@pytest.fixture(scope="module")
def evidence(table: pd.DataFrame) -> Evidence:
    return judge(table)


def same(one: Evidence, other: Evidence) -> bool:
    frames = [(e.means, e.levels, e.places, e.pairs) for e in (one, other)]
    tests = [
        (o.values, o.mean_ranks, o.nemenyi, o.wilcoxon, o.bayes)
        for e in (one, other)
        for o in e.groupings.values()
    ]
    half = len(tests) // 2
    pairs = [
        *zip(*frames, strict=True),
        *((a, b) for x, y in zip(tests[:half], tests[half:], strict=True) for a, b in zip(x, y, strict=True)),
    ]
    return all(a.equals(b) for a, b in pairs)


def test_what_was_put_in_is_found(evidence: Evidence) -> None:
    verdicts = {(a, b): v for a, b, v in evidence.pairs[["a", "b", "verdict"]].itertuples(index=False)}
    assert verdicts == {("iou", "dice"): "real", ("iou", "bce"): "real", ("dice", "bce"): "tied"}
    assert evidence.contestants == ["iou", "dice", "bce"]
    assert evidence.tied_with_best() == ["iou"]
    assert evidence.pairs["words"][0].startswith("iou is better than dice by 0.1")
    assert (evidence.pairs[["more_repeats", "more_datasets"]] == 0).all(axis=None)


def test_means_are_macro_means(table: pd.DataFrame, evidence: Evidence) -> None:
    runs = table.groupby(["dataset", "model", "loss", "repeat"])["value"].mean()
    expected = runs.groupby(["dataset", "loss"]).mean().groupby("loss").mean()
    assert evidence.means.set_index("contestant")["mean"].to_dict() == pytest.approx(expected.to_dict())
    by_model = evidence.levels[evidence.levels["by"] == "model"].set_index(["level", "contestant"])["mean"]
    assert by_model.to_dict() == pytest.approx(runs.groupby(["model", "loss"]).mean().to_dict())
    by_dataset = evidence.groupings["dataset"].values.stack()
    assert by_dataset.to_dict() == pytest.approx(runs.groupby(["dataset", "loss"]).mean().to_dict())


def test_what_the_record_holds(evidence: Evidence) -> None:
    assert set(evidence.groupings) == {"dataset", "model", "overall"}
    assert len(evidence.groupings["overall"].values) == 8
    assert evidence.groupings["overall"].values.index[0] == "set0 net0"
    assert evidence.levels[["by", "level"]].drop_duplicates().to_numpy().tolist() == [
        ["overall", "overall"],
        *(["dataset", f"set{d}"] for d in range(4)),
        *(["model", f"net{m}"] for m in range(2)),
    ]
    assert list(evidence.places.index) == evidence.contestants
    assert list(evidence.places.columns) == [1, 2, 3]
    assert evidence.places.sum(axis=0).tolist() == pytest.approx([1, 1, 1])
    assert evidence.places.sum(axis=1).tolist() == pytest.approx([1, 1, 1])
    assert (evidence.means["low"] < evidence.means["mean"]).all()
    assert (evidence.means["mean"] < evidence.means["high"]).all()
    assert evidence.levels.groupby("level")["p_best"].sum().tolist() == pytest.approx([1] * 7)
    assert evidence.pairs["wins"].tolist() == ["8/0/0", "8/0/0", "0/8/0"]


def test_the_order_of_rows_and_columns_changes_nothing(table: pd.DataFrame, evidence: Evidence) -> None:
    shuffled = table.sample(frac=1, random_state=1)[list(table.columns[::-1])]
    assert same(judge(shuffled), evidence)


def test_the_seed_decides(table: pd.DataFrame, evidence: Evidence) -> None:
    assert same(judge(table, seed=0), evidence)
    other = judge(table, seed=1)
    assert not other.places.equals(evidence.places)
    # intervals and verdicts owe nothing to chance
    pd.testing.assert_frame_equal(other.pairs, evidence.pairs)


def test_names_do_not_matter(table: pd.DataFrame, evidence: Evidence) -> None:
    turned = {"bce": "z", "dice": "y", "iou": "x"}
    renamed = judge(table.assign(loss=table["loss"].map(turned)))
    assert [turned[name] for name in evidence.contestants] == renamed.contestants
    numbers = evidence.pairs.select_dtypes("number").to_numpy()
    assert renamed.pairs.select_dtypes("number").to_numpy() == pytest.approx(numbers, rel=1e-9)


def test_a_table_that_was_not_normalised(table: pd.DataFrame, evidence: Evidence) -> None:
    raw = table.astype({"repeat": int, "case": int}).rename(columns={"value": "dice"}).drop(columns="metric")
    assert same(judge(raw), evidence)


def test_lower_is_better(table: pd.DataFrame, evidence: Evidence) -> None:
    costs = judge(
        table.assign(metric="cost", value=1 - table["value"]),
        metric="cost",
        better={"cost": "lower"},
        rope=0.01,
    )
    assert costs.better == "lower"
    assert costs.contestants == evidence.contestants
    numbers = ["difference", "low", "high", "cliffs_delta", "cohens_d", "p_cases"]
    assert costs.pairs[numbers].to_numpy() == pytest.approx(evidence.pairs[numbers].to_numpy(), rel=1e-6)
    assert costs.pairs["verdict"].tolist() == evidence.pairs["verdict"].tolist()
    assert costs.means["low"].tolist() == pytest.approx((1 - evidence.means["high"]).tolist())
    assert costs.groupings["overall"].mean_ranks.tolist() == evidence.groupings["overall"].mean_ranks.tolist()


def test_fixed_data_sets_narrow_the_intervals_and_the_question() -> None:
    table = study(datasets=3)
    # the losses win by very different amounts on the three data sets
    gain = table["dataset"].map({"set0": 0.03, "set1": 0.1, "set2": 0.2}) * (table["loss"] == "dice")
    table = table.assign(value=table["value"] + gain)
    table = table[table["loss"] != "iou"]
    sample, fixed = judge(table), judge(table, fixed_datasets=True)
    assert sample.pairs.loc[0, ["verdict", "here"]].tolist() == ["under-powered", "real"]
    assert sample.pairs["more_repeats"][0] == 0
    assert 1 <= sample.pairs["more_datasets"][0] < 50
    bounds = fixed.pairs.loc[0, ["low", "high"]].tolist()
    assert sample.pairs.loc[0, ["low_here", "high_here"]].tolist() == bounds
    said = "; on these 3 data sets alone ({:.3f} to {:.3f}): real".format(*bounds)
    assert sample.pairs["words"][0].endswith(f" more data sets needed{said}")
    assert fixed.pairs.loc[0, ["verdict", "here"]].tolist() == ["real", "real"]
    assert fixed.pairs.loc[0, ["low_here", "high_here"]].tolist() == bounds
    assert "alone" not in fixed.pairs["words"][0]
    assert any("as a sample" in note for note in sample.notes)
    assert any("these 3 data sets" in note for note in fixed.notes)


def test_what_is_open_on_these_data_sets_asks_for_repeats() -> None:
    draws = np.random.default_rng(0)
    table = study(datasets=3, models=1, gains={"bce": 0.0, "dice": 0.03})
    # whole runs stray, those of the one loss and of the other
    runs = table.groupby(["dataset", "loss", "repeat"]).ngroup()
    pair = judge(table.assign(value=table["value"] + draws.normal(0, 0.03, 18)[runs])).pairs.loc[0]
    assert pair[["verdict", "here"]].tolist() == ["under-powered", "under-powered"]
    assert pair["more_repeats"] >= 1 and pair["more_datasets"] >= 1
    assert pair["words"].endswith(
        f": under-powered too, about {pair['more_repeats']:.0f} more repeats needed"
    )


def test_what_holds_on_others_like_them_holds_on_these() -> None:
    # two repeats that stray on one data set alone have hardly a degree of freedom, three data sets have two
    values = {"x": [(0.6, 0.7), (0.65, 0.65), (0.65, 0.65)], "y": [(0.6, 0.6), (0.6, 0.6), (0.6, 0.6)]}
    rows = [
        (f"set{d}", loss, repeat, value)
        for loss, datasets in values.items()
        for d, repeats in enumerate(datasets)
        for repeat, value in enumerate(repeats)
    ]
    table = pd.DataFrame(rows, columns=["dataset", "loss", "repeat", "value"]).assign(metric="dice")
    sample, fixed = judge(table).pairs.loc[0], judge(table, fixed_datasets=True).pairs.loc[0]
    assert fixed["high"] - fixed["low"] > sample["high"] - sample["low"]
    assert sample[["low_here", "high_here"]].tolist() == sample[["low", "high"]].tolist()


def test_how_hard_data_sets_are_is_no_doubt_about_a_mean() -> None:
    table = study(datasets=3, models=1)
    shift = table["dataset"].map({"set0": -0.3, "set1": 0.0, "set2": 0.3})
    apart = judge(table.assign(value=table["value"] + shift))
    assert apart.means["mean"].tolist() == pytest.approx(judge(table).means["mean"].tolist())
    width, same_width = ((e.means["high"] - e.means["low"]).tolist() for e in (apart, judge(table)))
    assert width == pytest.approx(same_width)
    # with one value per data set, the data sets are all that varies
    bare = table.groupby(["dataset", "model", "loss", "metric"], as_index=False)["value"].mean()
    published = judge(
        bare.assign(value=bare["value"] + bare["dataset"].map({"set0": -0.3, "set1": 0, "set2": 0.3}))
    )
    assert (published.means["high"] - published.means["low"] > 0.5).all()


def test_intervals_end_where_the_values_of_a_metric_end() -> None:
    table = study(datasets=2, models=1)
    shift = table["dataset"].map({"set0": -0.3, "set1": 0.3}) * (table["loss"] == "dice")
    table = table.assign(value=(table["value"] + shift).clip(0, 1))
    bounded = judge(table).pairs
    assert bounded["low"].min() == -1
    assert bounded["high"].max() == 1
    # the same in per cent: nothing says where such values end
    free = judge(table.assign(value=100 * table["value"]), rope=1).pairs
    assert free["high"].max() > 100
    assert free["verdict"].tolist() == bounded["verdict"].tolist()


def test_the_same_values_everywhere_are_tied() -> None:
    table = study(models=1)
    value = table.groupby(["dataset", "repeat", "case"])["value"].transform("first")
    evidence = judge(table.assign(value=value))
    assert evidence.pairs["difference"].tolist() == [0, 0, 0]
    assert evidence.pairs["verdict"].tolist() == ["tied"] * 3
    assert evidence.contestants == ["bce", "dice", "iou"]
    assert evidence.pairs["p_cases"].tolist() == [1, 1, 1]
    assert evidence.pairs["cliffs_delta"].tolist() == [0, 0, 0]
    assert evidence.places.to_numpy() == pytest.approx(np.full((3, 3), 1 / 3))
    assert np.isnan(evidence.groupings["dataset"].friedman)
    constant = judge(table.assign(value=0.5))
    assert constant.pairs["verdict"].tolist() == ["tied"] * 3


def test_two_contestants_have_no_friedman_test(table: pd.DataFrame) -> None:
    evidence = judge(table[table["loss"] != "iou"])
    assert np.isnan(evidence.groupings["dataset"].friedman)
    assert np.isfinite(evidence.groupings["dataset"].wilcoxon["p"]).all()
    assert any("three contestants" in note for note in evidence.notes)


def test_one_data_set_one_model_one_repeat() -> None:
    evidence = judge(study(1, 1, 1, 60))
    assert evidence.pairs["verdict"].tolist()[:2] == ["real", "real"]
    assert list(evidence.groupings) == ["overall"]
    notes = " ".join(evidence.notes)
    for said in ("one data set", "one repeat", "over test cases", "another training", "one block"):
        assert said in notes
    several = " ".join(judge(study(2, 1, 1, 60)).notes)
    assert (
        "over data sets, and those on these data sets alone on that over test cases; what another" in several
    )


def test_one_value_each_proves_nothing() -> None:
    table = normalise(pd.DataFrame({"loss": ["x", "y"], "metric": "dice", "value": [0.9, 0.1]}))
    evidence = judge(table)
    assert evidence.pairs["verdict"].tolist() == ["under-powered"]
    assert "one value each" in evidence.pairs["words"][0]
    assert "There is one repeat: what another training would change is not known." in evidence.notes
    assert np.isnan(evidence.means["low"]).all()
    assert np.isnan(evidence.places).all(axis=None)
    assert not evidence.per_case
    assert evidence.pairs["wins"][0] == "1/0/0"


def test_repeats_without_cases() -> None:
    table = study(3, 1, 5)
    runs = table.groupby(["dataset", "loss", "repeat", "metric"])["value"].mean().reset_index()
    evidence = judge(runs)
    assert evidence.pairs["verdict"].tolist() == ["real", "real", "tied"]
    assert evidence.pairs["p_cases"].isna().all()
    assert any("no values per case" in note for note in evidence.notes)


def test_a_hole_takes_its_block_out_for_everyone(table: pd.DataFrame, evidence: Evidence) -> None:
    hole = (table["dataset"] == "set1") & (table["model"] == "net0") & (table["loss"] == "bce")
    for broken in (table[~(hole & (table["repeat"] == "2"))], table[~(hole & (table["case"] == "7"))]):
        found = judge(broken)
        assert found.notes[0] == "Left out for everyone, because of missing values: set1 net0 (bce)."
        assert same(found, judge(table[~((table["dataset"] == "set1") & (table["model"] == "net0"))]))
    broken = table.assign(value=table["value"].where(~(hole & (table["case"] == "7"))))
    assert judge(broken).notes[0].endswith("set1 net0 (bce).")
    assert len(judge(broken).groupings["overall"].values) == 7


def test_no_block_is_whole(table: pd.DataFrame) -> None:
    with pytest.raises(MedsegError, match=r"no block has the values of every contestant.*set0 net0 \(bce\)"):
        judge(table[~((table["loss"] == "bce") & (table["repeat"] == "0"))])


def test_cases_of_one_patient_count_as_one(table: pd.DataFrame) -> None:
    # noise of patients, not of cases
    draws = np.random.default_rng(1)
    noise = pd.Series(draws.normal(0, 0.1, 30), [f"p{i}" for i in range(30)])
    table = table.assign(value=table["value"] + table["group"].map(noise) * (table["loss"] == "bce"))
    grouped, alone = judge(table), judge(table.drop(columns="group"))
    assert (grouped.pairs["p_cases"] >= alone.pairs["p_cases"]).all()
    level = "set0"
    widths = [
        e.levels[(e.levels["level"] == level) & (e.levels["contestant"] == "bce")].eval("high - low").item()
        for e in (grouped, alone)
    ]
    assert widths[0] > widths[1] > 0


@pytest.mark.parametrize(("metric", "expected"), [("dice", 0.01), ("hd95", 1.0)])
def test_the_region_comes_from_the_unit(table: pd.DataFrame, metric: str, expected: float) -> None:
    assert judge(table.assign(metric=metric), metric=metric).rope == expected


def test_an_unknown_metric_needs_a_region(table: pd.DataFrame) -> None:
    lengths = table.assign(metric="length", better="lower", value=table["value"] * 100)
    with pytest.raises(MedsegError, match=r"metric 'length' has values from .* say with rope"):
        judge(lengths, metric="length")
    assert judge(lengths, metric="length", rope=2.5).rope == 2.5
    assert judge(table.assign(metric="share", better="higher", value=0.5), metric="share").rope == 0.01


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"of": "losss"}, "unknown column 'losss'. Did you mean 'loss'"),
        ({"of": "dataset"}, "cannot judge the levels of 'dataset'"),
        ({"of": "augment"}, r"only one augment in the table \(vanilla\)"),
        ({"metric": "iou"}, "unknown metric 'iou'"),
        ({"rope": -1.0}, "rope is -1.0"),
        ({"level": 95.0}, "level is 95.0"),
        ({"draws": 0}, "draws is 0"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_arguments_out_of_range(table: pd.DataFrame, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(MedsegError, match=message):
        judge(table, **arguments)  # type: ignore[arg-type]


def test_a_measurement_given_twice(table: pd.DataFrame) -> None:
    with pytest.raises(MedsegError, match=r"given twice: dataset=set0 model=net0 loss=bce .*case=0"):
        judge(pd.concat([table, table.iloc[:1]]))


def test_leaking_runs_are_compared_by_their_means(table: pd.DataFrame) -> None:
    clean = table[table["loss"] == "bce"]
    leaking = clean.assign(augment="filter-leaking", value=clean["value"] + 0.2, case=clean["case"] + "copy")
    evidence = judge(pd.concat([clean, leaking], ignore_index=True), of="augment")
    assert evidence.contestants == ["filter-leaking", "vanilla"]
    assert not evidence.per_case
    assert evidence.notes[0].startswith("LEAKING: filter-leaking")
    assert "cases of their own" in evidence.notes[1]
    assert evidence.pairs["difference"][0] == pytest.approx(0.2)


def test_a_published_table_of_means() -> None:
    if not PUBLISHED.exists():
        pytest.skip("no ../shared/reference beside the checkout")
    evidence = judge(load([PUBLISHED]), of="model")
    assert evidence.contestants[:3] == ["fcbformer", "esfpnet", "colonformer"]
    assert evidence.means["mean"][0] == pytest.approx(
        (0.8642 + 0.8406 + 0.9830 + 0.8958 + 0.8583 + 0.7974) / 6
    )
    assert evidence.groupings["dataset"].mean_ranks["fcbformer"] == 1.5
    assert evidence.groupings["dataset"].friedman_p < 0.001
    assert set(evidence.pairs["verdict"]) == {"under-powered"}
    assert evidence.places.loc["fcbformer", 1] > 0.8
    assert any("rest on the variation over data sets" in note for note in evidence.notes)
