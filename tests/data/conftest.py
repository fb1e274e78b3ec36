"""Tiny data sets, drawn where a test wants them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Drawer = Callable[..., Path]


@pytest.fixture
def save() -> Callable[[Path, np.ndarray], Path]:
    """Save an array as an image file, making its folders."""

    def write(path: Path, pixels: np.ndarray) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
        return path

    return write


@pytest.fixture
def lesions(tmp_path: Path) -> Drawer:
    """Draw ``count`` colour images with a square lesion that grows with the number; four images per patient."""

    def draw(count: int = 12, folder: str = "lesions", size: int = 16, per_group: int = 4) -> Path:
        top = tmp_path / folder
        for name in ("images", "masks"):
            (top / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            pixels = np.random.default_rng(i).integers(0, 256, (size, size, 3), dtype=np.uint8)
            mask = np.zeros((size, size), np.uint8)
            mask[: 1 + i % (size - 1), :4] = 255
            name = f"p{i // per_group}_{i}.png"
            Image.fromarray(pixels).save(top / "images" / name)
            Image.fromarray(mask).save(top / "masks" / name)
        return top

    return draw


OWN = {"images": "images/*", "masks": "masks/{stem}.*", "group": r"(?P<group>p\d+)_"}


@pytest.fixture
def own() -> dict[str, str]:
    """The patterns that fit what ``lesions`` draws."""
    return dict(OWN)
