"""U-Net."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medseg.models import MODELS
from medseg.models._blocks import check_arguments, check_sides, double_convolution, he_initialisation


@MODELS.register(
    "unet",
    divisor=16,
    cam_layer="bottom",
    deep_supervision=False,
    scriptable=True,
    small={"widths": [4, 8, 16]},
    parameters=31_037_633,
    macs=36_878_155_776,
    published_parameters=31_037_633,
    published_macs=36_878_155_776,
    paper="arXiv:1505.04597",
    licence="written from the paper",
)
class UNet(nn.Module):
    """U-Net, padded (Ronneberger, Fischer & Brox 2015, arXiv:1505.04597).

    Each level is two 3x3 convolutions with ReLU; 2x2 max pooling leads down; a 2x2 transposed convolution
    that halves the channels leads up, where the level's encoder features are concatenated; a 1x1 convolution
    gives the logits. Weights start as in the paper (He). Two things differ from 2015: convolutions are
    padded, so that the logits have the input's size, and batch normalisation, a later habit, is on by
    default. ``normalization=None`` gives the paper's layers: 31,031,745 parameters for three channels in and
    one out, against 31,037,633 with batch normalisation; the published figures compared with are those of
    that padded, normalised form.

    Args:
        in_channels: channels of the image.
        out_channels: channels of the logits; 1 for one foreground class.
        widths: channels of each level, from the input's resolution down.
        normalization: ``batch`` or None.
        dropout: probability of dropping a value at the end of the contracting path; the paper drops there
            too, but does not say how many.

    Shape:
        images ``(N, C, H, W)`` with sides divisible by ``2 ** (len(widths) - 1)``, logits ``(N, K, H, W)``.

    Raises:
        MedsegError: an argument is not usable, or an image's side is not divisible.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        widths: Sequence[int] = (64, 128, 256, 512, 1024),
        normalization: str | None = "batch",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        widths = check_arguments("unet", widths, normalization, dropout)
        self.divisor = 2 ** (len(widths) - 1)
        inputs = (in_channels, *widths)
        self.encoder = nn.ModuleList(
            double_convolution(a, b, normalization) for a, b in zip(inputs, widths[:-1], strict=False)
        )
        self.pool = nn.MaxPool2d(2)
        self.bottom = double_convolution(widths[-2], widths[-1], normalization)
        self.dropout = nn.Dropout(dropout)
        upwards = [(b, a) for a, b in itertools.pairwise(widths)][::-1]
        self.up = nn.ModuleList(nn.ConvTranspose2d(low, high, 2, stride=2) for low, high in upwards)
        self.decoder = nn.ModuleList(double_convolution(2 * high, high, normalization) for _, high in upwards)
        self.head = nn.Conv2d(widths[0], out_channels, 1)
        he_initialisation(self)

    def forward(self, images: Tensor) -> Tensor:
        if not torch.jit.is_scripting():
            check_sides("unet", images, self.divisor)
        features = images
        skips: list[Tensor] = []
        for level in self.encoder:
            features = level(features)
            skips.append(features)
            features = self.pool(features)
        features = self.dropout(self.bottom(features))
        for up, level in zip(self.up, self.decoder):  # noqa: B905  (TorchScript's zip has no strict)
            features = level(torch.cat((skips.pop(), up(features)), 1))
        return self.head(features)
