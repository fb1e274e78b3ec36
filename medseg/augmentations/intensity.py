"""Further changes of grey levels and colours: brightness, channel shift, gamma, sharpening and noise."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medseg.augmentations import AUGMENTATIONS
from medseg.augmentations._planes import by_colour, by_pixel, full_scale
from medseg.augmentations.augment import PROB, Augment, Filter, interval


@AUGMENTATIONS.register("brightness")
def brightness(prob: float = PROB, shift: Sequence[float] = (-0.2, 0.2)) -> list[Augment]:
    """Add one value to all pixels.

    Args:
        prob: chance of being applied.
        shift: range as a share of full scale, within -1 to 1.
    """
    return [Brightness(prob, interval("brightness", "shift", shift, -1, 1))]


@dataclass(frozen=True)
class Brightness(Filter):
    """One value more or less."""

    name = "brightness"
    shift: tuple[float, float]

    def draw(self, rng: np.random.Generator, image: np.ndarray) -> dict[str, Any]:
        return {"shift": rng.uniform(*self.shift)}

    def change(self, image: np.ndarray, drawn: dict[str, Any], key: Hashable | None = None) -> np.ndarray:
        from medseg.augmentations._albumentations import add

        return by_pixel(lambda pixels: add(pixels, drawn["shift"] * full_scale(image)), image)


@AUGMENTATIONS.register("channel_shift")
def channel_shift(prob: float = PROB, shift: Sequence[float] = (-0.08, 0.08)) -> list[Augment]:
    """Add one value to all pixels of a channel, drawn for each channel.

    Of three channels it changes the tint, as between stains or scanners; of one channel the brightness.

    Args:
        prob: chance of being applied.
        shift: range as a share of full scale, within -1 to 1.
    """
    return [ChannelShift(prob, interval("channel_shift", "shift", shift, -1, 1))]


@dataclass(frozen=True)
class ChannelShift(Filter):
    """A value more or less in each channel."""

    name = "channel_shift"
    shift: tuple[float, float]

    def draw(self, rng: np.random.Generator, image: np.ndarray) -> dict[str, Any]:
        return {"shift": rng.uniform(*self.shift, len(image))}

    def change(self, image: np.ndarray, drawn: dict[str, Any], key: Hashable | None = None) -> np.ndarray:
        from medseg.augmentations._albumentations import add

        values = (drawn["shift"] * full_scale(image)).tolist()
        if image.dtype != np.float32:
            values = map(int, values)  # whole levels, towards 0
        return np.stack([add(plane, value) for plane, value in zip(image, values, strict=True)])


@AUGMENTATIONS.register("gamma")
def gamma(prob: float = PROB, exponent: Sequence[float] = (0.8, 1.2)) -> list[Augment]:
    """Raise pixels, taken between 0 and 1, to a power; below 1 brightens.

    Args:
        prob: chance of being applied.
        exponent: range, above 0.
    """
    return [Gamma(prob, interval("gamma", "exponent", exponent, 0.01, 100))]


@dataclass(frozen=True)
class Gamma(Filter):
    """A power of the pixels."""

    name = "gamma"
    exponent: tuple[float, float]

    def draw(self, rng: np.random.Generator, image: np.ndarray) -> dict[str, Any]:
        return {"exponent": rng.uniform(*self.exponent)}

    def change(self, image: np.ndarray, drawn: dict[str, Any], key: Hashable | None = None) -> np.ndarray:
        from medseg.augmentations._albumentations import gamma

        if image.dtype != np.uint16:
            return by_pixel(lambda pixels: gamma(pixels, drawn["exponent"]), image)
        levels = np.linspace(0, 1, 65536) ** drawn["exponent"] * 65535
        return np.rint(levels).astype(np.uint16)[image]


@AUGMENTATIONS.register("sharpening")
def sharpening(
    prob: float = PROB, strength: Sequence[float] = (0.2, 0.5), lightness: Sequence[float] = (0.5, 1.0)
) -> list[Augment]:
    """Add the difference of each pixel to its eight neighbours.

    Args:
        prob: chance of being applied.
        strength: range of the share of the sharpened image, within 0 to 1.
        lightness: range of the pixel's own weight in it, of at least 0; 1 keeps even areas as they are.
    """
    share = interval("sharpening", "strength", strength, 0, 1)
    return [Sharpening(prob, share, interval("sharpening", "lightness", lightness, 0, 10))]


@dataclass(frozen=True)
class Sharpening(Filter):
    """A 3 x 3 matrix that raises differences."""

    name = "sharpening"
    strength: tuple[float, float]
    lightness: tuple[float, float]

    def draw(self, rng: np.random.Generator, image: np.ndarray) -> dict[str, Any]:
        return {"strength": rng.uniform(*self.strength), "lightness": rng.uniform(*self.lightness)}

    def change(self, image: np.ndarray, drawn: dict[str, Any], key: Hashable | None = None) -> np.ndarray:
        from medseg.augmentations._albumentations import convolve

        effect = np.full((3, 3), -1.0, np.float32)
        effect[1, 1] = 8 + drawn["lightness"]
        same = np.zeros((3, 3), np.float32)
        same[1, 1] = 1
        kernel = (1 - drawn["strength"]) * same + drawn["strength"] * effect
        return by_colour(lambda pixels: convolve(pixels, kernel), image)


@AUGMENTATIONS.register("noise")
def noise(prob: float = PROB, sigma: Sequence[float] = (0.02, 0.1)) -> list[Augment]:
    """Add Gaussian noise, drawn for each pixel and channel.

    Args:
        prob: chance of being applied.
        sigma: range of its standard deviation as a share of full scale, within 0 to 1.
    """
    return [Noise(prob, interval("noise", "sigma", sigma, 0, 1))]


@dataclass(frozen=True)
class Noise(Filter):
    """Gaussian noise, clipped to the type's range."""

    name = "noise"
    sigma: tuple[float, float]

    def draw(self, rng: np.random.Generator, image: np.ndarray) -> dict[str, Any]:
        return {"sigma": rng.uniform(*self.sigma), "seed": int(rng.integers(2**31))}

    def change(self, image: np.ndarray, drawn: dict[str, Any], key: Hashable | None = None) -> np.ndarray:
        import cv2

        # OpenCV's own generator is several times as fast as numpy's; it belongs to the thread, and is seeded here
        cv2.setRNGSeed(drawn["seed"])
        white = full_scale(image)
        added = np.empty((image.shape[0] * image.shape[1], image.shape[2]), np.float32)
        cv2.randn(added, np.zeros(1), np.array([drawn["sigma"] * white]))
        if image.dtype == np.float32:
            return (image + added.reshape(image.shape)).clip(0, white)
        kind = cv2.CV_8U if image.dtype == np.uint8 else cv2.CV_16U
        return by_pixel(lambda pixels: cv2.add(pixels, added, dtype=kind), image)
