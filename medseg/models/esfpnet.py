"""ESFPNet."""

# TorchScript takes a Size for a list
# mypy: disable-error-code="arg-type"

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from medseg.errors import MedsegError
from medseg.models import MODELS
from medseg.models._backbones import pyramid
from medseg.models._blocks import check_sides, convolution, resize
from medseg.models._pretrained import MIX_TRANSFORMER


def linear_prediction(channels: int) -> nn.Conv2d:
    """LP, a linear layer for each pixel that keeps the number of channels; written as a 1x1 convolution."""
    return nn.Conv2d(channels, channels, 1)


class EfficientStageWiseFeaturePyramid(nn.Module):
    """The ESFP decoder: linear predictions, fused from the coarsest level to the finest, at native widths.

    Each level has its LP. From the coarsest on, the running map is upsampled, laid beside the next finer
    level, brought to that level's width by a 1x1 convolution with batch normalisation and ReLU, and passes a
    second LP.

    Args:
        widths: channels of the four levels, finest first.

    Shape:
        levels ``(N, C_i, H_i, W_i)``, each half of the one before; result ``(N, sum of C_i, H_1, W_1)``.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        first, second, third, fourth = widths
        self.lp1, self.lp12 = linear_prediction(first), linear_prediction(first)
        self.lp2, self.lp23 = linear_prediction(second), linear_prediction(second)
        self.lp3, self.lp34 = linear_prediction(third), linear_prediction(third)
        self.lp4 = linear_prediction(fourth)
        self.fuse12 = convolution(first + second, first, 1)
        self.fuse23 = convolution(second + third, second, 1)
        self.fuse34 = convolution(third + fourth, third, 1)

    def forward(self, levels: list[Tensor]) -> Tensor:
        lp4 = self.lp4(levels[3])
        lp34 = self.lp34(self.fuse34(beside(self.lp3(levels[2]), lp4)))
        lp23 = self.lp23(self.fuse23(beside(self.lp2(levels[1]), lp34)))
        lp12 = self.lp12(self.fuse12(beside(self.lp1(levels[0]), lp23)))
        size = lp12.shape[2:]
        return torch.cat([lp12, resize(lp23, size), resize(lp34, size), resize(lp4, size)], 1)


def beside(finer: Tensor, coarser: Tensor) -> Tensor:
    """The finer map and the coarser one, upsampled to its size, side by side."""
    return torch.cat([finer, resize(coarser, finer.shape[2:])], 1)


@MODELS.register(
    "esfpnet",
    divisor=32,
    cam_layer="decoder",
    deep_supervision=False,
    scriptable=True,
    backbone="MiT-B4",
    pretrained=("mit_b4.imagenet",),
    small={"backbone": "mit_b0.imagenet"},
    parameters=61_690_049,
    macs=9_162_915_328,
    published_parameters=61_690_049,
    published_macs=9_162_915_328,
    paper="arXiv:2207.07759",
    licence="written from the paper; the authors' code has no licence; MiT's weights are non-commercial (NVIDIA)",
)
class ESFPNet(nn.Module):
    """ESFPNet, a mix transformer with an efficient stage-wise feature pyramid (Chang et al. 2022, arXiv:2207.07759).

    The decoder keeps the backbone's widths (it has no common embedding as SegFormer's head has), and a 1x1
    convolution turns its four maps, 1024 channels for MiT-B1 to B5, into logits at 1/4 of the sides: 61,690,049
    parameters for the published ESFPNet-L with three channels in and one out. ESFPNet-S is
    ``backbone="mit_b2.imagenet"`` (25,043,649), ESFPNet-T ``"mit_b0.imagenet"`` (3,532,129).

    The authors' network gives those small logits and their training upsamples them four times, bilinearly
    (``align_corners=False``); that is part of this network, so that the logits have the input's size.

    Args:
        in_channels: channels of the image.
        out_channels: channels of the logits; 1 for one foreground class.
        backbone: ``mit_b0.imagenet`` to ``mit_b5.imagenet``; its widths are the decoder's too.
        pretrained: True begins with the backbone's published weights, from the hub; a path with those in a
            local file or folder. Their licence, NVIDIA's for SegFormer, allows research and evaluation only.

    Shape:
        images ``(N, C, H, W)`` with sides divisible by 32, logits ``(N, K, H, W)``.

    Raises:
        MedsegError: an argument is not usable, or an image's side is not divisible.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        backbone: str = "mit_b4.imagenet",
        pretrained: bool | str = False,
    ) -> None:
        super().__init__()
        if not backbone.startswith(MIX_TRANSFORMER):
            raise MedsegError(
                f"model 'esfpnet': backbone must be mit_b0.imagenet to mit_b5.imagenet; got {backbone!r}"
            )
        network: Any = pyramid(backbone, in_channels, pretrained, model="esfpnet")
        widths = network.encoder.out_channels[-4:]
        self.divisor = 32
        self.backbone = network
        self.decoder = EfficientStageWiseFeaturePyramid(widths)
        self.head = nn.Conv2d(sum(widths), out_channels, 1)

    def forward(self, images: Tensor) -> Tensor:
        if not torch.jit.is_scripting():
            check_sides("esfpnet", images, self.divisor)
        return resize(self.head(self.decoder(self.backbone(images))), images.shape[2:])
