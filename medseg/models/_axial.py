"""What CaraNet and ColonFormer share: the CFP module and axial reverse attention."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medseg.errors import MedsegError

AXES = ("paper", "code")


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """Batch normalisation with the authors' epsilon."""
    return nn.BatchNorm2d(channels, eps=1e-3)


def convolution_prelu(
    in_channels: int, out_channels: int, *, dilation: int = 1, groups: int = 1
) -> nn.Sequential:
    """A padded 3x3 convolution without bias, batch normalisation (epsilon 1e-3), and a PReLU per channel."""
    return nn.Sequential(
        nn.Conv2d(
            in_channels, out_channels, 3, padding=dilation, dilation=dilation, groups=groups, bias=False
        ),
        batch_norm(out_channels),
        nn.PReLU(out_channels),
    )


class PyramidChannel(nn.Module):
    """One channel of the CFP module: three grouped 3x3 convolutions of one dilation, their outputs side by side.

    Args:
        channels: channels in and out, in the proportion 1 : 1 : 2 from the three convolutions.
        dilation: of all three.
    """

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        quarter = channels // 4
        self.first = convolution_prelu(channels, quarter, dilation=dilation, groups=quarter)
        self.second = convolution_prelu(quarter, quarter, dilation=dilation, groups=quarter)
        self.third = convolution_prelu(quarter, channels // 2, dilation=dilation, groups=quarter)

    def forward(self, maps: Tensor) -> Tensor:
        first = self.first(maps)
        second = self.second(first)
        return torch.cat([first, second, self.third(second)], 1)


class ChannelwiseFeaturePyramid(nn.Module):
    """The CFP module (Lou and Loew 2021, arXiv:2103.12212): four dilations at a quarter of the channels each.

    Batch normalisation, PReLU and a convolution to a quarter of the channels; four pyramid channels of
    dilations 1, d/4 + 1, d/2 + 1 and d + 1, each of which is added to the sum of the smaller ones (hierarchical
    feature fusion, against gridding); the four sums side by side, batch normalisation, PReLU, a 1x1
    convolution, and the input added. The papers call the first convolution 1x1; the authors' is 3x3, as
    the published numbers of parameters ask for.

    Args:
        channels: channels in and out, a multiple of 16.
        dilation: d, a multiple of 4.

    Shape:
        maps and result ``(N, C, H, W)``.
    """

    def __init__(self, channels: int, dilation: int = 8) -> None:
        super().__init__()
        quarter = channels // 4
        self.reduction = nn.Sequential(
            batch_norm(channels), nn.PReLU(channels), convolution_prelu(channels, quarter)
        )
        dilations = (1, dilation // 4 + 1, dilation // 2 + 1, dilation + 1)
        self.channels = nn.ModuleList(PyramidChannel(quarter, d) for d in dilations)
        self.projection = nn.Sequential(
            batch_norm(channels), nn.PReLU(channels), nn.Conv2d(channels, channels, 1, bias=False)
        )

    def forward(self, maps: Tensor) -> Tensor:
        reduced = self.reduction(maps)
        total = torch.zeros_like(reduced)
        sums: list[Tensor] = []
        for channel in self.channels:
            total = total + channel(reduced)
            sums.append(total)
        return self.projection(torch.cat(sums, 1)) + maps


class AxisAttention(nn.Module):
    r"""Self-attention between the columns of a map, or between its rows.

    A column is one token: the values of all its pixels in all channels. With queries and keys of an eighth of
    the channels, :math:`x + \gamma \, \sigma(q^T k) v`: a sigmoid without scaling instead of a softmax,
    and :math:`\gamma` starts at 0, so that the block begins as the identity, and the queries and keys learn from the
    second step on.

    Args:
        channels: channels in and out, a multiple of 8.
        axis: ``width`` (between columns), ``height`` (between rows), or ``reshape``, for which see
            :class:`AxialAttention`.

    Shape:
        maps and result ``(N, C, H, W)``.
    """

    def __init__(self, channels: int, axis: str) -> None:
        super().__init__()
        self.query = nn.Conv2d(channels, channels // 8, 1, bias=False)
        self.key = nn.Conv2d(channels, channels // 8, 1, bias=False)
        self.value = nn.Conv2d(channels, channels, 1, bias=False)
        self.gamma = nn.Parameter(torch.zeros(1))
        self.axis = axis

    def forward(self, maps: Tensor) -> Tensor:
        query, key = self.tokens(self.query(maps)), self.tokens(self.key(maps))
        attention = torch.sigmoid(query.transpose(1, 2) @ key)
        result = self.tokens(self.value(maps)) @ attention.transpose(1, 2)
        return self.gamma * self.spread(result, maps) + maps

    def tokens(self, maps: Tensor) -> Tensor:
        """Maps ``(N, C, H, W)`` as features ``(N, F, T)`` of the T tokens."""
        if self.axis == "height":
            return maps.transpose(2, 3).flatten(1, 2)
        if self.axis == "width":
            return maps.flatten(1, 2)
        return maps.reshape(maps.shape[0], -1, maps.shape[2])

    def spread(self, tokens: Tensor, maps: Tensor) -> Tensor:
        """The reverse of :meth:`tokens`, to the shape of ``maps``."""
        count, channels, height, width = maps.shape
        if self.axis == "height":
            return tokens.reshape(count, channels, width, height).transpose(2, 3)
        return tokens.reshape(count, channels, height, width)


class AxialAttention(nn.Module):
    """A 1x1 and a 3x3 convolution (no bias, no activation), then attention between the rows, then the columns.

    The authors' code reshapes to ``(N, -1, H)`` for the rows without transposing. On square maps that is
    attention between the columns once more; on others the tokens are pieces of several rows. ``axes="paper"`` is
    attention between the rows as the papers describe it, ``axes="code"`` does what the code does; the number of
    parameters is the same.

    Args:
        channels: channels in and out, a multiple of 8.
        axes: ``paper`` or ``code``.

    Shape:
        maps and result ``(N, C, H, W)``.
    """

    def __init__(self, channels: int, axes: str = "paper") -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
        )
        self.height = AxisAttention(channels, "height" if axes == "paper" else "reshape")
        self.width = AxisAttention(channels, "width")

    def forward(self, maps: Tensor) -> Tensor:
        return self.width(self.height(self.convolutions(maps)))


class AxialReverseAttention(nn.Module):
    """One step of refinement: features in context, looked at where the coarser map sees no lesion, correct it.

    The features pass a CFP module and axial attention, are multiplied by the background's probability of the
    coarser map, 1 - sigmoid, and three 3x3 convolutions, all with batch normalisation and PReLU, turn them
    into what is added to that map. With several output channels the background's probability is the first
    channel of their softmax; the papers have one channel.

    Args:
        channels: channels of the features, a multiple of 16.
        out_channels: channels of the map.
        residual: add the CFP module's output to the axial attention's (ColonFormer).
        axes: ``paper`` or ``code``, see :class:`AxialAttention`.

    Shape:
        features ``(N, C, H, W)``, coarser logits and result ``(N, K, H, W)``.
    """

    def __init__(
        self, channels: int, out_channels: int, *, residual: bool = False, axes: str = "paper"
    ) -> None:
        super().__init__()
        self.context = ChannelwiseFeaturePyramid(channels)
        self.attention = AxialAttention(channels, axes)
        self.convolutions = nn.Sequential(
            convolution_prelu(channels, 32), convolution_prelu(32, 32), convolution_prelu(32, out_channels)
        )
        self.residual = residual
        self.several = out_channels > 1

    def forward(self, features: Tensor, coarser: Tensor) -> Tensor:
        context = self.context(features)
        attended = self.attention(context)
        if self.residual:
            attended = attended + context
        return self.convolutions(self.background(coarser) * attended) + coarser

    def background(self, logits: Tensor) -> Tensor:
        """The background's probability, ``(N, 1, H, W)``."""
        if self.several:
            return torch.softmax(logits, 1)[:, :1]
        return 1 - torch.sigmoid(logits)


def check_axes(model: str, axes: str) -> str:
    """The argument ``attention_axes``, once it is found usable.

    Raises:
        MedsegError: it is neither ``paper`` nor ``code``.
    """
    if axes not in AXES:
        raise MedsegError(f"model {model!r}: attention_axes must be 'paper' or 'code'; got {axes!r}")
    return axes
