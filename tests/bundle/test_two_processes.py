"""The multi-GPU overlay under two processes on the CPU, as torchrun would start them."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from medseg.bundle.open import Bundle
from medseg.data.prepared import prepare
from medseg.metrics import METRICS
from medseg.metrics.overlap import binarise, confusion
from medseg.models import MODELS

EPOCHS = 6
#: MONAI's command line, that also writes down which samples this process is given
PROCESS = """
import json, os, runpy, sys
from medseg.data.batches import BatchSampler
plain = BatchSampler.__iter__
def noted(self):
    batches = list(plain(self))
    with open(notes + os.environ["RANK"], "a") as file:
        print(json.dumps([self.shuffle, self.epoch, sum(batches, [])]), file=file)
    return iter(batches)
BatchSampler.__iter__ = noted
notes, sys.argv = sys.argv[1], ["monai.bundle", *sys.argv[2:]]
runpy.run_module("monai.bundle", run_name="__main__")
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def run(original: Bundle, project: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A copy of the bundle, trained by two processes; ``samples<rank>`` beside it say who saw what."""
    folder = tmp_path_factory.mktemp("two")
    bundle = Bundle(shutil.copytree(original.root, folder / original.name))
    configs = str([str(bundle.config(name)) for name in ("train", "multi_gpu_train")])
    command = [sys.executable, "-c", PROCESS, str(folder / "samples"), "run", "--config_file", configs]
    command += ["--prepared_dir", str(project / "prepared"), "--dataset_dir", str(project / "source")]
    command += ["--tracking_uri", "", "--batch_size", "2", "--epochs", str(EPOCHS), "--progress", "False"]
    shared = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    shared["CUDA_VISIBLE_DEVICES"] = ""
    ranks = [
        subprocess.Popen(
            command,
            cwd=folder,
            env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in (0, 1)
    ]
    try:
        outputs = [process.communicate(timeout=300)[0] for process in ranks]
    finally:
        for process in ranks:
            process.kill()
    assert [process.returncode for process in ranks] == [0, 0], "\n".join(text[-3000:] for text in outputs)
    return bundle


def seen(bundle: Bundle, rank: int) -> list[tuple[bool, int, list[int]]]:
    lines = (bundle.root.parent / f"samples{rank}").read_text(encoding="utf-8").splitlines()
    return [tuple(json.loads(line)) for line in lines]


def test_the_processes_see_disjoint_halves(run: Bundle, project: Path) -> None:
    samples = prepare("discs", None, project / "prepared", image_size=(32, 32), channels=1)
    for shuffled, part in ((True, "training"), (False, "validation")):
        ours, theirs = ([s for s in seen(run, rank) if s[0] == shuffled] for rank in (0, 1))
        assert len(ours) == len(theirs) == EPOCHS
        everything = set(range(len(samples.part(part))))
        for (_, epoch, first), (_, other_epoch, second) in zip(ours, theirs, strict=True):
            assert epoch == other_epoch
            assert set(first) | set(second) == everything
            assert len(set(first) & set(second)) <= len(everything) % 2 * shuffled


def test_training_orders_differ_between_epochs(run: Bundle) -> None:
    orders = [order for shuffled, _, order in seen(run, 0) if shuffled]
    assert orders[0] != orders[1]


def test_one_set_of_files_is_written(run: Bundle) -> None:
    assert sorted(p.name for p in run.run_folder(0).iterdir()) == ["curves.csv", "model.pt", "run.json"]
    assert sorted(p.name for p in run.root.parent.iterdir()) == [run.name, "samples0", "samples1"]
    record = json.loads((run.run_folder(0) / "run.json").read_text(encoding="utf-8"))
    assert (record["status"], record["epochs"], record["settings"]["world_size"]) == ("trained", EPOCHS, 2)
    assert len(pd.read_csv(run.run_folder(0) / "curves.csv")) == EPOCHS


def test_validation_dice_is_that_of_one_process(run: Bundle, project: Path) -> None:
    weights = torch.load(run.run_folder(0) / "model.pt", weights_only=True)
    assert not any(key.startswith("module.") for key in weights)
    network = MODELS.build("unet", run.read("train")["model_arguments"], in_channels=1, out_channels=1)
    network.load_state_dict(weights)
    part = prepare("discs", None, project / "prepared", image_size=(32, 32), channels=1).part("validation")
    batch = part[list(range(len(part)))]
    with torch.no_grad():
        counts = confusion(binarise(network.eval()(batch["image"].float() / 255)), batch["label"])
    record = json.loads((run.run_folder(0) / "run.json").read_text(encoding="utf-8"))
    assert record["best_val_dice"] == pytest.approx(float(METRICS["dice"].build(counts).mean()), abs=1e-6)
    assert record["best_val_dice"] > 0.1
