"""Bundles with augmentation and preprocessing are trained, marked and ranked."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from medseg.bundle.choice import Choice
from medseg.bundle.compose import compose
from medseg.bundle.open import Bundle
from medseg.engine import workflow
from medseg.engine.device import prepare_batch
from medseg.engine.workflow import Options
from medseg.metrics import METRICS
from medseg.ranking import rank
from medseg.results import collect

BETTER = {entry.name: entry.facts["better"] for entry in METRICS}


def bundle(settings, augment: str, preprocess: tuple[str, ...] = (), **changes) -> Bundle:
    choice = Choice("discs", "unet", "dice_bce", augment, preprocess)
    return compose(choice, Path("bundles"), replace(settings, **changes), prepared=Path("prepared"))


def options(**changes) -> Options:
    return Options(**{"tracking_uri": "", "progress": False, **changes})


def losses(folder: Path) -> list[float]:
    return pd.read_csv(folder / "curves.csv")["train_loss"].tolist()


def test_online_augmentation_is_the_same_whatever_the_number_of_workers(workspace, small_settings):
    made = bundle(small_settings, "all", epochs=2, augment_arguments={"all": {"prob": 0.7}})
    alone = losses(workflow.run(made, options()))
    helped = losses(workflow.run(made, options(overrides={"workers": 2}), overwrite=True))
    assert alone == helped
    plain = losses(workflow.run(bundle(small_settings, "vanilla", epochs=2), options()))
    assert alone[0] != plain[0]


def test_offline_growth_trains_on_five_times_as_many_images(workspace, small_settings):
    made = bundle(small_settings, "filter-offline", epochs=1, batch_size=2)
    folder = workflow.run(made, options())
    (grown,) = Path("prepared/discs/arrays").glob("*/grown/*/cases.json")
    training = json.loads(Path("prepared/discs/splits/holdout.json").read_text())["training_0"]
    assert len(json.loads(grown.read_text())["cases"]) == 5 * len(training)
    assert not pd.read_csv(folder / "cases.csv")["case"].str.contains("~").any()


def test_a_leaking_run_is_marked_in_every_table_and_in_mlflow(workspace, small_settings):
    from mlflow import MlflowClient

    uri = "sqlite:///mlruns/mlflow.db"
    workflow.run(bundle(small_settings, "geometric-leaking", epochs=1), options(tracking_uri=uri))
    workflow.run(bundle(small_settings, "geometric-offline", epochs=1), options(tracking_uri=uri))
    table = collect(Path("bundles"), BETTER)
    assert set(table["augment"]) == {"geometric-leaking", "geometric-offline"}
    ranking = rank(table, of="augment", by="dataset")
    assert any(n.startswith("LEAKING: geometric-leaking: copies of test images") for n in ranking.notes)
    offline = table[table["augment"] == "geometric-offline"]
    sound = rank(pd.concat([offline, offline.assign(loss="other")]), of="loss", by="dataset")
    assert not any("LEAKING" in note for note in sound.notes)
    client = MlflowClient(uri)
    runs = client.search_runs([client.get_experiment_by_name("medseg").experiment_id])
    marks = {run.data.tags["augment"]: run.data.tags.get("leaking") for run in runs}
    assert marks == {"geometric-leaking": "true", "geometric-offline": None}
    notes = {run.data.tags["augment"]: run.data.tags["mlflow.note.content"] for run in runs}
    assert "LEAKING" in notes["geometric-leaking"]
    assert "LEAKING" not in notes["geometric-offline"]
    protocols = {run.data.params["protocol"] for run in runs}
    assert protocols == {"augment-then-split", "split-then-augment"}


def test_preprocessing_reaches_the_network(workspace, small_settings):
    made = bundle(small_settings, "vanilla", ("clahe", "resize_pad", "normalize_zscore"), epochs=1)
    run = json.loads((workflow.run(made, options()) / "run.json").read_text())
    assert run["facts"]["preprocess"] == "clahe-resize_pad-normalize_zscore"
    assert run["status"] == "done"
    plain = workflow.run(bundle(small_settings, "vanilla", epochs=1), options())
    assert losses(made.run_folder(0)) != losses(plain)


def test_batches_are_normalised_on_the_device():
    batch = {"image": torch.tensor([[[[0, 255]]]], dtype=torch.uint8), "label": torch.zeros(1, 1, 1, 2)}
    plain, _ = prepare_batch(batch, torch.device("cpu"))
    signed, _ = prepare_batch(batch, torch.device("cpu"), normalization="normalize_signed")
    assert plain.flatten().tolist() == [0.0, 1.0]
    assert signed.flatten().tolist() == pytest.approx([-1.0, 1.0])
