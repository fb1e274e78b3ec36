"""A bundle's network as exporters take it, its answers, and what a file says of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg import __version__
from medseg.bundle.network import Recipe, build_network, read_recipe, weights_of
from medseg.bundle.open import Bundle
from medseg.bundle.privacy import demand_no_local_path
from medseg.export.check import DECIDED, Check, compare, undecided
from medseg.export.examples import read_examples

if TYPE_CHECKING:
    import torch

#: images that run at once
BATCH = 4
#: how a classifier's logits become probabilities, for people
ACTIVATIONS = {
    "softmax": "softmax",
    "sigmoid": "sigmoid of each class",
    "one_vs_rest": "sigmoid of each class, divided by their sum",
}
#: what of ``metadata.json`` travels inside a file
TOLD = (
    "name",
    "version",
    "task",
    "description",
    "authors",
    "copyright",
    "intended_use",
    "references",
    "data_source",
    "network_data_format",
)


def trained(bundle: Bundle, repeat: str | None = None) -> tuple[Recipe, torch.nn.Module]:
    """A bundle's recipe and its network with its weights, on the CPU in evaluation mode, without frozen stages.

    Raises:
        MedsegError: the bundle cannot be read or is not trained.
    """
    recipe = read_recipe(bundle)
    return recipe, build_network(recipe, weights_of(bundle, repeat))


def answers(network: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor) -> np.ndarray:
    """The logits ``(N, C, H, W)`` or ``(N, K)``, float32, of images ``(N, C, H, W)``, a few at once."""
    import torch

    with torch.inference_mode():
        return np.concatenate([network(part).float().cpu().numpy() for part in images.split(BATCH)])


def said_of(bundle: Bundle, recipe: Recipe) -> dict[str, Any]:
    """What a file for other tools says of itself: what goes in, what comes out, and how to read it.

    Raises:
        MedsegError: the bundle's metadata hold a path of this machine.
    """
    told = {key: bundle.metadata[key] for key in TOLD if key in bundle.metadata}
    height, width = recipe.image_size
    told["medseg"] = {
        "version": __version__,
        "model": recipe.model,
        "labels": [label.name for label in recipe.labels],
        "input": f"image, float32 (N, {recipe.channels}, {height}, {width})",
        "output": f"pred, float32 logits ({', '.join(map(str, ('N', *answer_shape(recipe))))})",
        **_reading(recipe),
        "preprocess": list(recipe.preprocess),
        "preprocess_arguments": dict(recipe.preprocess_arguments),
    }
    demand_no_local_path(told, "configs/metadata.json")
    return told


def answer_shape(recipe: Recipe) -> tuple[int, ...]:
    """The shape of the logits of one image: ``(K,)`` of a classifier, else ``(C, H, W)``."""
    return (recipe.classes,) if recipe.task == "classification" else (recipe.classes, *recipe.image_size)


def activation_words(recipe: Recipe) -> str:
    """How logits become probabilities, for people."""
    if recipe.task == "classification":
        return ACTIVATIONS[recipe.activation]
    return "sigmoid" if recipe.classes == 1 else "softmax, channel 0 is the background"


def _reading(recipe: Recipe) -> dict[str, Any]:
    """How an answer is read."""
    if recipe.task == "segmentation":
        return {"activation": activation_words(recipe), "threshold": 0.5}
    told = {"task": recipe.task, "multilabel": recipe.multilabel, "activation": activation_words(recipe)}
    return {**told, "threshold": 0.5} if recipe.multilabel else told


def checked(
    target: str,
    path: Path,
    network: torch.nn.Module,
    written: Callable[[torch.Tensor], torch.Tensor],
    recipe: Recipe,
    inputs: Sequence[Path],
    tolerance: float,
    notes: Sequence[str] = (),
) -> Check:
    """Compare a written network with PyTorch's on example images.

    Args:
        target: name of the exporter.
        path: what was written.
        network: PyTorch's.
        written: runs the written one.
        recipe: of the bundle.
        inputs: image files; none for synthetic images.
        tolerance: largest difference of a probability that passes.
        notes: what else a user should know.
    """
    examples = read_examples(recipe, inputs)
    expected = answers(network, examples.batch)
    difference = compare(expected, answers(written, examples.batch), recipe=recipe)
    told = (*notes, *(() if undecided(expected, recipe) else (DECIDED,)))
    return Check(target, path, len(examples), examples.source, difference, tolerance, told)
