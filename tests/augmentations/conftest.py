"""Images and masks that the tests of augmentations share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

SIZE = (64, 50)


def draw_picture(channels: int = 3, kind: type = np.uint8, size: tuple[int, int] = SIZE) -> np.ndarray:
    y, x = np.mgrid[: size[0], : size[1]]
    waves = [np.sin(x / (5 + c)) * np.cos(y / (9 - c) + c) for c in range(channels)]
    noise = np.random.default_rng(1).normal(0, 0.03, (channels, *size))
    share = (0.5 + 0.4 * np.stack(waves) + noise).clip(0, 1)
    image = share.astype(kind) if kind is np.float32 else np.rint(share * np.iinfo(kind).max).astype(kind)
    image.setflags(write=False)
    return image


def draw_disc(size: tuple[int, int] = SIZE) -> np.ndarray:
    y, x = np.mgrid[: size[0], : size[1]]
    mask = ((y - size[0] * 0.4) ** 2 + (x - size[1] * 0.55) ** 2 < (min(size) / 4) ** 2).astype(np.uint8)[
        None
    ]
    mask.setflags(write=False)
    return mask


@pytest.fixture
def picture() -> Callable[..., np.ndarray]:
    """Draws waves and a little noise over the whole range of a type, read-only as memory-mapped arrays are."""
    return draw_picture


@pytest.fixture
def disc() -> np.ndarray:
    """A mask ``(1, H, W)`` of one disc, off the middle."""
    return draw_disc()


@pytest.fixture(params=[np.uint8, np.uint16, np.float32], ids=lambda kind: kind.__name__)
def kind(request: pytest.FixtureRequest) -> type:
    return request.param


@pytest.fixture(params=[1, 3, 5], ids=lambda channels: f"C{channels}")
def channels(request: pytest.FixtureRequest) -> int:
    return request.param
