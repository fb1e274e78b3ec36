"""Pictures in, masks at their own size or classes out, as the bundle was evaluated."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from medseg.bundle.network import Recipe, build_network, read_recipe, weights_of
from medseg.bundle.open import Bundle
from medseg.engine.device import amp_dtype, place
from medseg.errors import MedsegError
from medseg.predict.overlay import grey_once
from medseg.predict.prediction import ClassPrediction, Prediction
from medseg.predict.settings import Settings, demand_meaning
from medseg.transforms.geometry import Geometry
from medseg.transforms.normalize import full_range, normalized, unit_range
from medseg.transforms.picture import Picture

#: the axes that each test-time flip turns round: of ``(N, C, H, W)``, height is 2 and width 3
FLIPS: tuple[tuple[int, ...], ...] = ((), (3,), (2,), (2, 3))


class Predictor:
    """A bundle that is ready to predict; it holds its networks, and nothing of the images.

    Args:
        recipe: of the bundle.
        networks: one, or several whose probabilities are averaged, in evaluation mode.
        settings: how.

    Raises:
        MedsegError: a setting has no meaning for the bundle's task.
    """

    def __init__(
        self, recipe: Recipe, networks: Sequence[torch.nn.Module], settings: Settings | None = None
    ) -> None:
        self.recipe = recipe
        self.settings = settings or Settings()
        demand_meaning(recipe, self.settings)
        self.steps = recipe.steps()
        auto = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(auto if self.settings.device == "auto" else self.settings.device)
        self.networks = [place(network, self.device) for network in networks]
        self.batch_size = self.settings.batch_size
        self.flips = FLIPS if self.settings.flips else FLIPS[:1]

    @classmethod
    def of(cls, bundle: Bundle, settings: Settings | None = None, repeats: Sequence[str] = ()) -> Predictor:
        """A bundle's predictor: of its released weights, or of the ensemble of some repeats."""
        recipe = read_recipe(bundle)
        chosen = [weights_of(bundle, name) for name in repeats] or [weights_of(bundle)]
        return cls(recipe, [build_network(recipe, weights) for weights in chosen], settings)

    def __call__(self, pictures: Sequence[Picture]) -> list[Any]:
        """Predict pictures ``(C, H, W)`` of any sizes, in batches: by ``classify`` or ``segment``, as the bundle does.

        Raises:
            MedsegError: a step cannot be applied to a picture, a value is not finite, or the GPU has too little
                memory for a single image.
        """
        return self.classify(pictures) if self.classifies else self.segment(pictures)

    @property
    def classifies(self) -> bool:
        """Whether whole images are classified."""
        return self.recipe.task == "classification"

    def classify(self, pictures: Sequence[Picture]) -> list[ClassPrediction]:
        """The classes of pictures; raises as a call does."""
        if not pictures:
            return []
        ready = torch.stack([self.prepared(picture) for picture in pictures])
        members = torch.stack([self._passed(network, ready, axes) for network, axes in self._members()], 1)
        means = members.mean(1)
        several = members.shape[1] > 1
        return [
            ClassPrediction(mean.float().numpy(), (own if several else own[:0]).float().numpy())
            for mean, own in zip(means, members, strict=True)
        ]

    def segment(self, pictures: Sequence[Picture]) -> list[Prediction]:
        """The masks of pictures; raises as a call does."""
        if self.settings.sliding_window:
            return [self._combined(self._slid(picture), picture) for picture in pictures]
        if not pictures:
            return []
        ready = torch.stack([self.prepared(picture) for picture in pictures])
        members = [self._flipped(network, ready, axes).numpy() for network, axes in self._members()]
        return [
            self._combined(
                (self.steps.restore(member[number], picture.values.shape[1:]) for member in members), picture
            )
            for number, picture in enumerate(pictures)
        ]

    def prepared(self, picture: Picture) -> torch.Tensor:
        """The network's input for a picture, ``(C, h, w)`` float32, to the bit as in training."""
        ready, _ = self.steps.apply(picture)
        return normalized(torch.from_numpy(unit_range(ready))[None], self.steps.normalization)[0]

    def _members(self) -> Iterator[tuple[torch.nn.Module, tuple[int, ...]]]:
        return ((network, axes) for network in self.networks for axes in self.flips)

    def _slid(self, picture: Picture) -> Iterator[np.ndarray]:
        """Each member's probabilities ``(K, H, W)`` at the picture's own size, from windows of the network's size."""
        from monai.inferers import sliding_window_inference

        image, geometry = self._whole(picture)
        for network, axes in self._members():
            found: Any = sliding_window_inference(
                image.flip(axes) if axes else image,
                self.recipe.image_size,
                self.batch_size,
                lambda windows, network=network: self._forward(network, windows),
                overlap=self.settings.overlap,
                mode="gaussian",
                sw_device=self.device,
                device="cpu",
            )
            yield geometry.restore((found.flip(axes) if axes else found)[0].numpy())

    def _whole(self, picture: Picture) -> tuple[torch.Tensor, Geometry]:
        """A whole picture as windows are cut from it, ``(1, C, h, w)``: every step but the one that makes the size.

        What is smaller than a window is laid on black.
        """
        for step in self.steps.before:
            picture = step(picture)
        height, width = picture.values.shape[1:]
        scaled = tuple(max(1, round(side * self.settings.scale)) for side in (height, width))
        rows, columns = (max(pair) for pair in zip(scaled, self.recipe.image_size, strict=True))
        geometry = Geometry((height, width), (scaled[0], scaled[1]), (rows, columns))
        black = picture.high if picture.inverted else picture.low
        picture = picture.having(geometry.image(picture.values, black))
        for step in self.steps.after:
            picture = step(picture)
        # of a large grey image that repeats into three channels, one is held
        pixels = torch.from_numpy(unit_range(full_range(grey_once(picture))))[None]
        channels = len(picture.values)
        return normalized(pixels.expand(-1, channels, -1, -1), self.steps.normalization), geometry

    def _flipped(self, network: torch.nn.Module, images: torch.Tensor, axes: tuple[int, ...]) -> torch.Tensor:
        """Probabilities ``(N, K, h, w)`` on the CPU of images that are turned round, turned back."""
        found = self._passed(network, images, axes)
        return found.flip(axes) if axes else found

    def _passed(self, network: torch.nn.Module, images: torch.Tensor, axes: tuple[int, ...]) -> torch.Tensor:
        """Probabilities ``(N, K, ...)`` on the CPU of images that are turned round."""
        parts, start = [], 0
        while start < len(images):
            part = images[start : start + self.batch_size]
            parts.append(self._forward(network, part.flip(axes) if axes else part).cpu())
            start += len(part)
        return torch.cat(parts)

    def _forward(self, network: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
        """Probabilities of a batch; where the GPU lacks memory for it, half as many at once from then on."""
        try:
            return torch.cat([self._probabilities(network, part) for part in images.split(self.batch_size)])
        except torch.cuda.OutOfMemoryError:
            if self.batch_size == 1:
                raise MedsegError(
                    f"{self.device} has too little memory for one image of {self.recipe.image_size}; "
                    "free it, or give --device cpu"
                ) from None
        self.batch_size = max(1, min(self.batch_size, len(images)) // 2)
        torch.cuda.empty_cache()
        return self._forward(network, images)

    @torch.inference_mode()
    def _probabilities(self, network: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
        on_gpu = self.device.type == "cuda"
        images = images.to(
            self.device, memory_format=torch.channels_last if on_gpu else torch.contiguous_format
        )
        with torch.autocast(self.device.type, dtype=amp_dtype(), enabled=on_gpu and self.settings.amp):
            logits = network(images)
        found = self._of_logits(logits.float())
        if not torch.isfinite(found).all():
            cure = (
                "give --no-amp"
                if on_gpu and self.settings.amp
                else "check the image and the bundle's weights"
            )
            raise MedsegError(f"the network gives values that are not finite; {cure}")
        return found

    def _of_logits(self, logits: torch.Tensor) -> torch.Tensor:
        """Probabilities ``(N, K)`` of classes, or ``(N, K, h, w)`` of labels."""
        if not self.classifies:
            return foreground(logits)
        from medseg.metrics.classification import probabilities

        return probabilities(logits, self.recipe.activation)

    def _combined(self, members: Iterable[np.ndarray], picture: Picture) -> Prediction:
        """The mean of members ``(K, H, W)``, of which only one is held at a time, and the mask of each."""
        total, masks = None, []
        several = len(self.networks) * len(self.flips) > 1
        for member in members:
            if several:
                masks.append(self._mask(member))
            total = member if total is None else np.add(total, member, out=total)
        if total is None:
            raise ValueError("a predictor needs a network")
        if several:
            total /= np.float32(len(masks))
        alone = np.stack(masks) if several else np.empty((0, *picture.values.shape[1:]), np.uint8)
        return Prediction(total, self._mask(total), alone)

    def _mask(self, probabilities: np.ndarray) -> np.ndarray:
        return without_small(label_map(probabilities, self.settings.threshold), self.settings.min_area)


def foreground(logits: torch.Tensor) -> torch.Tensor:
    """The probability of each label: one channel by the sigmoid, several by the softmax less the background.

    Shape:
        ``(N, C, H, W)`` to ``(N, K, H, W)``, ``K`` 1 or ``C - 1``.
    """
    return logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(1)[:, 1:]


def label_map(probabilities: np.ndarray, threshold: float) -> np.ndarray:
    """The likeliest label of each pixel, from 1, and 0 where none reaches the threshold.

    Shape:
        ``(..., K, H, W)`` to ``(..., H, W)`` uint8.
    """
    best = probabilities.argmax(-3).astype(np.uint8)
    return np.where(probabilities.max(-3) >= threshold, best + np.uint8(1), np.uint8(0))


def without_small(mask: np.ndarray, min_area: int) -> np.ndarray:
    """A mask ``(H, W)`` without the lesions of fewer than ``min_area`` pixels, by 8-connectivity within a label."""
    if min_area < 2:
        return mask
    from scipy import ndimage

    kept = mask.copy()
    for label in np.unique(mask[mask > 0]):
        parts, _ = ndimage.label(mask == label, np.ones((3, 3), int))
        small = np.bincount(parts.ravel()) < min_area
        small[0] = False
        kept[small[parts]] = 0
    return kept
