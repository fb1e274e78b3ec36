"""ColonSegNet."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medseg.errors import MedsegError
from medseg.models import MODELS
from medseg.models._blocks import check_sides

#: by how much squeeze-and-excitation narrows
REDUCTION = 16


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, and a shortcut of a 1x1 convolution whose channels are weighed.

    The squeeze-and-excitation sits on the shortcut, not on the convolutions' branch. Convolutions have a bias
    although normalisation follows, and the two layers of the squeeze have none, as the published count says.

    Shape:
        maps ``(N, in_channels, H, W)``, result ``(N, out_channels, H, W)``, 0 or above.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        from timm.layers import SEModule

        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 3, padding=1),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, 3, padding=1),
            nn.BatchNorm2d(out_channels),
        )
        self.shortcut = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 1),
            nn.BatchNorm2d(out_channels),
            SEModule(out_channels, rd_channels=max(1, out_channels // REDUCTION), bias=False),
        )

    def forward(self, maps: Tensor) -> Tensor:
        return torch.relu(self.convolutions(maps) + self.shortcut(maps))


class EncoderBlock(nn.Module):
    """A residual block, a strided convolution, and a second residual block at half the resolution.

    Shape:
        maps ``(N, in_channels, H, W)``, result two maps of ``out_channels``, ``(H, W)`` and ``(H / 2, W / 2)``.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.before = ResidualBlock(in_channels, out_channels)
        self.stride = nn.Sequential(
            nn.Conv2d(out_channels, out_channels, 3, stride=2, padding=1),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )
        self.after = ResidualBlock(out_channels, out_channels)

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        before = self.before(maps)
        return before, self.after(self.stride(before))


class Join(nn.Module):
    """A coarse map enlarged by a 4x4 transposed convolution, and joined with a finer one in a residual block.

    Args:
        coarse: channels of the coarse map.
        fine: channels of the finer map.
        out_channels: channels of the enlarged map and of the result.
        scale: how many times finer the other map is, 2 or 4.
    """

    def __init__(self, coarse: int, fine: int, out_channels: int, scale: int = 2) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(coarse, out_channels, 4, stride=scale, padding=(4 - scale) // 2)
        self.block = ResidualBlock(out_channels + fine, out_channels)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        return self.block(torch.cat((self.up(coarse), fine), 1))


@MODELS.register(
    "colonsegnet",
    divisor=8,
    cam_layer="encoder2.after",
    deep_supervision=False,
    scriptable=True,
    small={"width": 8},
    parameters=5_014_049,
    macs=30_155_396_736,
    published_parameters=5_014_049,
    published_macs=30_155_396_736,
    paper="arXiv:2011.07631",
    licence="written from the paper; the authors' code has no licence",
)
class ColonSegNet(nn.Module):
    """ColonSegNet, small and quick, for polyps (Jha et al. 2021, arXiv:2011.07631).

    Two encoder blocks give maps at 1/1 and 1/2 of the image (``width`` channels), and, after a 2x2 max pooling
    between them, at 1/4 and 1/8 (four times as many). Both maps of the second block lead up: the coarsest by a
    factor of 4 to join the map at 1/2, the one at 1/4 by a factor of 2 to join what that gave. The result is
    enlarged to join the map at 1/1; and the encoder's map at 1/2, enlarged, joins once more at the end.
    A 1x1 convolution gives the logits. The authors also pool the second block's result, which nothing uses.

    Args:
        in_channels: channels of the image.
        out_channels: channels of the logits; 1 for one foreground class.
        width: channels of the finest maps, an even number.

    Shape:
        images ``(N, C, H, W)`` with sides divisible by 8, logits ``(N, K, H, W)``.

    Raises:
        MedsegError: the width is not even and above 0, or an image's side is not divisible.
    """

    def __init__(self, in_channels: int, out_channels: int, width: int = 64) -> None:
        super().__init__()
        if width < 2 or width % 2:
            raise MedsegError(f"model 'colonsegnet': width must be an even number above 0; got {width}")
        self.divisor = 8
        deep, middle = 4 * width, 2 * width
        self.encoder1 = EncoderBlock(in_channels, width)
        self.pool = nn.MaxPool2d(2)
        self.encoder2 = EncoderBlock(width, deep)
        self.join1 = Join(deep, width, middle, scale=4)
        self.join2 = Join(deep, middle, middle)
        self.join3 = Join(middle, width, width)
        self.join4 = Join(width, width, width // 2)
        self.head = nn.Conv2d(width // 2, out_channels, 1)

    def forward(self, images: Tensor) -> Tensor:
        if not torch.jit.is_scripting():
            check_sides("colonsegnet", images, self.divisor)
        full, half = self.encoder1(images)
        quarter, eighth = self.encoder2(self.pool(half))
        maps = self.join1(eighth, half)
        maps = self.join2(quarter, maps)
        maps = self.join3(maps, full)
        maps = self.join4(half, maps)
        return self.head(maps)
