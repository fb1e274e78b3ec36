"""DeepLabV3 and DeepLabV3+."""

# to mypy a shape is no list; TorchScript disagrees
# mypy: disable-error-code="arg-type"

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from medseg.errors import MedsegError
from medseg.models import MODELS
from medseg.models._backbones import pyramid
from medseg.models._blocks import check_batch, check_dropout, convolution, resize

#: atrous rates of ASPP for each output stride of the backbone
RATES = {16: (6, 12, 18), 8: (12, 24, 36)}
#: the backbones of each model, as a pattern and in words
BACKBONES = {
    "deeplabv3": (r"resnet\d+[cdst]?", "resnet50.tv_in1k or resnet101.tv_in1k"),
    "deeplabv3plus": (r"resnet\d+[cdst]?|xception\d+p?", "resnet50.tv_in1k or xception65.tf_in1k"),
}


@MODELS.register(
    "deeplabv3",
    divisor=1,
    cam_layer="classifier.0",
    deep_supervision=False,
    scriptable=True,
    batch_of_one=False,
    backbone="ResNet-50",
    pretrained=("resnet50.tv_in1k",),
    small={"backbone": "resnet10t.c3_in1k"},
    parameters=39_633_729,
    macs=31_306_534_912,
    published_parameters=39_633_729,
    published_macs=31_306_534_912,
    paper="arXiv:1706.05587",
    licence="written from the paper on timm and torchvision; the authors' code is Apache-2.0",
)
class DeepLabV3(nn.Module):
    """DeepLabV3, atrous spatial pyramid pooling on a ResNet (Chen et al. 2017, arXiv:1706.05587).

    It is torchvision's ``deeplabv3_resnet50``, built of timm's ResNet and torchvision's head, with the same names and
    numbers: 39,633,729 parameters for three channels in and one out. The last two stages of the ResNet dilate in
    place of striding, so that its maps have 1/8 of the sides. ASPP is a 1x1 convolution, three 3x3 convolutions
    at rates 12, 24 and 36, and the image's mean; their 256 channels each are joined by a 1x1 convolution. A 3x3
    convolution and a 1x1 give the logits, which are interpolated to the input's size.

    Two things of the paper are missing, as in torchvision: the multi-grid (rates times 1, 2, 4 in the last stage),
    and training at output stride 16 with evaluation at 8. ``output_stride=16`` builds the paper's network for
    training; a network with 8 takes the same weights.

    The batch normalisation after the image's mean sees one value per image: training needs batches of two and more.

    Args:
        in_channels: channels of the image.
        out_channels: channels of the logits; 1 for one foreground class.
        backbone: timm's name of a ResNet; ``resnet101.tv_in1k`` is torchvision's other size (58,625,857 parameters).
        output_stride: 8, with rates 12, 24, 36; or 16, with rates 6, 12, 18.
        auxiliary: a second head, on the stage before the last (2,360,065 parameters more). In training mode the
            result is then a tuple of the main and the auxiliary logits, weighted 1 and 0.5 as in torchvision's
            training.
        pretrained: begin the backbone from ImageNet: True downloads the weights, a path is a file or a folder
            with them.

    Shape:
        images ``(N, C, H, W)`` of any size, logits ``(N, K, H, W)``.

    Raises:
        MedsegError: an argument is not usable, the weights cannot be had, or a batch of one is to be trained on.
    """

    divisor = 1

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        backbone: str = "resnet50.tv_in1k",
        output_stride: int = 8,
        auxiliary: bool = False,
        pretrained: bool | str = False,
    ) -> None:
        super().__init__()
        from torchvision.models.segmentation.deeplabv3 import DeepLabHead
        from torchvision.models.segmentation.fcn import FCNHead

        self.backbone = _dilated("deeplabv3", backbone, in_channels, output_stride, pretrained)
        *_, channels, last = self.backbone.feature_info.channels()
        self.classifier = DeepLabHead(last, out_channels, RATES[output_stride])
        self.aux_classifier = FCNHead(channels, out_channels) if auxiliary else None
        self.output_weights = (1.0, 0.5) if auxiliary else (1.0,)

    def forward(self, images: Tensor) -> Any:
        if not torch.jit.is_scripting():
            check_batch("deeplabv3", images, self.classifier[0].convs[-1])
        size = images.shape[2:]
        features = self.backbone(images)
        logits = resize(self.classifier(features[-1]), size)
        if not torch.jit.is_scripting() and self.training and self.aux_classifier is not None:
            return logits, resize(self.aux_classifier(features[-2]), size)
        return logits


def _dilated(model: str, backbone: str, in_channels: int, output_stride: int, pretrained: bool | str) -> Any:
    """A backbone whose last stages dilate in place of striding, so that its last map has 1/8 or 1/16 of the sides."""
    pattern, examples = BACKBONES[model]
    if not re.match(rf"({pattern})(\.|$)", backbone):
        raise MedsegError(
            f"model {model!r}: backbone must be a timm network such as {examples}; got {backbone!r}"
        )
    if output_stride not in RATES:
        raise MedsegError(f"model {model!r}: output_stride must be 8 or 16; got {output_stride}")
    # timm would begin the last normalisation of every residual block at zero, and torchvision does not
    start = {"zero_init_last": False} if backbone.startswith("resnet") else {}
    return pyramid(backbone, in_channels, pretrained, model=model, output_stride=output_stride, **start)


def separable_convolution(in_channels: int, out_channels: int, dilation: int = 1) -> nn.Sequential:
    """A 3x3 depthwise and a 1x1 convolution, each with batch normalisation and ReLU."""
    return nn.Sequential(
        convolution(in_channels, in_channels, dilation=dilation, groups=in_channels),
        convolution(in_channels, out_channels, 1),
    )


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling with separable convolutions.

    Args:
        in_channels: channels of the backbone's last map.
        rates: dilations of the 3x3 convolutions.
        channels: channels of each branch and of the result.
        dropout: probability of dropping a value of the result.

    Shape:
        maps ``(N, C, H, W)``, result ``(N, channels, H, W)``.
    """

    def __init__(self, in_channels: int, rates: Sequence[int], channels: int, dropout: float) -> None:
        super().__init__()
        self.pointwise = convolution(in_channels, channels, 1)
        self.atrous = nn.ModuleList(separable_convolution(in_channels, channels, rate) for rate in rates)
        self.image_pooling = nn.Sequential(nn.AdaptiveAvgPool2d(1), convolution(in_channels, channels, 1))
        self.projection = nn.Sequential(
            convolution((2 + len(rates)) * channels, channels, 1), nn.Dropout(dropout)
        )

    def forward(self, maps: Tensor) -> Tensor:
        branches = [self.pointwise(maps)]
        for atrous in self.atrous:
            branches.append(atrous(maps))
        # bilinear interpolation of a single pixel is that pixel everywhere
        branches.append(self.image_pooling(maps).expand_as(branches[0]))
        return self.projection(torch.cat(branches, 1))


@MODELS.register(
    "deeplabv3plus",
    divisor=1,
    cam_layer="aspp",
    deep_supervision=False,
    scriptable=True,
    batch_of_one=False,
    backbone="ResNet-50",
    pretrained=("resnet50.tv_in1k",),
    small={"backbone": "resnet10t.c3_in1k"},
    parameters=26_690_993,
    macs=7_197_920_256,
    published_parameters=26_677_585,
    published_macs=6_998_470_656,
    deviates="the second separable convolution works at 1/4 of the sides, as in the paper; the network measured has it "
    "at 1/16",
    paper="arXiv:1802.02611",
    licence="written from the paper on timm; the authors' code is Apache-2.0",
)
class DeepLabV3Plus(nn.Module):
    """DeepLabV3+, a decoder on atrous spatial pyramid pooling (Chen et al. 2018, arXiv:1802.02611).

    ASPP on the backbone's last map at 1/16 of the sides: a 1x1 convolution, three separable 3x3 convolutions at
    rates 6, 12 and 18, and the image's mean; their 256 channels each are joined by a 1x1 convolution, with dropout.
    The result is interpolated to 1/4 of the sides and joined with the backbone's map there, reduced to 48 channels;
    two separable convolutions of 256 channels and a 1x1 convolution give the logits, interpolated to the input's size.
    Each depthwise and each pointwise convolution has its own batch normalisation and ReLU, and interpolation aligns
    the corners, as the authors' code does.

    For three channels in and one out it has 26,690,993 parameters and takes 7.20 GMAC at 224x224. The comparable
    network of segmentation-models-pytorch has 26,677,585 and 7.00. It does not normalise between depthwise and
    pointwise convolutions, which is 13,408 parameters less; and it has the second separable convolution after ASPP, at
    1/16 of the sides and not at 1/4, which is 0.2 GMAC less. The paper's backbone is a modified Xception-65: timm's
    aligned ``xception65.tf_in1k`` gives 41,050,273 parameters.

    The batch normalisation after the image's mean sees one value per image: training needs batches of two and more.

    Args:
        in_channels: channels of the image.
        out_channels: channels of the logits; 1 for one foreground class.
        backbone: timm's name of a ResNet or an aligned Xception: ``resnet50.tv_in1k``, ``resnet101.tv_in1k``
            (45,683,121 parameters), ``xception65.tf_in1k``.
        output_stride: 16, with rates 6, 12, 18; or 8, with rates 12, 24, 36.
        dropout: probability of dropping a value of ASPP's result.
        pretrained: begin the backbone from ImageNet: True downloads the weights, a path is a file or a folder
            with them.

    Shape:
        images ``(N, C, H, W)`` of any size, logits ``(N, K, H, W)``. The authors' sizes are 16 n + 1, such as 513,
        with which the corners of all maps fall on each other.

    Raises:
        MedsegError: an argument is not usable, the weights cannot be had, or a batch of one is to be trained on.
    """

    divisor = 1

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        backbone: str = "resnet50.tv_in1k",
        output_stride: int = 16,
        dropout: float = 0.1,
        pretrained: bool | str = False,
    ) -> None:
        super().__init__()
        check_dropout("deeplabv3plus", dropout)
        self.backbone = _dilated("deeplabv3plus", backbone, in_channels, output_stride, pretrained)
        channels = self.backbone.feature_info.channels()
        self.low_level = self.backbone.feature_info.reduction().index(4)
        self.aspp = ASPP(channels[-1], RATES[output_stride], 256, dropout)
        self.reduction = convolution(channels[self.low_level], 48, 1)
        self.decoder = nn.Sequential(separable_convolution(256 + 48, 256), separable_convolution(256, 256))
        self.head = nn.Conv2d(256, out_channels, 1)

    def forward(self, images: Tensor) -> Tensor:
        if not torch.jit.is_scripting():
            check_batch("deeplabv3plus", images, self.aspp.image_pooling)
        features = self.backbone(images)
        low_level = self.reduction(features[self.low_level])
        context = resize(self.aspp(features[-1]), low_level.shape[2:], align_corners=True)
        logits = self.head(self.decoder(torch.cat((context, low_level), 1)))
        return resize(logits, images.shape[2:], align_corners=True)
