"""What the convolutional models share: the double convolution, its initialisation, and the check of sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from medseg.errors import MedsegError

NORMALIZATIONS = ("batch", None)
ReLU = partial(nn.ReLU, inplace=True)


def double_convolution(
    in_channels: int, out_channels: int, normalization: str | None, dropout: float = 0.0
) -> nn.Sequential:
    """Two 3x3 convolutions, padded, each followed by normalisation (if any), ReLU and dropout (if any).

    A convolution before a normalisation has no bias: the normalisation would subtract it again.
    """
    layers: list[nn.Module] = []
    for channels in (in_channels, out_channels):
        layers.append(nn.Conv2d(channels, out_channels, 3, padding=1, bias=normalization is None))
        if normalization == "batch":
            layers.append(nn.BatchNorm2d(out_channels))
        layers.append(nn.ReLU(inplace=True))
        if dropout:
            layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers)


def he_initialisation(network: nn.Module) -> None:
    r"""Draw the convolutions' weights from :math:`N(0, 2 / n)`, biases 0 (He et al. 2015, arXiv:1502.01852).

    Here :math:`n` is the number of inputs of one output pixel: channels times kernel pixels, and for the 2x2
    transposed convolutions of stride 2, whose windows do not overlap, the channels alone.
    """
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            inputs = layer.in_channels
            if isinstance(layer, nn.Conv2d):
                inputs *= layer.kernel_size[0] * layer.kernel_size[1]
            nn.init.normal_(layer.weight, std=(2 / inputs) ** 0.5)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def check_arguments(
    model: str, widths: Sequence[int], normalization: str | None, dropout: float
) -> tuple[int, ...]:
    """The widths as a tuple, once they and the other arguments are found usable.

    Raises:
        MedsegError: fewer than two widths, a width below 1, an unknown normalization, or a dropout outside
            [0, 1).
    """
    if len(widths) < 2 or min(widths) < 1:
        raise MedsegError(f"model {model!r}: widths must be two or more numbers above 0; got {list(widths)}")
    if normalization not in NORMALIZATIONS:
        raise MedsegError(f"model {model!r}: normalization must be 'batch' or null; got {normalization!r}")
    check_dropout(model, dropout)
    return tuple(int(width) for width in widths)


def check_dropout(model: str, dropout: float) -> None:
    """Raise if a probability of dropping is outside [0, 1)."""
    if not 0 <= dropout < 1:
        raise MedsegError(f"model {model!r}: dropout must be at least 0 and below 1; got {dropout}")


def check_sides(model: str, images: Tensor, divisor: int) -> None:
    """Refuse images that cannot be halved as often as the model does; says which sizes it can take.

    Nothing is checked while the network is traced or compiled, since the check would become part of the
    graph.

    Raises:
        MedsegError: a side is not divisible by ``divisor``.
    """
    if torch.jit.is_tracing() or torch.compiler.is_compiling():
        return
    height, width = images.shape[-2:]
    if height % divisor or width % divisor:
        sizes = nearest(height, width, divisor)
        raise MedsegError(f"{model} needs sides divisible by {divisor}; got {height}x{width}; {sizes}")


def check_batch(model: str, images: Tensor, pooling: nn.Module) -> None:
    """Refuse to train on one image, of whose mean a batch normalisation cannot learn anything.

    Nothing is checked while the network is traced or compiled. Batch normalisation over several processes
    (``nn.SyncBatchNorm``) counts their images itself.

    Args:
        model: the model's name, for messages.
        images: the batch.
        pooling: the branch with the image's mean.

    Raises:
        MedsegError: the batch has one image and the branch normalises by the batch.
    """
    if torch.jit.is_tracing() or torch.compiler.is_compiling() or len(images) > 1:
        return
    if any(isinstance(layer, nn.BatchNorm2d) and layer.training for layer in pooling.modules()):
        raise MedsegError(
            f"{model} cannot train on a batch of one image, since it normalises the image's mean over the batch; "
            "use batches of two or more"
        )


def nearest(height: int, width: int, divisor: int) -> str:
    """The nearest sizes that are divisible, in words: the next smaller, if any, and the next larger."""
    small = [side // divisor * divisor for side in (height, width)]
    large = [-(-side // divisor) * divisor for side in (height, width)]
    larger = f"{large[0]}x{large[1]}"
    if min(small) == 0:
        return f"the nearest is {larger}"
    return f"the nearest are {small[0]}x{small[1]} and {larger}"


def convolution(
    in_channels: int,
    out_channels: int,
    kernel_size: int = 3,
    *,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    activation: Callable[[], nn.Module] | None = ReLU,
) -> nn.Sequential:
    """A padded convolution without bias, batch normalisation, and an activation (if any)."""
    layers: list[nn.Module] = [
        nn.Conv2d(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=dilation * (kernel_size // 2),
            dilation=dilation,
            groups=groups,
            bias=False,
        ),
        nn.BatchNorm2d(out_channels),
    ]
    return nn.Sequential(*layers, *([activation()] if activation else []))


def resize(maps: Tensor, size: list[int], align_corners: bool = False) -> Tensor:
    """Maps stretched to a height and width by bilinear interpolation."""
    return functional.interpolate(maps, size=size, mode="bilinear", align_corners=align_corners)
