"""What an augmentation is: parameters drawn from a generator, then a change that depends on nothing else."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from medseg.augmentations._warp import Warp
from medseg.errors import MedsegError

#: chance of each transform per sample; with the four of a group, 0.8 of them are applied on average, which is
#: the share of changed images when a training part grows by one copy per transform (4 of 5)
PROB = 0.2


@dataclass(frozen=True)
class Augment(ABC):
    """One random change of an image ``(C, H, W)``, ``uint8``, ``uint16`` or ``float32`` in 0..1.

    ``draw`` takes all that is random from a generator; what it gives says exactly what is done, so a change can
    be repeated.

    Args:
        prob: chance of being applied to a sample.

    Raises:
        MedsegError: the chance is not in 0..1.
    """

    name: ClassVar[str]
    geometric: ClassVar[bool]

    prob: float

    def __post_init__(self) -> None:
        if isinstance(self.prob, bool) or not isinstance(self.prob, (int, float)) or not 0 <= self.prob <= 1:
            raise MedsegError(
                f"augmentation {self.name!r}: prob is {self.prob!r}; a chance in 0..1 is needed"
            )

    def draw(self, rng: np.random.Generator, image: np.ndarray) -> dict[str, Any]:
        """Parameters of one change; of the image only size and type matter."""
        return {}


class Filter(Augment):
    """A change of grey levels or colours; masks stay as they are."""

    geometric = False

    @abstractmethod
    def change(self, image: np.ndarray, drawn: dict[str, Any], key: Hashable | None = None) -> np.ndarray:
        """The changed image, of the same size and type.

        Args:
            image: ``(C, H, W)``; it is not written to.
            drawn: what ``draw`` gave.
            key: name of the image, if it is unaltered; what is computed of it may be kept under this name.
        """


class Geometric(Augment):
    """A movement of the pixels; image and mask move together, and what comes from outside is 0."""

    geometric = True

    @abstractmethod
    def warp(self, drawn: dict[str, Any], size: tuple[int, int]) -> Warp:
        """The movement in an image of that height and width."""


def interval(
    augment: str, parameter: str, value: Any, low: float = -np.inf, high: float = np.inf
) -> tuple[float, float]:
    """A range to draw from, checked: a pair of numbers, or one number that is always taken.

    Args:
        augment: name of the augmentation, for messages.
        parameter: name of the parameter, for messages.
        value: the pair or the number.
        low: smallest allowed value.
        high: largest.

    Raises:
        MedsegError: it is neither, the pair is not in order, or a value is not allowed.
    """
    pair = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value, value]
    numbers = all(isinstance(end, (int, float)) and not isinstance(end, bool) for end in pair)
    if len(pair) != 2 or not numbers or not low <= pair[0] <= pair[1] <= high or not np.isfinite(pair).all():
        raise MedsegError(
            f"augmentation {augment!r}: {parameter} is {value!r};"
            f" a number or a pair [low, high] within {low:g} to {high:g} is needed"
        )
    return float(pair[0]), float(pair[1])


def number(augment: str, parameter: str, value: Any, low: float, high: float) -> float:
    """A number, checked.

    Raises:
        MedsegError: it is none, or not allowed.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise MedsegError(
            f"augmentation {augment!r}: {parameter} is {value!r}; a number within {low:g} to {high:g} is needed"
        )
    return float(value)


def whole(augment: str, parameter: str, value: Any) -> int:
    """A count, checked.

    Raises:
        MedsegError: it is no whole number of at least 1.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise MedsegError(
            f"augmentation {augment!r}: {parameter} is {value!r}; a whole number of at least 1 is needed"
        )
    return value
