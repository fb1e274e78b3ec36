"""Predictions made anew are those that runs were judged by; which cases are shown; what is told of runs."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medseg.bundle.open import Bundle
from medseg.errors import MedsegError
from medseg.report.predictions import departure, predict
from medseg.report.runs import Run, costs, curves, dates, runs_of, settings, without_paths
from medseg.report.scenes import scenes
from medseg.report.source import Source, from_study


@pytest.fixture(scope="module")
def source(tiny_study: Path) -> Source:
    return from_study(tiny_study)


@pytest.fixture(scope="module")
def runs(source: Source) -> list[Run]:
    return runs_of(source.table, source.bundles)


def stored(source: Source, run: Run) -> dict[str, float]:
    rows = source.table[source.table["metric"] == "dice"]
    for key, level in run.keys.items():
        rows = rows[rows[key] == level]
    return dict(zip(rows["case"], rows["value"], strict=True))


def test_every_run_is_predicted_as_it_was_judged(source, runs):
    assert len(runs) == 4
    for run in runs:
        known = stored(source, run)
        found = predict(run, list(known), source.prepared, "cpu")
        assert dict(zip(found.cases, found.dice, strict=True)) == pytest.approx(known, abs=1e-6)
        masks = found.probabilities >= 0.5
        both = (masks & found.references).sum((1, 2))
        dice = 2 * both / (masks.sum((1, 2)) + found.references.sum((1, 2)))
        np.testing.assert_allclose(dice, found.dice, atol=1e-6)
        assert departure(found, known) == ""


def test_the_masks_are_the_run_s_own(source, runs):
    rows = source.table[(source.table["metric"] == "dice") & (source.table["loss"] == "dice")]
    run = next(run for run in runs if run.keys["loss"] == "dice" and run.keys["repeat"] == "1")
    rows = rows[rows["repeat"] == "1"]
    found = predict(run, list(rows["case"]), source.prepared, "cpu")
    assert (found.probabilities >= 0.5).sum((1, 2)).tolist() == rows["predicted_px"].tolist()
    assert found.references.sum((1, 2)).tolist() == rows["reference_px"].tolist()


def test_another_dice_than_the_run_s_is_told(source, runs):
    known = stored(source, runs[0])
    found = predict(runs[0], list(known)[:2], source.prepared, "cpu")
    case = found.cases[1]
    assert "up to 0.25" in departure(found, {**known, case: known[case] + 0.25})


def moved(run: Run, place: Path) -> Run:
    """A copy of a run and its bundle."""
    shutil.copytree(run.bundle.root, place / run.bundle.name)
    folder = place / run.bundle.name / "repeats" / run.folder.name
    return replace(run, bundle=Bundle(place / run.bundle.name), folder=folder)


def test_weights_of_the_run_or_of_the_bundle_if_taken_from_it(runs, tmp_path):
    copy = moved(runs[0], tmp_path)
    released = copy.bundle.root / "models"
    (copy.folder / "model.pt").unlink()
    for repeat, expected in ((copy.folder.name, released / "model.pt"), ("7", None)):
        (released / "model.json").write_text(json.dumps({"repeat": repeat}))
        assert copy.weights == expected


def test_what_cannot_be_predicted_is_told(source, runs, tmp_path):
    with pytest.raises(MedsegError, match="'nobody' is not of the test part"):
        predict(runs[0], ["nobody"], source.prepared, "cpu")
    case = list(stored(source, runs[0]))[:1]
    other = {**runs[0].record, "tags": {**runs[0].record["tags"], "data_fingerprint": "0"}}
    with pytest.raises(MedsegError, match="images have changed"):
        predict(replace(runs[0], record=other), case, source.prepared, "cpu")
    copy = moved(runs[0], tmp_path)
    (copy.folder / "model.pt").write_bytes(b"no weights")
    with pytest.raises(MedsegError, match="model.pt: cannot be loaded"):
        predict(copy, case, source.prepared, "cpu")
    (copy.folder / "model.pt").unlink()
    (copy.bundle.root / "models" / "model.json").unlink()
    with pytest.raises(MedsegError, match="were not kept"):
        predict(copy, case, source.prepared, "cpu")


def table_of_three_cases(runs: list[Run]) -> pd.DataFrame:
    """Dice by loss: a differs most, b is the median, c the smallest lesion, d has none."""
    values = {"a": (0.1, 0.9), "b": (0.6, 0.6), "c": (0.7, 0.75), "d": (0.4, 0.5), "e": (0.9, 0.95)}
    areas = {"a": 50, "b": 40, "c": 3, "d": 0, "e": 60}
    rows = []
    for run in runs:
        for case, pair in values.items():
            value = pair[run.keys["loss"] == "dice"]
            rows.append(
                {**run.keys, "case": case, "metric": "dice", "value": value, "reference_px": areas[case]}
            )
    return pd.DataFrame(rows)


def test_the_same_cases_under_each_loss_are_chosen_for_a_reason(runs):
    table = table_of_three_cases(runs)
    (scene,) = scenes(table, runs, "loss", "dice", ["dice", "bce"], 4)
    assert list(scene.runs) == ["dice", "bce"]
    assert {run.keys["repeat"] for run in scene.runs.values()} == {"0"}
    assert scene.cases == {
        "a": "they differ most",
        "b": "the median case",
        "c": "the smallest lesion",
        "d": "they differ much",
    }
    assert list(scenes(table, runs, "loss", "dice", ["bce", "dice"], 1)[0].cases) == ["a"]


def test_the_setting_with_the_best_mean_is_chosen(runs):
    table = table_of_three_cases(runs)
    table.loc[table["repeat"] == "1", "value"] += 0.01
    (scene,) = scenes(table, runs, "loss", "dice", ["dice", "bce"], 1)
    assert {run.keys["repeat"] for run in scene.runs.values()} == {"1"}


def test_no_scene_without_two_contestants_or_common_cases(runs):
    table = table_of_three_cases(runs)
    assert scenes(table, [run for run in runs if run.keys["loss"] == "bce"], "loss", "dice", ["bce"], 3) == []
    apart = table.assign(case=table["loss"] + table["case"])
    assert scenes(apart, runs, "loss", "dice", ["dice", "bce"], 3) == []


def test_curves_costs_settings_and_dates_are_those_of_the_records(source, runs):
    found = curves(runs)
    assert len(found) == 4 * 2
    assert found["epoch"].tolist() == [1, 2] * 4
    spent = costs(runs)
    assert spent["seconds"].tolist() == [run.record["seconds"] for run in runs]
    assert spent["parameters"].tolist() == [float(run.record["tags"]["parameters"]) for run in runs]
    assert spent["macs"].isna().all()
    told = dict(settings(runs))
    assert (told["image size (px)"], told["epochs at most"], told["device"]) == ("16 x 16", "2", "cpu")
    assert dates(runs)[0] == runs[0].record["started"][:10]


def test_settings_that_differ_are_counted(runs):
    changed = {**runs[0].record, "settings": {**runs[0].record["settings"], "seed": 7}}
    told = dict(settings([replace(runs[0], record=changed), *runs[1:]]))
    assert told["seed"] == "42 (3 runs), 7 (1 run)"


def test_a_study_tells_its_plan(source):
    assert (source.name, source.planned) == ("tiny", 6)
    assert source.unfinished["state"].tolist() == ["failed", "failed"]
    part = source.where({"loss": ["bce"]})
    assert (part.planned, len(part.unfinished)) == (2, 0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cannot read /home/ann/data/p1.png (no such file)", "cannot read p1.png (no such file)"),
        ("file '/data' missing", "file 'data' missing"),
        ("a/b/c.png: broken", "c.png: broken"),
        (r"C:\Users\ann\p.png", "p.png"),
        ("~/secret", "secret"),
        ("model=/x/y/model.pt, then", "model=model.pt, then"),
        ("dice/bce at 1.5/s", "dice/bce at 1.5/s"),
    ],
)
def test_paths_are_cut_to_their_last_name(text: str, expected: str):
    assert without_paths(text) == expected
