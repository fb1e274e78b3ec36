"""Bundles of classifiers: composed of parts of one task, run by MONAI alone, and by two processes."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from medseg.bundle.choice import Choice
from medseg.bundle.compose import compose
from medseg.bundle.network import read_recipe
from medseg.bundle.open import Bundle
from medseg.bundle.settings import Settings, settings_from
from medseg.bundle.verify import verify
from medseg.data.prepared import prepare
from medseg.engine import workflow
from medseg.engine.workflow import Options
from medseg.errors import MedsegError
from medseg.models import MODELS

CLASSES = ["normal", "smooth", "spiculated"]
CHOICE = Choice("phantom_class", "resnet50", "binary_cross_entropy", "horizontal_flip")
SETTINGS = Settings(
    image_size=(32, 32),
    epochs=2,
    batch_size=16,
    pretrained=False,
    sampling="balanced",
    model_arguments=dict(MODELS["resnet50"].facts["small"]),
)
#: several of MONAI's commands in one process, to import torch once
COMMANDS = """
import json, runpy, sys
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["monai.bundle", "run", *arguments]
    runpy.run_module("monai.bundle", run_name="__main__")
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("classes")


@pytest.fixture(scope="module")
def trained(place: Path) -> Bundle:
    made = compose(CHOICE, place / "bundles", SETTINGS, prepared=place / "prepared")
    workflow.run(made, Options(prepared=place / "prepared", tracking_uri="", progress=False, device="cpu"))
    return made


def python(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    shared = {**os.environ, "CUDA_VISIBLE_DEVICES": "", **environment}
    return subprocess.Popen(
        [sys.executable, *arguments], env=shared, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def test_a_bundle_says_what_it_answers(trained: Bundle) -> None:
    assert verify(trained) == []
    own = trained.metadata["medseg"]
    assert own["task"] == "classification" and own["multilabel"] is False
    assert [label["name"] for label in own["labels"]] == CLASSES
    pred = trained.metadata["network_data_format"]["outputs"]["pred"]
    assert pred["format"] == "classes" and pred["channel_def"] == dict(zip("012", CLASSES, strict=True))
    recipe = read_recipe(trained)
    assert (recipe.task, recipe.classes, recipe.activation) == ("classification", 3, "one_vs_rest")
    readme = (trained.root / "docs" / "README.md").read_text()
    assert "one logit per class (normal, smooth, spiculated); a sigmoid each, normalised to sum 1" in readme


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"loss": "dice"}, "loss 'dice' is for segmentation; phantom_class is of the task classification"),
        ({"model": "unet"}, "model 'unet' is for segmentation; .* Known: densenet121, efficientnetv2_s"),
        ({"dataset": "phantom"}, "'binary_cross_entropy' is for classification; phantom is of the task segm"),
        ({"augment": "mixup-offline"}, "mixup mixes each training batch anew and makes no copies"),
        (
            {"loss": "sparse_cross_entropy", "augment": "cutmix"},
            "takes whole classes, and 'cutmix' mixes them",
        ),
        (
            {"dataset": "phantom", "model": "unet", "loss": "dice", "augment": "mixup"},
            "augmentation 'mixup' mixes classes; phantom is of the task segmentation",
        ),
        (
            {"dataset": "chest_xray14"},
            None,
        ),
        (
            {"dataset": "chest_xray14", "loss": "cross_entropy"},
            "'cross_entropy' is for images of one class each; chest_xray14 is of several labels at once. Known: bin",
        ),
    ],
)
def test_parts_of_one_task_go_together(tmp_path: Path, change: dict[str, str], said: str | None) -> None:
    choice = replace(CHOICE, **change)
    own = {"model_arguments": {"widths": [4, 8]}} if choice.model == "unet" else {}
    settings = replace(SETTINGS, sampling="natural", **own)
    if said is None:
        assert compose(choice, tmp_path, settings, prepared=tmp_path).read("train")["activation"] == "sigmoid"
        return
    with pytest.raises(MedsegError, match=said):
        compose(choice, tmp_path, settings, prepared=tmp_path)


def test_an_image_too_small_for_the_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        MedsegError, match="resnet50 needs sides of 32 pixels and more; image_size is 24 x 64"
    ):
        compose(CHOICE, tmp_path, replace(SETTINGS, image_size=(24, 64)), prepared=tmp_path)


def test_sampling_by_class_is_for_classes(tmp_path: Path) -> None:
    with pytest.raises(
        MedsegError, match="sampling='balanced' is by class; phantom is of the task segmentation"
    ):
        compose(
            Choice("phantom", "unet", "dice"),
            tmp_path,
            Settings(sampling="balanced"),
            prepared=tmp_path,
        )
    with pytest.raises(MedsegError, match="unknown sampling 'balance'.*balanced"):
        settings_from({"sampling": "balance"})


@pytest.mark.parametrize(
    ("file", "old", "new", "key"),
    [
        ("inference.yaml", "activation: one_vs_rest", "activation: softmax", "activation"),
        ("inference.yaml", "multilabel: false", "multilabel: true", "multilabel"),
        ("train.yaml", "loss_name: binary_cross_entropy", "loss_name: binary_crossentropy", "loss_name"),
        ("train.yaml", "loss_name: binary_cross_entropy", "loss_name: cross_entropy", "activation"),
        ("metadata.json", '"multilabel": false', '"multilabel": true', "medseg::multilabel"),
    ],
)
def test_what_is_told_otherwise_is_found(
    trained: Bundle, tmp_path: Path, file: str, old: str, new: str, key: str
) -> None:
    bundle = Bundle(shutil.copytree(trained.root, tmp_path / trained.name))
    path = bundle.root / "configs" / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    assert key in {fault.key for fault in verify(bundle, execute=False)}


def test_a_run_cannot_change_what_its_logits_mean(trained: Bundle, place: Path) -> None:
    options = Options(prepared=place / "prepared", repeat=3, overrides={"activation": "softmax"})
    with pytest.raises(MedsegError, match="activation of .* is 'one_vs_rest'"):
        workflow.run(trained, options)
    # nor train another function of them than inference.yaml takes them for
    with pytest.raises(
        MedsegError,
        match="loss 'cross_entropy' trains logits for the activation 'softmax', .* 'one_vs_rest'",
    ):
        workflow.run(trained, replace(options, overrides={"loss_name": "cross_entropy"}))
    with pytest.raises(MedsegError, match="loss 'dice' is for segmentation, the bundle for classification"):
        workflow.run(trained, replace(options, overrides={"loss_name": "dice"}))
    assert not (trained.root / "repeats" / "3").exists()


def test_monai_alone_evaluates_and_predicts_the_same(trained: Bundle, place: Path) -> None:
    bundle = Bundle(shutil.copytree(trained.root, place / "monai" / trained.name))
    results = bundle.root / "repeats" / "0"
    before = pd.read_csv(results / "cases.csv")
    (results / "cases.csv").unlink()
    samples = prepare(
        "phantom_class", None, place / "prepared", image_size=(32, 32), split="holdout", repeat=0
    )
    images = place / "images"
    images.mkdir()
    indexed = {sample.case: sample.image for sample in samples.index.samples}
    for case in before["case"]:
        shutil.copy(samples.index.root / indexed[case], images)
    configs = str([str(bundle.config(name)) for name in ("train", "evaluate")])
    common = ["--device", "$torch.device('cpu')"]
    data = ["--prepared_dir", str(place / "prepared"), "--dataset_dir", str(samples.index.root)]
    runs = [
        ["--config_file", configs, *common, *data, "--tracking_uri", "", "--progress", "False"],
        ["--config_file", str(bundle.config("inference")), *common, "--dataset_dir", str(images)],
    ]
    process = python("-c", COMMANDS, json.dumps(runs))
    told, _ = process.communicate(timeout=300)
    assert process.returncode == 0, told[-3000:]
    pd.testing.assert_frame_equal(pd.read_csv(results / "cases.csv"), before)
    written = pd.read_csv(bundle.root / "predictions" / "predictions.csv", header=None)
    cases = [Path(name).stem for name in written[0]]
    expected = before.set_index("case").loc[cases, [f"p_{name}" for name in CLASSES]]
    np.testing.assert_allclose(written.iloc[:, 1:].to_numpy(), expected.to_numpy(), atol=2e-6)


def test_two_processes_see_all_and_agree(trained: Bundle, place: Path) -> None:
    bundle = Bundle(shutil.copytree(trained.root, place / "two" / trained.name))
    shutil.rmtree(bundle.root / "repeats")
    configs = str([str(bundle.config(name)) for name in ("train", "multi_gpu_train")])
    command = [
        "-m",
        "monai.bundle",
        "run",
        "--config_file",
        configs,
        "--prepared_dir",
        str(place / "prepared"),
    ]
    command += ["--dataset_dir", str(place / "prepared" / "phantom_class" / "source")]
    command += ["--tracking_uri", "", "--epochs", "1", "--progress", "False"]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    ranks = [
        python(
            *command,
            RANK=str(k),
            LOCAL_RANK=str(k),
            WORLD_SIZE="2",
            MASTER_ADDR="127.0.0.1",
            MASTER_PORT=port,
        )
        for k in range(2)
    ]
    for process in ranks:
        told, _ = process.communicate(timeout=300)
        assert process.returncode == 0, told[-3000:]
    folder = bundle.root / "repeats" / "0"
    curves = pd.read_csv(folder / "curves.csv")
    # the metrics are those of the whole validation part, as one process computes them of the kept weights
    options = Options(prepared=place / "prepared", tracking_uri="", progress=False, device="cpu")
    recipe = read_recipe(bundle)
    from medseg.bundle.network import build_network
    from medseg.engine.classes import SetMetrics
    from medseg.engine.device import prepare_batch

    samples = prepare("phantom_class", None, options.prepared, image_size=(32, 32), split="holdout", repeat=0)
    part = samples.part("validation")
    metric = SetMetrics(["balanced_accuracy", "log_loss"], recipe.activation)
    metric.reset()
    image, label = prepare_batch(part[list(range(len(part)))], torch.device("cpu"))
    with torch.no_grad():
        metric.update((build_network(recipe, folder / "model.pt")(image), label))
    values = metric.compute()
    assert curves["val_log_loss"][0] == pytest.approx(values["log_loss"], abs=1e-5)
    assert curves["val_balanced_accuracy"][0] == pytest.approx(values["balanced_accuracy"], abs=1e-6)
