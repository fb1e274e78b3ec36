"""A bundle's network and preprocessing, built by name: nothing of its configs is executed, no weights run code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.bundle.open import Bundle
from medseg.bundle.settings import CLASS_KNOBS, SHARED_KNOBS
from medseg.data.sample import Label
from medseg.errors import MedsegError

if TYPE_CHECKING:
    import torch

    from medseg.transforms.steps import Steps


@dataclass(frozen=True)
class Recipe:
    """What prediction repeats of training.

    Args:
        model: registered name of the network.
        model_arguments: its own arguments.
        channels: of the image, 1 or 3.
        classes: channels of the logits; of several the first is the background.
        image_size: height and width of the network's input, in pixels.
        preprocess: names of the steps, in order.
        preprocess_arguments: those of the steps, by name.
        labels: the structures that masks show, in the order of their values from 1; of a classifier its classes, in the
            order of the logits.
        task: ``segmentation`` or ``classification``.
        multilabel: an image may have several classes, or none.
        activation: what turns logits into probabilities, see :func:`medseg.metrics.classification.probabilities`.
    """

    model: str
    model_arguments: Mapping[str, Any]
    channels: int
    classes: int
    image_size: tuple[int, int]
    preprocess: tuple[str, ...]
    preprocess_arguments: Mapping[str, Any]
    labels: tuple[Label, ...]
    task: str = "segmentation"
    multilabel: bool = False
    activation: str = "sigmoid"

    def steps(self) -> Steps:
        """The preprocessing, as training did it."""
        from medseg.transforms.steps import build_steps

        return build_steps(self.preprocess, self.preprocess_arguments, self.image_size)


def read_recipe(bundle: Bundle) -> Recipe:
    """The recipe in a bundle's ``inference.yaml``, read as plain values.

    Raises:
        MedsegError: a knob is missing, is an expression or of the wrong kind.
    """
    config = bundle.read("inference")
    path = bundle.config("inference")
    classifier = config.get("task", "segmentation") != "segmentation"
    for key in (*SHARED_KNOBS, *CLASS_KNOBS) if classifier else SHARED_KNOBS:
        if key not in config:
            raise MedsegError(f"{path}: lacks {key}; compose the bundle again")
        if _has_expression(config[key]):
            raise MedsegError(f"{path}: {key} is an expression; write its value, nothing is executed here")
    try:
        height, width = (int(side) for side in config["image_size"])
        channels, classes = int(config["channels"]), int(config["classes"])
        return Recipe(
            str(config["model_name"]),
            dict(config["model_arguments"] or {}),
            channels,
            classes,
            (height, width),
            tuple(config["preprocess"] or ()),
            dict(config["preprocess_arguments"] or {}),
            read_labels(bundle),
            **({key: config[key] for key in CLASS_KNOBS} if classifier else {}),
        )
    except (TypeError, ValueError, OverflowError) as error:
        raise MedsegError(f"{path}: a knob is of the wrong kind ({error})") from None


def read_labels(bundle: Bundle) -> tuple[Label, ...]:
    """The structures that a bundle's masks show: with their codes where its metadata or its data set has them."""
    from medseg.data.datasets import DATASETS

    own = bundle.metadata.get("medseg")
    own = own if isinstance(own, Mapping) else {}
    if own.get("labels"):
        return _told_labels(bundle, own["labels"])
    if str(own.get("dataset")) in DATASETS:
        return tuple(DATASETS.build(own["dataset"]).labels)
    try:
        names = bundle.metadata["network_data_format"]["outputs"]["pred"]["channel_def"]
        return tuple(
            Label(str(name)) for number, name in names.items() if number != "0" or name != "background"
        )
    except (KeyError, TypeError, AttributeError):
        raise MedsegError(
            f"{bundle.root}/configs/metadata.json: names no label under outputs::pred"
        ) from None


def _told_labels(bundle: Bundle, labels: Any) -> tuple[Label, ...]:
    try:
        codes = [one.get("code") or None for one in labels]
        if any(
            code is not None and (len(code) != 3 or not all(isinstance(part, str) for part in code))
            for code in codes
        ):
            raise ValueError
        return tuple(
            Label(str(one["name"]), None if code is None else tuple(code))
            for one, code in zip(labels, codes, strict=True)
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise MedsegError(
            f"{bundle.root}/configs/metadata.json: medseg::labels is no list of names, each with a code of three texts"
        ) from None


def weights_of(bundle: Bundle, repeat: str | None = None) -> Path:
    """The file of a bundle's weights: those released, or those of one repeat, such as ``0`` or ``official-2``.

    Raises:
        MedsegError: there are none.
    """
    folder = bundle.root / ("models" if repeat is None else f"repeats/{repeat}")
    path = folder / "model.pt"
    if not path.is_file():
        known = [
            name for name in bundle.finished() if (bundle.root / "repeats" / name / "model.pt").is_file()
        ]
        cure = (
            f"it has the repeats {', '.join(known)}"
            if known
            else f"train it: medseg bundle run {bundle.name}"
        )
        raise MedsegError(f"{bundle.name}: no weights at {path.relative_to(bundle.root)}; {cure}")
    return path


def build_network(
    recipe: Recipe, weights: Path | None, device: torch.device | str = "cpu"
) -> torch.nn.Module:
    """Build the network and load its weights as plain tensors; it is in evaluation mode.

    Args:
        recipe: of the bundle.
        weights: ``model.pt``, a state dict of exactly this network; None leaves it at random.
        device: where to.

    Raises:
        MedsegError: the file is broken, of another network, or holds values that are not finite.
    """
    from medseg.models import build

    network = build(
        recipe.model, recipe.model_arguments, in_channels=recipe.channels, out_channels=recipe.classes
    )
    if weights is not None:
        load_weights(network, weights)
    return network.to(device).eval()


def load_weights(network: torch.nn.Module, weights: Path) -> None:
    """Load a state dict strictly.

    Raises:
        MedsegError: the file is broken, of another network, or holds values that are not finite.
    """
    import torch

    try:
        network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    except Exception as error:  # a broken file fails in torch's, zipfile's or pickle's own way
        reason = " ".join(str(error).split())[:160]
        raise MedsegError(f"{weights}: cannot be loaded into this network ({reason})") from error
    # looked at as loaded: a number that the file's own type holds may be too large for the network's
    for name, values in network.state_dict().items():
        if values.is_floating_point() and not torch.isfinite(values).all():
            raise MedsegError(f"{weights}: {name} holds values that are not finite; train the bundle again")


def _has_expression(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(_has_expression(part) for part in (*value.keys(), *value.values()))
    if isinstance(value, (list, tuple)):
        return any(_has_expression(part) for part in value)
    return isinstance(value, str) and value.lstrip()[:1] in ("$", "@", "%")
