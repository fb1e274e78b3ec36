"""ResNet-50."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from medseg.models import MODELS
from medseg.models._classifiers import Classifier, check_numbers, check_stem, full_resolution
from medseg.models._pretrained import load_weights

#: timm's submodules, level by level
STAGES = (("conv1", "bn1"), ("layer1",), ("layer2",), ("layer3",), ("layer4",))


@MODELS.register(
    "resnet50",
    task="classification",
    divisor=1,
    cam_layer="backbone.layer4",
    deep_supervision=False,
    scriptable=True,
    backbone="ResNet-50",
    pretrained=("resnet50.tv_in1k",),
    small={"depths": [1, 1, 1, 1], "widths": [8, 8, 8, 8]},
    parameters=23_512_130,
    macs=4_087_140_352,
    published_parameters=25_557_032,
    published_macs=4_089_184_256,
    paper="arXiv:1512.03385",
    licence="timm's network; its code is Apache-2.0",
)
class ResNet50(Classifier):
    """ResNet-50, residual learning with bottlenecks (He et al. 2016, arXiv:1512.03385).

    It is timm's ``resnet50``, with the numbers of torchvision's: a 7x7 convolution of stride 2, max pooling of stride
    2, four stages of 3, 4, 6 and 3 bottleneck blocks, the mean over the image, and a linear layer. The first block of a
    stage has its stride in the 3x3 convolution; in the paper it is in the 1x1 before that. For the 1000 classes of
    ImageNet it has 25,557,032 parameters.

    ``stem="small"`` is the paper's for images of 32 pixels (its section 4.2): a 3x3 convolution of stride 1, and no
    pooling. The last maps of 50 pixels are then 7x7 and no longer 2x2, for 3.41 and 0.29 GMAC.

    Args:
        in_channels: channels of the image.
        out_channels: channels of the logits, one for each class.
        stem: ``standard``, or ``small`` for images of 32 to 64 pixels.
        dropout: probability of dropping a value before the linear layer; the paper has none.
        depths: blocks of each stage.
        widths: channels inside the blocks of each stage; four times as many come out.
        pretrained: begin from ImageNet: True downloads ``resnet50.tv_in1k``, a path is a file or a folder with it.
            With the small stem the first convolution has another shape and begins at random.

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
        dropout: float = 0.0,
        depths: Sequence[int] = (3, 4, 6, 3),
        widths: Sequence[int] = (64, 128, 256, 512),
        pretrained: bool | str = False,
    ) -> None:
        import timm

        small = check_stem("resnet50", stem, dropout)
        network: Any = timm.create_model(
            "resnet50",
            in_chans=in_channels,
            num_classes=out_channels,
            drop_rate=dropout,
            layers=check_numbers("resnet50", "depths", depths, 4),
            channels=check_numbers("resnet50", "widths", widths, 4),
            zero_init_last=False,  # as in the paper and torchvision; timm begins each block as the identity
        )
        if small:
            network.conv1 = full_resolution(in_channels, network.conv1.out_channels)
            network.maxpool = nn.Identity()
        super().__init__("resnet50", network, STAGES)
        load_weights(
            self.backbone,
            "resnet50.tv_in1k",
            pretrained,
            model="resnet50",
            first="conv1",
            unused=("fc.",),
            random=("conv1.weight",) if small else (),
        )

    def cam_origin(self, size: Sequence[int]) -> float | None:
        # a stride of 2 with a padding of half the kernel keeps the first cell on the first pixel
        return 0.0
