"""Augmentations applied: at random to one sample (online), or each once (offline)."""

from __future__ import annotations

import zlib
from collections.abc import Hashable, Sequence
from typing import Any, TypeVar, cast

import numpy as np

from medseg.augmentations._warp import Warp, warp
from medseg.augmentations.augment import Augment, Filter, Geometric
from medseg.errors import MedsegError

#: what was drawn for a sample: each transform that is applied, with its parameters
Drawn = list[tuple[Augment, dict[str, Any]]]
KINDS = (np.uint8, np.uint16, np.float32)
#: a mask, or None for an image that has none; as it is given, so it comes back
M = TypeVar("M", np.ndarray, None, np.ndarray | None)


class Pipeline:
    """Applies transforms to an image and its mask, each with its own chance.

    The result is a function of the image, the mask and the state of the generator. Geometric transforms that
    follow each other become one interpolation.

    Args:
        augments: in the order in which they are applied.
    """

    def __init__(self, augments: Sequence[Augment]) -> None:
        self.augments = tuple(augments)
        self._probs = np.array([augment.prob for augment in self.augments])

    def __call__(
        self,
        image: np.ndarray,
        mask: M,
        rng: np.random.Generator,
        key: Hashable | None = None,
    ) -> tuple[np.ndarray, M]:
        """Draw and apply.

        Args:
            image: ``(C, H, W)``, ``uint8``, ``uint16`` or ``float32`` in 0..1.
            mask: ``(K, H, W)`` ``uint8``, K may be 0; or None, which comes back as None.
            rng: where all draws come from.
            key: name of this very image; what Fancy PCA computes of it is then kept for its next time.

        Returns:
            image and mask, new arrays where they changed and otherwise those given.
        """
        return self.apply(self.draw(image, rng), image, mask, key)

    def draw(self, image: np.ndarray, rng: np.random.Generator) -> Drawn:
        """Which transforms are applied, and their parameters; of the image only size and type matter."""
        chosen = rng.random(len(self.augments)) < self._probs
        return [(self.augments[i], self.augments[i].draw(rng, image)) for i in np.flatnonzero(chosen)]

    def apply(
        self, drawn: Drawn, image: np.ndarray, mask: M, key: Hashable | None = None
    ) -> tuple[np.ndarray, M]:
        """Apply what was drawn.

        Args:
            drawn: what ``draw`` gave.
            image: as in a call.
            mask: as in a call.
            key: as in a call.

        Raises:
            MedsegError: the image or the mask is not of a kind that can be augmented.
        """
        planes = np.empty((0, *image.shape[1:]), np.uint8) if mask is None else mask
        _check(image, planes)
        size = cast("tuple[int, int]", image.shape[1:])
        moves: list[Warp] = []
        for augment, parameters in drawn:
            if isinstance(augment, Geometric):
                moves.append(augment.warp(parameters, size))
                continue
            if moves:
                image, planes = warp(moves, image, planes)
                moves, key = [], None  # no longer the image of that name
            image = cast(Filter, augment).change(image, parameters, key)
            key = None
        if moves:
            image, planes = warp(moves, image, planes)
        return image, None if mask is None else planes


def copies(
    augments: Sequence[Augment], image: np.ndarray, mask: M, seed_key: Sequence[int]
) -> list[tuple[str, np.ndarray, M]]:
    """One copy of a sample per transform, whatever its chance.

    Each copy has a generator of its own, so it depends on neither the other transforms nor the order of samples.

    Args:
        augments: the transforms.
        image: ``(C, H, W)``, ``uint8``, ``uint16`` or ``float32`` in 0..1.
        mask: ``(K, H, W)`` ``uint8``, K may be 0; or None, of which each copy has None too.
        seed_key: whole numbers that name the sample, such as seed and case; the transform's name is added.

    Returns:
        name of the transform, image and mask of each copy.
    """
    made = []
    for augment in augments:
        copy, mask_copy = _copy(augment, image, mask, seed_key)
        made.append((augment.name, copy, mask_copy))
    return made


def _copy(augment: Augment, image: np.ndarray, mask: M, seed_key: Sequence[int]) -> tuple[np.ndarray, M]:
    rng = np.random.default_rng((*seed_key, zlib.crc32(augment.name.encode())))
    return Pipeline([augment]).apply([(augment, augment.draw(rng, image))], image, mask)


def _check(image: np.ndarray, mask: np.ndarray) -> None:
    if image.ndim != 3 or image.dtype not in KINDS:
        raise MedsegError(
            f"an image of {image.dtype} and shape {image.shape} cannot be augmented;"
            " (C, H, W) of uint8, uint16 or float32 is needed"
        )
    if mask.ndim != 3 or mask.dtype != np.uint8 or mask.shape[1:] != image.shape[1:]:
        raise MedsegError(
            f"a mask of {mask.dtype} and shape {mask.shape} does not go with an image of shape {image.shape};"
            " (K, H, W) of uint8 with the image's height and width is needed"
        )
