"""EfficientNetV2-S."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from medseg.errors import MedsegError
from medseg.models import MODELS
from medseg.models._classifiers import Classifier, check_stem
from medseg.models._pretrained import load_weights

#: timm's submodules, level by level
STAGES = (
    ("conv_stem", "bn1"),
    *((f"blocks.{stage}",) for stage in range(5)),
    ("blocks.5", "conv_head", "bn2"),
)
#: strides of the stages after the stem
STRIDES = (1, 2, 2, 2, 1, 2)


@MODELS.register(
    "efficientnetv2_s",
    task="classification",
    divisor=1,
    cam_layer="backbone.bn2",
    deep_supervision=False,
    scriptable=True,
    backbone="EfficientNetV2-S",
    pretrained=("tf_efficientnetv2_s.in1k",),
    small={"width": 0.1, "depth": 0.1},
    parameters=20_180_050,
    macs=2_848_618_432,
    published_parameters=21_458_488,
    published_macs=2_849_895_872,
    paper="arXiv:2104.00298",
    licence="timm's network; its code is Apache-2.0",
)
class EfficientNetV2S(Classifier):
    """EfficientNetV2-S, fused and inverted bottlenecks found by search (Tan & Le 2021, arXiv:2104.00298).

    It is timm's ``tf_efficientnetv2_s``, which pads and normalises as the authors' code does and takes their weights:
    a 3x3 convolution of stride 2, three stages of fused inverted bottlenecks, three of inverted bottlenecks with
    depthwise convolutions and squeeze-and-excitation, a 1x1 convolution to 1280 maps, the mean over the image, and a
    linear layer. For the 1000 classes of ImageNet it has 21,458,488 parameters, as torchvision's.

    The paper has nothing for small images. ``stem="small"`` takes the stride out of the first convolution, as ResNet
    and DenseNet do for them; the last maps of 50 pixels are then 4x4 and no longer 2x2, for 0.69 and 0.20 GMAC. The
    weights keep their shapes, and all can begin from ImageNet.

    The authors train on values from -1 to 1; the step ``normalize_signed`` gives them.

    Args:
        in_channels: channels of the image.
        out_channels: channels of the logits, one for each class.
        stem: ``standard``, or ``small`` for images of 32 to 64 pixels.
        dropout: probability of dropping a value before the linear layer; the authors' rises from 0.1 to 0.3.
        stochastic_depth: probability of leaving the last block out in training; it rises to this from 0 at the first.
        width: factor of the channels; the published networks' is 1.
        depth: factor of the blocks of each stage; the published networks' is 1.
        pretrained: begin from ImageNet: True downloads ``tf_efficientnetv2_s.in1k``, a path is a file or a folder with
            it.

    Shape:
        images ``(N, C, H, W)`` with sides of 32 and more, logits ``(N, K)``.

    Raises:
        MedsegError: an argument is not usable, or the weights cannot be had.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stem: str = "standard",
        dropout: float = 0.2,
        stochastic_depth: float = 0.2,
        width: float = 1.0,
        depth: float = 1.0,
        pretrained: bool | str = False,
    ) -> None:
        import timm

        small = check_stem("efficientnetv2_s", stem, dropout)
        _check_arguments(stochastic_depth, width, depth)
        network: Any = timm.create_model(
            "tf_efficientnetv2_s",
            in_chans=in_channels,
            num_classes=out_channels,
            drop_rate=dropout,
            drop_path_rate=stochastic_depth,
            channel_multiplier=width,
            depth_multiplier=depth,
        )
        if small:
            network.conv_stem.stride = (1, 1)
        super().__init__("efficientnetv2_s", network, STAGES)
        self.strides = (1 if small else 2, *STRIDES)
        load_weights(
            self.backbone,
            "tf_efficientnetv2_s.in1k",
            pretrained,
            model="efficientnetv2_s",
            first="conv_stem",
            unused=("classifier.",),
        )

    def cam_origin(self, size: Sequence[int]) -> float | None:
        # "same" padding of an even side is all at its end, so that the first cell lies on the second pixel
        place, step, side = 0.0, 1, size[0]
        for stride in self.strides:
            if stride == 2:
                place += step * (side % 2 == 0)
                step, side = step * 2, -(-side // 2)
        return place


def _check_arguments(stochastic_depth: float, width: float, depth: float) -> None:
    if not 0 <= stochastic_depth < 1:
        raise MedsegError(
            f"model 'efficientnetv2_s': stochastic_depth must be at least 0 and below 1; got {stochastic_depth}"
        )
    if width <= 0 or depth <= 0:
        raise MedsegError(
            f"model 'efficientnetv2_s': width and depth must be above 0; got {width} and {depth}"
        )
