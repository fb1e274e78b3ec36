"""A run that begins with published weights: what it keeps of them, what stays frozen, and what evaluation needs."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import timm
import torch
from mlflow import MlflowClient
from monai.engines import Trainer

from medseg.bundle.choice import Choice
from medseg.bundle.compose import compose
from medseg.bundle.open import Bundle
from medseg.bundle.settings import Settings
from medseg.bundle.verify import verify
from medseg.engine import workflow
from medseg.engine.handlers import Checkpoints
from medseg.engine.workflow import Options
from medseg.errors import MedsegError

NAME = "pvt_v2_b0.in1k"


@pytest.fixture
def weights(workspace: Path) -> Path:
    torch.manual_seed(3)
    folder = workspace / "somebody" / "weights"
    folder.mkdir(parents=True)
    torch.save(timm.create_model("pvt_v2_b0").state_dict(), folder / f"{NAME}.pth")
    return folder


@pytest.fixture
def bundle(workspace: Path) -> Bundle:
    settings = Settings(image_size=(32, 32), epochs=1, learning_rate=1e-3, model_arguments={"backbone": NAME})
    choice = Choice("discs", "emcad", "dice_bce")
    return compose(choice, Path("bundles"), settings, prepared=Path("prepared"))


def test_a_run_keeps_where_its_weights_came_from(bundle: Bundle, weights: Path) -> None:
    changes = {"pretrained": str(weights), "pretrained_data": "RadImageNet", "frozen_stages": 2}
    uri = f"sqlite:///{Path.cwd()}/mlruns/mlflow.db"
    options = Options(tracking_uri=uri, progress=False, overrides={**changes, "layer_decay": 0.5})
    folder = workflow.run(bundle, options)
    digest = hashlib.sha256((weights / f"{NAME}.pth").read_bytes()).hexdigest()
    record = json.loads((folder / "run.json").read_text())
    (kept,) = record["weights"]
    assert (kept["weights"], kept["source"]) == (NAME, f"file {NAME}.pth")
    assert (kept["sha256"], kept["trained_on"]) == (digest, "RadImageNet")
    assert (record["settings"]["frozen_stages"], record["settings"]["layer_decay"]) == (2, 0.5)
    assert json.loads((bundle.root / "models" / "model.json").read_text())["weights"] == [kept]
    client = MlflowClient(uri)
    (experiment,) = [e for e in client.search_experiments() if e.name == "medseg"]
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.tags["pretrained"] == NAME
    assert run.data.tags["pretrained_sha256"] == digest
    assert run.data.tags["pretrained_data"] == "RadImageNet"
    told = json.dumps([run.data.tags, run.data.params])
    assert "somebody" not in told, "a shared server need not know where files lie"
    # frozen stages are as they were, the others have learnt
    before = torch.load(weights / f"{NAME}.pth", weights_only=True)
    after = torch.load(folder / "model.pt", weights_only=True)
    for stage, same in ((0, True), (1, True), (2, False), (3, False)):
        key = f"stages_{stage}.blocks.0.mlp.fc1.weight"
        assert torch.equal(after[f"backbone.{key}"], before[key.replace("_", ".", 1)]) == same
    # neither evaluation nor inference needs the file again
    shutil.rmtree(weights)
    cases = (folder / "cases.csv").read_bytes()
    workflow.evaluate(bundle, Options(tracking_uri="", progress=False))
    assert (folder / "cases.csv").read_bytes() == cases
    assert json.loads((folder / "run.json").read_text())["weights"] == [kept]


def test_weights_that_cannot_be_had_stop_the_run_before_it_begins(bundle: Bundle) -> None:
    options = Options(tracking_uri="", progress=False, overrides={"pretrained": "nowhere"})
    with pytest.raises(MedsegError, match="no file or folder nowhere; .*--set pretrained=false"):
        workflow.run(bundle, options)
    assert not bundle.run_folder(0).exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"pretrained": None}, "pretrained=None: give true, false, or a file or folder of weights"),
        ({"pretrained_data": "X"}, "pretrained_data='X' tells of local weights; give their file or folder"),
        ({"frozen_stages": "two"}, "frozen_stages='two': give a whole number, 0 or more"),
        ({"layer_decay": "half"}, "layer_decay='half': give a number above 0 and at most 1"),
    ],
)
def test_a_run_refuses_what_composing_refuses(bundle: Bundle, overrides: dict, message: str) -> None:
    overrides = {"pretrained": False, **overrides}
    with pytest.raises(MedsegError, match=message):
        workflow.run(bundle, Options(tracking_uri="", progress=False, overrides=overrides))
    assert not bundle.run_folder(0).exists()


def test_a_file_in_the_config_can_be_done_without(workspace: Path, weights: Path) -> None:
    """What the bundle declares of its file does not stand in the way of beginning at random."""
    settings = Settings(
        image_size=(32, 32),
        epochs=1,
        model_arguments={"backbone": NAME},
        pretrained=str(weights),
        pretrained_data="RadImageNet",
    )
    choice = Choice("discs", "emcad", "dice")
    made = compose(choice, Path("bundles"), settings, prepared=Path("prepared"))
    assert not verify(made)
    folder = workflow.run(made, Options(tracking_uri="", progress=False, overrides={"pretrained": False}))
    assert json.loads((folder / "run.json").read_text())["weights"] == []


@pytest.mark.parametrize("value", ["null", "3", "''"])
def test_verify_finds_a_start_that_no_run_would_make(bundle: Bundle, value: str) -> None:
    config = bundle.config("train")
    lines = config.read_text().splitlines()
    changed = [f"pretrained: {value}" if line.startswith("pretrained: ") else line for line in lines]
    config.write_text("\n".join(changed) + "\n")
    (fault,) = verify(bundle)
    assert (fault.file, fault.key) == ("configs/train.yaml", "pretrained")
    assert "give true, false, or a file or folder of weights" in fault.reason


def test_a_run_goes_on_without_the_file_that_it_began_with(
    bundle: Bundle, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = {"pretrained": str(weights), "epochs": 3, "checkpoint_seconds": 0}
    options = Options(tracking_uri="", progress=False, overrides={**overrides, "frozen_stages": 1})
    whole = workflow.run(bundle, options)
    curves, record = pd.read_csv(whole / "curves.csv"), json.loads((whole / "run.json").read_text())

    def killed(self: Checkpoints, engine: Trainer) -> None:
        saved(self, engine)
        if engine.state.epoch == 2:
            raise KeyboardInterrupt

    saved = Checkpoints._save
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Checkpoints, "_save", killed)
        workflow.run(bundle, options, overwrite=True)
    shutil.rmtree(weights)
    again = workflow.run(bundle, options, resume=True)
    values = ["epoch", "train_loss", "val_dice"]
    pd.testing.assert_frame_equal(pd.read_csv(again / "curves.csv")[values], curves[values])
    after = json.loads((again / "run.json").read_text())
    assert after["weights"] == record["weights"] and after["tags"]["pretrained"] == NAME


def test_random_weights_are_declared_as_such(bundle: Bundle) -> None:
    folder = workflow.run(bundle, Options(tracking_uri="", progress=False, overrides={"pretrained": False}))
    record = json.loads((folder / "run.json").read_text())
    assert record["weights"] == [] and record["tags"]["pretrained"] == "none"
