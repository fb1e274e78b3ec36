"""An exported app tried as a server would use it: in a Python that knows neither medseg nor its heavier libraries."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medseg.bundle.network import Recipe
from medseg.data.address import RASTER_SUFFIXES, split_address, suffix
from medseg.errors import MedsegError
from medseg.export.check import Check, Difference
from medseg.export.examples import SYNTHETIC, spread
from medseg.transforms.picture import Picture

if TYPE_CHECKING:
    import torch

    from medseg.predict.prediction import Prediction
    from medseg.predict.predictor import Predictor

STAGE = Path(__file__).with_name("_stage.py")
#: seconds that the rehearsal may take
LIMIT = 1800


def rehearsed(
    target: str,
    app: Path,
    served: Path,
    recipe: Recipe,
    network: torch.nn.Module,
    inputs: Sequence[Path],
    tolerance: float,
) -> Check:
    """Run the written configurations on whole image files and compare with prediction here.

    Args:
        target: name of the exporter.
        app: the app's folder.
        served: the bundle's folder in it.
        recipe: of the bundle.
        network: PyTorch's.
        inputs: image files or slices; none for a synthetic one.
        tolerance: largest difference of a probability that passes.

    Raises:
        MedsegError: the written bundle does not run, or its training changes nothing.
    """
    from medseg.data.images import read_picture
    from medseg.predict.predictor import Predictor, Settings

    with tempfile.TemporaryDirectory() as folder:
        chosen = [_slice(path) for path in spread(inputs)] or _synthetic(Path(folder), recipe)
        answers, note = _staged(served, chosen, Path(folder))
    predictor = Predictor(recipe, [network], Settings(device="cpu"))
    if predictor.classifies:
        pictures = [read_picture(path, recipe.channels) if inputs else _noise(recipe) for path in chosen]
        found = _compared(predictor, pictures, [probabilities for probabilities, _ in answers])
        return Check(
            target, app, len(chosen), "real images" if inputs else SYNTHETIC, found, tolerance, (note,)
        )
    probability, pixels, total = 0.0, 0, 0
    for path, (probabilities, mask) in zip(chosen, answers, strict=True):
        picture = read_picture(path, recipe.channels) if inputs else _noise(recipe)
        [expected] = predictor([picture])
        if mask.shape != expected.mask.shape:
            raise MedsegError(
                f"{target}: {path.name} comes back as {mask.shape}, it is {expected.mask.shape}"
            )
        _demand_same(target, path, mask, expected, tolerance)
        restored = predictor.steps.restore(probabilities, expected.mask.shape)
        probability = max(probability, float(np.abs(restored - expected.probabilities).max(initial=0)))
        pixels, total = pixels + int((mask != expected.mask).sum()), total + mask.size
    source = "real images" if inputs else SYNTHETIC
    found = Difference(probability, pixels / total)
    return Check(target, app, len(chosen), source, found, tolerance, (note,))


def _compared(predictor: Predictor, pictures: Sequence[Picture], answers: Sequence[np.ndarray]) -> Difference:
    """How far probabilities ``(K,)`` of pictures are from those of prediction here."""
    expected = predictor.classify(pictures)
    ours, theirs = np.stack([one.probabilities for one in expected]), np.stack(answers)
    several = predictor.recipe.multilabel
    told = [one >= 0.5 if several else one.argmax(1)[:, None] for one in (ours, theirs)]
    return Difference(
        float(np.abs(ours - theirs).max()), float((told[0] != told[1]).any(1).mean()), unit="images' classes"
    )


def _demand_same(target: str, path: Path, mask: np.ndarray, expected: Prediction, tolerance: float) -> None:
    """Refuse a mask that differs where the probability is not on the threshold: one on its side, say."""
    sure = np.abs(expected.probabilities.max(0) - 0.5) > tolerance
    wrong = int(((mask != expected.mask) & sure).sum())
    if wrong:
        raise MedsegError(
            f"{target}: {wrong} pixels of the mask of {path.name} are not those of medseg predict"
        )


def _staged(
    served: Path, paths: Sequence[Path], folder: Path
) -> tuple[list[tuple[np.ndarray, np.ndarray]], str]:
    """Probabilities and mask of each file from another Python, and what its trial of training found."""
    order, answer = folder / "order.json", folder / "answer.npz"
    order.write_text(json.dumps([str(path.absolute()) for path in paths]), encoding="utf-8")
    command = [sys.executable, "-I", "-B", str(STAGE), str(served.absolute()), str(order), str(answer)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=LIMIT, cwd=folder, env={**os.environ}
        )
    except subprocess.TimeoutExpired:
        seen = f"took more than {LIMIT} s on {len(paths)} files"
        raise MedsegError(f"the exported bundle {seen}; give fewer --inputs") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]
        raise MedsegError(f"the exported bundle does not run without medseg: {last[:400]}")
    with np.load(answer) as found:
        pairs = [(found[f"probabilities_{k}"], found[f"mask_{k}"]) for k in range(len(paths))]
        return pairs, str(found["note"])


def _slice(path: Path) -> Path:
    """A file of slices or frames by its first one, as ``read_picture`` takes it; others as they are."""
    file, part = split_address(path)
    raster = suffix(file.name) in RASTER_SUFFIXES
    return path if part or raster else file.with_name(f"{file.name}#0")


def _noise(recipe: Recipe) -> Picture:
    height, width = recipe.image_size
    shape = (recipe.channels, height + 7, width + 3)
    return Picture.of(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))


def _synthetic(folder: Path, recipe: Recipe) -> list[Path]:
    from PIL import Image

    values = _noise(recipe).values
    path = folder / "noise.png"
    Image.fromarray(values[0] if recipe.channels == 1 else values.transpose(1, 2, 0)).save(path)
    return [path]
