"""VGG-19."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from medseg.models import MODELS
from medseg.models._classifiers import Classifier, Stages, check_least_side, check_numbers, check_stem
from medseg.models._pretrained import State, load_weights

#: convolutions of each level, each level followed by a pooling
DEPTHS = (2, 2, 4, 4, 4)
#: side of the maps that the first fully connected layer takes, in cells
FIELD = 7
#: channels that timm gives the last fully connected layer before the classifier
LAST_WIDTH = 4096


@MODELS.register(
    "vgg19",
    task="classification",
    divisor=1,
    cam_layer="backbone.features.35",
    deep_supervision=False,
    scriptable=True,
    backbone="VGG-19",
    pretrained=("vgg19.tv_in1k",),
    small={"widths": [4, 4, 8, 8, 8], "classifier_width": 8},
    parameters=139_578_434,
    macs=19_627_974_656,
    published_parameters=143_667_240,
    published_macs=19_632_062_464,
    paper="arXiv:1409.1556",
    licence="timm's network; its code is Apache-2.0",
)
class VGG19(Classifier):
    """VGG-19, sixteen 3x3 convolutions and three fully connected layers (Simonyan & Zisserman 2014, arXiv:1409.1556).

    It is timm's ``vgg19``, with the numbers of torchvision's: five levels of 2, 2, 4, 4 and 4 convolutions without
    normalisation, each followed by max pooling, then fully connected layers of 4096, 4096 and K. The first of these
    takes maps of 7x7, as 224 pixels give. From larger maps it takes each part of 7x7, and the answers are averaged, as
    the paper tests; smaller ones are brought to 7x7 by adaptive mean pooling, as in timm and torchvision. For the 1000
    classes of ImageNet it has 143,667,240 parameters, 86 % of them in the fully connected layers; a VGG-19 with
    the mean over the image in their place is another network, of 20 million.

    The paper has nothing for small images. ``stem="small"`` leaves out the last two poolings: the last maps of 50
    pixels are then 6x6 and no longer a single cell, for 1.29 and 1.03 GMAC. The weights keep their shapes, and all can
    begin from ImageNet.

    Args:
        in_channels: channels of the image.
        out_channels: channels of the logits, one for each class.
        stem: ``standard``, or ``small`` for images of 32 to 64 pixels.
        dropout: probability of dropping a value after each of the two fully connected layers of 4096.
        widths: channels of each level.
        classifier_width: channels of the first fully connected layer.
        pretrained: begin from ImageNet, with all but the last layer: True downloads ``vgg19.tv_in1k``, a path is a file
            or a folder with it.

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
        dropout: float = 0.5,
        widths: Sequence[int] = (64, 128, 256, 512, 512),
        classifier_width: int = 4096,
        pretrained: bool | str = False,
    ) -> None:
        from timm.models.vgg import VGG

        small = check_stem("vgg19", stem, dropout)
        channels = check_numbers("vgg19", "widths", widths, 5)
        (width,) = check_numbers("vgg19", "classifier_width", (classifier_width,), 1)
        levels = ([*[width] * depth, "M"] for width, depth in zip(channels, DEPTHS, strict=True))
        network: Any = VGG(
            list(itertools.chain.from_iterable(levels)),
            num_classes=out_channels,
            in_chans=in_channels,
            mlp_ratio=width / LAST_WIDTH,
            drop_rate=dropout,
        )
        if small:  # without weights, so that the names of the others stay
            for pooling in _poolings(network)[-2:]:
                network.features[pooling] = nn.Identity()
        super().__init__("vgg19", network, _stages(network))
        load_weights(
            self.backbone,
            "vgg19.tv_in1k",
            pretrained,
            model="vgg19",
            first="features.0",
            unused=("head.fc.", "classifier.6."),
            convert=timm_names,
        )

    def forward(self, images: Tensor) -> Tensor:
        if not torch.jit.is_scripting():
            check_least_side(self.name, images)
        maps = stretched(self.backbone.features(images))
        return self.head(self.backbone.forward_head(maps))


def stretched(maps: Tensor, side: int = FIELD) -> Tensor:
    """Maps by adaptive mean pooling to at least ``side`` cells in each direction; larger ones as they are.

    It is written as products with the shares of each cell, since ONNX has no adaptive pooling of such sizes.

    Shape:
        maps ``(N, C, h, w)``, result ``(N, C, max(h, side), max(w, side))``.
    """
    rows, columns = int(maps.shape[2]), int(maps.shape[3])
    if rows < side:
        maps = torch.matmul(shares(rows, side).to(maps), maps)
    if columns < side:
        maps = torch.matmul(maps, shares(columns, side).to(maps).t())
    return maps


def shares(cells: int, places: int) -> Tensor:
    """How much each cell counts for each place of an adaptive mean pooling, ``(places, cells)`` float32.

    >>> shares(2, 3)
    tensor([[1.0000, 0.0000],
            [0.5000, 0.5000],
            [0.0000, 1.0000]])
    """
    rows: list[list[float]] = []
    for place in range(places):
        start, end = place * cells // places, ((place + 1) * cells + places - 1) // places
        rows.append([float(start <= cell < end) / (end - start) for cell in range(cells)])
    return torch.tensor(rows)


def _poolings(network: Any) -> list[int]:
    return [index for index, layer in enumerate(network.features) if isinstance(layer, nn.MaxPool2d)]


def _stages(network: Any) -> Stages:
    """The convolutions of each level, and the fully connected layers as the last stage."""
    names = [f"features.{i}" for i, layer in enumerate(network.features) if isinstance(layer, nn.Conv2d)]
    ends = list(itertools.accumulate(DEPTHS))
    levels = [tuple(names[end - depth : end]) for end, depth in zip(ends, DEPTHS, strict=True)]
    return (*levels, ("pre_logits",))


def timm_names(state: State) -> State:
    """The keys and shapes of torchvision's VGG as timm has them, whose fully connected layers are convolutions."""
    renamed = {}
    for key, value in state.items():
        if key.startswith(("classifier.0.", "classifier.3.")):
            side = FIELD if key.startswith("classifier.0.") else 1
            value = value.reshape(len(value), -1, side, side) if value.ndim == 2 else value
            key = key.replace("classifier.0.", "pre_logits.fc1.").replace("classifier.3.", "pre_logits.fc2.")
        renamed[key] = value
    return renamed
