"""Preprocessing as a dictionary transform of MONAI."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor, get_track_meta
from monai.transforms import InvertibleTransform, MapTransform
from monai.utils import TraceKeys, convert_to_tensor

from medseg.errors import MedsegError
from medseg.transforms.geometry import Geometry, Size
from medseg.transforms.normalize import normalized, unit_range
from medseg.transforms.picture import Picture
from medseg.transforms.steps import build_steps


class Preprocessd(MapTransform, InvertibleTransform):
    """Bring images to what the network was trained on, and predictions back to the image's size and place.

    Its result is, to the bit, what training makes of stored arrays. ``Invertd`` takes a prediction back: floats
    bilinearly, ``uint8`` and bool by nearest neighbour, whatever its ``nearest_interp``. As for any transform of
    MONAI that needs tracked meta-data (``monai.data.set_track_meta``, on by default).

    Args:
        keys: images ``(C, H, W)``, integers as read or float32 in 0..1. Their meta-data may tell what their
            numbers mean (:meth:`medseg.transforms.picture.Picture.meta`); integers have their full range otherwise.
        names: the preprocess list of the bundle.
        arguments: of the steps, by name.
        image_size: height and width of the network's input, in pixels.
        allow_missing_keys: leave out keys that are not there.

    Raises:
        MedsegError: the list is not right, see :func:`medseg.transforms.steps.build_steps`.
    """

    def __init__(
        self,
        keys: KeysCollection,
        names: Sequence[str],
        arguments: Mapping[str, Mapping[str, Any]] | None,
        image_size: Size,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.steps = build_steps(names, arguments, image_size)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        done = dict(data)
        for key in self.key_iterator(done):
            done[key] = self._forward(convert_to_tensor(done[key], track_meta=get_track_meta()))
        return done

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Bring what lies under the keys back to the size and place that its trace tells.

        Raises:
            MedsegError: it has no trace.
        """
        done = dict(data)
        for key in self.key_iterator(done):
            if not (isinstance(done[key], MetaTensor) and done[key].applied_operations):
                raise MedsegError(
                    f"{key!r} cannot go back to its own size: nothing tells it; "
                    "keep meta-data tracked, monai.data.set_track_meta(True)"
                )
            done[key] = self._backward(done[key])
        return done

    def _forward(self, image: torch.Tensor) -> torch.Tensor:
        meta = dict(image.meta) if isinstance(image, MetaTensor) else {}
        picture, _ = self.steps.apply(Picture.from_meta(image.detach().cpu().numpy(), meta))
        pixels = torch.from_numpy(unit_range(picture)).to(image.device)
        ready = normalized(pixels[None], self.steps.normalization)[0]
        if not isinstance(image, MetaTensor):
            return ready
        # its numbers mean something else now, and windows cannot be collated
        kept = {key: value for key, value in meta.items() if not str(key).startswith("picture_")}
        result = MetaTensor(ready, meta=kept, applied_operations=list(image.applied_operations))
        size = (int(image.shape[1]), int(image.shape[2]))
        affine = _affine(self.steps.geometry(size), image.affine)
        before = {"affine": image.affine.clone()}
        return self.push_transform(result, orig_size=size, extra_info=before, affine=affine)

    def _backward(self, prediction: MetaTensor) -> MetaTensor:
        record = self.pop_transform(prediction)
        rows, columns = (int(length) for length in record[TraceKeys.ORIG_SIZE])
        values = prediction.detach()
        # numpy has no bfloat16, which networks may give
        values = values.float() if values.is_floating_point() else values
        restored = self.steps.restore(values.cpu().numpy(), (rows, columns))
        result = MetaTensor(
            torch.from_numpy(restored).to(prediction.device),
            meta=dict(prediction.meta),
            applied_operations=prediction.applied_operations,
        )
        result.affine = record[TraceKeys.EXTRA_INFO]["affine"]
        return result


def _affine(geometry: Geometry, like: torch.Tensor) -> torch.Tensor:
    """Rows and columns of the frame to those of the image, by the centres of pixels."""
    matrix = torch.eye(len(like), dtype=torch.float64)
    starts = (geometry.top, geometry.left)
    for axis, (own, scaled, start) in enumerate(zip(geometry.size, geometry.scaled, starts, strict=True)):
        step = own / scaled
        matrix[axis, axis] = step
        matrix[axis, -1] = (0.5 - start) * step - 0.5
    return matrix
