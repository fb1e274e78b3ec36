"""A picture in, a heat map at its own size out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medseg.bundle.open import Bundle
from medseg.errors import MedsegError, unknown
from medseg.explain import METHODS
from medseg.explain._probe import Score
from medseg.explain.heat import energy_inside, heat_overlay
from medseg.explain.layers import Layer, choose_layer
from medseg.explain.regions import NoRegion, Region
from medseg.explain.scores import RegionScore
from medseg.models import MODELS
from medseg.predict.overlay import displayed
from medseg.predict.predictor import Predictor
from medseg.predict.settings import Settings
from medseg.transforms.picture import Picture


@dataclass(frozen=True)
class Question:
    """What is asked of a bundle.

    Args:
        method: registered name.
        layer: the submodule whose maps are looked at; the model's own ``cam_layer`` where it is empty.
        region: whose logits are explained.
        label: name or number (from 1) of the label; the first where it is empty.
        arguments: of the method.
    """

    method: str = "gradcam"
    layer: str = ""
    region: Region = field(default_factory=Region)
    label: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Explanation:
    """Where one picture's answer comes from.

    Args:
        heat: ``(H, W)`` float32 at the picture's own size, 0 to 1, the largest value 1; all 0 where there is nothing.
        largest: the largest value of the raw map, in logits: comparable between images of one bundle, method, layer
            and region, as ``heat`` is not.
        energy: the share of the map's sum inside the predicted mask of the label; None where either is empty.
        predicted: ``(H, W)`` bool, that mask.
        reason: why the map is all zero; empty where it is not.
    """

    heat: np.ndarray = field(repr=False)
    largest: float
    energy: float | None
    predicted: np.ndarray = field(repr=False)
    reason: str = ""


class Explainer:
    """A bundle that is ready to explain; it holds its network, and nothing of the images.

    Args:
        predictor: of the bundle, with one network.
        question: what is asked.

    Raises:
        MedsegError: the bundle does not segment; the method, one of its arguments, the layer or the label is unknown,
            or the layer gives no maps.
    """

    columns = (
        *("file", "frame", "map", "method", "layer", "label", "region"),
        *("largest_activation", "energy_in_mask", "outcome", "reason"),
    )

    def __init__(self, predictor: Predictor, question: Question) -> None:
        self.predictor = predictor
        self.question = question
        recipe, self.network = predictor.recipe, predictor.networks[0]
        if recipe.task != "segmentation":
            raise MedsegError("the bundle classifies; its classes are explained, and no regions")
        self.names = [label.name for label in recipe.labels]
        self.label = label_number(question.label, self.names) if question.label else 1
        #: one channel is the label; of several the first is the background
        self.channel = 0 if recipe.classes == 1 else self.label
        self.method, self.layer = bundle_method(
            predictor, question.method, question.layer, question.arguments
        )

    @classmethod
    def of(
        cls,
        bundle: Bundle,
        question: Question | None = None,
        settings: Settings | None = None,
        repeat: str | None = None,
    ) -> Explainer:
        """A bundle's explainer: of its released weights, or of those of one repeat."""
        repeats = [] if repeat is None else [repeat]
        return cls(Predictor.of(bundle, settings, repeats), question or Question())

    def __call__(self, picture: Picture, name: str = "") -> Explanation:
        """Explain a picture ``(C, H, W)`` of any size.

        Args:
            picture: as read.
            name: of the map, for a folder of masks.

        Raises:
            MedsegError: a mask cannot be read or is of another size, or the map is not finite.
        """
        mask = self.predictor([picture])[0].mask
        predicted = mask == self.label
        labels = len(self.predictor.recipe.labels)
        try:
            region = self.question.region.of(mask, self.label, name, labels)
            return self.explain_region(picture, region, predicted)
        except NoRegion as error:
            return Explanation(np.zeros(mask.shape, np.float32), 0.0, None, predicted, str(error))

    def explain_region(
        self, picture: Picture, region: np.ndarray, predicted: np.ndarray | None = None
    ) -> Explanation:
        """Explain the logits of some pixels of a picture.

        Args:
            picture: as read, ``(C, H, W)``.
            region: ``(H, W)`` bool.
            predicted: the mask ``(H, W)`` bool in which the energy is counted; the region if not given.

        Raises:
            NoRegion: no pixel of the network's input is of the region.
            MedsegError: the map is not finite.
        """
        predicted = region if predicted is None else predicted
        steps, device = self.predictor.steps, self.predictor.device
        size = (picture.values.shape[1], picture.values.shape[2])
        small = steps.geometry(size).mask(region.astype(np.uint8)) > 0
        if not small.any():
            raise NoRegion("the region is too small to be seen at the network's size")
        images = self.predictor.prepared(picture)[None].to(device)
        score = RegionScore(self.channel, torch.from_numpy(small).to(device))
        raw = raw_map(self.method, images, score)
        heat = on_picture(self.predictor, self.layer, raw, picture)
        reason = "" if heat.any() else "no positive evidence: nothing in the map raises the score"
        return Explanation(heat, float(raw.max()), energy_inside(heat, predicted), predicted, reason)

    def asked(self) -> dict[str, object]:
        """What is the same in each row of the table."""
        return {
            "method": self.question.method,
            "layer": self.layer.name if self.layer else "",
            "label": self.names[self.label - 1],
            "region": str(self.question.region),
        }

    def told(self, answer: Explanation) -> dict[str, object]:
        """What an answer adds to its row of the table."""
        return {"largest_activation": answer.largest, "energy_in_mask": answer.energy}

    def drawn(self, picture: Picture, answer: Explanation) -> np.ndarray:
        """The overlay: the map, and the outline of the predicted mask, ``(H, W, 3)`` uint8."""
        return heat_overlay(displayed(picture), answer.heat, answer.predicted)


def bundle_method(
    predictor: Predictor, method: str, layer: str, arguments: Mapping[str, Any]
) -> tuple[Any, Layer | None]:
    """A method for a bundle's network, and the layer that it looks at; None if it looks at none.

    Args:
        predictor: of the bundle, with one network.
        method: registered name.
        layer: the submodule whose maps are looked at; the model's own ``cam_layer`` where it is empty.
        arguments: of the method.

    Raises:
        MedsegError: the method, one of its arguments or the layer is unknown, or the layer gives no maps.
    """
    recipe, network = predictor.recipe, predictor.networks[0]
    chosen: Layer | None = None
    if METHODS[method].facts["needs_layer"]:
        facts = MODELS[recipe.model].facts
        name = layer or facts["cam_layer"]
        origin = first_cell(network, facts, recipe.image_size) if name == facts["cam_layer"] else None
        chosen = choose_layer(network, recipe.channels, recipe.image_size, name, origin)
    elif layer:
        raise MedsegError(f"method {method!r} looks at no layer; leave --layer out")
    built = METHODS.build(method, arguments, network=network, layer=chosen.name if chosen else "")
    return built, chosen


def first_cell(network: Any, facts: Mapping[str, Any], size: tuple[int, int]) -> float | None:
    """The pixel on which the first cell of a model's ``cam_layer`` lies: as the network knows, or as its facts say."""
    known = getattr(network, "cam_origin", None)
    return known(size) if known is not None else facts.get("cam_origin")


def on_picture(predictor: Predictor, layer: Layer | None, raw: Tensor, picture: Picture) -> np.ndarray:
    """A raw map ``(1, 1, h, w)`` on a picture, ``(H, W)`` float32 from 0 to 1, at the picture's own size."""
    spread = layer.spread(raw, predictor.recipe.image_size) if layer else raw
    size = (picture.values.shape[1], picture.values.shape[2])
    heat = predictor.steps.restore(spread[0].cpu().numpy(), size)[0]
    top = heat.max(initial=0)
    return heat / top if top > 0 else np.zeros_like(heat)


def raw_map(method: Any, images: Tensor, score: Score) -> Tensor:
    """A method's map, checked.

    Args:
        method: as built.
        images: ``(1, C, H, W)``, the network's input.
        score: what is explained.

    Shape:
        ``(1, 1, h, w)`` float32.

    Raises:
        MedsegError: it is not finite.
    """
    raw: Tensor = method.compute_map(images, score)
    if not raw.isfinite().all():
        raise MedsegError("the map holds values that are not finite; try another method or layer")
    return raw


def classifier_map(
    network: nn.Module, images: Tensor, method: str, layer: str, channel: int | None = None
) -> Tensor:
    """The heat map of a classifier, 0 to 1, the largest value 1.

    Args:
        network: in evaluation mode, images in, logits ``(1, K)`` out.
        images: ``(1, C, H, W)``, the network's input.
        method: registered name.
        layer: the submodule whose maps are looked at.
        channel: the class; None for the most likely one.

    Shape:
        ``(H, W)`` float32.

    Raises:
        MedsegError: the method, layer or class is unknown, or the layer gives no maps.
    """
    from medseg.explain.scores import ClassScore

    height, width = images.shape[2:]
    built = METHODS.build(method, network=network, layer=layer)
    raw = raw_map(built, images, ClassScore(channel))
    if METHODS[method].facts["needs_layer"]:
        raw = choose_layer(network, images.shape[1], (height, width), layer).spread(raw, (height, width))
    return (raw / raw.max().clamp_min(torch.finfo(raw.dtype).tiny))[0, 0]


def label_number(label: str, names: list[str]) -> int:
    """The number of a label, from 1.

    Args:
        label: its name or number.
        names: of all labels, in order.

    Raises:
        MedsegError: there is no such label.
    """
    if label in names:
        return names.index(label) + 1
    if label.isdecimal() and 1 <= int(label) <= len(names):
        return int(label)
    raise unknown("label", label, names)
