"""The built-in data set: drawn lesions in speckle, for trying things out and for tests."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from medseg.data.datasets import DATASETS
from medseg.data.spec import DatasetSpec, Label, paired
from medseg.errors import MedsegError

#: images of one patient, who share gain, texture and depth of attenuation
PER_PATIENT = 4
#: one image in so many is without a lesion
EMPTY_EVERY = 15
#: independent speckle patterns that are averaged, as a compounding scanner does
LOOKS = 2


@DATASETS.register("phantom")
def phantom(count: int = 120, size: int = 96, seed: int = 42) -> DatasetSpec:
    """Drawn lesions in ultrasound-like speckle: low contrast, many sizes, dark vessels and shadows.

    Args:
        count: number of images.
        size: height and width, in pixels.
        seed: of the drawing; the same seed draws the same images.
    """
    if count < 1 or size < 16:
        raise MedsegError(f"phantom: count is {count}, size {size}; at least 1 image of 16 pixels is needed")
    return DatasetSpec(
        title="Phantom",
        channels=1,
        labels=(Label("lesion", ("52988006", "SCT", "Lesion")),),
        index=paired("images/*", "masks/{stem}.*", group=r"(?P<group>patient\d+)_"),
        layout=("images", "masks"),
        homepage="built into medseg",
        licence="CC0 1.0",
        citation="drawn by medseg",
        expected=count,
        empty_masks=True,
        notes=("drawn, not measured: good for trying things out, says nothing about real lesions",),
        draw=partial(draw, count=count, size=size, seed=seed),
    )


def draw(folder: Path, count: int, size: int, seed: int) -> None:
    """Draw the images and masks as 8-bit PNG; ``images`` is made last, so a half-drawn folder is drawn anew.

    Raises:
        MedsegError: the folder holds something else.
    """
    if folder.exists() and {path.name for path in folder.iterdir()} - {"drawing", "masks"}:
        raise MedsegError(f"{folder}: not empty, so the phantom is not drawn there; leave --data out")
    unfinished, masks = folder / "drawing", folder / "masks"
    for part in (unfinished, masks):
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
    for number in range(count):
        image, mask = lesion_image(number, size, seed)
        name = f"patient{number // PER_PATIENT:03d}_{number % PER_PATIENT}.png"
        Image.fromarray(image).save(unfinished / name)
        Image.fromarray(mask * 255).save(masks / name)
    unfinished.rename(folder / "images")


def lesion_image(number: int, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Image and mask ``(size, size)`` number ``number``: ``uint8`` of 0 to 255, and of 0 and 1."""
    patient = np.random.default_rng((seed, 0, number // PER_PATIENT))
    rng = np.random.default_rng((seed, 1, number))
    gain, falloff, grain = patient.uniform(0.55, 1.25), patient.uniform(0.0, 0.9), patient.integers(5, 9)
    y, x = np.mgrid[0:size, 0:size] / size
    echo = gain * np.exp(0.25 * noise(patient, size, int(grain)) + 0.1 * noise(rng, size, 4) - falloff * y)
    echo *= _vessels(rng, x, y)
    shape = _lesion(rng, x, y)
    mask = shape > 0.5
    if number % EMPTY_EVERY == EMPTY_EVERY - 1:
        shape, mask = np.zeros_like(shape), np.zeros_like(mask)
    echo *= 1 - rng.uniform(0.55, 0.75) * shape
    return speckled(rng, echo), mask.astype(np.uint8)


def noise(rng: np.random.Generator, size: int, cells: int) -> np.ndarray:
    """Noise of unit variance that changes over ``1 / cells`` of the image."""
    coarse = Image.fromarray(rng.standard_normal((cells, cells)).astype(np.float32))
    return np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC), dtype=np.float64)


def _lesion(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """An irregular ellipse with a soft edge: 1 inside, 0 outside, 0.5 on its outline."""
    radius = 0.08 * np.exp(
        rng.uniform(0, np.log(3))
    )  # 0.08 to 0.24 of the side, small ones as often as large
    stretch, tilt = rng.uniform(0.6, 1.0), rng.uniform(0, np.pi)
    dx, dy = x - rng.uniform(0.28, 0.72), y - rng.uniform(0.28, 0.72)
    u, v = dx * np.cos(tilt) + dy * np.sin(tilt), (dy * np.cos(tilt) - dx * np.sin(tilt)) / stretch
    angle = np.arctan2(v, u)
    outline = 1 + sum(
        rng.normal(0, 0.3 / k) * np.cos(k * angle + rng.uniform(0, 2 * np.pi)) for k in (2, 3, 4, 5)
    )
    distance = (np.hypot(u, v) / (radius * np.clip(outline, 0.5, 1.6)) - 1) * radius
    return 1 / (1 + np.exp(np.clip(distance / 0.012, -50, 50)))


def _vessels(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Dark thin bands across the image and one vertical shadow: as dark as a lesion, but none."""
    echo = np.ones_like(x)
    for _ in range(rng.integers(1, 3)):
        middle = rng.uniform(0.1, 0.9) + rng.uniform(-0.3, 0.3) * x + 0.06 * np.sin(rng.uniform(4, 9) * x)
        echo *= 1 - 0.55 * np.exp(-(((y - middle) / rng.uniform(0.012, 0.025)) ** 2))
    return echo * (1 - 0.5 * np.exp(-(((x - rng.uniform(0, 1)) / rng.uniform(0.03, 0.07)) ** 2)) * y)


def speckled(rng: np.random.Generator, echo: np.ndarray) -> np.ndarray:
    """Speckle of two compounded looks, a little correlated, log-compressed to 8 bits as a scanner does."""
    power = sum(_blurred(rng.standard_normal(echo.shape)) ** 2 for _ in range(2 * LOOKS)) / LOOKS
    decibels = 20 * np.log10(np.maximum(echo * np.sqrt(power), 1e-3))
    return np.rint(255 * np.clip((decibels + 28) / 44, 0, 1)).astype(np.uint8)


def _blurred(noise: np.ndarray) -> np.ndarray:
    """Mean of 2 x 2 neighbours, of unit variance again."""
    return (noise + np.roll(noise, 1, 0) + np.roll(noise, 1, 1) + np.roll(noise, (1, 1), (0, 1))) / 2
