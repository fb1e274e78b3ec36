"""ESFPNet: the published counts, and its decoder against plain functions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from medseg import models
from medseg.errors import MedsegError
from medseg.models.esfpnet import EfficientStageWiseFeaturePyramid

TINY = "mit_b0.imagenet"


def build(**arguments: object) -> nn.Module:
    return models.build("esfpnet", **{"in_channels": 3, "out_channels": 1, **arguments})


@pytest.mark.parametrize(
    ("arguments", "parameters", "macs"),
    [
        ({}, 61_690_049, 9_162_915_328),
        ({"backbone": "mit_b2.imagenet"}, 25_043_649, 3_514_025_984),
        ({"backbone": "mit_b0.imagenet"}, 3_532_129, 513_827_328),
    ],
)
def test_published_counts(arguments: dict, parameters: int, macs: int) -> None:
    with torch.device("meta"):
        network = build(**arguments).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(torch.zeros(1, 3, 224, 224))
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters
    assert counter.get_total_flops() == 2 * macs


def test_parameters_of_the_decoder_by_hand() -> None:
    decoder = EfficientStageWiseFeaturePyramid((2, 3, 5, 7))
    # two linear layers per level but one on the last; fusions 7 + 5 -> 5, 5 + 3 -> 3, 3 + 2 -> 2 without bias
    linear = 2 * (2 * 2 + 2) + 2 * (3 * 3 + 3) + 2 * (5 * 5 + 5) + (7 * 7 + 7)
    fusions = (12 * 5 + 2 * 5) + (8 * 3 + 2 * 3) + (5 * 2 + 2 * 2)
    assert sum(parameter.numel() for parameter in decoder.parameters()) == linear + fusions


def linear(state: dict[str, Tensor], name: str, maps: Tensor) -> Tensor:
    weight = state[f"{name}.weight"][:, :, 0, 0]
    return torch.einsum("oc,nchw->nohw", weight, maps) + state[f"{name}.bias"].view(1, -1, 1, 1)


def fused(state: dict[str, Tensor], name: str, finer: Tensor, coarser: Tensor) -> Tensor:
    joined = torch.cat([finer, up(coarser, 2)], 1)
    maps = torch.einsum("oc,nchw->nohw", state[f"{name}.0.weight"][:, :, 0, 0], joined)
    mean, variance = state[f"{name}.1.running_mean"], state[f"{name}.1.running_var"]
    weight, bias = state[f"{name}.1.weight"], state[f"{name}.1.bias"]
    return functional.batch_norm(maps, mean, variance, weight, bias).relu()


def up(maps: Tensor, factor: int) -> Tensor:
    return functional.interpolate(maps, scale_factor=factor, mode="bilinear", align_corners=False)


def test_the_decoder_is_that_of_the_paper() -> None:
    torch.manual_seed(0)
    decoder = EfficientStageWiseFeaturePyramid((2, 3, 5, 7)).eval()
    for layer in decoder.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for values in (layer.running_mean, layer.running_var, layer.weight, layer.bias):
                nn.init.uniform_(values, 0.2, 2)
    s = decoder.state_dict()
    c1, c2, c3, c4 = (
        torch.randn(2, c, 2**i, 2 ** (i + 1)) for c, i in zip((2, 3, 5, 7), (4, 3, 2, 1), strict=True)
    )
    lp4 = linear(s, "lp4", c4)
    lp34 = linear(s, "lp34", fused(s, "fuse34", linear(s, "lp3", c3), lp4))
    lp23 = linear(s, "lp23", fused(s, "fuse23", linear(s, "lp2", c2), lp34))
    lp12 = linear(s, "lp12", fused(s, "fuse12", linear(s, "lp1", c1), lp23))
    expected = torch.cat([lp12, up(lp23, 2), up(lp34, 4), up(lp4, 8)], 1)
    torch.testing.assert_close(decoder([c1, c2, c3, c4]), expected)


def test_logits_are_made_at_a_quarter_of_the_sides_and_upsampled() -> None:
    network = build(backbone=TINY, out_channels=2).eval()
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        small = network.head(network.decoder(network.backbone(images)))
        assert small.shape == (1, 2, 16, 24)
        torch.testing.assert_close(network(images), up(small, 4))


def test_the_decoder_keeps_the_backbones_widths() -> None:
    with torch.device("meta"):
        network = build(backbone=TINY)
    assert network.head.in_channels == 32 + 64 + 160 + 256
    assert network.decoder.lp23.out_channels == 64


def test_mistakes() -> None:
    with pytest.raises(
        MedsegError,
        match=r"model 'esfpnet': backbone must be mit_b0.imagenet to mit_b5.imagenet; got 'resnet18'",
    ):
        build(backbone="resnet18")
    with pytest.raises(MedsegError, match=r"esfpnet: .* no encoder 'mit_b9.imagenet'"):
        build(backbone="mit_b9.imagenet")
    with pytest.raises(MedsegError, match="esfpnet needs sides divisible by 32; got 40x64"):
        build(backbone=TINY)(torch.zeros(1, 3, 40, 64))
