"""Metrics of whole test parts, such as an area under a curve: read, ranked, judged and doubted."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medseg.errors import MedsegError
from medseg.ranking.findings import find
from medseg.ranking.holes import missing
from medseg.ranking.judge import judge
from medseg.ranking.suspicion import suspicious
from medseg.ranking.table import normalise, read_runs, together, unread, usual_metric
from medseg.results import RUN_KEYS, case_files

CASES = 24


def write_run(folder: Path, model: str, repeat: int, right: float, auc: float | None, seed: int = 0) -> None:
    """A finished repeat of a two-class bundle: a share of right answers, and its metrics of the whole test part."""
    draw = np.random.default_rng([seed, repeat])
    place = folder / f"bhi__{model}__cross_entropy" / "repeats" / str(repeat)
    place.mkdir(parents=True)
    keys = dict(zip(RUN_KEYS, ("bhi", model, "cross_entropy", "", "vanilla", "holdout", repeat), strict=True))
    truth = np.array(["no IDC", "IDC"])[draw.integers(0, 2, CASES)]
    good = np.arange(CASES) < round(right * CASES)
    other = np.where(truth == "IDC", "no IDC", "IDC")
    p = draw.uniform(0.5, 1, CASES)
    frame = pd.DataFrame(
        {**keys, "case": [f"0{i}" for i in range(CASES)], "group": [f"p{i // 4}" for i in range(CASES)],
         "accuracy": good.astype(float), "brier": (good - p) ** 2, "log_loss": -np.log(np.where(good, p, 1 - p)),
         "truth": truth, "predicted": np.where(good, truth, other), "p_no IDC": p, "p_IDC": 1 - p}
    )  # fmt: skip
    frame.to_csv(place / "cases.csv", index=False)
    if auc is not None:
        rows = [("accuracy", good.mean()), ("roc_auc", auc), ("ece", 0.1 + 0.01 * repeat + 0.003 * seed)]
        sets = pd.DataFrame(rows, columns=["metric", "value"]).assign(low=auc - 0.1, high=min(auc + 0.1, 1))
        sets.to_csv(place / "metrics.csv", index=False)


@pytest.fixture
def bundles(tmp_path: Path) -> Path:
    for number, model in enumerate(("vgg19", "resnet50", "densenet121")):
        for repeat in range(3):
            auc = 0.7 + 0.1 * number + 0.011 * repeat
            write_run(tmp_path, model, repeat, 0.6 + 0.1 * number, auc, seed=number)
    return tmp_path


def table(bundles: Path, **more: object) -> pd.DataFrame:
    return read_runs(case_files(bundles), **more)


def test_runs_are_read_with_both_kinds_of_metrics(bundles: Path) -> None:
    found = table(bundles)
    assert set(found["metric"]) == {"accuracy", "brier", "log_loss", "roc_auc", "ece"}
    counts = found.groupby("metric").size()
    # the mean accuracy of metrics.csv is no second measurement of it
    assert counts.to_dict() == {"accuracy": 216, "brier": 216, "log_loss": 216, "roc_auc": 9, "ece": 9}
    row = found[(found["metric"] == "roc_auc") & (found["model"] == "vgg19")].iloc[1]
    assert row[["case", "group", "preprocess", "repeat", "better"]].tolist() == ["", "", "", "1", "higher"]
    assert row[["value", "low", "high"]].tolist() == pytest.approx([0.711, 0.611, 0.811])
    assert found.loc[found["metric"] == "accuracy", "case"].iloc[0] == "00"
    assert set(found.loc[found["metric"] == "accuracy", "truth"]) == {"IDC", "no IDC"}


def test_only_the_metrics_that_are_wanted(bundles: Path) -> None:
    assert set(table(bundles, metrics=["accuracy"])["metric"]) == {"accuracy"}
    assert set(table(bundles, metrics=["roc_auc", "brier"])["metric"]) == {"roc_auc", "brier"}
    assert len(set(table(bundles, metrics=["dice"])["metric"])) == 5


def test_the_usual_metric(bundles: Path) -> None:
    found = table(bundles)
    assert usual_metric(found) == "accuracy"
    masks = normalise(pd.DataFrame({"loss": ["a"], "metric": ["dice"], "value": [0.5]}))
    assert usual_metric(together([found, masks])) == "dice"
    assert usual_metric(found[found["metric"] == "ece"]) == "ece"
    with pytest.raises(
        MedsegError, match="neither dice nor accuracy; name a metric with --metric: brier, ece"
    ):
        usual_metric(found[found["metric"].isin(["ece", "brier"])])


def test_probabilities_of_classes_are_no_unread_columns(bundles: Path) -> None:
    frame = pd.read_csv(case_files(bundles)[0])
    assert unread(frame) == []
    assert unread(frame.drop(columns="predicted")) == ["p_no IDC", "p_IDC"]


def test_a_table_of_metrics_that_is_none(bundles: Path) -> None:
    file = case_files(bundles)[0].with_name("metrics.csv")
    file.write_text("name,mean\nroc_auc,0.5\n")
    with pytest.raises(MedsegError, match="metrics.csv: needs the columns metric, value, low, high"):
        table(bundles)


def test_evidence_of_a_whole_set_is_of_repeats_alone(bundles: Path) -> None:
    found = judge(table(bundles), "model", "roc_auc")
    assert found.contestants == ["densenet121", "resnet50", "vgg19"]
    assert not found.per_case and found.pairs["p_cases"].isna().all()
    assert found.notes[0].startswith("roc_auc is of a whole test part: a run has one value")
    # the repeats differ alike in all models: differences are the same in each
    assert found.pairs["difference"].tolist() == pytest.approx([0.1, 0.2, 0.1])
    assert found.pairs["verdict"].tolist() == ["real"] * 3
    values = [0.7, 0.711, 0.722]
    from scipy import stats

    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert found.means[["low", "high"]].iloc[2].tolist() == pytest.approx([low, high])


def test_evidence_per_case_stands_beside_it(bundles: Path) -> None:
    found = judge(table(bundles), "model", "accuracy")
    assert found.per_case and found.contestants == ["densenet121", "resnet50", "vgg19"]
    assert not any("whole test part" in note for note in found.notes)


def test_one_repeat_proves_nothing_of_a_whole_set(bundles: Path) -> None:
    whole = table(bundles)
    found = judge(whole[whole["repeat"] == "0"].reset_index(drop=True), "model", "roc_auc")
    assert found.pairs["verdict"].tolist() == ["under-powered"] * 3
    assert found.means["low"].isna().all()


def test_a_ranking_by_both_kinds(bundles: Path) -> None:
    found = find(table(bundles), "model", "dataset", ["accuracy", "roc_auc", "brier"])
    ranking = found.rankings["dataset"]
    assert len(ranking.contests) == 9 and not len(ranking.missing)
    best = ranking.table.set_index("contestant").loc["densenet121"]
    assert best["mean roc_auc"] == pytest.approx(0.911) and best["firsts"] >= 2


def test_holes_of_both_kinds(bundles: Path) -> None:
    (bundles / "bhi__vgg19__cross_entropy/repeats/2/metrics.csv").unlink()
    found = table(bundles)
    holes = missing(found[found["metric"].isin(["accuracy", "roc_auc"])], "model", "dataset")
    assert holes[["model", "repeat", "metric", "expected", "found"]].to_numpy().tolist() == [
        ["vgg19", "2", "roc_auc", 1, 0]
    ]
    undefined = found.assign(
        value=found["value"].where((found["metric"] != "roc_auc") | (found["model"] != "vgg19"))
    )
    holes = missing(undefined[undefined["metric"] == "roc_auc"], "model", "dataset")
    assert holes["reason"].tolist() == ["value=nan", "value=nan", "not in the table"]


def test_a_contestant_without_any_metric_of_a_set_lacks_it(bundles: Path) -> None:
    for file in (bundles / "bhi__vgg19__cross_entropy").glob("repeats/*/metrics.csv"):
        file.unlink()
    found = table(bundles)
    holes = missing(found[found["metric"].isin(["accuracy", "roc_auc"])], "model", "dataset")
    assert holes[["model", "metric"]].to_numpy().tolist() == [["vgg19", "roc_auc"]] * 3


def kinds(frame: pd.DataFrame) -> list[tuple[str, str, str]]:
    found = suspicious(frame, "model")
    return list(found[["model", "metric", "kind"]].itertuples(index=False, name=None))


def test_sound_classifications_are_not_suspected(bundles: Path) -> None:
    assert kinds(table(bundles)) == []


def test_classifiers_that_err_on_the_same_images_are_no_copies(tmp_path: Path) -> None:
    """Two models and two repeats with the same right and wrong answers, as good ones have."""
    for model in ("a", "b"):
        for repeat in range(2):
            write_run(tmp_path, model, repeat, 0.75, 0.85, seed=ord(model))
    found = table(tmp_path)
    assert kinds(found[found["metric"].isin(["accuracy", "roc_auc"])].reset_index(drop=True)) == []
    # the same probabilities are another matter
    alike = found.assign(
        value=found["value"].where(found["metric"] != "brier", 0.2 + found["case"].str.len())
    )
    same = alike[alike["metric"] == "brier"].assign(
        value=lambda f: f.groupby(["model", "repeat"]).cumcount() / 50
    )
    assert {kind for *_, kind in kinds(same.reset_index(drop=True))} == {"identical"}


def test_one_class_for_every_image(tmp_path: Path) -> None:
    write_run(tmp_path, "a", 0, 0.5, 0.5)
    write_run(tmp_path, "b", 0, 0.7, 0.7, seed=1)
    found = table(tmp_path).assign()
    found.loc[found["model"] == "a", "predicted"] = "no IDC"
    told = suspicious(found, "model")
    assert told[["model", "metric", "kind", "reason"]].to_numpy().tolist() == [
        ["a", "", "constant", "every prediction is 'no IDC', in 24 cases"]
    ]
    # unless that is the truth
    found.loc[found["model"] == "a", "truth"] = "no IDC"
    assert kinds(found) == []
    # and of several labels none may be predicted
    found.loc[found["model"] == "a", "predicted"] = ""
    assert "every prediction is empty, in 24 cases" in suspicious(found, "model")["reason"].tolist()


def test_too_good_and_worse_than_guessing(tmp_path: Path) -> None:
    write_run(tmp_path, "a", 0, 1.0, 1.0)
    write_run(tmp_path, "b", 0, 0.7, 0.41, seed=1)
    told = suspicious(table(tmp_path), "model")
    assert told[["model", "metric", "kind", "reason"]].to_numpy().tolist() == [
        ["a", "accuracy", "perfect", "accuracy is 1 in each of 24 cases: were they trained on?"],
        ["b", "roc_auc", "inverted", "roc_auc is 0.41, and guessing has 0.5: are the classes exchanged?"],
    ]
    few = table(tmp_path)
    few = few[few["case"].isin([f"0{i}" for i in range(19)])].reset_index(drop=True)
    assert kinds(few) == []


def test_an_undefined_value_of_a_set_is_named_without_a_case(tmp_path: Path) -> None:
    write_run(tmp_path, "a", 0, 0.6, 0.7)
    write_run(tmp_path, "b", 0, 0.7, 0.7, seed=1)
    found = table(tmp_path)
    found.loc[(found["metric"] == "roc_auc") & (found["model"] == "a"), "value"] = math.nan
    told = suspicious(found, "model")
    assert told[["model", "kind", "reason"]].to_numpy().tolist() == [["a", "nan", "value=nan"]]


def test_tracked_metrics_of_whole_sets_join_the_cases(bundles: Path) -> None:
    from types import SimpleNamespace

    from medseg.ranking.tracking import _with_sets

    files = case_files(bundles)
    cases = normalise(pd.concat([pd.read_csv(file, keep_default_na=False) for file in files]))
    metrics = {"test/accuracy": 0.9, "test/roc_auc": 0.8, "test/unheard_of": 1.0, "val/best_dice": 0.5}
    run = SimpleNamespace(data=SimpleNamespace(metrics=metrics))
    key = ("bhi", "vgg19", "cross_entropy", "", "vanilla", "holdout", "0")
    joined = _with_sets(cases, {key: run}, [])
    added = joined[joined["case"] == ""]
    assert added[["model", "metric", "value"]].to_numpy().tolist() == [["vgg19", "roc_auc", 0.8]]
    assert len(joined) == len(cases) + 1
    assert _with_sets(cases, {key: run}, ["accuracy"]) is cases
    assert set(_with_sets(cases, {key: run}, ["roc_auc"])["metric"]) == {"roc_auc"}
