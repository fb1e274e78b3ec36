"""DenseNet-121."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from torch import nn

from medseg.models import MODELS
from medseg.models._classifiers import Classifier, check_numbers, check_stem, full_resolution
from medseg.models._pretrained import State, load_weights

#: timm's submodules, level by level
STAGES = (
    ("features.conv0", "features.norm0"),
    ("features.denseblock1", "features.transition1"),
    ("features.denseblock2", "features.transition2"),
    ("features.denseblock3", "features.transition3"),
    ("features.denseblock4", "features.norm5"),
)


@MODELS.register(
    "densenet121",
    task="classification",
    divisor=1,
    cam_layer="backbone.features.norm5",
    deep_supervision=False,
    scriptable=True,
    backbone="DenseNet-121",
    pretrained=("densenet121.tv_in1k",),
    small={"growth": 4, "depths": [1, 2, 2, 1]},
    parameters=6_955_906,
    macs=2_833_139_712,
    published_parameters=7_978_856,
    published_macs=2_834_161_664,
    paper="arXiv:1608.06993",
    licence="timm's network; its code is Apache-2.0",
)
class DenseNet121(Classifier):
    """DenseNet-121, in which each layer sees the maps of all before it (Huang et al. 2017, arXiv:1608.06993).

    It is timm's ``densenet121``, with the numbers of torchvision's: a 7x7 convolution of stride 2, max pooling of
    stride 2, four blocks of 6, 12, 24 and 16 layers that add 32 maps each, between them 1x1 convolutions that halve the
    maps and mean poolings that halve their sides, the mean over the image, and a linear layer. For the 1000 classes of
    ImageNet it has 7,978,856 parameters.

    ``stem="small"`` is the paper's for images of 32 pixels (its section 3): a 3x3 convolution of stride 1, and no
    pooling. The last maps of 50 pixels are then 6x6 and no longer a single cell, for 2.12 and 0.14 GMAC.

    Args:
        in_channels: channels of the image.
        out_channels: channels of the logits, one for each class.
        stem: ``standard``, or ``small`` for images of 32 to 64 pixels.
        dropout: probability of dropping a value before the linear layer; the paper has none there.
        growth: maps that each layer adds.
        depths: layers of each block.
        pretrained: begin from ImageNet: True downloads ``densenet121.tv_in1k``, a path is a file or a folder with it.
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
        growth: int = 32,
        depths: Sequence[int] = (6, 12, 24, 16),
        pretrained: bool | str = False,
    ) -> None:
        import timm

        small = check_stem("densenet121", stem, dropout)
        (growth,) = check_numbers("densenet121", "growth", (growth,), 1)
        network: Any = timm.create_model(
            "densenet121",
            in_chans=in_channels,
            num_classes=out_channels,
            drop_rate=dropout,
            growth_rate=growth,
            block_config=check_numbers("densenet121", "depths", depths, 4),
        )
        if small:
            network.features.conv0 = full_resolution(in_channels, network.features.conv0.out_channels)
            network.features.pool0 = nn.Identity()
        super().__init__("densenet121", network, STAGES)
        load_weights(
            self.backbone,
            "densenet121.tv_in1k",
            pretrained,
            model="densenet121",
            first="features.conv0",
            unused=("classifier.",),
            convert=timm_names,
            random=("features.conv0.weight",) if small else (),
        )


def timm_names(state: State) -> State:
    """The keys of torchvision's file of weights as timm has them, which writes ``norm.1`` as ``norm1``."""
    return {re.sub(r"\.(norm|conv)\.([12])\.", r".\1\2.", key): value for key, value in state.items()}
