"""How a bundle trains, and checking what a user sets of it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from medseg.errors import MedsegError, unknown

#: knobs that stand in both train and inference and must agree
SHARED_KNOBS = (
    "model_name",
    "model_arguments",
    "channels",
    "classes",
    "image_size",
    "preprocess",
    "preprocess_arguments",
)
#: knobs that a classifier's train and inference have besides, and must agree in
CLASS_KNOBS = ("task", "multilabel", "activation")
#: how the training samples of an epoch are drawn: each once, or each class equally often
SAMPLING = ("natural", "balanced")
#: numbers that may be 0
FROM_ZERO = ("seed", "frozen_stages")


@dataclass(frozen=True)
class Settings:
    """How a bundle trains; the defaults are the loss study's.

    Args:
        image_size: height and width in pixels to which images are stretched.
        epochs: at most so many.
        batch_size: images per step.
        learning_rate: Adam's.
        patience: epochs without a better validation Dice (of classifiers: balanced accuracy, or ROC-AUC where an image
            may have several classes) before training stops.
        seed: of weights, order and dropout.
        pretrained: True begins with the published weights of the model's backbone, downloaded; a path with those in a
            local file or folder; False with random ones. None is as published: True where there is such a backbone.
        pretrained_data: what a local file of weights was trained on, as its owner declares.
        frozen_stages: how many stages of the backbone, from the image on, do not learn.
        layer_decay: factor of the learning rate from each stage of the backbone to the one before it.
        model_arguments: the model's own parameters where they differ from its defaults, such as ``widths``.
        loss_arguments: the loss's own, such as Tversky's ``alpha``.
        preprocess_arguments: those of each transform by its name, such as ``{window: {center: 40, width: 400}}``.
        augment_arguments: those of each augmentation by its name, such as ``{filter: {prob: 0.5}}``.
        sampling: of classifiers, one of ``SAMPLING``: ``balanced`` draws each class equally often, with replacement.
    """

    image_size: tuple[int, int] = (224, 224)
    epochs: int = 200
    batch_size: int = 8
    learning_rate: float = 1e-3
    patience: int = 40
    seed: int = 42
    pretrained: bool | str | None = None
    pretrained_data: str = ""
    frozen_stages: int = 0
    layer_decay: float = 1.0
    model_arguments: dict[str, Any] = field(default_factory=dict)
    loss_arguments: dict[str, Any] = field(default_factory=dict)
    preprocess_arguments: dict[str, Any] = field(default_factory=dict)
    augment_arguments: dict[str, Any] = field(default_factory=dict)
    sampling: str = "natural"


def setting_names() -> list[str]:
    """The names of the settings that a bundle is composed with."""
    return list(asdict(Settings()))


def settings_from(values: dict[str, Any]) -> Settings:
    """Settings with some values changed.

    Raises:
        MedsegError: a name is unknown or a value has the wrong type.
    """
    kinds = {name: type(value) for name, value in asdict(Settings()).items()}
    for name, value in values.items():
        if name not in kinds:
            raise unknown("setting", name, kinds)
        if name == "pretrained":
            if not isinstance(value, (bool, str)) or value == "":
                raise MedsegError(f"pretrained={value!r}: give true, false, or a file or folder of weights")
        elif name == "sampling":
            if value not in SAMPLING:
                raise unknown("sampling", value, SAMPLING)
        elif kinds[name] is str:
            values[name] = "" if value is None else str(value)
        elif kinds[name] is tuple:
            values[name] = _pair(value)
        elif kinds[name] is dict:
            if not isinstance(value, dict):
                raise MedsegError(f"{name}={value!r}: give a mapping such as {{widths: [8, 16]}}")
        elif not _fits(name, value, kinds[name]):
            allowed = "0 or more" if name in FROM_ZERO else "above 0"
            raise MedsegError(f"{name}={value!r}: give a number ({kinds[name].__name__}) {allowed}")
    return Settings(**values)


def _fits(name: str, value: Any, kind: type) -> bool:
    """Whether a number is of the setting's type and range."""
    if isinstance(value, bool) or not isinstance(value, int if kind is int else (int, float)):
        return False
    return value >= 0 if name in FROM_ZERO else 0 < value < math.inf


def _pair(value: Any) -> tuple[int, int]:
    """An image size: one number for a square, or [height, width]."""
    sides = [value, value] if isinstance(value, int) else value
    if (
        not isinstance(sides, (list, tuple))
        or len(sides) != 2
        or not all(isinstance(s, int) and s is not True and s > 0 for s in sides)
    ):
        raise MedsegError(f"image_size={value!r}: give one number of pixels or [height, width]")
    return (sides[0], sides[1])
