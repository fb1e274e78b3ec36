"""FAT-Net."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medseg.errors import MedsegError
from medseg.models import MODELS
from medseg.models._backbones import pyramid, with_memory
from medseg.models._blocks import check_sides
from medseg.models._pretrained import load_weights

PATCH = 16
#: by how much squeeze-and-excitation narrows
REDUCTION = 16
#: how often the feature adaptation is applied to the maps at 1/2, 1/4 and 1/8
ADAPTATIONS = (6, 4, 2)


class TransformerBranch(nn.Module):
    """The patch embedding and blocks of a vision transformer, on patch tokens alone.

    There are no positional embedding, no class or distillation token and no last normalisation, so that any
    number of patches will do.

    Args:
        network: timm's vision transformer, whose parts are taken.

    Shape:
        images ``(N, C, H, W)``, result ``(N, D, H / 16, W / 16)``.
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.patch_embed = network.patch_embed
        self.blocks = network.blocks
        quarter = len(self.blocks) / 4
        groups: list[list[str]] = [[] for _ in range(4)]
        for index in range(len(self.blocks)):
            groups[int(index / quarter)].append(f"blocks.{index}")
        groups[0].insert(0, "patch_embed")
        self.stages = tuple(tuple(group) for group in groups)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.patch_embed.proj(images)
        tokens = self.blocks(maps.flatten(2).transpose(1, 2))
        return tokens.transpose(1, 2).reshape(maps.shape)


def convolutional_branch(backbone: str, in_channels: int, pretrained: bool | str) -> nn.Module:
    """A ResNet without its max pooling: four maps, 1/2 to 1/16 of the sides.

    Without published weights it starts as torchvision's does, with no normalisation that begins at zero.
    """
    from timm.models import is_model_in_modules

    network: Any = None
    if is_model_in_modules(backbone.partition(".")[0], ["resnet"]):
        levels = (1, 2, 3, 4)
        network = pyramid(
            backbone, in_channels, pretrained, model="fatnet", out_indices=levels, zero_init_last=False
        )
    if not isinstance(getattr(network, "maxpool", None), nn.MaxPool2d):
        raise MedsegError(
            f"fatnet: convolutional must be one of timm's ResNets with max pooling; got {backbone!r}"
        )
    network.maxpool = nn.Identity()
    return network


def transformer_branch(backbone: str, in_channels: int, pretrained: bool | str) -> TransformerBranch:
    """The transformer branch from timm's network of that name, with its published weights if wished."""
    import timm
    from timm.models.vision_transformer import VisionTransformer

    name = backbone.partition(".")[0]
    whole: Any = (
        with_memory(lambda: timm.create_model(name, in_chans=in_channels)) if timm.is_model(name) else None
    )
    if not isinstance(whole, VisionTransformer) or whole.patch_embed.patch_size != (PATCH, PATCH):
        raise MedsegError(
            f"fatnet: transformer must be one of timm's vision transformers with 16x16 patches; got {backbone!r}"
        )
    branch = TransformerBranch(whole)
    unused = tuple(whole.state_dict().keys() - branch.state_dict().keys())
    load_weights(branch, backbone, pretrained, model="fatnet", first="patch_embed.proj", unused=unused)
    return branch


class FeatureAdaptation(nn.Module):
    """The feature adaptation module (FAM): a 3x3 and a 1x1 convolution, each with ReLU, summed; several times over.

    Args:
        channels: channels of the maps, which stay.
        times: how often it is applied.
        shared: with the same weights each time.
    """

    def __init__(self, channels: int, times: int, shared: bool) -> None:
        super().__init__()
        self.rounds = times if shared else 1
        blocks = 1 if shared else times
        self.wide = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(blocks))
        self.narrow = nn.ModuleList(nn.Conv2d(channels, channels, 1) for _ in range(blocks))

    def forward(self, maps: Tensor) -> Tensor:
        for _ in range(self.rounds):
            for wide, narrow in zip(self.wide, self.narrow):  # noqa: B905  (TorchScript's zip has no strict)
                maps = torch.relu(wide(maps)) + torch.relu(narrow(maps))
        return maps


def decoder(in_channels: int, out_channels: int) -> nn.Sequential:
    """The memory-efficient decoder: a bottleneck around a transposed convolution that doubles the sides."""
    middle = in_channels // 4
    return nn.Sequential(
        nn.Conv2d(in_channels, middle, 1),
        nn.BatchNorm2d(middle),
        nn.ReLU(inplace=True),
        nn.ConvTranspose2d(middle, middle, 3, stride=2, padding=1, output_padding=1),
        nn.BatchNorm2d(middle),
        nn.ReLU(inplace=True),
        nn.Conv2d(middle, out_channels, 1),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


@MODELS.register(
    "fatnet",
    divisor=PATCH,
    cam_layer="fusion",
    deep_supervision=False,
    scriptable=True,
    backbone="ResNet-34 + DeiT-Ti",
    pretrained=("resnet34.tv_in1k", "deit_tiny_distilled_patch16_224.fb_in1k"),
    small={"convolutional": "test_resnet.r160_in1k", "transformer": "test_vit.r160_in1k"},
    parameters=28_754_017,
    macs=22_923_337_728,
    published_parameters=28_758_657,
    published_macs=22_923_337_728,
    paper="doi:10.1016/j.media.2021.102327",
    licence="written from the paper; the authors' code has no licence; DeiT's weights are Apache 2.0",
)
class FATNet(nn.Module):
    """FAT-Net, a ResNet and a vision transformer side by side, for skin lesions (Wu et al. 2022, MedIA 76, 102327).

    The convolutional branch is a ResNet-34 without its max pooling, whose maps are therefore twice as fine as
    usual: 1/2 to 1/16 of the image. The transformer branch is DeiT-Ti on the patch tokens alone, see
    :class:`TransformerBranch`; a 1x1 convolution brings it to the channels of the coarsest map. Both are
    concatenated, weighed by squeeze-and-excitation and narrowed. Three decoders lead up; to each result the
    ResNet's map of its level is added, after two, four and six rounds of feature adaptation. As published, the
    rounds of one level share their weights.

    The authors' code also builds a fourth decoder that nothing uses, which is left out: 28,754,017 parameters
    for three channels in and one out, against their 28,758,657. Theirs takes 224x224 images only; here any
    size that the patches divide will do. Both backbones expect colours normalised by ImageNet's mean and standard
    deviation.

    Args:
        in_channels: channels of the image.
        out_channels: channels of the logits; 1 for one foreground class.
        pretrained: False, True, or a folder that has the weights of both backbones.
        convolutional: timm's name of a ResNet, with the tag of its weights.
        transformer: timm's name of a vision transformer with 16x16 patches, with the tag of its weights.
        shared_adaptation: whether the rounds of one level share their weights; 30,107,617 parameters if not.

    Shape:
        images ``(N, C, H, W)`` with sides divisible by 16, logits ``(N, K, H, W)``.

    Raises:
        MedsegError: a backbone is not usable, its weights cannot be had, or an image's side is not divisible.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        pretrained: bool | str = False,
        convolutional: str = "resnet34.tv_in1k",
        transformer: str = "deit_tiny_distilled_patch16_224.fb_in1k",
        shared_adaptation: bool = True,
    ) -> None:
        from timm.layers import SEModule

        super().__init__()
        if isinstance(pretrained, str) and Path(pretrained).expanduser().is_file():
            raise MedsegError(
                f"fatnet: pretrained must be a folder, with files for {convolutional} and {transformer};"
                f" got the file {pretrained}"
            )
        self.divisor = PATCH
        self.convolutional = convolutional_branch(convolutional, in_channels, pretrained)
        self.transformer = transformer_branch(transformer, in_channels, pretrained)
        features: Any = self.convolutional.feature_info
        c1, c2, c3, c4 = features.channels()
        self.bridge = nn.Conv2d(self.transformer.patch_embed.proj.out_channels, c4, 1)
        self.attention = SEModule(2 * c4, rd_channels=2 * c4 // REDUCTION, bias=False)
        self.fusion = nn.Conv2d(2 * c4, c4, 1)
        self.adaptation1, self.adaptation2, self.adaptation3 = (
            FeatureAdaptation(channels, times, shared_adaptation)
            for channels, times in zip((c1, c2, c3), ADAPTATIONS, strict=True)
        )
        self.decoder4 = decoder(c4, c3)
        self.decoder3 = decoder(c3, c2)
        self.decoder2 = decoder(c2, c1)
        self.head = nn.Sequential(
            nn.ConvTranspose2d(c1, 32, 4, stride=2, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(32, 32, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(32, out_channels, 3, padding=1),
        )

    def forward(self, images: Tensor) -> Tensor:
        if not torch.jit.is_scripting():
            check_sides("fatnet", images, self.divisor)
        e1, e2, e3, e4 = self.convolutional(images)
        both = torch.cat((e4, self.bridge(self.transformer(images))), 1)
        maps = self.fusion(self.attention(both))
        maps = self.decoder4(maps) + self.adaptation3(e3)
        maps = self.decoder3(maps) + self.adaptation2(e2)
        maps = self.decoder2(maps) + self.adaptation1(e1)
        return self.head(maps)
