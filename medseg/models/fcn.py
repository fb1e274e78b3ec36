"""FCN-8s and its coarser stages FCN-16s and FCN-32s."""

# to mypy a buffer may be a Module and a shape is no list; TorchScript disagrees
# mypy: disable-error-code="arg-type"

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from medseg.errors import MedsegError
from medseg.models import MODELS
from medseg.models._blocks import check_dropout, he_initialisation
from medseg.models._pretrained import State, load_weights

#: convolutions of VGG16 before each pooling
DEPTHS = (2, 2, 3, 3, 3)
#: by how many pixels the padding shifts pool4 and pool3 against the scores that are upsampled to their size
POOL_OFFSETS = (5, 9)
#: by how many it shifts the upsampled scores against the image, for each stride of the last upsampling
OFFSETS = {32: 19, 16: 27, 8: 31}
#: what pool4 and pool3 are multiplied with when all three streams are learned at once
AT_ONCE = (0.01, 0.0001)


class VGG16(nn.Module):
    """VGG16 with its classifier as convolutions (Simonyan & Zisserman 2014, arXiv:1409.1556).

    The first convolution pads by 100 pixels, so that the 7x7 ``fc6``, which does not pad, has something to
    see around every image. Poolings round sizes up, as Caffe's do.

    Args:
        in_channels: channels of the image.
        widths: channels of each of the five levels.
        classifier_width: channels of ``fc6`` and ``fc7``.
        dropout: probability of dropping a value after ``fc6`` and after ``fc7``.

    Shape:
        images ``(N, C, H, W)``, result three maps: pool3, pool4 and fc7, about 1/8, 1/16 and 1/32 of
        ``H + 198`` by ``W + 198``, fc7 less 6 pixels of the last.
    """

    stages = (("conv1",), ("conv2",), ("conv3",), ("conv4",), ("conv5",), ("fc6", "fc7"))

    def __init__(
        self, in_channels: int, widths: Sequence[int], classifier_width: int, dropout: float
    ) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3, self.conv4, self.conv5 = (
            _level(a, b, depth, padding=100 if level == 0 else 1)
            for level, (a, b, depth) in enumerate(zip((in_channels, *widths), widths, DEPTHS, strict=False))
        )
        self.pool = nn.MaxPool2d(2, ceil_mode=True)
        self.fc6 = nn.Sequential(
            nn.Conv2d(widths[-1], classifier_width, 7), nn.ReLU(inplace=True), nn.Dropout(dropout)
        )
        self.fc7 = nn.Sequential(
            nn.Conv2d(classifier_width, classifier_width, 1), nn.ReLU(inplace=True), nn.Dropout(dropout)
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        pool2 = self.pool(self.conv2(self.pool(self.conv1(images))))
        pool3 = self.pool(self.conv3(pool2))
        pool4 = self.pool(self.conv4(pool3))
        return [pool3, pool4, self.fc7(self.fc6(self.pool(self.conv5(pool4))))]


def _level(in_channels: int, out_channels: int, depth: int, padding: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise((in_channels, *[out_channels] * depth)):
        layers += [nn.Conv2d(a, b, 3, padding=1 if layers else padding), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def paper_names(state: State) -> State:
    """The keys and shapes of timm's or torchvision's VGG16 as :class:`VGG16` has them."""
    names = {
        "pre_logits.fc1": "fc6.0",
        "pre_logits.fc2": "fc7.0",
        "classifier.0": "fc6.0",
        "classifier.3": "fc7.0",
    }
    layer = 0
    for level, depth in enumerate(DEPTHS, 1):
        for convolution in range(depth):
            names[f"features.{layer}"] = f"conv{level}.{2 * convolution}"
            layer += 2
        layer += 1  # the pooling
    renamed = {}
    for key, value in state.items():
        module, _, kind = key.rpartition(".")
        name = names.get(module, module)
        if name in ("fc6.0", "fc7.0") and value.ndim == 2:
            side = 7 if name == "fc6.0" else 1
            value = value.reshape(len(value), -1, side, side)
        renamed[f"{name}.{kind}"] = value
    return renamed


class BilinearUpsampling(nn.Module):
    """A transposed convolution, each channel by itself, whose kernel is bilinear interpolation and stays it.

    Args:
        channels: channels of the maps.
        stride: factor of upsampling; the kernel has twice as many pixels a side.

    Shape:
        maps ``(N, K, H, W)``, result ``(N, K, s * (H + 1), s * (W + 1))`` for the stride ``s``.
    """

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.channels = channels
        self.stride = stride
        line = 1 - (torch.arange(2 * stride) - (stride - 0.5)).abs() / stride
        self.register_buffer("kernel", torch.outer(line, line).repeat(channels, 1, 1, 1))

    def forward(self, maps: Tensor) -> Tensor:
        return functional.conv_transpose2d(maps, self.kernel, stride=self.stride, groups=self.channels)


def crop(maps: Tensor, offset: int, size: list[int]) -> Tensor:
    """The part of maps that begins ``offset`` pixels from the top and the left and has this height and width."""
    return maps[:, :, offset : offset + size[0], offset : offset + size[1]]


@MODELS.register(
    "fcn",
    divisor=1,
    cam_layer="backbone.fc7",
    cam_origin=12.5,
    deep_supervision=False,
    scriptable=True,
    starts_at_zero=True,
    backbone="VGG16",
    pretrained=("vgg16.tv_in1k",),
    small={"widths": [8, 16, 16, 32, 32], "classifier_width": 32},
    parameters=134_265_411,
    macs=62_668_184_128,
    published_parameters=134_265_699,
    published_macs=62_668_184_128,
    paper="arXiv:1411.4038",
    licence="written from the paper; the authors' code is BSD-2-Clause",
)
class FCN(nn.Module):
    """FCN-8s, the fully convolutional VGG16 (Long, Shelhamer & Darrell 2015, arXiv:1411.4038).

    1x1 convolutions score fc7, pool4 and pool3. The scores of fc7 are upsampled by 2 and added to those of pool4, the
    sum is upsampled by 2 and added to those of pool3, and that sum is upsampled by 8. The image is padded by 100
    pixels, and each map is cropped by as many pixels as the padding shifts it: 5, 9 and at last 31. Upsampling is
    bilinear and does not learn: 134,265,411 parameters for three channels in and one out, and 288 constants, which the
    authors count too (134,265,699); they mix no classes, so that each class is upsampled by itself here. The padding
    makes an image of 224 pixels cost what 422 would, 62.67 GMAC.

    The layers that score begin at zero, as published: so do all logits, and the first step moves these layers alone.
    The authors begin VGG16 from ImageNet; without, its weights begin as in He et al. 2015, since it has no
    normalisation to keep the signal's size. They train FCN-32s, then 16s, then 8s, each from the one before, with
    batches of one, momentum 0.99, weight decay 5e-4 and biases learning twice as fast; or all streams at once.

    Args:
        in_channels: channels of the image.
        out_channels: channels of the logits; 1 for one foreground class.
        stride: of the last upsampling: 8 is FCN-8s, 16 is FCN-16s (without pool3), 32 is FCN-32s (without both).
        at_once: scale pool4 by 0.01 and pool3 by 0.0001 before they are scored, as the authors do where they
            train the three streams at once.
        widths: channels of VGG16's five levels.
        classifier_width: channels of fc6 and fc7.
        dropout: probability of dropping a value after fc6 and after fc7.
        pretrained: begin VGG16, with its classifier, from ImageNet: True downloads ``vgg16.tv_in1k``, a path is
            a file or a folder with it.

    Shape:
        images ``(N, C, H, W)`` of any size, logits ``(N, K, H, W)``.

    Raises:
        MedsegError: an argument is not usable, or the weights cannot be had.
    """

    divisor = 1

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 8,
        at_once: bool = False,
        widths: Sequence[int] = (64, 128, 256, 512, 512),
        classifier_width: int = 4096,
        dropout: float = 0.5,
        pretrained: bool | str = False,
    ) -> None:
        super().__init__()
        _check_arguments(stride, widths, classifier_width, dropout)
        self.backbone = VGG16(in_channels, widths, classifier_width, dropout)
        self.score_fr = nn.Conv2d(classifier_width, out_channels, 1)
        skips = {32: [], 16: [widths[3]], 8: [widths[3], widths[2]]}[stride]
        self.score_pools = nn.ModuleList(nn.Conv2d(width, out_channels, 1) for width in skips)
        self.pool_scales = AT_ONCE if at_once else (1.0, 1.0)
        self.pool_offsets = POOL_OFFSETS
        self.offset = OFFSETS[stride]
        self.upscore2 = BilinearUpsampling(out_channels, 2)
        self.upscore = BilinearUpsampling(out_channels, stride)
        he_initialisation(self)
        for score in (self.score_fr, *self.score_pools):
            nn.init.zeros_(score.weight)
        load_weights(
            self.backbone,
            "vgg16.tv_in1k",
            pretrained,
            model="fcn",
            first="conv1.0",
            unused=("head.fc.", "classifier.6."),
            convert=paper_names,
        )

    def forward(self, images: Tensor) -> Tensor:
        features = self.backbone(images)
        scores = self.score_fr(features[2])
        for index, score in enumerate(self.score_pools):
            scores = self.upscore2(scores)
            pool = score(features[1 - index] * self.pool_scales[index])
            scores = scores + crop(pool, self.pool_offsets[index], scores.shape[2:])
        return crop(self.upscore(scores), self.offset, images.shape[2:])


def _check_arguments(stride: int, widths: Sequence[int], classifier_width: int, dropout: float) -> None:
    if stride not in OFFSETS:
        raise MedsegError(f"model 'fcn': stride must be 8, 16 or 32; got {stride}")
    if len(widths) != len(DEPTHS) or min(widths) < 1:
        raise MedsegError(f"model 'fcn': widths must be five numbers above 0; got {list(widths)}")
    if classifier_width < 1:
        raise MedsegError(f"model 'fcn': classifier_width must be above 0; got {classifier_width}")
    check_dropout("fcn", dropout)
