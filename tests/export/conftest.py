"""A small trained bundle that the tests of export share."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from medseg.bundle.choice import Choice
from medseg.bundle.compose import compose
from medseg.bundle.network import build_network, read_recipe
from medseg.bundle.open import Bundle
from medseg.bundle.settings import Settings

SETTINGS = Settings(image_size=(32, 32), model_arguments={"widths": [4, 8], "dropout": 0.2})
RECORD = {
    "repeat": "0",
    "facts": {"dataset": "busi_benign", "model": "unet", "host": "scanner-room-3"},
    "best_val_dice": 0.75,
    "best_epoch": 3,
    "test": {"dice": 0.5, "hd95": float("nan")},
    "weights": [],
    "tags": {"data_fingerprint": "abc", "cases_testing": "12", "user": "dr-who", "torch_version": "2.15"},
}


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle with weights of an untrained network and a repeat, that no test may change."""
    folder = tmp_path_factory.mktemp("made")
    bundle = compose(Choice("busi_benign", "unet", "dice"), folder, SETTINGS, prepared=folder / "none")
    torch.manual_seed(0)
    network = build_network(read_recipe(bundle), None).train()
    with torch.no_grad():
        network(torch.rand(4, 3, 32, 32))  # moves the running statistics away from 0 and 1
    torch.save(network.state_dict(), bundle.root / "models" / "model.pt")
    (bundle.root / "models" / "model.json").write_text(json.dumps(RECORD))
    repeat = bundle.root / "repeats" / "0"
    repeat.mkdir(parents=True)
    (repeat / "cases.csv").write_text("case,dice\npatient_jane_doe,0.5\n")
    shutil.copy(bundle.root / "models" / "model.pt", repeat / "model.pt")
    return bundle


@pytest.fixture
def bundle(made: Bundle, tmp_path: Path) -> Bundle:
    """A copy of it, in another place, to do with as one likes."""
    return Bundle(shutil.copytree(made.root, tmp_path / "own" / made.name))


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three images of other sizes than the network's."""
    folder, draw = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    paths = [folder / f"{number}.png" for number in range(3)]
    for number, path in enumerate(paths):
        Image.fromarray(draw.integers(0, 256, (40 + number, 50, 3), dtype=np.uint8)).save(path)
    return paths


@pytest.fixture
def reference(made: Bundle) -> torch.nn.Module:
    """The same network built by hand from the model's own room."""
    from medseg.models import build

    network = build("unet", {"widths": [4, 8], "dropout": 0.2}, in_channels=3, out_channels=1)
    network.load_state_dict(torch.load(made.root / "models" / "model.pt", weights_only=True))
    return network.eval()
