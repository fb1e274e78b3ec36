"""A picture in, and out comes where a classifier finds its class: a heat map, a region and a box."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from medseg.bundle.open import Bundle
from medseg.errors import MedsegError
from medseg.explain.explainer import bundle_method, label_number, on_picture, raw_map
from medseg.explain.heat import heat_overlay
from medseg.explain.localization import MEASURES, SHARE, Box, box_around, check_share, compared, marked
from medseg.explain.scores import ClassScore
from medseg.predict.overlay import displayed
from medseg.predict.predictor import Predictor
from medseg.predict.settings import Settings
from medseg.transforms.picture import Picture


@dataclass(frozen=True)
class ClassQuestion:
    """What is asked of a classifier.

    Args:
        method: registered name.
        layer: the submodule whose maps are looked at; the model's own ``cam_layer`` where it is empty.
        label: name or number (from 1) of the class; of each image the likeliest where it is empty.
        share: of a map's maximum, above which a pixel is of the region.
        arguments: of the method.
    """

    method: str = "gradcam"
    layer: str = ""
    label: str = ""
    share: float = SHARE
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class ClassExplanation:
    """Where one picture's class comes from.

    Args:
        heat: ``(H, W)`` float32 at the picture's own size, 0 to 1, the largest value 1; all 0 where there is nothing.
        largest: the largest value of the raw map, in logits.
        channel: the class that is explained, from 0.
        probability: its probability.
        predicted: the likeliest class, from 0.
        region: ``(H, W)`` bool, what the map marks.
        box: around the region; None where the map is all zero.
        mask: ``(H, W)`` bool, with which it is compared; None where there is none.
        measures: how well they agree, see :func:`medseg.explain.localization.compared`; empty without a mask.
        reason: why the map is all zero; empty where it is not.
    """

    heat: np.ndarray = field(repr=False)
    largest: float
    channel: int
    probability: float
    predicted: int
    region: np.ndarray = field(repr=False)
    box: Box | None
    mask: np.ndarray | None = field(repr=False)
    measures: Mapping[str, float | None]
    reason: str = ""


class ClassExplainer:
    """A classifier's bundle that is ready to explain; it holds its network, and nothing of the images.

    Args:
        predictor: of the bundle, with one network.
        question: what is asked.

    Raises:
        MedsegError: the bundle is no classifier; the method, one of its arguments, the layer or the class is unknown,
            or the layer gives no maps.
    """

    columns = (
        *("file", "frame", "map", "method", "layer", "label", "probability", "predicted"),
        *("largest_activation", "box_row", "box_column", "box_height", "box_width"),
        *(*MEASURES, "outcome", "reason"),
    )

    def __init__(self, predictor: Predictor, question: ClassQuestion) -> None:
        recipe = predictor.recipe
        if recipe.task != "classification":
            raise MedsegError("the bundle segments; its regions are explained, and no classes")
        check_share(question.share)
        self.predictor, self.question = predictor, question
        self.names = [label.name for label in recipe.labels]
        self.channel = label_number(question.label, self.names) - 1 if question.label else None
        self.method, self.layer = bundle_method(
            predictor, question.method, question.layer, question.arguments
        )

    @classmethod
    def of(
        cls,
        bundle: Bundle,
        question: ClassQuestion | None = None,
        settings: Settings | None = None,
        repeat: str | None = None,
    ) -> ClassExplainer:
        """A bundle's explainer: of its released weights, or of those of one repeat."""
        repeats = [] if repeat is None else [repeat]
        return cls(Predictor.of(bundle, settings, repeats), question or ClassQuestion())

    def __call__(self, picture: Picture, name: str = "", mask: np.ndarray | None = None) -> ClassExplanation:
        """Explain a class of a picture ``(C, H, W)`` of any size.

        Args:
            picture: as read.
            name: not used; explainers of masks need it.
            mask: ``(H, W)`` bool at the picture's own size, where the lesion is.

        Raises:
            MedsegError: the map is not finite.
        """
        probabilities = self.predictor.classify([picture])[0].probabilities
        predicted = int(probabilities.argmax())
        channel = predicted if self.channel is None else self.channel
        images = self.predictor.prepared(picture)[None].to(self.predictor.device)
        raw = raw_map(self.method, images, ClassScore(channel))
        heat = on_picture(self.predictor, self.layer, raw, picture)
        region = marked(heat, self.question.share)
        reason = "" if heat.any() else "no positive evidence: nothing in the map raises the score"
        return ClassExplanation(
            heat,
            float(raw.max()),
            channel,
            float(probabilities[channel]),
            predicted,
            region,
            box_around(region),
            mask,
            {} if mask is None else compared(heat, region, mask),
            reason,
        )

    def asked(self) -> dict[str, object]:
        """What is the same in each row of the table."""
        return {
            "method": self.question.method,
            "layer": self.layer.name if self.layer else "",
            "label": "" if self.channel is None else self.names[self.channel],
        }

    def told(self, answer: ClassExplanation) -> dict[str, object]:
        """What an answer adds to its row of the table."""
        box = answer.box
        return {
            "label": self.names[answer.channel],
            "probability": answer.probability,
            "predicted": self.names[answer.predicted],
            "largest_activation": answer.largest,
            **({} if box is None else {f"box_{side}": value for side, value in vars(box).items()}),
            **answer.measures,
        }

    def drawn(self, picture: Picture, answer: ClassExplanation) -> np.ndarray:
        """The overlay: the map, the outline of its box, and that of the mask, ``(H, W, 3)`` uint8."""
        size = answer.heat.shape
        box = np.zeros(size, bool) if answer.box is None else answer.box.mask(size)
        return heat_overlay(displayed(picture), answer.heat, box, answer.mask)
