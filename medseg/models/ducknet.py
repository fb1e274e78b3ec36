"""DUCK-Net."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from medseg.errors import MedsegError
from medseg.models import MODELS
from medseg.models._blocks import check_sides

# as Keras has it, whose momentum of 0.99 is what the old average keeps
BatchNorm = partial(nn.BatchNorm2d, eps=1e-3, momentum=0.01)
LEVELS = 5


def started(layer: nn.Conv2d, draw: Callable[[Tensor], Tensor]) -> nn.Conv2d:
    """The layer with its weights drawn and biases of 0."""
    draw(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def convolution(
    in_channels: int, out_channels: int, kernel_size: tuple[int, int] = (3, 3), dilation: int = 1
) -> nn.Sequential:
    """A convolution, ReLU, and then batch normalisation; the size stays.

    An even kernel sees one pixel more to the right and below, as TensorFlow's "same" padding has it.
    """
    reach = [dilation * (side - 1) for side in kernel_size]
    (top, bottom), (left, right) = ((pixels // 2, pixels - pixels // 2) for pixels in reach)
    even = (top, left) != (bottom, right)
    layer = nn.Conv2d(
        in_channels, out_channels, kernel_size, dilation=dilation, padding=0 if even else (top, left)
    )
    padding = [nn.ZeroPad2d((left, right, top, bottom))] if even else []
    layer = started(layer, partial(nn.init.kaiming_uniform_, nonlinearity="relu"))
    return nn.Sequential(*padding, layer, nn.ReLU(inplace=True), BatchNorm(out_channels))


def plain_convolution(in_channels: int, out_channels: int, kernel_size: int) -> nn.Conv2d:
    """A linear convolution whose stride is its kernel, with Keras's default start (Glorot)."""
    layer = nn.Conv2d(in_channels, out_channels, kernel_size, stride=kernel_size)
    return started(layer, nn.init.xavier_uniform_)


class Residual(nn.Module):
    """Two 3x3 convolutions plus a shortcut, always a 1x1 convolution with ReLU; the sum is normalised."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            convolution(in_channels, out_channels), convolution(out_channels, out_channels)
        )
        self.shortcut = convolution(in_channels, out_channels, (1, 1))[:-1]  # without its normalisation
        self.norm = BatchNorm(out_channels)

    def forward(self, maps: Tensor) -> Tensor:
        return self.norm(self.convolutions(maps) + self.shortcut(maps))


def residuals(in_channels: int, out_channels: int, number: int) -> nn.Sequential:
    """Several residual blocks; the first changes the channels."""
    return nn.Sequential(
        *(Residual(out_channels if index else in_channels, out_channels) for index in range(number))
    )


def dilated(in_channels: int, out_channels: int, dilations: tuple[int, ...]) -> nn.Sequential:
    """3x3 convolutions of the given dilations, one after another; the first changes the channels."""
    return nn.Sequential(
        *(
            convolution(out_channels if index else in_channels, out_channels, dilation=dilation)
            for index, dilation in enumerate(dilations)
        )
    )


class DUCK(nn.Module):
    """Deep Understanding Convolutional Kernel: six views of the normalised maps, summed and normalised.

    Widescope (dilations 1, 2, 3), midscope (1, 2), one, two and three residual blocks, and a 1x6 with a 6x1
    convolution.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.norm = BatchNorm(in_channels)
        self.widescope = dilated(in_channels, out_channels, (1, 2, 3))
        self.midscope = dilated(in_channels, out_channels, (1, 2))
        self.residual1 = residuals(in_channels, out_channels, 1)
        self.residual2 = residuals(in_channels, out_channels, 2)
        self.residual3 = residuals(in_channels, out_channels, 3)
        self.separated = nn.Sequential(
            convolution(in_channels, out_channels, (1, 6)), convolution(out_channels, out_channels, (6, 1))
        )
        self.norm_out = BatchNorm(out_channels)

    def forward(self, maps: Tensor) -> Tensor:
        maps = self.norm(maps)
        total = self.widescope(maps) + self.midscope(maps) + self.separated(maps)
        total = total + self.residual1(maps) + self.residual2(maps) + self.residual3(maps)
        return self.norm_out(total)


@MODELS.register(
    "ducknet",
    divisor=32,
    cam_layer="bottom",
    deep_supervision=False,
    scriptable=True,
    small={"filters": 4},
    parameters=38_867_668,
    macs=18_487_748_608,
    published_parameters=38_867_668,
    published_macs=18_487_748_608,
    paper="doi:10.1038/s41598-023-36940-5",
    licence="written from the paper; the authors' code is CC BY 4.0",
)
class DUCKNet(nn.Module):
    """DUCK-Net, trained from scratch, for polyps (Dumitru, Peteleaza & Craciun 2023, Scientific Reports 13, 9803).

    Two ways lead down, both by 2x2 convolutions of stride 2 that double the channels: one of plain convolutions
    from the image itself, and one with a DUCK block at each level, to which the first is added. The bottom is
    four residual blocks. On the way up the maps are enlarged (nearest neighbour), the level's maps are added,
    and a DUCK block halves the channels, so that the next sum fits. A 1x1 convolution gives the logits; the
    authors' network ends in a sigmoid, which belongs to the losses here.

    In every block ReLU comes before the normalisation, whose numbers are Keras's (epsilon 0.001, momentum 0.01
    in PyTorch's sense, so that evaluation needs some hundred steps of training before its statistics are sound).
    Weights start as there: He uniform inside the blocks, Glorot uniform in the 2x2 convolutions and the head,
    biases 0. The authors' sizes are ``filters=17`` (38,867,668 parameters for three channels in and one out) and
    ``filters=34`` (155,303,507).

    Args:
        in_channels: channels of the image.
        out_channels: channels of the logits; 1 for one foreground class.
        filters: channels at the image's resolution.

    Shape:
        images ``(N, C, H, W)`` with sides divisible by 32, logits ``(N, K, H, W)``.

    Raises:
        MedsegError: there are no filters, or an image's side is not divisible.
    """

    def __init__(self, in_channels: int, out_channels: int, filters: int = 17) -> None:
        super().__init__()
        if filters < 1:
            raise MedsegError(f"model 'ducknet': filters must be above 0; got {filters}")
        self.divisor = 2**LEVELS
        widths = [filters * 2**level for level in range(LEVELS + 1)]
        levels = range(LEVELS)
        self.side = nn.ModuleList(
            plain_convolution(widths[i] if i else in_channels, widths[i + 1], 2) for i in levels
        )
        self.encoder = nn.ModuleList(DUCK(widths[i] if i else in_channels, widths[i]) for i in levels)
        self.down = nn.ModuleList(plain_convolution(widths[i], widths[i + 1], 2) for i in levels)
        self.bottom = nn.Sequential(
            residuals(widths[-1], widths[-1], 2), residuals(widths[-1], widths[-2], 2)
        )
        self.decoder = nn.ModuleList(DUCK(widths[i], widths[max(i - 1, 0)]) for i in reversed(levels))
        self.head = plain_convolution(filters, out_channels, 1)

    def forward(self, images: Tensor) -> Tensor:
        if not torch.jit.is_scripting():
            check_sides("ducknet", images, self.divisor)
        side, maps = images, images
        skips: list[Tensor] = []
        for plain, block, down in zip(self.side, self.encoder, self.down):  # noqa: B905  (TorchScript's zip has no strict)
            side = plain(side)
            maps = block(maps)
            skips.append(maps)
            maps = down(maps) + side
        maps = self.bottom(maps)
        for block in self.decoder:
            maps = functional.interpolate(maps, scale_factor=2.0, mode="nearest")
            maps = block(maps + skips.pop())
        return self.head(maps)
