"""ResUNet++."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medseg.errors import MedsegError
from medseg.models import MODELS
from medseg.models._blocks import check_sides

#: dilations of the four convolutions that ASPP adds up
RATES = (1, 6, 12, 18)
#: by how much squeeze and excitation narrows the channels
SQUEEZE = 8


class SqueezeExcitation(nn.Module):
    """Channels weighted by what their means say (Hu et al. 2018, arXiv:1709.01507).

    Args:
        channels: channels of the maps; an eighth of them in between.

    Shape:
        maps ``(N, C, H, W)``, result the same.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weights = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, channels // SQUEEZE, 1, bias=False),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels // SQUEEZE, channels, 1, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, maps: Tensor) -> Tensor:
        return maps * self.weights(maps)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a 1x1 shortcut, and squeeze and excitation of their sum.

    Args:
        in_channels: channels of the maps.
        out_channels: channels of the result.
        stride: of the first convolution and the shortcut.
        stem: the network's first block, which does not normalise and activate the image first.

    Shape:
        maps ``(N, C, H, W)``, result ``(N, out_channels, H / stride, W / stride)``.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, stem: bool = False) -> None:
        super().__init__()
        first = [] if stem else [nn.BatchNorm2d(in_channels), nn.ReLU(inplace=True)]
        self.convolutions = nn.Sequential(
            *first,
            nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, 3, padding=1),
        )
        self.shortcut = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 1, stride=stride), nn.BatchNorm2d(out_channels)
        )
        self.squeeze_excitation = SqueezeExcitation(out_channels)

    def forward(self, maps: Tensor) -> Tensor:
        return self.squeeze_excitation(self.convolutions(maps) + self.shortcut(maps))


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: 3x3 convolutions of several dilations, normalised and added up.

    Args:
        in_channels: channels of the maps.
        out_channels: channels of the result.

    Shape:
        maps ``(N, C, H, W)``, result ``(N, out_channels, H, W)``.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 3, padding=rate, dilation=rate),
                nn.BatchNorm2d(out_channels),
            )
            for rate in RATES
        )
        self.output = nn.Conv2d(out_channels, out_channels, 1)

    def forward(self, maps: Tensor) -> Tensor:
        total = self.branches[0](maps)
        for index, branch in enumerate(self.branches):
            if index > 0:
                total = total + branch(maps)
        return self.output(total)


def _activated(in_channels: int, out_channels: int) -> nn.Sequential:
    """Batch normalisation, ReLU and a 3x3 convolution."""
    return nn.Sequential(
        nn.BatchNorm2d(in_channels), nn.ReLU(inplace=True), nn.Conv2d(in_channels, out_channels, 3, padding=1)
    )


class Attention(nn.Module):
    """The decoder's maps, weighted in each channel and pixel by themselves and the encoder's maps.

    The weights are no probabilities: nothing bounds them.

    Args:
        encoder_channels: channels of the encoder's maps.
        channels: channels of the decoder's maps.

    Shape:
        encoder ``(N, E, 2 H, 2 W)``, decoder ``(N, C, H, W)``, result ``(N, C, H, W)``.
    """

    def __init__(self, encoder_channels: int, channels: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(*_activated(encoder_channels, channels), nn.MaxPool2d(2))
        self.decoder = _activated(channels, channels)
        self.weights = _activated(channels, channels)

    def forward(self, encoder: Tensor, decoder: Tensor) -> Tensor:
        return decoder * self.weights(self.encoder(encoder) + self.decoder(decoder))


class DecoderBlock(nn.Module):
    """Attention, upsampling by 2, the encoder's maps beside it, and a residual block.

    Args:
        encoder_channels: channels of the encoder's maps.
        in_channels: channels of the decoder's maps.
        out_channels: channels of the result.

    Shape:
        encoder ``(N, E, 2 H, 2 W)``, decoder ``(N, C, H, W)``, result ``(N, out_channels, 2 H, 2 W)``.
    """

    def __init__(self, encoder_channels: int, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.attention = Attention(encoder_channels, in_channels)
        self.up = nn.Upsample(scale_factor=2.0, mode="nearest")
        self.residual = ResidualBlock(in_channels + encoder_channels, out_channels)

    def forward(self, encoder: Tensor, decoder: Tensor) -> Tensor:
        return self.residual(torch.cat((self.up(self.attention(encoder, decoder)), encoder), 1))


@MODELS.register(
    "resunetplusplus",
    divisor=8,
    cam_layer="bridge",
    deep_supervision=False,
    scriptable=True,
    small={"filters": [16, 16, 24, 32, 32]},
    parameters=4_062_993,
    macs=11_996_490_304,
    published_parameters=4_062_993,
    published_macs=11_996_490_304,
    paper="arXiv:1911.07067",
    licence="written from the paper; the authors' code has no licence",
)
class ResUNetPlusPlus(nn.Module):
    """ResUNet++, a residual U-Net with attention (Jha et al. 2019, arXiv:1911.07067).

    A stem and three residual blocks of stride 2, each with squeeze and excitation of its sum; ASPP as the bridge; three
    decoder blocks, each attention, nearest upsampling, the encoder's maps and a residual block; ASPP again, and a 1x1
    convolution. As in the authors' code, attention has a map per channel and no sigmoid, and ASPP adds up its four
    branches, without an activation or the image's mean. 4,062,993 parameters for three channels in and one out.

    Args:
        in_channels: channels of the image.
        out_channels: channels of the logits; 1 for one foreground class.
        filters: channels of the stem, the three blocks and the bridge, each at least 8. The authors' later work has
            32 to 512 (16,228,001 parameters).

    Shape:
        images ``(N, C, H, W)`` with sides divisible by 8, logits ``(N, K, H, W)``.

    Raises:
        MedsegError: the filters are not usable, or an image's side is not divisible.
    """

    divisor = 8

    def __init__(
        self, in_channels: int, out_channels: int, filters: Sequence[int] = (16, 32, 64, 128, 256)
    ) -> None:
        super().__init__()
        if len(filters) != 5 or min(filters) < SQUEEZE:
            raise MedsegError(
                f"model 'resunetplusplus': filters must be five numbers of at least {SQUEEZE}; got {list(filters)}"
            )
        encoder, bridge = filters[:4], filters[4]
        self.stem = ResidualBlock(in_channels, encoder[0], stem=True)
        self.encoder = nn.ModuleList(ResidualBlock(a, b, stride=2) for a, b in itertools.pairwise(encoder))
        self.bridge = ASPP(encoder[-1], bridge)
        below = (bridge, *encoder[:0:-1])
        self.decoder = nn.ModuleList(
            DecoderBlock(skip, a, b)
            for skip, (a, b) in zip(encoder[-2::-1], itertools.pairwise(below), strict=True)
        )
        self.aspp = ASPP(encoder[1], encoder[0])
        self.head = nn.Conv2d(encoder[0], out_channels, 1)

    def forward(self, images: Tensor) -> Tensor:
        if not torch.jit.is_scripting():
            check_sides("resunetplusplus", images, self.divisor)
        features = self.stem(images)
        skips: list[Tensor] = []
        for block in self.encoder:
            skips.append(features)
            features = block(features)
        features = self.bridge(features)
        for decoder in self.decoder:
            features = decoder(skips.pop(), features)
        return self.head(self.aspp(features))
