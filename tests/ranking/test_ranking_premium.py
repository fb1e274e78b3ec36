"""Twins that differ in the protocol alone, and the premium of the unsound one."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from medseg.errors import MedsegError
from medseg.ranking.premium import ALL, premium
from medseg.ranking.protocols import base_split, protocol_name
from medseg.ranking.table import normalise


def run(
    seed: int, shift: float = 0.0, metric: str = "accuracy", cases: int = 30, **keys: object
) -> pd.DataFrame:
    facts = {"dataset": "bhi", "model": "vgg19", "loss": "dice", "augment": "vanilla", "split": "holdout"}
    values = np.random.default_rng(seed).uniform(0.4, 0.8, cases) + shift
    names = [f"s{seed}_{c}" for c in range(cases)]
    return pd.DataFrame(
        {**facts, "repeat": 0, **keys, "case": names, "group": "", "metric": metric, "value": values}
    )


def test_a_pair_of_splits_is_welchs_test() -> None:
    sound, unsound = run(0), run(1, 0.1, split="holdout-ungrouped", cases=20)
    found = premium(normalise(pd.concat([sound, unsound])))
    assert len(found.rows) == 1
    row = found.rows.iloc[0]
    expected = stats.ttest_ind(unsound["value"], sound["value"], equal_var=False)
    assert row["premium"] == pytest.approx(unsound["value"].mean() - sound["value"].mean())
    assert (row["low"], row["high"]) == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert (row["of"], row["split"], row["clear"]) == (
        "split",
        "holdout",
        "yes" if expected.pvalue < 0.05 else "no",
    )
    assert (row["groups_sound"], row["groups_unsound"]) == (30, 20)
    assert found.overall["premium"].tolist() == pytest.approx([row["premium"]])


def test_where_lower_is_better_a_premium_is_still_positive() -> None:
    pair = [run(0, metric="brier"), run(0, -0.1, metric="brier", split="holdout-ungrouped")]
    assert premium(normalise(pd.concat(pair))).rows["premium"].tolist() == pytest.approx([0.1])


def test_the_sound_twin_of_a_leaking_run() -> None:
    leaking = {"augment": "filter-leaking", "split": "holdout-leaking-0123456789abcdef"}
    runs = [run(0), run(1, 0.2, **leaking), run(2, augment="filter")]
    online = premium(normalise(pd.concat(runs))).rows
    assert online[["of", "augment", "split"]].to_numpy().tolist() == [["protocol", "filter", "holdout"]]
    # the one that grows the same images is the nearer twin
    runs.append(run(3, augment="filter-offline"))
    assert premium(normalise(pd.concat(runs))).rows["augment"].tolist() == ["filter-offline"]
    # and a leaking run is no twin of an ungrouped split
    with pytest.raises(MedsegError, match="no twins in the table: .* a split and its -ungrouped twin"):
        premium(normalise(pd.concat(runs)), ["split"])


def test_twins_differ_in_nothing_else() -> None:
    runs = [run(0), run(1, model="resnet50", split="holdout-ungrouped"), run(2, split="kfold5-ungrouped")]
    with pytest.raises(MedsegError, match="no twins"):
        premium(normalise(pd.concat(runs)))
    runs += [run(3, split="holdout-ungrouped"), run(4, model="resnet50")]
    found = premium(normalise(pd.concat(runs)))
    assert found.rows["model"].tolist() == ["resnet50", "vgg19"]


def test_overall_of_models_on_the_same_cases_is_no_surer_than_one() -> None:
    """Models that agree in every case are one piece of evidence; two data sets are two."""
    runs = [run(0), run(1, 0.1, split="holdout-ungrouped")]
    one = premium(normalise(pd.concat(runs))).overall.iloc[0]
    twice = [frame.assign(model=model) for frame in runs for model in ("a", "b")]
    both = premium(normalise(pd.concat(twice))).overall.iloc[0]
    assert (both["low"], both["high"]) == pytest.approx((one["low"], one["high"]))
    sets = [frame.assign(dataset=name) for frame in runs for name in ("d", "e")]
    overall = premium(normalise(pd.concat(sets))).overall
    assert overall["dataset"].tolist() == ["d", "e", ALL]
    widths = overall["high"] - overall["low"]
    assert overall["premium"].tolist() == pytest.approx([one["premium"]] * 3)
    assert widths[2] / widths[0] == pytest.approx(2**-0.5, rel=0.03)


def test_images_of_one_patient_are_no_more_evidence_than_the_patient() -> None:
    runs = [run(0), run(1, 0.1, split="holdout-ungrouped")]
    single = [frame.assign(group=frame["case"]) for frame in runs]
    copied = [pd.concat([f.assign(case=f["case"] + str(i)) for i in range(4)]) for f in single]
    rows = [premium(normalise(pd.concat(frames))).rows.iloc[0] for frames in (single, copied)]
    assert rows[1][["low", "high"]].tolist() == pytest.approx(rows[0][["low", "high"]].tolist())
    assert rows[1]["groups_sound"] == 30


def test_metrics_of_whole_sets() -> None:
    def auc(values: list[float], **keys: object) -> pd.DataFrame:
        frame = run(0, metric="roc_auc", cases=len(values), **keys)
        return frame.assign(case="", value=values, repeat=range(len(values)))

    sound, unsound = [0.80, 0.82, 0.85], [0.90, 0.91, 0.95]
    found = premium(normalise(pd.concat([auc(sound), auc(unsound, split="holdout-ungrouped")])))
    expected = stats.ttest_ind(unsound, sound, equal_var=False).confidence_interval(0.95)
    assert found.rows[["low", "high"]].iloc[0].tolist() == pytest.approx(list(expected))
    assert "groups" not in found.display(found.rows).columns


def test_metrics_are_chosen_and_words_say_what_may_be_chance() -> None:
    runs = [
        run(0, metric=m, split=s) for m in ("accuracy", "brier") for s in ("holdout", "holdout-ungrouped")
    ]
    table = normalise(pd.concat(runs))
    assert set(premium(table).rows["metric"]) == {"accuracy", "brier"}
    found = premium(table, metrics=["accuracy"])
    assert set(found.rows["metric"]) == {"accuracy"}
    assert found.words()[0].startswith("bhi, accuracy: a split that ignores groups is worth +0.0000 (-")
    assert found.words()[0].endswith("over 1 pair of twins: it may be chance.")
    with pytest.raises(MedsegError, match="unknown kind of premium 'splits'. Did you mean 'split'"):
        premium(table, ["splits"])
    with pytest.raises(MedsegError, match="unknown metric 'dice'"):
        premium(table, metrics=["dice"])


def test_holes_are_left_out_of_the_overall() -> None:
    hole = run(0, model="resnet50")
    hole.loc[0, "value"] = float("nan")
    runs = [
        run(1),
        run(2, split="holdout-ungrouped"),
        hole,
        run(3, model="resnet50", split="holdout-ungrouped"),
    ]
    found = premium(normalise(pd.concat(runs, ignore_index=True)))
    by_model = found.rows.set_index("model")["premium"]
    assert np.isnan(by_model["resnet50"])
    assert found.overall["premium"].tolist() == pytest.approx([by_model["vgg19"]])


def test_names() -> None:
    assert protocol_name("rotation-noise-leaking") == "leaking" and protocol_name("vanilla") == ""
    assert base_split("kfold5-leaking-00ff00ff00ff00ff") == "kfold5"
    assert base_split("holdout-leaking-seed") == "holdout-leaking-seed"
