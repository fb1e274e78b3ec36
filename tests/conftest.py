"""What several test files share."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

# two test processes on two cores: one thread each, and no call home from MLflow
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real images beside the checkout; tests that need it skip where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("no ../shared/data beside the checkout (real images are never part of it)")
    return SHARED


def draw_discs(folder: Path, count: int = 24, size: int = 32) -> None:
    """Bright noisy discs on dark ground, with their masks: the smallest data set that can be learnt."""
    draw = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    y, x = np.mgrid[:size, :size]
    for number in range(count):
        row, column = draw.uniform(size / 4, 3 * size / 4, 2)
        mask = (y - row) ** 2 + (x - column) ** 2 < draw.uniform(size / 8, size / 4) ** 2
        image = np.clip(draw.normal(80 + 80 * mask, 25), 0, 255).astype(np.uint8)
        Image.fromarray(image).save(folder / "images" / f"p{number // 2:02d}_{number}.png")
        Image.fromarray((mask * 255).astype(np.uint8)).save(
            folder / "masks" / f"p{number // 2:02d}_{number}.png"
        )


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder as working directory, with the data set ``discs`` indexed in ``prepared/``."""
    from medseg.data.index import build_index
    from medseg.data.index_file import index_path, write_index

    monkeypatch.chdir(tmp_path)
    draw_discs(tmp_path / "source")
    rules = {
        "images": "images/*.png",
        "masks": "masks/{stem}.png",
        "group": "(?P<group>p[0-9]+)_",
        "channels": 1,
    }
    index = build_index("discs", tmp_path / "source", **rules)
    write_index(index, index_path("discs", Path("prepared")))
    return tmp_path


@pytest.fixture
def small_settings() -> object:
    """Settings with which a bundle of ``discs`` trains in about a second."""
    from medseg.bundle.settings import Settings

    widths = {"widths": [4, 8, 16]}
    return Settings(image_size=(32, 32), epochs=4, learning_rate=1e-2, patience=40, model_arguments=widths)
