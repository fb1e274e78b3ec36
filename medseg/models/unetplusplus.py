"""UNet++."""

# a ModuleList gives plain Modules, and TorchScript takes no "type" comment in a method
# mypy: disable-error-code="arg-type, var-annotated"

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from medseg.models import MODELS
from medseg.models._blocks import check_arguments, check_sides, double_convolution, he_initialisation


class Node(nn.Module):
    """One node X(i, j) of the triangle: it joins the upsampled node below with all earlier nodes of its row.

    Args:
        below: channels of the row below.
        channels: channels of this row.
        earlier: number of earlier nodes in this row.
        normalization: ``batch`` or None.
        dropout: probability of dropping a value after each convolution.
    """

    def __init__(
        self, below: int, channels: int, earlier: int, normalization: str | None, dropout: float
    ) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(below, channels, 2, stride=2)
        self.convolution = double_convolution((earlier + 1) * channels, channels, normalization, dropout)

    def forward(self, below: Tensor, row: list[Tensor]) -> Tensor:
        return self.convolution(torch.cat([self.up(below)] + row, 1))  # noqa: RUF005  (TorchScript)


def mean_of_probabilities(maps: Tensor) -> Tensor:
    """The logits of the mean of several maps' probabilities, without leaving the logarithmic scale.

    Args:
        maps: logits; sigmoid for one channel, softmax for more.

    Shape:
        maps ``(M, N, K, H, W)``, result ``(N, K, H, W)``.
    """
    if maps.shape[0] == 1:
        return maps[0]
    if maps.shape[2] > 1:
        return functional.log_softmax(maps, 2).logsumexp(0)
    # logit(mean p) = log(sum p) - log(sum (1 - p))
    return functional.logsigmoid(maps).logsumexp(0) - functional.logsigmoid(-maps).logsumexp(0)


@MODELS.register(
    "unetplusplus",
    divisor=16,
    cam_layer="bottom",
    deep_supervision=True,
    scriptable=True,
    small={"widths": [4, 8, 16]},
    parameters=9_042_276,
    macs=22_811_213_824,
    published_parameters=9_042_276,
    published_macs=22_811_213_824,
    paper="arXiv:1807.10165",
    licence="written from the paper; the authors' code is non-commercial",
)
class UNetPlusPlus(nn.Module):
    """UNet++, nested U-Nets with dense skip connections (Zhou et al. 2018, arXiv:1807.10165).

    The nodes X(i, j) form a triangle: X(i, 0) is the encoder; X(i, j) is two 3x3 convolutions on
    X(i + 1, j - 1), upsampled by a 2x2 transposed convolution, with all earlier nodes of row i. A 1x1 head on
    each of X(0, 1) to X(0, 4) gives four full-size maps. As in the authors' Keras code there is no
    normalisation, and dropout follows every convolution: 9,042,276 parameters for three channels in and one
    out. Their training also decays every kernel (L2, 1e-4), which is the optimiser's affair here.

    In training mode the four maps come as a tuple, equally weighted; in evaluation mode their mean does (the
    paper's "accurate" mode; the probabilities are averaged and returned as logits). A TorchScript
    module always gives the mean.

    Args:
        in_channels: channels of the image.
        out_channels: channels of the logits; 1 for one foreground class.
        widths: channels of each row, from the input's resolution down.
        deep_supervision: a head on each X(0, j); otherwise one, on the last.
        dropout: probability of dropping a value after each convolution.
        normalization: ``batch`` or None.

    Shape:
        images ``(N, C, H, W)`` with sides divisible by ``2 ** (len(widths) - 1)``, logits ``(N, K, H, W)``,
        in training mode with deep supervision a tuple of ``len(widths) - 1`` such.

    Raises:
        MedsegError: an argument is not usable, or an image's side is not divisible.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        widths: Sequence[int] = (32, 64, 128, 256, 512),
        deep_supervision: bool = True,
        dropout: float = 0.5,
        normalization: str | None = None,
    ) -> None:
        super().__init__()
        widths = check_arguments("unetplusplus", widths, normalization, dropout)
        depth = len(widths) - 1
        self.divisor = 2**depth
        inputs = (in_channels, *widths)
        levels = [
            double_convolution(a, b, normalization, dropout) for a, b in zip(inputs, widths, strict=False)
        ]
        self.encoder = nn.ModuleList(levels[:-1])
        self.bottom = levels[-1]
        self.pool = nn.MaxPool2d(2)
        self.columns = nn.ModuleList(
            nn.ModuleList(
                Node(widths[row + 1], widths[row], column, normalization, dropout)
                for row in range(depth - column + 1)
            )
            for column in range(1, depth + 1)
        )
        heads = depth if deep_supervision else 1
        self.heads = nn.ModuleList(nn.Conv2d(widths[0], out_channels, 1) for _ in range(heads))
        self.output_weights = (1.0,) * heads
        he_initialisation(self)

    def forward(self, images: Tensor) -> Any:
        if not torch.jit.is_scripting():
            check_sides("unetplusplus", images, self.divisor)
        top = self.nodes(images)
        maps: list[Tensor] = []
        for index, head in enumerate(self.heads):
            maps.append(head(top[index - len(self.heads)]))
        if not torch.jit.is_scripting() and self.training and len(maps) > 1:
            return tuple(maps)
        return mean_of_probabilities(torch.stack(maps))

    def nodes(self, images: Tensor) -> list[Tensor]:
        """The nodes of the top row, X(0, 0) to the last, which the heads look at."""
        features = images
        rows: list[list[Tensor]] = []
        for level in self.encoder:
            features = level(features)
            rows.append([features])
            features = self.pool(features)
        rows.append([self.bottom(features)])
        for column in self.columns:
            for index, node in enumerate(column):
                rows[index].append(node(rows[index + 1][-1], rows[index]))
        return rows[0]
