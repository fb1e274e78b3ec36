"""Bundles of the second task are trained, resumed, evaluated and tracked; every number follows from the table of cases."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from monai.engines import Trainer
from PIL import Image
from sklearn import metrics as sklearn_metrics

from medseg.bundle.choice import Choice
from medseg.bundle.compose import compose
from medseg.bundle.open import Bundle
from medseg.bundle.settings import Settings
from medseg.data.class_table import Table
from medseg.data.index import build_index
from medseg.data.index_file import index_path, write_index
from medseg.data.prepared import prepare
from medseg.data.splits_file import read_splits, split_path, write_splits
from medseg.engine import workflow
from medseg.engine.class_gallery import chosen
from medseg.engine.classes import MixedBatches, SetMetrics, class_names, decided, key_metric
from medseg.engine.handlers import Checkpoints
from medseg.engine.workflow import Options
from medseg.errors import MedsegError
from medseg.models import MODELS
from medseg.results import RUN_KEYS

CLASSES = ["normal", "smooth", "spiculated"]
SETTINGS = Settings(
    image_size=(32, 32),
    epochs=2,
    batch_size=16,
    pretrained=False,
    model_arguments=dict(MODELS["resnet50"].facts["small"]),
)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The drawn data set, indexed, split and decoded once for all tests."""
    folder = tmp_path_factory.mktemp("classes") / "prepared"
    prepare("phantom_class", None, folder, image_size=(32, 32))
    return folder


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prepared: Path) -> Path:
    shutil.copytree(prepared, tmp_path / "prepared")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def bundle(loss: str = "cross_entropy", augment: str = "vanilla", **changes) -> Bundle:
    choice = Choice("phantom_class", "resnet50", loss, augment)
    return compose(choice, Path("bundles"), replace(SETTINGS, **changes), prepared=Path("prepared"))


def options(**changes) -> Options:
    return Options(**{"tracking_uri": "", "progress": False, **changes})


def answers(folder: Path, classes: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and truth ``(N, K)`` as ``cases.csv`` tells them."""
    cases = pd.read_csv(folder / "cases.csv", keep_default_na=False)
    truth = np.array([[name in said.split("|") for name in classes] for said in cases["truth"]])
    return cases[[f"p_{name}" for name in classes]].to_numpy(), truth.astype(int)


def test_a_run_leaves_what_was_said_of_each_case_and_metrics_with_intervals(place: Path) -> None:
    folder = workflow.run(bundle(), options())
    left = ["cases.csv", "cases.png", "curves.csv", "metrics.csv", "model.pt", "run.json"]
    assert sorted(path.name for path in folder.iterdir()) == left
    cases = pd.read_csv(folder / "cases.csv", keep_default_na=False)
    own = ["truth", "predicted", *(f"p_{name}" for name in CLASSES)]
    assert list(cases.columns) == [*RUN_KEYS, "case", "group", "accuracy", "brier", "log_loss", *own]
    found, truth = answers(folder, CLASSES)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-6)
    assert cases["predicted"].tolist() == [CLASSES[k] for k in found.argmax(1)]
    folders = [path.parent.name for case in cases["case"] for path in place.rglob(f"{case}.png")]
    assert cases["truth"].tolist() == folders
    table = pd.read_csv(folder / "metrics.csv").set_index("metric")
    y, p = truth.argmax(1), found.argmax(1)
    expected = {
        "accuracy": sklearn_metrics.accuracy_score(y, p),
        "balanced_accuracy": sklearn_metrics.balanced_accuracy_score(y, p),
        "macro_f1": sklearn_metrics.f1_score(y, p, average="macro"),
        "roc_auc": sklearn_metrics.roc_auc_score(y, found, multi_class="ovr"),
        "log_loss": sklearn_metrics.log_loss(y, found),
    }
    record = json.loads((folder / "run.json").read_text())
    for name, value in expected.items():
        assert table.loc[name, "value"] == pytest.approx(value, abs=1e-6), name
        assert record["test"][name] == pytest.approx(value, abs=1e-6), name
        assert table.loc[name, "low"] <= table.loc[name, "value"] <= table.loc[name, "high"], name
    assert cases[["accuracy", "log_loss"]].mean().tolist() == pytest.approx(
        [expected["accuracy"], expected["log_loss"]]
    )
    assert record["groups"] == cases["group"].nunique() < len(cases)


def test_the_monitored_metric_chooses_the_weights(place: Path) -> None:
    made = bundle(epochs=4, learning_rate=0.01)
    folder = workflow.run(made, options())
    curves, record = pd.read_csv(folder / "curves.csv"), json.loads((folder / "run.json").read_text())
    assert record["monitor"] == "balanced_accuracy"
    best = curves["val_balanced_accuracy"].idxmax()
    assert record["best_val_balanced_accuracy"] == curves["val_balanced_accuracy"][best]
    assert record["best_epoch"] == best + 1
    released = json.loads((made.root / "models" / "model.json").read_text())
    assert (
        released["repeat"] == "0"
        and released["best_val_balanced_accuracy"] == record["best_val_balanced_accuracy"]
    )
    other = workflow.run(made, options(overrides={"monitor": "roc_auc"}, repeat=1))
    record = json.loads((other / "run.json").read_text())
    assert record["best_val_roc_auc"] == pd.read_csv(other / "curves.csv")["val_roc_auc"].max()
    # a ROC-AUC is no balanced accuracy: what two runs were chosen by cannot be compared
    record["best_val_roc_auc"] = 2.0
    (other / "run.json").write_text(json.dumps(record))
    workflow.release(str(made.root))
    assert json.loads((made.root / "models" / "model.json").read_text()) == released


def test_a_metric_of_which_less_is_better_cannot_be_monitored() -> None:
    with pytest.raises(MedsegError, match="monitor='brier': give a metric of which more is better"):
        key_metric("brier", [], "softmax", False)
    with pytest.raises(MedsegError, match="roc_auk"):
        key_metric("roc_auk", [], "softmax", False)


def test_an_undefined_metric_ends_training_with_its_reason() -> None:
    metric = SetMetrics(["roc_auc"], "softmax")
    metric.reset()
    metric.update((torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[0, 1], [0, 1]])))
    with pytest.raises(MedsegError, match="roc_auc cannot be computed of the 2 validation images"):
        metric.compute()
    metric = SetMetrics(["accuracy"], "softmax")
    metric.reset()
    with pytest.raises(MedsegError, match="not finite"):
        metric.update((torch.tensor([[float("nan"), 0.0]]), torch.tensor([[0, 1]])))


@pytest.mark.parametrize("augment", ["mixup-filter", "cutmix"])
def test_a_resumed_mixing_run_equals_one_that_was_not_interrupted(
    place: Path, monkeypatch: pytest.MonkeyPatch, augment: str
) -> None:
    made = bundle(augment=augment, epochs=3, sampling="balanced")
    own = options(overrides={"checkpoint_seconds": 0})
    whole = workflow.run(made, own)
    curves, cases = (pd.read_csv(whole / name) for name in ("curves.csv", "cases.csv"))

    def killed(self: Checkpoints, engine: Trainer) -> None:
        saved(self, engine)
        if engine.state.epoch == 2:
            raise KeyboardInterrupt

    saved = Checkpoints._save
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Checkpoints, "_save", killed)
        workflow.run(made, own, overwrite=True)
    assert not (whole / "cases.csv").exists() and (whole / "resume.pt").is_file()
    workflow.run(made, own, resume=True)
    values = [name for name in curves.columns if name not in ("epoch_seconds", "time")]
    # the mixtures are those of (seed, epoch), whatever was drawn before
    pd.testing.assert_frame_equal(pd.read_csv(whole / "curves.csv")[values], curves[values])
    pd.testing.assert_frame_equal(pd.read_csv(whole / "cases.csv"), cases)
    plain = workflow.run(bundle(epochs=3, sampling="balanced"), options())
    assert not np.allclose(curves["train_loss"], pd.read_csv(plain / "curves.csv")["train_loss"])


def test_training_batches_are_mixed_and_no_others(place: Path) -> None:
    mixed = MixedBatches("mixup", {"mixup": {"alpha": 1.0}})
    torch.manual_seed(0)
    batch = {
        "image": torch.randint(0, 256, (4, 1, 8, 8), dtype=torch.uint8),
        "label": torch.eye(4, dtype=torch.uint8),
    }
    image, label = mixed(batch, torch.device("cpu"))
    torch.testing.assert_close(label.sum(1), torch.ones(4))
    assert ((label > 0).sum(1) == 2).all()
    parts = batch["image"].float() / 255
    torch.testing.assert_close(image, torch.einsum("nk,kchw->nchw", label, parts))
    plain, whole = MixedBatches("filter")(batch, torch.device("cpu"))
    torch.testing.assert_close(plain, parts)
    assert whole.equal(torch.eye(4, dtype=torch.uint8))


@pytest.mark.parametrize(
    "loss", ["binary_cross_entropy", "sparse_cross_entropy", "weighted_cross_entropy", "focal_cross_entropy"]
)
def test_every_cross_entropy_trains_and_gives_probabilities(place: Path, loss: str) -> None:
    folder = workflow.run(bundle(loss, epochs=1), options())
    found, _ = answers(folder, CLASSES)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-6)
    assert found.min() >= 0


def test_balanced_sampling_is_another_training(place: Path) -> None:
    natural = workflow.run(bundle(), options())
    balanced = workflow.run(bundle("smoothed_cross_entropy", sampling="balanced"), options())
    assert json.loads((balanced / "run.json").read_text())["settings"]["sampling"] == "balanced"
    losses = [pd.read_csv(folder / "curves.csv")["train_loss"].tolist() for folder in (natural, balanced)]
    assert losses[0] != losses[1]


def test_leaking_copies_are_marked_here_too(place: Path) -> None:
    folder = workflow.run(bundle(augment="geometric-leaking", epochs=1), options())
    cases = pd.read_csv(folder / "cases.csv")
    assert cases["case"].str.contains("~").any()
    assert json.loads((folder / "run.json").read_text())["tags"]["leaking"] == "true"


def test_several_labels_at_once(place: Path, workspace: Path) -> None:
    """A table of findings: each image may have both, one or none, and ROC-AUC chooses the weights."""
    rng = np.random.default_rng(0)
    images = sorted(path.name for path in (workspace / "source" / "images").iterdir())
    said = ["|".join(n for n in ("effusion", "mass") if rng.random() < 0.5) for _ in images]
    pd.DataFrame({"image": images, "finding": said}).to_csv(
        workspace / "source" / "findings.csv", index=False
    )
    table = Table("findings.csv", "image", ("finding",))
    index = build_index(
        "findings", workspace / "source", table=table, multilabel=True, images="images/*.png", channels=1
    )
    assert index.multilabel and [label.name for label in index.labels] == ["effusion", "mass"]
    write_index(index, index_path("findings", Path("prepared")))
    choice = Choice("findings", "resnet50", "binary_cross_entropy")
    made = compose(choice, Path("bundles"), replace(SETTINGS, epochs=1), prepared=Path("prepared"))
    folder = workflow.run(made, options())
    found, truth = answers(folder, ["effusion", "mass"])
    cases = pd.read_csv(folder / "cases.csv", keep_default_na=False)
    assert cases["accuracy"].tolist() == pytest.approx(((found >= 0.5) == truth).mean(1).tolist())
    assert cases["predicted"].tolist() == class_names((found >= 0.5).astype(int), ["effusion", "mass"])
    assert json.loads((folder / "run.json").read_text())["monitor"] == "roc_auc"
    with pytest.raises(
        MedsegError, match="'cross_entropy' is for images of one class each; findings is of several"
    ):
        compose(replace(choice, loss="cross_entropy"), Path("other"), SETTINGS, prepared=Path("prepared"))


def test_mlflow_has_the_metrics_of_all_cases_and_the_monitored_one(place: Path) -> None:
    from mlflow import MlflowClient

    uri = f"sqlite:///{place}/mlruns/mlflow.db"
    folder = workflow.run(bundle(epochs=1), options(tracking_uri=uri))
    record = json.loads((folder / "run.json").read_text())
    client = MlflowClient(uri)
    (run,) = client.search_runs([client.get_experiment_by_name("medseg").experiment_id])
    assert run.data.metrics["test/roc_auc"] == pytest.approx(record["test"]["roc_auc"])
    assert run.data.metrics["val/best_balanced_accuracy"] == record["best_val_balanced_accuracy"]
    assert run.data.tags["mlflow.note.content"].startswith("Best validation balanced accuracy 0.")
    assert "metrics.csv" in [file.path for file in client.list_artifacts(run.info.run_id)]


def one_class_tested(folder: Path) -> None:
    """A split ``sick`` whose test part has spiculated masses alone."""
    made = read_splits(split_path("phantom_class", folder, "holdout"))
    parts = dict(made.repeats[0])
    parts["testing"] = [item for item in parts["testing"] if item["classes"] == ["spiculated"]]
    write_splits(replace(made, name="sick", repeats=(parts,)), split_path("phantom_class", folder, "sick"))


def test_a_test_part_of_one_class_has_no_areas_under_curves_and_is_done(place: Path) -> None:
    made = bundle(epochs=1)
    workflow.run(made, options())
    one_class_tested(Path("prepared"))
    # the whole path: MLflow keeps one connection for each text of an address
    uri = f"sqlite:///{place}/mlruns/mlflow.db"
    folder = workflow.run(made, options(split="sick", tracking_uri=uri))
    assert (folder / "cases.csv").is_file()
    text = (folder / "run.json").read_text()
    record = json.loads(text)
    assert record["status"] == "done" and "NaN" not in text
    assert record["test"]["roc_auc"] is None and record["test"]["balanced_accuracy"] is None
    assert record["test"]["accuracy"] is not None
    table = pd.read_csv(folder / "metrics.csv").set_index("metric")
    assert table.loc["roc_auc"].isna().all()
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    (run,) = client.search_runs([client.get_experiment_by_name("medseg").experiment_id])
    assert run.info.status == "FINISHED"
    assert "test/accuracy" in run.data.metrics and "test/roc_auc" not in run.data.metrics


def test_classes_in_another_order_than_the_bundles_are_refused(place: Path) -> None:
    """A folder is renamed and indexed again: what was the first class is the second now."""
    rng = np.random.default_rng(0)
    for name, level in (("a_healthy", 60), ("b_ill", 180)):
        (place / "images" / name).mkdir(parents=True)
        for i in range(10):
            picture = (level + 20 * rng.random((32, 32))).astype(np.uint8)
            Image.fromarray(picture).save(place / "images" / name / f"{name}{i}.png")

    def indexed() -> list[str]:
        index = build_index("own", place / "images", classes="{class}/*.png", channels=1)
        write_index(index, index_path("own", Path("prepared")))
        return [label.name for label in index.labels]

    assert indexed() == ["a_healthy", "b_ill"]
    choice = Choice("own", "resnet50", "cross_entropy")
    made = compose(choice, Path("bundles"), replace(SETTINGS, epochs=1), prepared=Path("prepared"))
    before = (workflow.run(made, options()) / "cases.csv").read_text()
    (place / "images" / "a_healthy").rename(place / "images" / "z_healthy")
    assert indexed() == ["b_ill", "z_healthy"]
    (place / "prepared" / "own" / "splits" / "holdout.json").unlink()
    for act in (workflow.evaluate, workflow.run):
        repeat = 0 if act is workflow.evaluate else 1
        with pytest.raises(
            MedsegError, match=r"has the classes \['a_healthy', 'b_ill'\], and its data set now \['b_ill'"
        ):
            act(made, options(repeat=repeat))
    assert (made.root / "repeats" / "0" / "cases.csv").read_text() == before


def test_the_surest_and_the_least_sure_are_drawn() -> None:
    found = np.array([[0.9, 0.1], [0.2, 0.8], [0.55, 0.45], [0.3, 0.7]])
    truth = np.array([[1, 0], [0, 1], [1, 0], [1, 0]])
    rows = chosen(found, truth, multilabel=False)
    assert {name: cases.tolist() for name, cases in rows.items()} == {
        "surest, right": [0, 1, 2],
        "least sure": [2, 3, 1, 0],
        "surest, wrong": [3],
    }
    # both labels right at 0.9 and 0.8; one wrong; the least decided label tells how sure it is
    rows = chosen(np.array([[0.9, 0.2], [0.6, 0.9]]), np.array([[1, 0], [0, 1]]), multilabel=True)
    assert rows["surest, right"].tolist() == [0] and rows["surest, wrong"].tolist() == [1]
    assert rows["least sure"].tolist() == [1, 0]
    assert "surest, wrong" not in chosen(found[:1], truth[:1], multilabel=False)


def test_the_decision_is_the_likeliest_class_or_every_label_from_one_half() -> None:
    found = np.array([[0.4, 0.35, 0.25], [0.5, 0.1, 0.7]])
    assert decided(found, multilabel=False).tolist() == [[1, 0, 0], [0, 0, 1]]
    assert decided(found, multilabel=True).tolist() == [[0, 0, 0], [1, 0, 1]]
