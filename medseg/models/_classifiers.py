"""What the classifiers share: timm's network as a backbone, its linear layer as the head, and the checks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from medseg.errors import MedsegError
from medseg.models._blocks import check_dropout

#: ``standard`` as published, for images of about 224 pixels; ``small`` for those of 32 to 64
STEMS = ("standard", "small")
#: the shortest side in pixels that every classifier takes, with either stem
LEAST_SIDE = 32

Stages = tuple[tuple[str, ...], ...]


class Classifier(nn.Module):
    """A backbone that gives one vector per image, and a linear layer that makes logits of it.

    Args:
        name: the model's name, for messages.
        network: timm's network, whose own classifier becomes the head; the rest is the backbone.
        stages: the backbone's submodules in the order of the forward pass, one tuple per level.

    Shape:
        images ``(N, C, H, W)`` with sides of 32 and more, logits ``(N, K)``.
    """

    divisor = 1
    least_side = LEAST_SIDE

    def __init__(self, name: str, network: Any, stages: Stages) -> None:
        super().__init__()
        self.name = name
        self.head = network.get_classifier()
        network.reset_classifier(0, "avg")
        self.backbone = network
        self.backbone.stages = stages

    def forward(self, images: Tensor) -> Tensor:
        if not torch.jit.is_scripting():
            check_least_side(self.name, images)
        return self.head(self.backbone(images))

    @torch.jit.unused
    def cam_origin(self, size: Sequence[int]) -> float | None:
        """The pixel on which the first cell of ``cam_layer`` lies; None where its cells are centred on the image.

        Args:
            size: height and width of the network's input, in pixels.
        """
        return None


def check_stem(model: str, stem: str, dropout: float) -> bool:
    """Whether the stem is the small one, once the arguments that all classifiers have are found usable.

    Args:
        model: the model's name, for messages.
        stem: one of ``STEMS``.
        dropout: probability of dropping a value.

    Raises:
        MedsegError: the stem is unknown, or the dropout outside [0, 1).
    """
    if stem not in STEMS:
        raise MedsegError(f"model {model!r}: stem must be {' or '.join(STEMS)}; got {stem!r}")
    check_dropout(model, dropout)
    return stem == "small"


def check_numbers(model: str, name: str, numbers: Sequence[int], count: int) -> tuple[int, ...]:
    """The numbers of an argument as a tuple, once they are as many as there must be and all above 0.

    Raises:
        MedsegError: they are not.
    """
    if len(numbers) != count or min(numbers) < 1:
        raise MedsegError(f"model {model!r}: {name} must be {count} numbers above 0; got {list(numbers)}")
    return tuple(int(number) for number in numbers)


def check_least_side(model: str, images: Tensor) -> None:
    """Refuse images of which a side is too short, unless the network is being traced or compiled.

    Raises:
        MedsegError: a side is below ``LEAST_SIDE``.
    """
    if torch.jit.is_tracing() or torch.compiler.is_compiling():
        return
    height, width = images.shape[-2:]
    if min(height, width) < LEAST_SIDE:
        raise MedsegError(f"{model} needs sides of {LEAST_SIDE} pixels and more; got {height}x{width}")


def full_resolution(in_channels: int, out_channels: int) -> nn.Conv2d:
    """A 3x3 convolution that keeps the sides, as the first of a network for small images.

    Its weights are drawn as the residual and densely connected networks' are (He et al. 2015, arXiv:1502.01852).
    """
    convolution = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return convolution
