"""Occlusion sensitivity."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from medseg.errors import MedsegError
from medseg.explain import METHODS
from medseg.explain._probe import Score


@METHODS.register("occlusion", paper="arXiv:1311.2901", needs_gradient=False, needs_layer=False)
class Occlusion:
    """How far the score falls when a square is covered (Zeiler & Fergus 2014, arXiv:1311.2901).

    The square is given the mean of the image; a pixel has the mean fall of the squares that cover it. The method
    looks at the image and the score alone, at no layer, and runs the network once for each place of the square: 225
    times for 128 x 128 pixels and the defaults. The map is that of MONAI's ``OcclusionSensitivity``, which indexes
    tensors by lists as newer versions of torch will no longer allow.

    Args:
        network: in evaluation mode.
        layer: not used.
        size: side of the square, in pixels of the network's input.
        overlap: of neighbouring squares, as a share of their side, 0 to below 1.
        batch_size: covered images in one pass.

    Raises:
        MedsegError: an argument is not usable.
    """

    def __init__(
        self,
        network: nn.Module,
        layer: str = "",
        size: int = 16,
        overlap: float = 0.5,
        batch_size: int = 16,
    ) -> None:
        for name, value in (("size", size), ("batch_size", batch_size)):
            if isinstance(value, bool) or value != int(value) or value < 1:
                raise MedsegError(f"occlusion: {name} must be a whole number above 0; it is {value!r}")
        if not 0 <= overlap < 1:
            raise MedsegError(f"occlusion: overlap must be 0 or more and below 1; it is {overlap!r}")
        self.network, self.size, self.overlap = network, int(size), overlap
        self.batch_size = int(batch_size)

    @torch.no_grad()
    def compute_map(self, images: Tensor, score: Score) -> Tensor:
        """The fall of the score, ``(1, 1, H, W)`` float32, 0 where it does not fall.

        Args:
            images: ``(1, C, H, W)``.
            score: makes of the logits one number for each image.

        Raises:
            MedsegError: the square is larger than the image.
        """
        height, width = images.shape[2:]
        if self.size > min(height, width):
            raise MedsegError(
                f"occlusion: a square of {self.size} pixels does not fit into {height} x {width}"
            )
        places = [(top, left) for top in self._starts(height) for left in self._starts(width)]
        whole, mean = score(self.network(images)), images.mean()
        fall, times = images.new_zeros(height, width), images.new_zeros(height, width)
        for first in range(0, len(places), self.batch_size):
            batch = places[first : first + self.batch_size]
            covered = images.repeat(len(batch), 1, 1, 1)
            for image, (top, left) in zip(covered, batch, strict=True):
                image[:, top : top + self.size, left : left + self.size] = mean
            for one, (top, left) in zip(whole - score(self.network(covered)), batch, strict=True):
                fall[top : top + self.size, left : left + self.size] += one
                times[top : top + self.size, left : left + self.size] += 1
        return functional.relu(fall / times)[None, None]

    def _starts(self, side: int) -> list[int]:
        """Where squares begin along a side; the last one ends with it."""
        last, step = side - self.size, max(1, int(self.size * (1 - self.overlap)))
        return sorted({*range(0, last, step), last})
