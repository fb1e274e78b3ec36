"""Reading, probabilities and masks as dictionary transforms of MONAI, a volume as all its slices."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from medseg.errors import MedsegError
from medseg.export.labelling.outlines import outlined
from medseg.export.labelling.slices import Place, read_slices
from medseg.transforms.normalize import normalized, unit_range
from medseg.transforms.steps import build_steps

#: what stands beside an image, under its key and this: its place, and the size of its slices
PLACE = "place"


class ReadSlicesd(MapTransform):
    """Read files as their slices, each as the network was trained on it: ``(D, C, h, w)`` float32, ``D`` 1 of a plane.

    Args:
        keys: paths of files, or of folders of one DICOM series.
        channels: 1 or 3.
        names: the preprocess list of the bundle.
        arguments: of the steps, by name.
        image_size: height and width of the network's input, in pixels.
    """

    def __init__(
        self,
        keys: KeysCollection,
        channels: int,
        names: Sequence[str],
        arguments: Mapping[str, Mapping[str, Any]] | None,
        image_size: tuple[int, int],
    ) -> None:
        super().__init__(keys)
        self.channels = channels
        self.steps = build_steps(names, arguments, image_size)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        done = dict(data)
        for key in self.key_iterator(done):
            if not isinstance(done[key], (str, Path)):
                raise MedsegError(f"{key!r} is no path of a file; send the image as a file")
            if not done[key]:  # what a server's store answers; as a path it would be the working directory
                raise MedsegError(
                    "there is no image of this name; see GET /datastore/?output=all for the names"
                )
            pictures, place = read_slices(done[key], self.channels)
            size = pictures[0].values.shape[1:]
            ready = [torch.from_numpy(unit_range(self.steps.apply(picture)[0])) for picture in pictures]
            # what the server asks of an image before it writes a mask
            meta = {"spatial_shape": place.shape, "original_affine": place.affine, "affine": np.eye(4)}
            done[key] = MetaTensor(normalized(torch.stack(ready), self.steps.normalization), meta=meta)
            done[f"{key}_{PLACE}"] = (place, size)
        return done


class Probabilitiesd(MapTransform):
    """Logits of slices as probabilities: of each label, or of the background too.

    Args:
        keys: logits.
        background: keep the background as the first channel, and lay the slices one below the other.

    Shape:
        ``(D, C, h, w)`` to ``(D, K, h, w)``, or to ``(1 + K, D h, w)`` with the background.
    """

    def __init__(self, keys: KeysCollection, background: bool = False) -> None:
        super().__init__(keys)
        self.background = background

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        done = dict(data)
        for key in self.key_iterator(done):
            logits = torch.as_tensor(done[key]).float()
            single = logits.shape[1] == 1
            labels = logits.sigmoid() if single else logits.softmax(1)
            if self.background:
                whole = torch.cat([1 - labels, labels], 1) if single else labels
                done[key] = whole.transpose(0, 1).flatten(1, 2)
            else:
                done[key] = labels if single else labels[:, 1:]
        return done


class Masksd(MapTransform):
    """Probabilities of slices as one mask at the source's own size and place; 0 background, ``k`` label number ``k``.

    It chooses the ending of the answer's file where the request names none: PNG, or compressed NIfTI of a volume. A
    mask in JPEG would lose its edges. For a request with ``"output": "json"`` it adds the outlines of a plane.

    Args:
        keys: probabilities ``(D, K, h, w)``.
        image: key of the image.
        names: the preprocess list of the bundle.
        arguments: of the steps, by name.
        image_size: height and width of the network's input, in pixels.
        labels: their names, for outlines.
        threshold: a pixel is of a label from this probability on.

    Shape:
        to the source's own, columns first: ``(W, H)``, or the three axes of a volume.
    """

    def __init__(
        self,
        keys: KeysCollection,
        image: str,
        names: Sequence[str],
        arguments: Mapping[str, Mapping[str, Any]] | None,
        image_size: tuple[int, int],
        labels: Sequence[str] = (),
        threshold: float = 0.5,
    ) -> None:
        super().__init__(keys)
        self.image, self.labels, self.threshold = image, labels, threshold
        self.steps = build_steps(names, arguments, image_size)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        done = dict(data)
        place, size = done[f"{self.image}_{PLACE}"]
        for key in self.key_iterator(done):
            slices = torch.as_tensor(done[key]).cpu().numpy()
            masks = np.stack([self._mask(self.steps.restore(one, size)) for one in slices])
            done[key] = MetaTensor(torch.from_numpy(place.laid(masks)), affine=torch.from_numpy(place.affine))
            if done.get("output") == "json" and place.kind == "plane":
                done["result"] = {"annotations": outlined(masks[0], self.labels)}
        _choose_ending(done, place)
        return done

    def _mask(self, probabilities: np.ndarray) -> np.ndarray:
        if not np.isfinite(probabilities).all():
            raise MedsegError("the network gives values that are not finite; look at its weights")
        best = probabilities.argmax(0) + 1
        return np.where(probabilities.max(0) >= self.threshold, best, 0).astype(np.uint8)


def _choose_ending(data: dict[Hashable, Any], place: Place) -> None:
    """Where the request names no ending of the answer, one that keeps the mask exactly."""
    if not data.get("result_extension"):
        data["result_extension"] = place.ending
    if not data.get("result_dtype"):
        data["result_dtype"] = "uint8"
