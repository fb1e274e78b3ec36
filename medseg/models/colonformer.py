"""ColonFormer."""

# a ModuleList gives plain Modules, and TorchScript takes a Size for a list
# mypy: disable-error-code="arg-type"

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from medseg.errors import MedsegError
from medseg.models import MODELS
from medseg.models._axial import AxialReverseAttention, check_axes
from medseg.models._backbones import pyramid
from medseg.models._blocks import check_batch, check_dropout, check_sides, convolution, resize
from medseg.models._pretrained import MIX_TRANSFORMER


def averages(side: int, bins: int, like: Tensor) -> Tensor:
    """Each row averages one of ``bins`` windows over ``side`` pixels, as adaptive average pooling cuts them.

    Multiplying by it is that pooling, of any side to any number of windows, which ONNX does not have.

    Shape:
        result ``(bins, side)``, of the device and type of ``like``.
    """
    window = torch.arange(bins, device=like.device).unsqueeze(1)
    pixel = torch.arange(side, device=like.device)
    start, end = window * side // bins, ((window + 1) * side + bins - 1) // bins
    inside = ((pixel >= start) & (pixel < end)).to(like.dtype)
    return inside / inside.sum(1, keepdim=True)


class PyramidPooling(nn.Module):
    """The pyramid pooling module (Zhao et al. 2017, arXiv:1612.01105) and the convolution that fuses it.

    Args:
        in_channels: channels of the map.
        channels: channels of each pooled map, and of the result.
        bins: windows along each side, one pooled map for each.

    Shape:
        maps ``(N, C, H, W)``, result ``(N, channels, H, W)``.
    """

    def __init__(self, in_channels: int, channels: int, bins: Sequence[int] = (1, 2, 3, 6)) -> None:
        super().__init__()
        self.bins = list(bins)
        self.projections = nn.ModuleList(convolution(in_channels, channels, 1) for _ in bins)
        self.bottleneck = convolution(in_channels + len(self.bins) * channels, channels)

    def forward(self, maps: Tensor) -> Tensor:
        height, width = maps.shape[2], maps.shape[3]
        levels = [maps]
        for index, projection in enumerate(self.projections):
            bins = self.bins[index]
            pooled = averages(height, bins, maps) @ maps @ averages(width, bins, maps).transpose(0, 1)
            levels.append(resize(projection(pooled), maps.shape[2:]))
        return self.bottleneck(torch.cat(levels, 1))


class UPerHead(nn.Module):
    """UPerNet's decoder (Xiao et al. 2018, arXiv:1807.10221): pyramid pooling, then a feature pyramid network.

    Args:
        widths: channels of the levels, finest first.
        channels: channels of every map of the decoder.
        out_channels: channels of the logits.
        dropout: probability of dropping a channel before the last convolution.

    Shape:
        levels ``(N, C_i, H_i, W_i)``, result ``(N, K, H_1, W_1)``.
    """

    def __init__(self, widths: Sequence[int], channels: int, out_channels: int, dropout: float) -> None:
        super().__init__()
        self.pooling = PyramidPooling(widths[-1], channels)
        self.laterals = nn.ModuleList(convolution(width, channels, 1) for width in widths[:-1])
        self.convolutions = nn.ModuleList(convolution(channels, channels) for _ in widths[:-1])
        self.bottleneck = convolution(len(widths) * channels, channels)
        self.dropout = nn.Dropout2d(dropout)
        self.head = nn.Conv2d(channels, out_channels, 1)

    def forward(self, levels: list[Tensor]) -> Tensor:
        laterals: list[Tensor] = []
        for index, lateral in enumerate(self.laterals):
            laterals.append(lateral(levels[index]))
        laterals.append(self.pooling(levels[-1]))
        for index in range(len(laterals) - 1, 0, -1):
            # not in place: the ReLU before needs its output for the gradient
            finer = laterals[index - 1]
            laterals[index - 1] = finer + resize(laterals[index], finer.shape[2:])
        size = laterals[0].shape[2:]
        maps: list[Tensor] = []
        for index, block in enumerate(self.convolutions):
            maps.append(resize(block(laterals[index]), size))
        maps.append(resize(laterals[-1], size))
        return self.head(self.dropout(self.bottleneck(torch.cat(maps, 1))))


@MODELS.register(
    "colonformer",
    divisor=32,
    cam_layer="decoder.bottleneck",
    deep_supervision=True,
    scriptable=True,
    batch_of_one=False,
    backbone="MiT-B3",
    pretrained=("mit_b3.imagenet",),
    small={"backbone": "mit_b0.imagenet", "channels": 32},
    parameters=52_944_528,
    macs=9_502_837_472,
    published_parameters=52_944_528,
    published_macs=9_502_357_216,
    paper="arXiv:2205.08473",
    licence="written from the paper; the authors' code and MiT's weights are non-commercial (NVIDIA)",
)
class ColonFormer(nn.Module):
    """ColonFormer, a mix transformer with UPerNet's decoder and a refinement (Duc et al. 2022, arXiv:2205.08473).

    The decoder gives a global map at 1/4 of the sides. It is taken down to 1/32, and three residual
    axial reverse attention modules, on the backbone's levels at their native widths, refine it up to 1/8: 52,944,528
    parameters with MiT-B3 (the authors' training script) for three channels in and one out. ColonFormer-S is
    ``backbone="mit_b2.imagenet"`` (33,068,688); ``"mit_b1.imagenet"`` has 22,023,824. As pyramid
    pooling is written as matrix products here, 480,256 multiply-accumulates of a 224 x 224 image are counted
    that the authors' code does uncounted.

    In training mode the four maps come as a tuple, the last refinement first (from 1/8, 1/16, 1/32 of the
    sides, then the global map), equally weighted in the paper's loss; in evaluation mode, and always as a TorchScript
    module, the first does alone. Pyramid pooling down to one pixel is batch-normalised, so training needs
    two images or more.

    Args:
        in_channels: channels of the image.
        out_channels: channels of the logits; 1 for one foreground class. With more, the background that
            reverse attention looks at is the first.
        backbone: ``mit_b0.imagenet`` to ``mit_b5.imagenet``.
        channels: channels of the decoder.
        dropout: probability of dropping a channel before the decoder's last convolution.
        attention_axes: ``paper`` attends between the rows, then between the columns; ``code`` does as the
            authors' code, where on square images both are between the columns, see
            :class:`medseg.models._axial.AxialAttention`.
        pretrained: True begins with the backbone's published weights, from the hub; a path with those in a
            local file or folder. Their licence, NVIDIA's for SegFormer, allows research and evaluation only.

    Shape:
        images ``(N, C, H, W)`` with sides divisible by 32, logits ``(N, K, H, W)``, in training mode a tuple of
        four such.

    Raises:
        MedsegError: an argument is not usable, an image's side is not divisible, or a batch of one is to be
            trained on.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        backbone: str = "mit_b3.imagenet",
        channels: int = 128,
        dropout: float = 0.1,
        attention_axes: str = "paper",
        pretrained: bool | str = False,
    ) -> None:
        super().__init__()
        axes = _check(backbone, channels, dropout, attention_axes)
        network: Any = pyramid(backbone, in_channels, pretrained, model="colonformer")
        widths = network.encoder.out_channels[-4:]
        self.divisor = 32
        self.backbone = network
        self.decoder = UPerHead(widths, channels, out_channels, dropout)
        self.refinement4 = AxialReverseAttention(widths[3], out_channels, residual=True, axes=axes)
        self.refinement3 = AxialReverseAttention(widths[2], out_channels, residual=True, axes=axes)
        self.refinement2 = AxialReverseAttention(widths[1], out_channels, residual=True, axes=axes)
        self.output_weights = (1.0,) * 4

    def forward(self, images: Tensor) -> Any:
        if not torch.jit.is_scripting():
            check_sides("colonformer", images, self.divisor)
            check_batch("colonformer", images, self.decoder.pooling.projections[0])
        levels = self.backbone(images)
        size = images.shape[2:]
        global_map = self.decoder(levels)
        map4 = self.refinement4(levels[3], resize(global_map, levels[3].shape[2:]))
        map3 = self.refinement3(levels[2], resize(map4, levels[2].shape[2:]))
        map2 = self.refinement2(levels[1], resize(map3, levels[1].shape[2:]))
        if not torch.jit.is_scripting() and self.training:
            return tuple(resize(logits, size) for logits in (map2, map3, map4, global_map))
        return resize(map2, size)


def _check(backbone: str, channels: int, dropout: float, axes: str) -> str:
    if not backbone.startswith(MIX_TRANSFORMER):
        raise MedsegError(
            f"model 'colonformer': backbone must be mit_b0.imagenet to mit_b5.imagenet; got {backbone!r}"
        )
    if channels < 1:
        raise MedsegError(f"model 'colonformer': channels must be a number above 0; got {channels}")
    check_dropout("colonformer", dropout)
    return check_axes("colonformer", axes)
