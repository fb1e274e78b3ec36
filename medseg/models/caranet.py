"""CaraNet."""

# TorchScript takes a Size for a list
# mypy: disable-error-code="arg-type"

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from medseg.errors import MedsegError
from medseg.models import MODELS
from medseg.models._axial import AxialReverseAttention, check_axes, convolution_prelu
from medseg.models._backbones import pyramid
from medseg.models._blocks import check_sides, resize


def plain_convolution(channels: int) -> nn.Conv2d:
    """A padded 3x3 convolution without bias, normalisation or activation."""
    return nn.Conv2d(channels, channels, 3, padding=1, bias=False)


def doubled(maps: Tensor) -> Tensor:
    """Maps of twice the sides, bilinear with aligned corners."""
    return resize(maps, [2 * maps.shape[2], 2 * maps.shape[3]], align_corners=True)


class PartialDecoder(nn.Module):
    """The cascaded partial decoder (Wu et al. 2019, arXiv:1904.08739): products of levels, then their fusion.

    As PraNet has it, but its convolutions are plain: no batch normalisation, bias or activation. All
    upsampling is by two with aligned corners, unlike anywhere else in CaraNet.

    Args:
        channels: channels of each level.
        out_channels: channels of the global map.

    Shape:
        levels ``(N, C, H, W)`` at 1/8, 1/16 and 1/32 of the sides, result ``(N, K, H, W)`` at 1/8.
    """

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.up4_3 = plain_convolution(channels)
        self.up4_2 = plain_convolution(channels)
        self.up3_2 = plain_convolution(channels)
        self.up4_concat = plain_convolution(channels)
        self.up3_concat = plain_convolution(2 * channels)
        self.concat3 = plain_convolution(2 * channels)
        self.concat2 = plain_convolution(3 * channels)
        self.fusion = plain_convolution(3 * channels)
        self.head = nn.Conv2d(3 * channels, out_channels, 1)

    def forward(self, level2: Tensor, level3: Tensor, level4: Tensor) -> Tensor:
        up4 = doubled(level4)
        product3 = self.up4_3(up4) * level3
        product2 = self.up4_2(doubled(up4)) * self.up3_2(doubled(level3)) * level2
        joined3 = self.concat3(torch.cat([product3, self.up4_concat(up4)], 1))
        joined2 = self.concat2(torch.cat([product2, self.up3_concat(doubled(joined3))], 1))
        return self.head(self.fusion(joined2))


@MODELS.register(
    "caranet",
    divisor=32,
    cam_layer="decoder.fusion",
    deep_supervision=True,
    scriptable=True,
    backbone="Res2Net101-v1b",
    pretrained=("res2net101d.in1k",),
    small={"backbone": "resnet18.a1_in1k"},
    parameters=44_593_560,
    macs=8_729_378_224,
    published_parameters=44_593_560,
    published_macs=8_729_378_224,
    paper="arXiv:2108.07368",
    licence="written from the paper; the authors' code has no licence; Res2Net's weights state none",
)
class CaraNet(nn.Module):
    """CaraNet, a context axial reverse attention network (Lou et al. 2022, arXiv:2108.07368).

    The three coarser levels of Res2Net101-v1b are reduced to 32 channels; a partial decoder makes a global map
    of them at 1/8 of the sides, which three axial reverse attention modules refine, from 1/32 up to 1/8: 44,593,560
    parameters for three channels in and one out. The authors' code has 46,642,560, of which 2,049,000 belong
    to the backbone's classifier, which is built but never used.

    In training mode the four maps come as a tuple, the last refinement first (from 1/8, 1/16, 1/32 of the
    sides, then the global map), equally weighted in the paper's loss; in evaluation mode, and always as a TorchScript
    module, the first does alone.

    Args:
        in_channels: channels of the image.
        out_channels: channels of the logits; 1 for one foreground class. With more, the background that
            reverse attention looks at is the first.
        backbone: timm's name of a network with levels at 1/8, 1/16 and 1/32 of the sides.
        attention_axes: ``paper`` attends between the rows, then between the columns; ``code`` does as the
            authors' code, where on square images both are between the columns, see
            :class:`medseg.models._axial.AxialAttention`.
        pretrained: True begins with the backbone's published weights, from the hub; a path with those in a
            local file or folder.

    Shape:
        images ``(N, C, H, W)`` with sides divisible by 32, logits ``(N, K, H, W)``, in training mode a tuple of
        four such.

    Raises:
        MedsegError: an argument is not usable, or an image's side is not divisible.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        backbone: str = "res2net101d.in1k",
        attention_axes: str = "paper",
        pretrained: bool | str = False,
    ) -> None:
        super().__init__()
        axes = check_axes("caranet", attention_axes)
        network: Any = pyramid(backbone, in_channels, pretrained, model="caranet")
        levels: Any = getattr(network, "feature_info", None)
        if levels is None or levels.reduction()[-3:] != [8, 16, 32]:
            raise MedsegError(
                f"model 'caranet': backbone must be timm's name of a network with levels at 1/8, 1/16 and"
                f" 1/32; got {backbone!r}"
            )
        self.divisor = 32
        self.backbone = network
        self.reductions = nn.ModuleList(convolution_prelu(width, 32) for width in levels.channels()[-3:])
        self.decoder = PartialDecoder(32, out_channels)
        self.refinement4 = AxialReverseAttention(32, out_channels, axes=axes)
        self.refinement3 = AxialReverseAttention(32, out_channels, axes=axes)
        self.refinement2 = AxialReverseAttention(32, out_channels, axes=axes)
        self.output_weights = (1.0,) * 4

    def forward(self, images: Tensor) -> Any:
        if not torch.jit.is_scripting():
            check_sides("caranet", images, self.divisor)
        levels = self.backbone(images)[-3:]
        features: list[Tensor] = []
        for index, reduction in enumerate(self.reductions):
            features.append(reduction(levels[index]))
        size = images.shape[2:]
        global_map = self.decoder(features[0], features[1], features[2])
        map4 = self.refinement4(features[2], resize(global_map, features[2].shape[2:]))
        map3 = self.refinement3(features[1], resize(map4, features[1].shape[2:]))
        map2 = self.refinement2(features[0], resize(map3, features[0].shape[2:]))
        if not torch.jit.is_scripting() and self.training:
            return tuple(resize(logits, size) for logits in (map2, map3, map4, global_map))
        return resize(map2, size)
