"""Augmentations as a MONAI dictionary transform."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from monai.transforms import MapTransform, RandomizableTransform
from monai.utils import convert_data_type, convert_to_dst_type

from medseg.augmentations.combined import build_augments
from medseg.augmentations.pipeline import Pipeline
from medseg.errors import MedsegError


class Augmentd(RandomizableTransform, MapTransform):
    """Augments an image and its masks together, as MONAI's own random transforms do.

    Arrays stay arrays and tensors tensors; a ``MetaTensor`` keeps its meta-data, of which the affine still
    describes the image before it was moved.

    Args:
        keys: of the image, then of its masks.
        names: augmentations joined by ``-``.
        prob: chance of each transform; as the augmentations have it if not given.
        arguments: of the augmentations, by name.
        seed: with ``sample_key``, makes a draw a function of the seed and the sample, whatever the workers;
            otherwise ``set_random_state`` and MONAI's loader govern the draws.
        sample_key: key of a whole number, or of several such as epoch and number, that name the sample.
        allow_missing_keys: leave out masks that are missing.

    Shape:
        image ``(C, H, W)``, ``uint8``, ``uint16`` or floats in 0..1, which become ``float32``; masks
        ``(K, H, W)`` of whole numbers in 0..255.

    Raises:
        MedsegError: a name or an argument is wrong, or an image or mask is of another kind.
    """

    def __init__(
        self,
        keys: Sequence[Hashable] = ("image", "label"),
        names: str = "all",
        prob: float | None = None,
        arguments: Mapping[str, Mapping[str, Any]] | None = None,
        seed: int | None = None,
        sample_key: Hashable | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob=1.0)
        if (seed is None) != (sample_key is None):
            raise MedsegError("Augmentd: seed and sample_key belong together; give both or neither")
        self.pipeline = Pipeline(build_augments(names, arguments, prob))
        self.seed = seed
        self.sample_key = sample_key
        self._rng = np.random.default_rng(0)

    def randomize(self, data: Mapping[Hashable, Any]) -> None:
        """Choose the generator of this sample."""
        super().randomize(None)
        if self.sample_key is None:
            self._rng = np.random.default_rng(int(self.R.randint(2**32, dtype=np.uint64)))
            return
        if self.sample_key not in data:
            raise MedsegError(f"Augmentd: the sample has no {self.sample_key!r}, which sample_key names")
        number = np.atleast_1d(np.asarray(data[self.sample_key])).tolist()
        self._rng = np.random.default_rng((self.seed, *number))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        self.randomize(result)
        first, *others = self.keys
        masks = [key for key in self.key_iterator(result) if key in others]
        if first not in result:
            raise MedsegError(f"Augmentd: the sample has no image {first!r}; only masks may be missing")
        arrays = {key: convert_data_type(result[key], np.ndarray)[0] for key in (first, *masks)}
        image = _pixels(first, arrays[first])
        planes = [_labels(key, arrays[key], image) for key in masks]
        mask = np.concatenate([np.empty((0, *image.shape[1:]), np.uint8), *planes])
        image, mask = self.pipeline(image, mask, self._rng)
        parts = np.split(mask, np.cumsum([len(part) for part in planes]))
        for key, array in zip((first, *masks), (image, *parts), strict=False):
            dtype = image.dtype if key == first else arrays[key].dtype
            result[key] = convert_to_dst_type(array.astype(dtype), result[key], dtype=dtype)[0]
        return result


def _pixels(key: Hashable, array: np.ndarray) -> np.ndarray:
    if array.dtype.kind != "f":
        return array
    low, high = float(array.min(initial=0)), float(array.max(initial=0))
    if not (low >= 0 and high <= 1):
        raise MedsegError(
            f"Augmentd: {key!r} holds floats from {low:g} to {high:g}; scale them to 0..1 before, normalise after"
        )
    return array.astype(np.float32, copy=False)


def _labels(key: Hashable, array: np.ndarray, image: np.ndarray) -> np.ndarray:
    if array.ndim != 3 or array.shape[1:] != image.shape[1:]:
        raise MedsegError(
            f"Augmentd: {key!r} has the shape {array.shape}, its image {image.shape}; (K, H, W) is needed"
        )
    whole = array.astype(np.uint8)
    if not np.array_equal(whole, array):
        raise MedsegError(f"Augmentd: {key!r} is no mask; whole numbers in 0..255 are needed")
    return whole
