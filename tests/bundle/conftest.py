"""A small project that the tests of bundles share: discs, indexed, and bundles of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medseg.bundle.choice import Choice
from medseg.bundle.compose import compose
from medseg.bundle.open import Bundle
from medseg.bundle.settings import Settings
from medseg.data.index import build_index
from medseg.data.index_file import index_path, write_index

CHOICE = Choice("discs", "unet", "dice_bce")
SETTINGS = Settings(
    image_size=(32, 32), epochs=8, batch_size=4, learning_rate=2e-2, model_arguments={"widths": [4, 8]}
)


def draw(folder: Path, count: int, size: int) -> None:
    """Bright discs in the upper right half on dark ground: an image on its side is another image."""
    random = np.random.default_rng(1)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    y, x = np.mgrid[:size, :size] / size
    for number in range(count):
        row, column = random.uniform(0.15, 0.4), random.uniform(0.55, 0.85)
        mask = (y - row) ** 2 + (x - column) ** 2 < random.uniform(0.15, 0.25) ** 2
        image = np.clip(random.normal(60 + 110 * mask, 20), 0, 255).astype(np.uint8)
        Image.fromarray(image).save(folder / "images" / f"p{number // 2:02d}_{number}.png")
        Image.fromarray((mask * 255).astype(np.uint8)).save(
            folder / "masks" / f"p{number // 2:02d}_{number}.png"
        )


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``source`` (24 images of discs) and ``prepared`` (their index)."""
    folder = tmp_path_factory.mktemp("project")
    draw(folder / "source", count=24, size=32)
    rules = {
        "images": "images/*.png",
        "masks": "masks/{stem}.png",
        "group": "(?P<group>p[0-9]+)_",
        "channels": 1,
    }
    index = build_index("discs", folder / "source", **rules)
    write_index(index, index_path("discs", folder / "prepared"))
    return folder


@pytest.fixture(scope="session")
def original(project: Path) -> Bundle:
    """A sound bundle of the discs that no test may change."""
    return compose(CHOICE, project / "bundles", SETTINGS, prepared=project / "prepared")


@pytest.fixture
def bundle(original: Bundle, tmp_path: Path) -> Bundle:
    """A copy of the sound bundle, in another place, to do with as one likes."""
    return Bundle(shutil.copytree(original.root, tmp_path / original.name))
