"""EMCAD."""

# a ModuleList gives plain Modules
# mypy: disable-error-code="arg-type"

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import combinations, pairwise
from typing import Any

import torch
from torch import Tensor, nn

from medseg.errors import MedsegError
from medseg.models import MODELS
from medseg.models._backbones import pyramid
from medseg.models._blocks import check_sides, convolution, resize

ReLU6 = partial(nn.ReLU6, inplace=True)
#: each output and their sum, as the paper trains two classes; or the sum of every subset, as it trains more
SUPERVISION = ("additive", "mutation")


class ChannelAttention(nn.Module):
    """The channel attention block (CAB): weighs each channel by its mean and its maximum over the image.

    Args:
        channels: a multiple of 16.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bottleneck = nn.Sequential(
            nn.Conv2d(channels, channels // 16, 1, bias=False),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels // 16, channels, 1, bias=False),
        )

    def forward(self, maps: Tensor) -> Tensor:
        mean, maximum = maps.mean((2, 3), keepdim=True), maps.amax((2, 3), keepdim=True)
        return maps * torch.sigmoid(self.bottleneck(mean) + self.bottleneck(maximum))


class SpatialAttention(nn.Module):
    """The spatial attention block (SAB): weighs each pixel by the mean and the maximum of its channels around it."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        seen = torch.cat((maps.mean(1, keepdim=True), maps.amax(1, keepdim=True)), 1)
        return maps * torch.sigmoid(self.convolution(seen))


class MultiScaleConvolution(nn.Module):
    """The multi-scale convolution block (MSCB): parallel depthwise convolutions between two pointwise ones.

    The depthwise results are added, then the channels are shuffled in as many groups as there are outputs.

    Args:
        channels: channels in and out.
        kernel_sizes: one for each depthwise convolution; odd.
        expansion: how many times the channels in the middle.
    """

    def __init__(self, channels: int, kernel_sizes: Sequence[int], expansion: int) -> None:
        super().__init__()
        wide = channels * expansion
        self.channels = channels
        self.expand = convolution(channels, wide, 1, activation=ReLU6)
        self.depthwise = nn.ModuleList(
            convolution(wide, wide, size, groups=wide, activation=ReLU6) for size in kernel_sizes
        )
        self.project = convolution(wide, channels, 1, activation=None)

    def forward(self, maps: Tensor) -> Tensor:
        wide = self.expand(maps)
        scales = [branch(wide) for branch in self.depthwise]
        total = scales[0]
        for scale in scales[1:]:
            total = total + scale
        shuffled = total.unflatten(1, (self.channels, -1)).transpose(1, 2).flatten(1, 2)
        return maps + self.project(shuffled)


class UpConvolution(nn.Module):
    """The efficient up-convolution block (EUCB): twice the sides, a depthwise and a pointwise convolution.

    The channel shuffle that stands between the two has groups of one channel and hence moves none; it is
    left out.

    Args:
        in_channels: channels of the deeper level.
        out_channels: channels of the next.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Upsample(scale_factor=2, mode="nearest"),
            convolution(in_channels, in_channels, 3, groups=in_channels),
            nn.Conv2d(in_channels, out_channels, 1),
        )

    def forward(self, maps: Tensor) -> Tensor:
        return self.layers(maps)


class AttentionGate(nn.Module):
    """The large-kernel grouped attention gate (LGAG): weighs the pixels of a skip connection.

    Args:
        channels: channels of the gating signal and of the skip connection; even.
        kernel_size: of the grouped convolutions, whose groups see two channels each; odd.
    """

    def __init__(self, channels: int, kernel_size: int) -> None:
        super().__init__()
        half = channels // 2
        self.gating, self.skip = (
            nn.Sequential(
                nn.Conv2d(channels, half, kernel_size, padding=kernel_size // 2, groups=half),
                nn.BatchNorm2d(half),
            )
            for _ in range(2)
        )
        self.attention = nn.Sequential(
            nn.ReLU(inplace=True), nn.Conv2d(half, 1, 1), nn.BatchNorm2d(1), nn.Sigmoid()
        )

    def forward(self, gating: Tensor, skip: Tensor) -> Tensor:
        return skip * self.attention(self.gating(gating) + self.skip(skip))


class Fusion(nn.Module):
    """A deeper level brought up (EUCB), plus the skip connection that it gates (LGAG)."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__()
        self.eucb = UpConvolution(in_channels, out_channels)
        self.lgag = AttentionGate(out_channels, kernel_size)

    def forward(self, deeper: Tensor, skip: Tensor) -> Tensor:
        up = self.eucb(deeper)
        return up + self.lgag(up, skip)


class EMCADDecoder(nn.Module):
    """The decoder: on each level multi-scale convolutional attention (MSCAM), which is CAB, SAB and MSCB in turn.

    All levels share one SAB; everything else is their own.

    Args:
        widths: channels of the pyramid's levels, finest first; multiples of 16.
        kernel_sizes: of the depthwise convolutions of each MSCB.
        expansion: of each MSCB.
        gate_kernel_size: of each LGAG.

    Shape:
        maps, finest first, the sides of each half those of the one before; result of the same shapes, but
        deepest first.
    """

    def __init__(
        self, widths: Sequence[int], kernel_sizes: Sequence[int], expansion: int, gate_kernel_size: int
    ) -> None:
        super().__init__()
        deepest_first = list(widths)[::-1]
        self.cab = nn.ModuleList(ChannelAttention(width) for width in deepest_first)
        self.sab = SpatialAttention()
        self.mscb = nn.ModuleList(
            MultiScaleConvolution(width, kernel_sizes, expansion) for width in deepest_first
        )
        self.fusion = nn.ModuleList(
            Fusion(deeper, width, gate_kernel_size) for deeper, width in pairwise(deepest_first)
        )

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        fused = maps[-1]
        decoded: list[Tensor] = []
        skips = maps[:-1]
        # one fusion less than levels, so the finest level comes after the loop
        for cab, mscb, fusion in zip(self.cab, self.mscb, self.fusion):  # noqa: B905  (TorchScript)
            decoded.append(mscb(self.sab(cab(fused))))
            fused = fusion(decoded[-1], skips.pop())
        decoded.append(self.mscb[-1](self.sab(self.cab[-1](fused))))
        return decoded


@MODELS.register(
    "emcad",
    divisor=32,
    cam_layer="decoder.mscb.3",
    deep_supervision=True,
    scriptable=True,
    backbone="PVTv2-B2",
    pretrained=("pvt_v2_b2.in1k",),
    small={"backbone": "pvt_v2_b0.in1k"},
    parameters=26_764_399,
    macs=4_391_989_482,
    published_parameters=26_764_411,
    published_macs=4_392_177_642,
    paper="arXiv:2405.06880",
    licence="written from the paper; the authors' code is for research only (UT Austin Research License)",
)
class EMCAD(nn.Module):
    """EMCAD, efficient multi-scale convolutional attention decoding (Rahman et al. 2024, arXiv:2405.06880).

    The decoder refines each level of a PVTv2 pyramid by multi-scale convolutional attention (MSCAM) and leads
    upwards by efficient up-convolutions (EUCB), with attention gates (LGAG) on the skip connections. A 1x1
    head on each level gives four maps, stretched to the input's size: at 1/32, 1/16, 1/8 and 1/4 of its
    sides. A grey image is first mapped to three channels by a 1x1 convolution, as the authors do; they build
    these 12 parameters for colour images too, without ever using them, and here they are left out: 26,764,399
    for three channels in and one out against the published 26,764,411 (3,916,783 against 3,916,795 with
    ``pvt_v2_b0``). The multiply-accumulates of evaluation lack those of the three heads that it does not use.

    In training mode the four maps come as a tuple, the finest last; in evaluation mode the finest alone. A
    TorchScript module always gives the finest.

    Args:
        in_channels: channels of the image.
        out_channels: channels of the logits; 1 for one foreground class.
        backbone: one of timm's PVTv2; the paper has ``pvt_v2_b2.in1k`` and ``pvt_v2_b0.in1k``.
        pretrained: weights of the backbone, trained on ImageNet-1k: True downloads them, or a file or folder.
        supervision: whose loss is added up: ``additive``, each map's and that of the sum of all four, which
            the paper takes for two classes; ``mutation``, that of the sum of each of the 15 subsets, which
            it takes for more.
        kernel_sizes: of the parallel depthwise convolutions (MSCB).
        expansion: how many times the channels in the middle of an MSCB.
        gate_kernel_size: of the grouped convolutions of an LGAG.
        drop_path: the probability of skipping the backbone's last block in training; less for those before.

    Shape:
        images ``(N, C, H, W)`` with sides divisible by 32, logits ``(N, K, H, W)``, in training mode a tuple
        of four such.

    Raises:
        MedsegError: an argument is not usable, the weights cannot be had, or an image's side is not divisible.
    """

    divisor = 32

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        backbone: str = "pvt_v2_b2.in1k",
        pretrained: bool | str = False,
        supervision: str = "additive",
        kernel_sizes: Sequence[int] = (1, 3, 5),
        expansion: int = 2,
        gate_kernel_size: int = 3,
        drop_path: float = 0.1,
    ) -> None:
        super().__init__()
        _check(backbone, supervision, kernel_sizes, expansion, gate_kernel_size, drop_path)
        grey = in_channels == 1
        # unlike the decoder's other pointwise convolutions, this one has a bias before its normalisation
        layers = (nn.Conv2d(1, 3, 1), nn.BatchNorm2d(3), nn.ReLU(inplace=True)) if grey else ()
        self.colour = nn.Sequential(*layers)
        self.backbone = pyramid(
            backbone, 3 if grey else in_channels, pretrained, model="emcad", drop_path_rate=drop_path
        )
        facts: Any = self.backbone.feature_info
        widths = facts.channels()
        self.decoder = EMCADDecoder(widths, kernel_sizes, expansion, gate_kernel_size)
        self.heads = nn.ModuleList(nn.Conv2d(width, out_channels, 1) for width in widths[::-1])
        self.output_weights = subset_weights(supervision, len(widths))

    def forward(self, images: Tensor) -> Any:
        if not torch.jit.is_scripting():
            check_sides("emcad", images, self.divisor)
        decoded = self.decoder(self.backbone(self.colour(images)))
        size = [images.shape[2], images.shape[3]]
        if not torch.jit.is_scripting() and self.training:
            pairs = zip(self.heads, decoded, strict=True)
            return tuple(resize(head(maps), size) for head, maps in pairs)
        return resize(self.heads[-1](decoded[-1]), size)


def subset_weights(supervision: str, outputs: int) -> dict[tuple[int, ...], float]:
    """The weight of each sum of outputs in the loss.

    Args:
        supervision: ``additive`` or ``mutation``.
        outputs: how many outputs there are.

    >>> subset_weights("additive", 2)
    {(0,): 1.0, (1,): 1.0, (0, 1): 1.0}
    >>> len(subset_weights("mutation", 4))
    15
    """
    sizes = range(1, outputs + 1) if supervision == "mutation" else (1, outputs)
    return {subset: 1.0 for size in sizes for subset in combinations(range(outputs), size)}


def _check(
    backbone: str,
    supervision: str,
    kernel_sizes: Sequence[int],
    expansion: int,
    gate_kernel_size: int,
    drop_path: float,
) -> None:
    faults = {
        f"backbone must be a PVTv2, such as pvt_v2_b2.in1k; got {backbone!r}": (
            not str(backbone).startswith("pvt_v2_b")
        ),
        f"supervision must be one of {', '.join(SUPERVISION)}; got {supervision!r}": supervision
        not in SUPERVISION,
        f"kernel_sizes must be odd numbers above 0; got {list(kernel_sizes)}": (
            not kernel_sizes or any(size < 1 or size % 2 == 0 for size in kernel_sizes)
        ),
        f"expansion must be at least 1; got {expansion}": expansion < 1,
        f"gate_kernel_size must be odd and above 0; got {gate_kernel_size}": (
            gate_kernel_size < 1 or gate_kernel_size % 2 == 0
        ),
        f"drop_path must be at least 0 and below 1; got {drop_path}": not 0 <= drop_path < 1,
    }
    for fault, found in faults.items():
        if found:
            raise MedsegError(f"model 'emcad': {fault}")
