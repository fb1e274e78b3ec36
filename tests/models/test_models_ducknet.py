"""DUCK-Net: the published parameter counts, its blocks, its two ways down, and how its weights start."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from medseg import models
from medseg.errors import MedsegError
from medseg.models.ducknet import DUCK, Residual, convolution


def build(**arguments: Any) -> Any:
    return models.build("ducknet", **{"in_channels": 3, "out_channels": 1, **arguments})


def count(**arguments: Any) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in build(**arguments).parameters())


@pytest.mark.parametrize(("arguments", "parameters"), [({}, 38_867_668), ({"filters": 34}, 155_303_507)])
def test_published_parameter_counts(arguments: dict, parameters: int) -> None:
    assert count(**arguments) == parameters


def test_the_image_meets_two_ways_down() -> None:
    # 2x2 into six filters; and DUCK: scale and shift, then into three filters five 3x3, three 1x1 and one 1x6
    per_channel = 4 * 2 * 3 + (2 + 3 * (5 * 9 + 3 * 1 + 6))
    assert count(filters=3, in_channels=3) - count(filters=3, in_channels=1) == 2 * per_channel


def settle(network: nn.Module) -> None:
    """Give every normalisation numbers of its own, so that its place shows."""
    torch.manual_seed(1)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias)
            nn.init.normal_(layer.running_mean)
            nn.init.uniform_(layer.running_var, 0.5, 2)


def normalised(maps: Tensor, layer: Any) -> Tensor:
    scale = layer.weight / (layer.running_var + 1e-3).sqrt()
    return (maps - layer.running_mean.view(-1, 1, 1)) * scale.view(-1, 1, 1) + layer.bias.view(-1, 1, 1)


def expected_convolution(maps: Tensor, part: Any, padding: Sequence[int], dilation: int = 1) -> Tensor:
    """Convolution, ReLU, normalisation, in that order."""
    layer, norm = (next(p for p in part if isinstance(p, kind)) for kind in (nn.Conv2d, nn.BatchNorm2d))
    maps = functional.conv2d(functional.pad(maps, list(padding)), layer.weight, layer.bias, dilation=dilation)
    return normalised(maps.clamp(min=0), norm)


def expected_residual(maps: Tensor, block: Any) -> Tensor:
    first, second = block.convolutions
    branch = expected_convolution(expected_convolution(maps, first, (1,) * 4), second, (1,) * 4)
    narrow = block.shortcut[0]
    shortcut = functional.conv2d(maps, narrow.weight, narrow.bias).clamp(min=0)
    return normalised(branch + shortcut, block.norm)


@pytest.mark.parametrize("channels", [3, 5])
def test_the_residual_block_always_has_a_convolution_and_relu_in_its_shortcut(channels: int) -> None:
    block = Residual(channels, 5).eval()
    settle(block)
    maps = torch.randn(2, channels, 7, 9)
    torch.testing.assert_close(block(maps), expected_residual(maps, block), rtol=1e-4, atol=1e-4)


def test_the_duck_block_sums_six_views_of_the_normalised_maps() -> None:
    block: Any = DUCK(3, 4).eval()
    settle(block)
    maps = torch.randn(2, 3, 11, 13)
    start = normalised(maps, block.norm)
    wide = mid = start
    for dilation, part in zip((1, 2, 3), block.widescope, strict=True):
        wide = expected_convolution(wide, part, (dilation,) * 4, dilation)
    for dilation, part in zip((1, 2), block.midscope, strict=True):
        mid = expected_convolution(mid, part, (dilation,) * 4, dilation)
    row, column = block.separated
    separated = expected_convolution(expected_convolution(start, row, (2, 3, 0, 0)), column, (0, 0, 2, 3))
    total = wide + mid + separated
    for number, branch in ((1, block.residual1), (2, block.residual2), (3, block.residual3)):
        assert len(branch) == number
        view = start
        for residual in branch:
            view = expected_residual(view, residual)
        total = total + view
    torch.testing.assert_close(block(maps), normalised(total, block.norm_out), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(("kernel_size", "side"), [((1, 6), 3), ((6, 1), 2)])
def test_an_even_kernel_sees_two_pixels_before_and_three_after(
    kernel_size: tuple[int, int], side: int
) -> None:
    block: Any = convolution(1, 1, kernel_size)
    nn.init.ones_(block[1].weight)
    image = torch.zeros(1, 1, 12, 12)
    image[0, 0, 6, 6] = 1
    found = block[:2](image)
    # a pixel is seen by itself, by the three before it and the two after it
    assert found.shape == image.shape
    assert found.nonzero()[:, side].tolist() == [3, 4, 5, 6, 7, 8]
    assert found.sum() == 6


def watch(network: Any, *names: str) -> dict[str, tuple[Tensor, Tensor]]:
    """What the named parts are given and what they give."""
    seen: dict[str, Any] = {}
    for name in names:
        network.get_submodule(name).register_forward_hook(
            lambda _, given, result, name=name: seen.update({name: (given[0], result)})
        )
    return seen


def test_the_side_path_is_linear_and_added() -> None:
    network = build(filters=2).train()
    seen = watch(network, *(f"down.{i}" for i in range(5)), *(f"encoder.{i}" for i in range(5)), "bottom")
    image = torch.randn(2, 3, 64, 96)
    network(image)
    side = image
    assert seen["encoder.0"][0] is image
    for level, plain in enumerate(network.side):
        side = functional.conv2d(side, plain.weight, plain.bias, stride=2)
        below = seen[f"encoder.{level + 1}" if level < 4 else "bottom"][0]
        torch.testing.assert_close(below, seen[f"down.{level}"][1] + side)
        down = network.down[level]
        plainly = functional.conv2d(seen[f"encoder.{level}"][1], down.weight, down.bias, stride=2)
        torch.testing.assert_close(seen[f"down.{level}"][1], plainly)


def test_the_way_up_adds_the_maps_of_the_level_to_the_nearest_below() -> None:
    network = build(filters=2).train()
    seen = watch(
        network, *(f"decoder.{i}" for i in range(5)), *(f"encoder.{i}" for i in range(5)), "bottom", "head"
    )
    network(torch.randn(2, 3, 64, 64))
    below = seen["bottom"][1]
    for number in range(5):
        given, result = seen[f"decoder.{number}"]
        enlarged = below.repeat_interleave(2, 2).repeat_interleave(2, 3)
        torch.testing.assert_close(given, enlarged + seen[f"encoder.{4 - number}"][1])
        below = result
    assert seen["head"][0] is below


def test_widths() -> None:
    network = build(filters=2)
    ways = [(block.norm.num_features, block.norm_out.num_features) for block in network.decoder]
    assert ways == [(32, 16), (16, 8), (8, 4), (4, 2), (2, 2)]
    bottom = [block.norm.num_features for pair in network.bottom for block in pair]
    assert bottom == [64, 64, 32, 32]


def test_it_gives_logits_not_probabilities() -> None:
    network = build(filters=2).train()
    image = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        logits = network(image)
        network.head.weight *= 3
        torch.testing.assert_close(network(image), 3 * logits, rtol=1e-4, atol=1e-4)


def test_normalisations_have_the_numbers_of_keras() -> None:
    norms = [layer for layer in build(filters=2).modules() if isinstance(layer, nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.01)}


def test_weights_start_as_in_the_authors_framework() -> None:
    torch.manual_seed(0)
    network = build(filters=8)
    plain = {*network.side, *network.down, network.head}
    for layer in network.modules():
        if not isinstance(layer, nn.Conv2d):
            continue
        pixels = layer.kernel_size[0] * layer.kernel_size[1]
        fans = layer.in_channels + (layer.out_channels if layer in plain else 0)
        limit = (6 / (pixels * fans)) ** 0.5
        assert not layer.bias.any() and layer.weight.abs().max() <= limit
        if layer.weight.numel() > 1000:
            assert layer.weight.std().item() == pytest.approx(limit / 3**0.5, rel=0.1)


def test_mistakes() -> None:
    with pytest.raises(MedsegError, match="model 'ducknet': filters must be above 0; got 0"):
        build(filters=0)
    message = "ducknet needs sides divisible by 32; got 48x64; the nearest are 32x64 and 64x64"
    with pytest.raises(MedsegError, match=message):
        build(filters=1)(torch.zeros(1, 3, 48, 64))
