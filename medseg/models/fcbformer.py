"""FCBFormer."""

# a ModuleList gives plain Modules
# mypy: disable-error-code="arg-type"

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from medseg.errors import MedsegError
from medseg.models import MODELS
from medseg.models._backbones import pyramid
from medseg.models._blocks import check_sides

#: groups of every normalisation, so that all channel counts are multiples of it
GROUPS = 32
#: channels of every map of the transformer branch after its backbone
EMPHASISED = 64


class ResidualBlock(nn.Module):
    """The residual block (RB): group normalisation, SiLU and a 3x3 convolution, twice, and a skip connection.

    Args:
        in_channels: a multiple of 32.
        out_channels: a multiple of 32; where it differs from ``in_channels`` the skip is a 1x1 convolution.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for channels in (in_channels, out_channels):
            layers += [nn.GroupNorm(GROUPS, channels), nn.SiLU()]
            layers.append(nn.Conv2d(channels, out_channels, 3, padding=1))
        self.layers = nn.Sequential(*layers)
        same = in_channels == out_channels
        self.skip = nn.Identity() if same else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, maps: Tensor) -> Tensor:
        return self.layers(maps) + self.skip(maps)


class StepwiseAggregation(nn.Module):
    """Stepwise feature aggregation (SFA): the levels of the pyramid are joined one by one, from the deepest up.

    Args:
        levels: how many maps there are.

    Shape:
        maps, finest first, each ``(N, 64, H, W)``, result the same.
    """

    def __init__(self, levels: int = 4) -> None:
        super().__init__()
        self.steps = nn.ModuleList(residual_blocks(2 * EMPHASISED, EMPHASISED) for _ in range(levels - 1))

    def forward(self, maps: list[Tensor]) -> Tensor:
        aggregated = maps[-1]
        for index, step in enumerate(self.steps):
            aggregated = step(torch.cat((maps[-2 - index], aggregated), 1))
        return aggregated


class ConvolutionalBranch(nn.Module):
    """The fully convolutional branch (FCB): a residual U-Net at the image's size, without attention.

    Each level has two residual blocks on the way down and three on the way up. The output of every layer on
    the way down - the first convolution, the blocks and the convolutions of stride 2 - is kept, and each
    block on the way up takes the last one that is still unused.

    Args:
        in_channels: channels of the image.
        widths: channels of each level, from the image's size down; multiples of 32.

    Shape:
        images ``(N, C, H, W)``, result ``(N, widths[0], H, W)``.
    """

    def __init__(self, in_channels: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.stem = nn.Conv2d(in_channels, widths[0], 3, padding=1)
        down: list[nn.Module] = []
        kept = [widths[0]]
        for level, width in enumerate(widths):
            if level:
                down.append(nn.Conv2d(kept[-1], kept[-1], 3, stride=2, padding=1))
                kept.append(kept[-1])
            for _ in range(2):
                down.append(ResidualBlock(kept[-1], width))
                kept.append(width)
        self.down = nn.ModuleList(down)
        channels = widths[-1]
        self.middle = nn.Sequential(ResidualBlock(channels, channels), ResidualBlock(channels, channels))
        up: list[nn.Module] = []
        for level in range(len(widths))[::-1]:
            for index in range(3):
                block: list[nn.Module] = [ResidualBlock(channels + kept.pop(), widths[level])]
                channels = widths[level]
                if level and index == 2:
                    block += [
                        nn.Upsample(scale_factor=2, mode="nearest"),
                        nn.Conv2d(channels, channels, 3, padding=1),
                    ]
                up.append(nn.Sequential(*block))
        self.up = nn.ModuleList(up)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.stem(images)
        kept = [maps]
        for layer in self.down:
            maps = layer(maps)
            kept.append(maps)
        maps = self.middle(maps)
        for layer in self.up:
            maps = layer(torch.cat((maps, kept.pop()), 1))
        return maps


def residual_blocks(in_channels: int, out_channels: int) -> nn.Sequential:
    """Two residual blocks, as the transformer branch and the prediction head have them."""
    return nn.Sequential(ResidualBlock(in_channels, out_channels), ResidualBlock(out_channels, out_channels))


def local_emphasis(in_channels: int, scale: int) -> nn.Sequential:
    """Local emphasis (LE): two residual blocks, then the nearest pixel up to a quarter of the image's sides."""
    upsample = nn.Upsample(scale_factor=scale, mode="nearest") if scale > 1 else nn.Identity()
    return nn.Sequential(residual_blocks(in_channels, EMPHASISED), upsample)


@MODELS.register(
    "fcbformer",
    divisor=32,
    cam_layer="aggregation",
    deep_supervision=False,
    scriptable=True,
    backbone="PVTv2-B3",
    pretrained=("pvt_v2_b3.in1k",),
    small={"backbone": "pvt_v2_b0.in1k", "fcb_widths": [32, 32]},
    parameters=52_962_337,
    macs=29_869_170_688,
    published_parameters=52_962_337,
    published_macs=29_869_170_688,
    paper="arXiv:2208.08352",
    licence="written from the paper; the authors' code and the backbone's weights are under Apache-2.0",
)
class FCBFormer(nn.Module):
    """FCBFormer, a transformer beside a convolutional branch (Sanderson & Matuszewski 2022, arXiv:2208.08352).

    The transformer branch (TB) gives strong features at a quarter of the image's sides: a PVTv2 pyramid, local
    emphasis (LE) on each level and stepwise feature aggregation (SFA). The fully convolutional branch (FCB)
    gives features at full size. The prediction head (PH) joins the two. All upsampling repeats the nearest
    pixel. 52,962,337 parameters for three channels in and one out, as published.

    Args:
        in_channels: channels of the image.
        out_channels: channels of the logits; 1 for one foreground class.
        backbone: one of timm's PVTv2, ``pvt_v2_b0.in1k`` to ``pvt_v2_b5.in1k``.
        pretrained: weights of the backbone, trained on ImageNet-1k: True downloads them, or a file or folder.
        fcb_widths: channels of the fully convolutional branch's levels, from the image's size down.

    Shape:
        images ``(N, C, H, W)`` with sides divisible by 32 and by ``2 ** (len(fcb_widths) - 1)``, logits
        ``(N, K, H, W)``.

    Raises:
        MedsegError: an argument is not usable, the weights cannot be had, or an image's side is not divisible.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        backbone: str = "pvt_v2_b3.in1k",
        pretrained: bool | str = False,
        fcb_widths: Sequence[int] = (32, 32, 64, 64, 128, 128),
    ) -> None:
        super().__init__()
        _check(backbone, fcb_widths)
        self.divisor = max(32, 2 ** (len(fcb_widths) - 1))
        self.backbone = pyramid(backbone, in_channels, pretrained, model="fcbformer")
        facts: Any = self.backbone.feature_info
        self.emphasis = nn.ModuleList(
            local_emphasis(channels, reduction // 4)
            for channels, reduction in zip(facts.channels(), facts.reduction(), strict=True)
        )
        self.aggregation = StepwiseAggregation(len(self.emphasis))
        self.fcb = ConvolutionalBranch(in_channels, fcb_widths)
        self.upsample = nn.Upsample(scale_factor=4, mode="nearest")
        self.fusion = residual_blocks(EMPHASISED + fcb_widths[0], EMPHASISED)
        self.head = nn.Conv2d(EMPHASISED, out_channels, 1)

    def forward(self, images: Tensor) -> Tensor:
        if not torch.jit.is_scripting():
            check_sides("fcbformer", images, self.divisor)
        transformed = self.upsample(self.transformer_branch(images))
        return self.head(self.fusion(torch.cat((transformed, self.fcb(images)), 1)))

    def transformer_branch(self, images: Tensor) -> Tensor:
        """The features of the transformer branch, ``(N, 64, H / 4, W / 4)``."""
        pyramid = self.backbone(images)
        emphasised: list[Tensor] = []
        for level, emphasis in enumerate(self.emphasis):
            emphasised.append(emphasis(pyramid[level]))
        return self.aggregation(emphasised)


def _check(backbone: str, fcb_widths: Sequence[int]) -> None:
    if not str(backbone).startswith("pvt_v2_b"):
        raise MedsegError(
            f"model 'fcbformer': backbone must be a PVTv2, such as pvt_v2_b3.in1k; got {backbone!r}"
        )
    widths = list(fcb_widths)
    if not widths or any(width < 1 or width % GROUPS for width in widths):
        raise MedsegError(
            f"model 'fcbformer': fcb_widths must be multiples of {GROUPS} above 0; got {widths}"
        )
