"""Classes of images as a dictionary transform of MONAI."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from medseg.errors import MedsegError
from medseg.metrics.classification import probabilities


class Classesd(MapTransform):
    """Logits of the one slice of an image as probabilities of its classes.

    The size of the image is forgotten, to which the server would stretch a mask.

    Args:
        keys: logits ``(D, K)``.
        image: key of the image.
        activation: see :func:`medseg.metrics.classification.probabilities`.

    Shape:
        ``(1, K)`` to ``(K,)`` float32.

    Raises:
        MedsegError: there are several slices, or a value is not finite.
    """

    def __init__(self, keys: KeysCollection, image: str, activation: str) -> None:
        super().__init__(keys)
        self.image, self.activation = image, activation

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        done = dict(data)
        for key in self.key_iterator(done):
            logits = torch.as_tensor(done[key]).float()
            if len(logits) != 1:
                raise MedsegError(
                    f"the file has {len(logits)} slices or frames, and a class is of one image; send one, as file#12"
                )
            found = probabilities(logits, self.activation)[0].float()
            if not torch.isfinite(found).all():
                raise MedsegError("the network gives values that are not finite; look at its weights")
            done[key] = MetaTensor(found.cpu())
        done[self.image].meta.pop("spatial_shape", None)
        return done
