"""FCBFormer: the published parameter count, and each part against a few lines of plain torch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from medseg import models
from medseg.errors import MedsegError
from medseg.models import MODELS
from medseg.models.fcbformer import (
    ConvolutionalBranch,
    ResidualBlock,
    StepwiseAggregation,
    local_emphasis,
)

SMALL = MODELS["fcbformer"].facts["small"]


def build(**arguments: object) -> nn.Module:
    torch.manual_seed(0)
    return models.build("fcbformer", **{"in_channels": 3, "out_channels": 1, **arguments})


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def nearest(maps: Tensor, scale: int) -> Tensor:
    return maps.repeat_interleave(scale, 2).repeat_interleave(scale, 3)


def residual_block_count(inputs: int, outputs: int) -> int:
    """Two normalisations and 3x3 convolutions, and a 1x1 convolution where the channels change."""
    main = 2 * inputs + 9 * inputs * outputs + outputs + 2 * outputs + 9 * outputs**2 + outputs
    return main + (inputs * outputs + outputs if inputs != outputs else 0)


def test_published_parameter_count() -> None:
    with torch.device("meta"):
        network = build()
    facts = MODELS["fcbformer"].facts
    assert count(network) == facts["parameters"] == facts["published_parameters"] == 52_962_337
    assert network.divisor == 32
    blocks = residual_block_count
    emphasis = sum(blocks(channels, 64) + blocks(64, 64) for channels in (64, 128, 320, 512))
    assert count(network.emphasis) == emphasis
    assert count(network.aggregation) == 3 * (blocks(128, 64) + blocks(64, 64))
    assert count(network.fusion) == blocks(96, 64) + blocks(64, 64)


def test_parameters_of_the_convolutional_branch_by_hand() -> None:
    blocks = residual_block_count
    stem, down, up = 3 * 32 * 9 + 32, 32 * 32 * 9 + 32, 64 * 64 * 9 + 64
    encoder = stem + 2 * blocks(32, 32) + down + blocks(32, 64) + blocks(64, 64)
    # kept: 32 (stem), 32, 32, 32 (stride 2), 64, 64
    decoder = 2 * blocks(64 + 64, 64) + blocks(64 + 32, 64) + up
    decoder += blocks(64 + 32, 32) + 2 * blocks(32 + 32, 32)
    assert count(ConvolutionalBranch(3, (32, 64))) == encoder + 2 * blocks(64, 64) + decoder


@pytest.mark.parametrize(("inputs", "outputs"), [(64, 64), (96, 32)])
def test_residual_block(inputs: int, outputs: int) -> None:
    torch.manual_seed(0)
    block = ResidualBlock(inputs, outputs)
    state = block.state_dict()
    for value in state.values():
        value.normal_()
    maps = torch.randn(2, inputs, 5, 7)
    expected = maps
    for first in (0, 3):
        expected = functional.group_norm(
            expected, 32, state[f"layers.{first}.weight"], state[f"layers.{first}.bias"]
        )
        expected = expected * torch.sigmoid(expected)
        weight, bias = state[f"layers.{first + 2}.weight"], state[f"layers.{first + 2}.bias"]
        expected = functional.conv2d(expected, weight, bias, padding=1)
    if inputs == outputs:
        expected = expected + maps
    else:
        expected = expected + functional.conv2d(maps, state["skip.weight"], state["skip.bias"])
    torch.testing.assert_close(block(maps), expected, rtol=1e-4, atol=1e-2)


def test_every_encoder_layer_of_the_convolutional_branch_is_a_skip() -> None:
    network = ConvolutionalBranch(3, (32, 32, 64, 64, 128, 128))
    kept = [32] * 7 + [64] * 6 + [128] * 5
    assert 1 + len(network.down) == len(network.up) == len(kept) == 18
    running = [128] * 6 + [128] + [64] * 2 + [64] * 3 + [64] + [32] * 2 + [32] * 3
    inputs = [block[0].skip.in_channels for block in network.up]
    assert inputs == [one + other for one, other in zip(running, kept[::-1], strict=True)]
    strides = [layer.stride[0] for layer in network.down if isinstance(layer, nn.Conv2d)]
    assert strides == [2] * 5


def test_skips_of_the_convolutional_branch_are_taken_last_first() -> None:
    network = ConvolutionalBranch(3, (32, 64, 32))
    given: list[Tensor] = []
    made: list[Tensor] = []
    taken: list[Tensor] = []
    for layer in (network.stem, *network.down):
        layer.register_forward_hook(lambda _, __, output: made.append(output))
    for layer in (network.middle, *network.up):
        layer.register_forward_hook(lambda _, __, output: given.append(output))
    for layer in network.up:
        layer.register_forward_pre_hook(lambda _, inputs: taken.append(inputs[0]))
    result = network(torch.randn(1, 3, 8, 16))
    assert result.shape == (1, 32, 8, 16) and result.equal(given[-1])
    assert len(made) == len(taken) == 9
    for index, maps in enumerate(taken):
        assert maps.equal(torch.cat((given[index], made[-1 - index]), 1))


def test_local_emphasis_is_two_blocks_and_then_repeats_pixels() -> None:
    emphasis = local_emphasis(32, 8)
    maps = torch.randn(1, 32, 3, 2)
    assert emphasis(maps).equal(nearest(emphasis[0](maps), 8))
    assert emphasis(maps).shape == (1, 64, 24, 16)


def test_aggregation_goes_from_the_deepest_level_up() -> None:
    aggregation = StepwiseAggregation()
    first, second, third, fourth = torch.randn(4, 1, 64, 3, 5)
    steps = aggregation.steps
    expected = steps[0](torch.cat((third, fourth), 1))
    expected = steps[1](torch.cat((second, expected), 1))
    expected = steps[2](torch.cat((first, expected), 1))
    maps = [first, second, third, fourth]
    assert aggregation(maps).equal(expected)
    assert len(maps) == 4, "the caller's maps stay"


@pytest.mark.parametrize("size", [(32, 64), (96, 32)])
def test_every_level_is_brought_to_a_quarter_of_any_size(size: tuple[int, int]) -> None:
    network = build(**SMALL)
    shapes: list[tuple[int, ...]] = []
    for emphasis in network.emphasis:
        emphasis.register_forward_hook(lambda _, __, output: shapes.append(tuple(output.shape)))
    assert network(torch.randn(1, 3, *size)).shape == (1, 1, *size)
    assert shapes == [(1, 64, size[0] // 4, size[1] // 4)] * 4


def test_the_head_joins_the_transformer_branch_repeated_and_then_the_convolutional_one() -> None:
    network = build(**SMALL)
    joined: list[Tensor] = []
    network.fusion.register_forward_pre_hook(lambda _, inputs: joined.append(inputs[0]))
    images = torch.randn(1, 3, 32, 64)
    with torch.no_grad():
        logits = network(images)
        parts = (nearest(network.transformer_branch(images), 4), network.fcb(images))
        torch.testing.assert_close(joined[0], torch.cat(parts, 1))
        expected = functional.conv2d(network.fusion(joined[0]), network.head.weight, network.head.bias)
    torch.testing.assert_close(logits, expected)


def test_nothing_is_interpolated_and_every_normalisation_outside_the_backbone_has_32_groups() -> None:
    network = build(**SMALL)
    modes = {layer.mode for layer in network.modules() if isinstance(layer, nn.Upsample)}
    assert modes == {"nearest"}
    own = [part for name, part in network.named_modules() if not name.startswith("backbone")]
    assert {layer.num_groups for layer in own if isinstance(layer, nn.GroupNorm)} == {32}
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in network.modules())


def test_the_backbone_gives_normalised_maps_and_drops_no_path() -> None:
    network = build(**SMALL)
    images = torch.randn(1, 3, 64, 64)
    maps = network.backbone(images)
    assert [tuple(level.shape[1:]) for level in maps] == [
        (32, 16, 16),
        (64, 8, 8),
        (160, 4, 4),
        (256, 2, 2),
    ]
    for level in maps:  # a new layer normalisation leaves a mean of 0 and a variance of 1
        torch.testing.assert_close(level.mean(1), torch.zeros_like(level[:, 0]), rtol=0, atol=1e-4)
        torch.testing.assert_close(
            level.var(1, unbiased=False), torch.ones_like(level[:, 0]), rtol=0, atol=1e-2
        )
    with torch.no_grad():
        torch.testing.assert_close(network.train()(images), network.eval()(images), rtol=0, atol=0)


def test_more_levels_in_the_convolutional_branch_need_larger_sides() -> None:
    with torch.device("meta"):
        network = build(backbone="pvt_v2_b0.in1k", fcb_widths=[32] * 7)
        assert network.divisor == 64
        with pytest.raises(MedsegError, match="fcbformer needs sides divisible by 64; got 96x96"):
            network(torch.zeros(1, 3, 96, 96))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fcb_widths": []}, r"fcb_widths must be multiples of 32 above 0; got \[\]"),
        ({"fcb_widths": [32, 48]}, r"multiples of 32 above 0; got \[32, 48\]"),
        ({"backbone": "resnet34"}, "model 'fcbformer': backbone must be a PVTv2, .*; got 'resnet34'"),
        ({"backbone": "pvt_v2_b9.in1k"}, "fcbformer: timm has no backbone 'pvt_v2_b9.in1k'"),
    ],
)
def test_unusable_arguments(arguments: dict, message: str) -> None:
    with pytest.raises(MedsegError, match=message):
        build(**arguments)
