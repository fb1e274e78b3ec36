"""The built-in classification set: drawn lesions of two shapes, and none, in the speckle of their patients."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from medseg.data.class_folders import by_folder
from medseg.data.datasets import DATASETS
from medseg.data.datasets.phantom import noise, speckled
from medseg.data.spec import DatasetSpec, Label
from medseg.errors import MedsegError

CLASSES = ("normal", "smooth", "spiculated")
#: images of one patient, who share gain, texture and depth of attenuation
PER_PATIENT = 6
#: so many of them show what the patient has; the others are drawn from all classes
USUAL = 4


@DATASETS.register("phantom_class", task="classification")
def phantom_class(count: int = 180, size: int = 64, seed: int = 42) -> DatasetSpec:
    """Drawn images of three classes: no lesion, a smooth one, a spiculated one.

    Most images of a patient are of one class, and all share a texture of their own: a network that knows the patient
    knows much of the class. Scores of an ungrouped split are therefore too good.

    Args:
        count: number of images.
        size: height and width, in pixels.
        seed: of the drawing; the same seed draws the same images.
    """
    if count < 1 or size < 16:
        raise MedsegError(
            f"phantom_class: count is {count}, size {size}; at least 1 image of 16 pixels is needed"
        )
    return DatasetSpec(
        title="Phantom classes",
        channels=1,
        labels=tuple(Label(name) for name in CLASSES),
        index=by_folder("images/{class}/*", group=r"/(?P<group>patient\d+)_"),
        layout=("images",),
        homepage="built into medseg",
        licence="CC0 1.0",
        citation="drawn by medseg",
        expected=count,
        task="classification",
        notes=("drawn, not measured: good for trying things out, says nothing about real lesions",),
        draw=partial(draw, count=count, size=size, seed=seed),
    )


def draw(folder: Path, count: int, size: int, seed: int) -> None:
    """Draw the images as 8-bit PNG; ``images`` is made last, so a half-drawn folder is drawn anew.

    Raises:
        MedsegError: the folder holds something else.
    """
    if folder.exists() and {path.name for path in folder.iterdir()} - {"drawing"}:
        raise MedsegError(f"{folder}: not empty, so the phantom is not drawn there; leave --data out")
    unfinished = folder / "drawing"
    shutil.rmtree(unfinished, ignore_errors=True)
    for name in CLASSES:
        (unfinished / name).mkdir(parents=True)
    for number in range(count):
        image, kind = class_image(number, size, seed)
        name = f"patient{number // PER_PATIENT:03d}_{number % PER_PATIENT}.png"
        Image.fromarray(image).save(unfinished / CLASSES[kind] / name)
    unfinished.rename(folder / "images")


def class_image(number: int, size: int, seed: int) -> tuple[np.ndarray, int]:
    """Image ``(size, size)`` number ``number``, ``uint8`` of 0 to 255, and the number of its class."""
    patient = np.random.default_rng((seed, 2, number // PER_PATIENT))
    rng = np.random.default_rng((seed, 3, number))
    kind = number // PER_PATIENT % len(CLASSES)
    if number % PER_PATIENT >= USUAL:
        kind = int(rng.integers(len(CLASSES)))
    gain, falloff, grain = patient.uniform(0.55, 1.25), patient.uniform(0.0, 0.9), patient.integers(5, 9)
    y, x = np.mgrid[0:size, 0:size] / size
    echo = gain * np.exp(0.4 * noise(patient, size, int(grain)) + 0.1 * noise(rng, size, 4) - falloff * y)
    if kind:
        echo *= 1 - rng.uniform(0.6, 0.8) * _lesion(rng, x, y, spiculated=kind == 2)
    return speckled(rng, echo), kind


def _lesion(rng: np.random.Generator, x: np.ndarray, y: np.ndarray, spiculated: bool) -> np.ndarray:
    """An ellipse with a soft edge, 1 inside and 0 outside; of a spiculated one spikes go out on all sides."""
    radius, stretch, tilt = rng.uniform(0.12, 0.2), rng.uniform(0.7, 1.0), rng.uniform(0, np.pi)
    dx, dy = x - rng.uniform(0.35, 0.65), y - rng.uniform(0.35, 0.65)
    u, v = dx * np.cos(tilt) + dy * np.sin(tilt), (dy * np.cos(tilt) - dx * np.sin(tilt)) / stretch
    outline = np.ones_like(x)
    if spiculated:
        spikes, turn = int(rng.integers(6, 10)), rng.uniform(0, np.pi)
        outline = 0.7 + 0.9 * np.abs(np.cos(spikes / 2 * np.arctan2(v, u) + turn)) ** 3
    distance = (np.hypot(u, v) / (radius * outline) - 1) * radius
    return 1 / (1 + np.exp(np.clip(distance / 0.012, -50, 50)))
