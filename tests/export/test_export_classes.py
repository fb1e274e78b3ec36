"""Classifiers as files for other tools: the same logits, told as classes, and refused where they say two things."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import yaml

from medseg.bundle.admission import admit
from medseg.bundle.archive import files_of, json_configs, with_manifest, write_zip
from medseg.bundle.choice import Choice
from medseg.bundle.compose import compose
from medseg.bundle.inspection import inspect
from medseg.bundle.network import Recipe, build_network, read_recipe
from medseg.bundle.open import Bundle
from medseg.bundle.package import opened
from medseg.bundle.settings import Settings
from medseg.data.sample import Label
from medseg.errors import MedsegError
from medseg.export.archive import archive
from medseg.export.check import Mismatch, compare, undecided
from medseg.export.delivery import export
from medseg.export.examples import read_examples
from medseg.export.onnx import onnx

ARGUMENTS = {"depths": [1, 1, 1, 1], "widths": [8, 8, 8, 8], "stem": "small"}
TEST = {"accuracy": 0.8, "balanced_accuracy": 0.75, "roc_auc": 0.9, "ece": None}
RECORD = {"repeat": "0", "task": "classification", "monitor": "roc_auc", "test": TEST, "tags": {}}


def recipe(**changes: Any) -> Recipe:
    labels = tuple(Label(name) for name in ("normal", "benign", "malignant"))
    plain = ("resnet50", {}, 1, 3, (32, 32), (), {}, labels)
    return Recipe(*plain, **{"task": "classification", "activation": "softmax", **changes})


def _made(folder: Path, dataset: str, loss: str) -> Bundle:
    settings = Settings(image_size=(32, 32), pretrained=False, model_arguments=ARGUMENTS)
    bundle = compose(Choice(dataset, "resnet50", loss), folder, settings, prepared=folder / "none")
    torch.manual_seed(0)
    network = build_network(read_recipe(bundle), None).train()
    with torch.no_grad():
        network(torch.rand(8, 1, 32, 32))  # moves the running statistics away from 0 and 1
        network.head.weight *= 10
    torch.save(network.state_dict(), bundle.root / "models" / "model.pt")
    (bundle.root / "models" / "model.json").write_text(json.dumps(RECORD))
    return bundle


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """One class of three, that no test may change."""
    return _made(tmp_path_factory.mktemp("classifier"), "phantom_class", "cross_entropy")


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Any of fourteen findings."""
    return _made(tmp_path_factory.mktemp("several"), "chest_xray14", "binary_cross_entropy")


def test_difference_of_classes_by_hand():
    expected = np.array([[0.0, 0.0, 1.0], [2.0, 0.0, 0.0]])
    given = np.array([[0.0, 1.5, 1.0], [2.5, 0.0, 0.0]])
    found = compare(expected, given, recipe=recipe())
    before, after = 1 / (2 + math.e), math.exp(1.5) / (1 + math.exp(1.5) + math.e)
    assert found.probabilities == pytest.approx(after - before)
    assert found.logits == 1.5
    assert found.pixels == 0.5 and found.unit == "images' classes"  # the first becomes the second class
    alone = compare(expected, given, recipe=recipe(multilabel=True, activation="sigmoid"))
    assert alone.probabilities == pytest.approx(1 / (1 + math.exp(-1.5)) - 0.5)
    assert alone.pixels == 0.0  # 0.5 is a yes already
    with pytest.raises(Mismatch, match=r"answers \(2, 2\), PyTorch \(2, 3\)"):
        compare(expected, given[:, :2], recipe=recipe())


def test_several_classes_differ_at_the_threshold():
    several = recipe(multilabel=True, activation="sigmoid")
    expected, given = np.array([[0.1, -2.0, 3.0]] * 4), np.array([[0.1, -2.0, 3.0]] * 4)
    given[0, 0], given[1, 0] = -0.1, 2.0
    assert compare(expected, given, recipe=several).pixels == 0.25
    assert undecided(expected, several)
    assert not undecided(np.array([[90.0, 0.0, 0.0]]), recipe())


@pytest.mark.parametrize("which", ["classifier", "several"])
def test_torchscript(which: str, tmp_path: Path, request: pytest.FixtureRequest):
    bundle: Bundle = request.getfixturevalue(which)
    check = export("torchscript", bundle, tmp_path / "a.ts")
    assert check.passed and check.row()["images' classes differing"] == 0
    extra = {"metadata.json": ""}
    written = torch.jit.load(tmp_path / "a.ts", _extra_files=extra)
    images = torch.rand(3, 1, 40, 32)
    with torch.inference_mode():
        own = build_network(read_recipe(bundle), bundle.root / "models" / "model.pt")(images)
        assert (written(images) - own).abs().max() < 1e-4
    told = json.loads(extra["metadata.json"])["medseg"]
    classes = [label.name for label in read_recipe(bundle).labels]
    assert told["labels"] == classes and told["task"] == "classification"
    assert told["output"] == f"pred, float32 logits (N, {len(classes)})"
    assert told["activation"] == ("softmax" if which == "classifier" else "sigmoid of each class")
    assert told.get("threshold") == (None if which == "classifier" else 0.5)


@pytest.mark.parametrize("exporter", ["dynamo", "traced"])
def test_onnx_takes_any_batch(classifier: Bundle, tmp_path: Path, exporter: str):
    check = onnx(classifier, tmp_path / "a.onnx", [], tolerance=1e-4, exporter=exporter)
    assert check.passed and exporter in check.notes[0]
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx", providers=["CPUExecutionProvider"])
    images = torch.rand(7, 1, 32, 32)
    with torch.inference_mode():
        own = build_network(read_recipe(classifier), classifier.root / "models" / "model.pt")(images)
    [given] = session.run(None, {"image": images.numpy()})
    assert given.shape == (7, 3)
    assert np.abs(given - own.numpy()).max() < 1e-4


def test_examples_are_prepared_for_classifiers(classifier: Bundle, images: list[Path]):
    found = read_examples(read_recipe(classifier), images)
    assert found.batch.shape == (3, 1, 32, 32) and found.source == "real images"


def test_a_hub_folder_is_of_image_classification(classifier: Bundle, images: list[Path], tmp_path: Path):
    """Imported by medseg and loaded by MONAI, as weights and as TorchScript; the hub's own library reads its card."""
    from huggingface_hub import ModelCard

    check = export("hub-folder", classifier, tmp_path / classifier.name, images)
    assert check.passed and check.inputs == 3
    card = ModelCard.load(tmp_path / classifier.name / "README.md")
    assert card.data.pipeline_tag == "image-classification"
    assert "classification" in card.data.tags and "segmentation" not in card.data.tags
    results = {one.metric_type: one.metric_value for one in card.data.eval_results}
    assert results == {"accuracy": 0.8, "balanced_accuracy": 0.75, "roc_auc": 0.9}
    assert {one.task_type for one in card.data.eval_results} == {"image-classification"}
    assert "| classes | normal, smooth, spiculated |" in card.text
    assert "logits `(N, 3)`; softmax |" in card.text


def test_an_app_for_monai_label_answers_without_medseg(
    classifier: Bundle, several: Bundle, images: list[Path], tmp_path: Path
):
    """The check runs it in a Python that refuses medseg, timm and OpenCV, on whole files of other sizes."""
    check = export("monailabel", classifier, tmp_path / "app", images)
    assert (check.inputs, check.source) == (3, "real images")
    assert check.difference.probabilities < 1e-6 and check.difference.unit == "images' classes"
    assert check.notes == ("not trained there: viewers save no classes",)
    [served] = (tmp_path / "app" / "model").iterdir()
    assert served.name == "phantom_class__resnet50__cross_entropy__classification"
    assert not (served / "configs" / "train.yaml").exists()
    metadata = json.loads((served / "configs" / "metadata.json").read_text())
    pred = metadata["network_data_format"]["outputs"]["pred"]
    assert pred["channel_def"] == {"0": "normal", "1": "smooth", "2": "spiculated"}
    assert metadata["medseg"]["multilabel"] is False
    copied = {path.relative_to(next(served.glob("medseg_*"))).as_posix() for path in served.rglob("*.py")}
    assert "metrics/classification/__init__.py" in copied
    assert not [name for name in copied if name.startswith(("models/", "losses/", "bundle/", "predict/"))]
    readme = (tmp_path / "app" / "README.md").read_text()
    assert "Classes: normal, smooth, spiculated." in readme and "$" not in readme
    check = export("monailabel", several, tmp_path / "several")  # on noise
    assert check.passed and check.inputs == 1


def packed(bundle: Bundle, path: Path, change: Callable[[dict[str, bytes]], object]) -> Path:
    """A zip whose manifest is right for what a stranger made of the files."""
    files = files_of(bundle)
    files |= json_configs(files)
    change(files)
    files |= json_configs(files)
    write_zip(with_manifest(files, bundle.name), bundle.name, path)
    return path


def knob(**changes: Any) -> Callable[[dict[str, bytes]], None]:
    """Another value of a knob, in train and inference alike."""

    def change(files: dict[str, bytes]) -> None:
        for name in ("configs/train.yaml", "configs/inference.yaml"):
            config = yaml.safe_load(files[name]) | changes
            kept = {k: v for k, v in config.items() if k not in changes or v is not None}
            files[name] = yaml.safe_dump(kept).encode()

    return change


def told(key: str, value: Any) -> Callable[[dict[str, bytes]], None]:
    """Another word in the metadata."""

    def change(files: dict[str, bytes]) -> None:
        metadata = json.loads(files["configs/metadata.json"])
        metadata["medseg"][key] = value
        files["configs/metadata.json"] = json.dumps(metadata).encode()

    return change


def alone(name: str, **changes: Any) -> Callable[[dict[str, bytes]], None]:
    def change(files: dict[str, bytes]) -> None:
        files[name] = yaml.safe_dump(yaml.safe_load(files[name]) | changes).encode()

    return change


def test_own_classifiers_are_admitted_and_told(classifier: Bundle, several: Bundle, tmp_path: Path):
    for bundle, activation in ((classifier, "softmax"), (several, "sigmoid")):
        path = packed(bundle, tmp_path / f"{bundle.name}.zip", lambda files: None)
        with opened(path) as package:
            found = inspect(package)
        assert found.faults == () and found.foreign == () and len(found.executables) > 100
        assert found.knobs["task"] == "classification" and found.knobs["activation"] == activation
        assert found.knobs["multilabel"] is (bundle is several)
        assert found.provenance["experiment task"] == "classification"
        classes = ", ".join(label.name for label in read_recipe(bundle).labels)
        assert found.provenance["labels"] == classes
        imported, _ = admit(path, tmp_path / "bundles")
        assert read_recipe(imported) == read_recipe(bundle)


LIES = {
    "another task": (knob(task="segmentation"), "beside medseg's own template"),
    "no task": (knob(task=None), "beside medseg's own template"),
    "an unknown task": (knob(task="detection"), "beside medseg's own template"),
    "task in the metadata": (told("task", "segmentation"), "metadata's task is 'segmentation'"),
    "a model of masks": (knob(model_name="unet"), "the task of unet is 'segmentation'"),
    "a loss of masks": (knob(loss_name="dice"), "the task of dice is 'segmentation'"),
    "several classes": (knob(multilabel=True), "metadata's multilabel is False"),
    "no truth value": (knob(multilabel="yes"), "metadata's multilabel is False, and 'yes'"),
    "several of a softmax": (
        lambda files: (knob(multilabel=True)(files), told("multilabel", True)(files)),
        "cross_entropy trains no set of several classes",
    ),
    "another activation": (knob(activation="sigmoid"), "activation is 'sigmoid', and that of cross_entropy"),
    "two activations": (
        alone("configs/inference.yaml", activation="one_vs_rest"),
        "activation is 'softmax' in its train config, and 'one_vs_rest' in that of inference",
    ),
    "more classes": (knob(classes=4), r"names 3 class\(es\), and its network answers 4"),
    "an expression": (knob(activation="$print(1)"), "beside medseg's own template"),
    "a component": (knob(multilabel={"_target_": "os.system"}), "beside medseg's own template"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_bundle_that_says_two_things_is_refused(lie: str, classifier: Bundle, tmp_path: Path):
    change, words = LIES[lie]
    path = packed(classifier, tmp_path / "a.zip", change)
    with pytest.raises(MedsegError, match=words):
        admit(path, tmp_path / "bundles")
    assert not (tmp_path / "bundles").exists()


def test_a_zip_of_a_changed_activation_is_not_even_written(classifier: Bundle, tmp_path: Path):
    path = packed(classifier, tmp_path / "a.zip", knob(activation="sigmoid"))
    with opened(path) as package, pytest.raises(MedsegError, match="activation is 'sigmoid'"):
        archive(Bundle(package.root), tmp_path / "b.zip", [], tolerance=1e-5)
