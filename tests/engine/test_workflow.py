"""A bundle is trained, evaluated, resumed and released."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import torch

from medseg.bundle.choice import Choice
from medseg.bundle.compose import compose
from medseg.bundle.open import Bundle
from medseg.engine import workflow
from medseg.engine.workflow import Options
from medseg.errors import MedsegError
from medseg.results import RUN_KEYS

TIMES = ["epoch_seconds", "time"]


@pytest.fixture
def bundle(workspace: Path, small_settings) -> Bundle:
    return compose(
        Choice("discs", "unet", "dice_bce"), Path("bundles"), small_settings, prepared=Path("prepared")
    )


def options(**changes) -> Options:
    return Options(**{"tracking_uri": "", "progress": False, **changes})


def test_a_run_leaves_weights_curves_cases_and_picture(bundle: Bundle):
    folder = workflow.run(bundle, options())
    assert sorted(p.name for p in folder.iterdir()) == [
        "cases.csv",
        "cases.png",
        "curves.csv",
        "model.pt",
        "run.json",
    ]
    cases = pd.read_csv(folder / "cases.csv", keep_default_na=False)
    assert list(cases.columns[: len(RUN_KEYS) + 2]) == [*RUN_KEYS, "case", "group"]
    record = json.loads((folder / "run.json").read_text())
    assert record["status"] == "done"
    assert record["test"]["dice"] == pytest.approx(cases["dice"].mean(), abs=1e-6)
    curves = pd.read_csv(folder / "curves.csv")
    assert record["best_val_dice"] == curves["val_dice"].max()
    assert curves["epoch"].tolist() == [1, 2, 3, 4]
    assert curves["train_loss"].iloc[-1] < curves["train_loss"].iloc[0]


def test_test_cases_belong_to_the_test_part_only(bundle: Bundle):
    folder = workflow.run(bundle, options())
    splits = json.loads(Path("prepared/discs/splits/holdout.json").read_text())
    assert pd.read_csv(folder / "cases.csv")["case"].tolist() == [
        item["case"] for item in splits["testing_0"]
    ]


def test_the_same_run_gives_the_same_numbers(bundle: Bundle):
    first = workflow.run(bundle, options())
    curves = pd.read_csv(first / "curves.csv").drop(columns=TIMES)
    weights = torch.load(first / "model.pt", weights_only=True)
    second = workflow.run(bundle, options(), overwrite=True)
    pd.testing.assert_frame_equal(
        curves, pd.read_csv(second / "curves.csv").drop(columns=TIMES), check_exact=True
    )
    again = torch.load(second / "model.pt", weights_only=True)
    assert all(torch.equal(weights[key], again[key]) for key in weights)


def test_another_seed_gives_other_numbers(bundle: Bundle):
    first = pd.read_csv(workflow.run(bundle, options()) / "curves.csv")
    second = pd.read_csv(workflow.run(bundle, options(overrides={"seed": 7}), overwrite=True) / "curves.csv")
    assert first["train_loss"].iloc[0] != second["train_loss"].iloc[0]


def test_early_stopping_counts_epochs_since_the_best(bundle: Bundle):
    frozen = {"learning_rate": 1e-12, "patience": 2, "train::trainer::max_epochs": 30}
    folder = workflow.run(bundle, options(overrides=frozen))
    record = json.loads((folder / "run.json").read_text())
    assert record["epochs"] - record["best_epoch"] == 2
    assert record["epochs"] < 30


def test_evaluating_again_gives_the_same_cases(bundle: Bundle):
    folder = workflow.run(bundle, options())
    before = (folder / "cases.csv").read_text()
    assert (workflow.evaluate(bundle, options()) / "cases.csv").read_text() == before


def test_a_finished_repeat_is_not_trained_again_by_accident(bundle: Bundle):
    folder = workflow.run(bundle, options())
    stamp = (folder / "model.pt").stat().st_mtime_ns
    with pytest.raises(MedsegError, match="is done; --overwrite"):
        workflow.run(bundle, options())
    workflow.run(bundle, options(), resume=True)
    assert (folder / "model.pt").stat().st_mtime_ns == stamp


@pytest.mark.parametrize("status", ["trained", "done", "failed"])
def test_a_run_that_ended_before_its_cases_were_written_is_only_evaluated(bundle: Bundle, status: str):
    folder = workflow.run(bundle, options())
    cases, stamp = (folder / "cases.csv").read_text(), (folder / "model.pt").stat().st_mtime_ns
    (folder / "cases.csv").unlink()
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**record, "status": status, "error": "a full disk"}))
    with pytest.raises(MedsegError, match="--resume goes on"):
        workflow.run(bundle, options())
    workflow.run(bundle, options(), resume=True)
    assert (folder / "cases.csv").read_text() == cases
    assert (folder / "model.pt").stat().st_mtime_ns == stamp


def test_resume_refuses_other_overrides(bundle: Bundle):
    workflow.run(bundle, options(overrides={"seed": 1}))
    with pytest.raises(MedsegError, match="other --set values"):
        workflow.run(bundle, options(overrides={"seed": 2}), resume=True)


def test_the_repeat_with_the_best_validation_dice_is_released(bundle: Bundle):
    for repeat in (0, 1):
        workflow.run(bundle, options(repeat=repeat))
    values = [json.loads((bundle.run_folder(k) / "run.json").read_text())["best_val_dice"] for k in (0, 1)]
    kept = json.loads((bundle.root / "models" / "model.json").read_text())
    assert int(kept["repeat"]) == values.index(max(values))
    released = (bundle.root / "models" / "model.pt").read_bytes()
    assert released == (bundle.run_folder(kept["repeat"]) / "model.pt").read_bytes()


def test_a_repeat_of_another_size_is_not_released(bundle: Bundle):
    workflow.run(bundle, options(repeat=0, overrides={"image_size": 16, "epochs": 1}))
    assert not (bundle.root / "models" / "model.pt").exists()
    workflow.run(bundle, options(repeat=1, overrides={"image_size": 32, "epochs": 1}))
    assert json.loads((bundle.root / "models" / "model.json").read_text())["repeat"] == "1"


def test_other_splits_keep_folders_of_their_own(bundle: Bundle):
    workflow.run(bundle, options())
    folder = workflow.run(bundle, options(split="kfold5", repeat=1))
    assert folder.name == "kfold5-1"
    assert bundle.finished() == ["0", "kfold5-1"]
    assert set(pd.read_csv(folder / "cases.csv")["split"]) == {"kfold5"}


def test_weights_are_a_plain_state_dict(bundle: Bundle):
    folder = workflow.run(bundle, options())
    weights = torch.load(folder / "model.pt", weights_only=True)
    assert all(isinstance(value, torch.Tensor) for value in weights.values())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"epochz": 3}, "unknown config key .*Did you mean 'epochs'"),
        ({"train::trainer::max_epoch": 3}, "Did you mean 'train::trainer::max_epochs'"),
        ({"loss_name": "dise"}, "unknown loss 'dise'. Did you mean 'dice'"),
        ({"model_arguments": {"width": 3}}, "model 'unet': .*width.*it takes"),
        ({"augment_name": "noise-leaking"}, "augment_name of .* is 'vanilla': .* compose another bundle"),
        ({"preprocess": ["clahe"]}, "preprocess of .* is .*: .* compose another bundle"),
        ({"optimizer::lr": "$1/0"}, "configs.*ZeroDivisionError"),
        ({"split": "nosuch"}, "nosuch"),
        ({"repeat": 9}, "repeat"),
    ],
)
def test_mistakes_are_told_in_one_short_message(bundle: Bundle, overrides, message):
    with pytest.raises(MedsegError, match=message) as caught:
        workflow.run(bundle, options(overrides=overrides))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700


def test_a_mistake_before_the_first_step_leaves_no_run_behind(bundle: Bundle):
    with pytest.raises(MedsegError, match="repeat"):
        workflow.run(bundle, options(repeat=9))
    assert not bundle.run_folder(9).exists()
    with pytest.raises(MedsegError, match="unknown loss"):
        workflow.run(bundle, options(overrides={"loss_name": "dise"}))
    workflow.run(bundle, options())


def test_a_device_that_is_not_here_is_refused(bundle: Bundle):
    with pytest.raises(MedsegError, match="cuda:99"):
        workflow.run(bundle, options(device="cuda:99"))
    with pytest.raises(MedsegError, match="unknown device 'gpu'"):
        workflow.run(bundle, options(device="gpu"))


def test_a_loss_that_is_not_finite_ends_the_run_and_is_remembered(bundle: Bundle):
    with pytest.raises(MedsegError, match="training loss became nan.*lower learning_rate"):
        workflow.run(bundle, options(overrides={"learning_rate": 1e30}))
    record = json.loads((bundle.run_folder(0) / "run.json").read_text())
    assert record["status"] == "failed"
    assert "lower learning_rate" in record["error"]


def test_evaluate_needs_weights(bundle: Bundle):
    with pytest.raises(MedsegError, match="not trained yet"):
        workflow.evaluate(bundle, options())


def test_evaluate_uses_the_overrides_of_training(bundle: Bundle):
    workflow.run(bundle, options(overrides={"model_arguments": {"widths": [4, 8]}}))
    folder = workflow.evaluate(bundle, options())
    assert (folder / "cases.csv").is_file()
