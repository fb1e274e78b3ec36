"""Pictures in, probabilities and masks at their own size out: as the bundle was evaluated, by one network or several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from medseg.bundle.network import Recipe, build_network, read_recipe, weights_of
from medseg.bundle.open import Bundle
from medseg.engine.device import amp_dtype, place
from medseg.predict.prediction import Prediction
from medseg.transforms.normalize import normalized, unit_range
from medseg.transforms.picture import Picture


@dataclass(frozen=True)
class Settings:
    """How a bundle predicts.

    Args:
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:1``.
        threshold: a pixel is of the lesion from this probability on.
    """

    device: str = "auto"
    threshold: float = 0.5


class Predictor:
    """A bundle that is ready to predict; it holds its networks, and nothing of the images.

    Args:
        recipe: of the bundle.
        networks: one, or several whose probabilities are averaged, in evaluation mode.
        settings: how.
    """

    def __init__(
        self, recipe: Recipe, networks: Sequence[torch.nn.Module], settings: Settings | None = None
    ) -> None:
        self.recipe = recipe
        self.settings = settings or Settings()
        self.steps = recipe.steps()
        auto = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(auto if self.settings.device == "auto" else self.settings.device)
        self.networks = [place(network, self.device) for network in networks]

    @classmethod
    def of(cls, bundle: Bundle, settings: Settings | None = None, repeats: Sequence[str] = ()) -> Predictor:
        """A bundle's predictor: of its released weights, or of the ensemble of some repeats."""
        recipe = read_recipe(bundle)
        chosen = [weights_of(bundle, name) for name in repeats] or [weights_of(bundle)]
        return cls(recipe, [build_network(recipe, weights) for weights in chosen], settings)

    def __call__(self, pictures: Sequence[Picture]) -> list[Prediction]:
        """Predict pictures ``(C, H, W)`` of any sizes, one batch."""
        batch = torch.stack([self.prepared(picture) for picture in pictures]).to(self.device)
        members = [self._probabilities(network, batch) for network in self.networks]
        sizes = [picture.values.shape[1:] for picture in pictures]
        return [
            self._prediction([member[number] for member in members], size)
            for number, size in enumerate(sizes)
        ]

    def prepared(self, picture: Picture) -> torch.Tensor:
        """The network's input for a picture, ``(C, h, w)`` float32, to the bit as in training."""
        ready, _ = self.steps.apply(picture)
        return normalized(torch.from_numpy(unit_range(ready))[None], self.steps.normalization)[0]

    @torch.inference_mode()
    def _probabilities(self, network: torch.nn.Module, batch: torch.Tensor) -> np.ndarray:
        with torch.autocast(self.device.type, dtype=amp_dtype(), enabled=self.device.type == "cuda"):
            logits = network(batch)
        return foreground(logits.float()).cpu().numpy()

    def _prediction(self, members: list[np.ndarray], size: tuple[int, int]) -> Prediction:
        own = [self.steps.restore(member, size) for member in members]
        mean = np.mean(own, 0, dtype=np.float32)
        alone = (
            np.stack([self._mask(member) for member in own])
            if len(own) > 1
            else np.empty((0, *size), np.uint8)
        )
        return Prediction(mean, self._mask(mean), alone)

    def _mask(self, probabilities: np.ndarray) -> np.ndarray:
        best = probabilities.argmax(0)
        sure = np.take_along_axis(probabilities, best[None], 0)[0] >= self.settings.threshold
        return np.where(sure, best + 1, 0).astype(np.uint8)


def foreground(logits: torch.Tensor) -> torch.Tensor:
    """The probability of each label: one channel by the sigmoid, several by the softmax less the background.

    Shape:
        ``(N, C, H, W)`` to ``(N, K, H, W)``, ``K`` 1 or ``C - 1``.
    """
    return logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(1)[:, 1:]
