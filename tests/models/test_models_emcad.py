"""EMCAD: the published parameter counts, each block against a few lines of plain torch, and its outputs."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from medseg import models
from medseg.errors import MedsegError
from medseg.losses import WeightedOutputs
from medseg.models import MODELS
from medseg.models.emcad import (
    AttentionGate,
    ChannelAttention,
    EMCADDecoder,
    Fusion,
    MultiScaleConvolution,
    SpatialAttention,
    UpConvolution,
)


def build(**arguments: object) -> nn.Module:
    torch.manual_seed(0)
    return models.build("emcad", **{"in_channels": 3, "out_channels": 1, **arguments})


def small(**arguments: object) -> nn.Module:
    return build(**MODELS["emcad"].facts["small"], **arguments)


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def drawn(block: nn.Module) -> nn.Module:
    """The block in evaluation with random weights and statistics."""
    torch.manual_seed(0)
    for key, value in block.state_dict().items():
        if value.is_floating_point():
            value.uniform_(0.5, 1.5) if key.endswith("var") else value.normal_()
    return block.eval()


def normalised(maps: Tensor, layer: nn.Module) -> Tensor:
    return functional.batch_norm(maps, layer.running_mean, layer.running_var, layer.weight, layer.bias)


def close(result: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "parameters"),
    [
        # the published 26,764,411 and 3,916,795 without the 12 that turn grey into colour
        ({}, 26_764_399),
        ({"backbone": "pvt_v2_b0.in1k"}, 3_916_783),
        ({"in_channels": 1}, 26_764_411),
        ({"in_channels": 1, "backbone": "pvt_v2_b0.in1k"}, 3_916_795),
        ({"supervision": "mutation", "drop_path": 0.0}, 26_764_399),
    ],
)
def test_published_parameter_counts(arguments: dict, parameters: int) -> None:
    with torch.device("meta"):
        network = build(**arguments)
    assert count(network) == parameters
    if network.backbone.feature_info.channels()[-1] == 512:
        assert count(network.decoder) + count(network.heads) == 1_914_555 - 12


def test_decoder_parameters_by_hand() -> None:
    # widths 16 and 32, kernels 1 and 3, expansion 2; a batch normalisation has two parameters a channel
    cab = 2 * 16 * 1 + 2 * 32 * 2
    mscb = sum(c * 2 * c + 4 * c + 2 * c * (1 + 9) + 2 * 4 * c + 2 * c * c + 2 * c for c in (16, 32))
    eucb = 32 * 9 + 2 * 32 + 32 * 16 + 16
    # each of the 8 groups sees two channels; two such convolutions, then 8 channels to one
    lgag = 2 * (8 * 2 * 9 + 8 + 2 * 8) + 8 + 1 + 2
    sab = 2 * 49
    assert count(EMCADDecoder((16, 32), (1, 3), 2, 3)) == cab + mscb + eucb + lgag + sab


def test_channel_attention() -> None:
    block, maps = drawn(ChannelAttention(32)), torch.randn(2, 32, 5, 7)
    down, up = block.bottleneck[0].weight[:, :, 0, 0], block.bottleneck[2].weight[:, :, 0, 0]
    assert down.shape == (2, 32)
    scores = sum(torch.relu(seen @ down.T) @ up.T for seen in (maps.mean((2, 3)), maps.amax((2, 3))))
    close(block(maps), maps * torch.sigmoid(scores)[:, :, None, None])


def test_spatial_attention() -> None:
    block, maps = drawn(SpatialAttention()), torch.randn(2, 16, 9, 8)
    seen = torch.stack((maps.mean(1), maps.amax(1)), 1)
    scores = functional.conv2d(seen, block.convolution.weight, padding=3)
    close(block(maps), maps * torch.sigmoid(scores))


@pytest.mark.parametrize(("expansion", "sizes"), [(2, (1, 3, 5)), (3, (3,))])
def test_multi_scale_convolution_runs_its_depthwise_convolutions_side_by_side(
    expansion: int, sizes: tuple[int, ...]
) -> None:
    block, maps = drawn(MultiScaleConvolution(16, sizes, expansion)), torch.randn(2, 16, 9, 8)
    wide = functional.relu6(normalised(functional.conv2d(maps, block.expand[0].weight), block.expand[1]))
    total = torch.zeros_like(wide)
    for size, (convolution, norm, _) in zip(sizes, block.depthwise, strict=True):
        assert convolution.weight.shape == (16 * expansion, 1, size, size)
        seen = functional.conv2d(wide, convolution.weight, padding=size // 2, groups=16 * expansion)
        total += functional.relu6(normalised(seen, norm))
    # as many groups as outputs: first the first channel of every group, then the second
    order = [group * expansion + member for member in range(expansion) for group in range(16)]
    projected = normalised(functional.conv2d(total[:, order], block.project[0].weight), block.project[1])
    close(block(maps), maps + projected)


def test_up_convolution_and_its_shuffle_that_moves_nothing() -> None:
    block, maps = drawn(UpConvolution(16, 8)), torch.randn(2, 16, 3, 5)
    up = maps.repeat_interleave(2, 2).repeat_interleave(2, 3)
    convolution, norm, _ = block.layers[1]
    seen = functional.relu(normalised(functional.conv2d(up, convolution.weight, padding=1, groups=16), norm))
    shuffled = functional.channel_shuffle(seen, 16)
    assert shuffled.equal(seen)
    close(block(maps), functional.conv2d(shuffled, block.layers[2].weight, block.layers[2].bias))


@pytest.mark.parametrize("kernel_size", [1, 3])
def test_attention_gate(kernel_size: int) -> None:
    block = drawn(AttentionGate(8, kernel_size))
    gating, skip = torch.randn(2, 2, 8, 5, 6)
    scores = torch.zeros(2, 4, 5, 6)
    for maps, (convolution, norm) in ((gating, block.gating), (skip, block.skip)):
        assert convolution.weight.shape == (4, 2, kernel_size, kernel_size)
        # output k sees the inputs 2k and 2k + 1 only
        pairs = [
            functional.conv2d(maps[:, 2 * k : 2 * k + 2], weight[None], padding=kernel_size // 2)
            for k, weight in enumerate(convolution.weight)
        ]
        scores = scores + normalised(torch.cat(pairs, 1) + convolution.bias.view(4, 1, 1), norm)
    _, convolution, norm, _ = block.attention
    single = functional.conv2d(torch.relu(scores), convolution.weight, convolution.bias)
    close(block(gating, skip), skip * torch.sigmoid(normalised(single, norm)))


def test_fusion_adds_the_gated_skip_to_what_comes_up() -> None:
    block, deeper, skip = drawn(Fusion(16, 8, 3)), torch.randn(1, 16, 2, 3), torch.randn(1, 8, 4, 6)
    up = block.eucb(deeper)
    close(block(deeper, skip), up + block.lgag(up, skip))


def test_decoder_from_the_deepest_level_with_one_spatial_attention_for_all() -> None:
    decoder = drawn(EMCADDecoder((16, 32, 48), (1, 3), 2, 3))
    first, second, third = torch.randn(1, 16, 8, 12), torch.randn(1, 32, 4, 6), torch.randn(1, 48, 2, 3)
    with torch.no_grad():
        deepest = decoder.mscb[0](decoder.sab(decoder.cab[0](third)))
        middle = decoder.mscb[1](decoder.sab(decoder.cab[1](decoder.fusion[0](deepest, second))))
        finest = decoder.mscb[2](decoder.sab(decoder.cab[2](decoder.fusion[1](middle, first))))
        levels = [first, second, third]
        decoded = decoder(levels)
    assert len(levels) == 3, "the caller's maps stay"
    assert [maps.shape[1] for maps in decoded] == [48, 32, 16]
    for maps, expected in zip(decoded, (deepest, middle, finest), strict=True):
        torch.testing.assert_close(maps, expected)
    assert sum(isinstance(module, SpatialAttention) for module in decoder.modules()) == 1
    assert len({id(cab.bottleneck[0].weight) for cab in decoder.cab}) == 3


def test_only_the_multi_scale_convolutions_use_relu6() -> None:
    decoder = small().decoder
    capped = [name for name, layer in decoder.named_modules() if isinstance(layer, nn.ReLU6)]
    assert len(capped) == 4 * (1 + 3) and all(name.startswith("mscb.") for name in capped)
    plain = [name for name, layer in decoder.named_modules() if type(layer) is nn.ReLU]
    assert len(plain) == 4 + 2 * 3 and not any(name.startswith("mscb.") for name in plain)


@pytest.mark.parametrize("output", range(4))
def test_outputs_come_from_the_deepest_level_to_the_finest(output: int) -> None:
    network = small(drop_path=0.0).train()
    maps = network(torch.randn(2, 3, 64, 64))
    assert isinstance(maps, tuple) and [logits.shape for logits in maps] == [(2, 1, 64, 64)] * 4
    maps[output].sum().backward()
    levels = [cab.bottleneck[0].weight.grad is not None for cab in network.decoder.cab]
    assert levels == [level <= output for level in range(4)]
    assert [head.weight.grad is not None for head in network.heads] == [index == output for index in range(4)]


def test_evaluation_gives_the_finest_map_stretched_from_a_quarter() -> None:
    network = small(out_channels=2).eval()
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        finest = network.decoder(network.backbone(images))[-1]
        expected = functional.conv2d(finest, network.heads[-1].weight, network.heads[-1].bias)
        assert expected.shape == (1, 2, 16, 24)
        stretched = functional.interpolate(expected, scale_factor=4, mode="bilinear", align_corners=False)
        torch.testing.assert_close(network(images), stretched)


def test_training_ends_with_the_map_that_evaluation_gives() -> None:
    network = small(drop_path=0.0).train()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        maps = network(images)
        torch.testing.assert_close(network.eval()(images), maps[-1])


def test_weights_of_the_outputs() -> None:
    additive = {(0,): 1.0, (1,): 1.0, (2,): 1.0, (3,): 1.0, (0, 1, 2, 3): 1.0}
    with torch.device("meta"):
        assert models.output_weights(small()) == additive
        mutation = models.output_weights(small(supervision="mutation"))
    assert set(mutation.values()) == {1.0}
    assert set(mutation) == {s for size in (1, 2, 3, 4) for s in combinations(range(4), size)}
    assert len(mutation) == 15


@pytest.mark.parametrize(("supervision", "expected"), [("additive", 130.0), ("mutation", 520.0)])
def test_supervision_sums_the_logits_of_each_subset_first(supervision: str, expected: float) -> None:
    # squares of 1 to 4 and of their sum: 1 + 4 + 9 + 16 + 100; over all subsets each square comes 8 times and each
    # double product 4 times: 8 * 30 + 8 * 35
    with torch.device("meta"):
        weights = models.output_weights(small(supervision=supervision))

    class Square(nn.Module):
        def forward(self, logits: Tensor, target: Tensor) -> Tensor:
            return (logits - target).square().mean()

    maps = tuple(torch.full((1, 1, 2, 2), float(value)) for value in (1, 2, 3, 4))
    assert WeightedOutputs(Square(), weights)(maps, torch.zeros(1, 1, 2, 2)).item() == expected


def test_grey_images_are_mapped_to_three_channels_and_others_are_not() -> None:
    network = small(in_channels=1)
    colour = drawn(network.colour)
    assert count(colour) == 12
    images = torch.randn(2, 1, 4, 5)
    mapped = functional.conv2d(images, colour[0].weight, colour[0].bias)
    close(colour(images), torch.relu(normalised(mapped, colour[1])))
    assert network.backbone.patch_embed.proj.in_channels == 3
    with torch.device("meta"):
        for channels in (3, 4):
            network = small(in_channels=channels)
            assert len(network.colour) == 0
            assert network.backbone.patch_embed.proj.in_channels == channels


@pytest.mark.parametrize(("arguments", "most"), [({}, 0.1), ({"drop_path": 0.3}, 0.3)])
def test_later_blocks_of_the_backbone_drop_their_path_more_often(arguments: dict, most: float) -> None:
    with torch.device("meta"):
        network = small(**arguments)
    chances = [layer.drop_prob for layer in network.modules() if type(layer).__name__ == "DropPath"]
    assert chances == sorted(chances) and chances[-1] == pytest.approx(most)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"backbone": "mit_b2.imagenet"},
            "model 'emcad': backbone must be a PVTv2, .*; got 'mit_b2.imagenet'",
        ),
        ({"supervision": "deep"}, "supervision must be one of additive, mutation; got 'deep'"),
        ({"kernel_sizes": []}, r"kernel_sizes must be odd numbers above 0; got \[\]"),
        ({"kernel_sizes": [1, 2]}, r"kernel_sizes must be odd numbers above 0; got \[1, 2\]"),
        ({"expansion": 0}, "expansion must be at least 1; got 0"),
        ({"gate_kernel_size": 4}, "gate_kernel_size must be odd and above 0; got 4"),
        ({"drop_path": 1.0}, "drop_path must be at least 0 and below 1; got 1.0"),
    ],
)
def test_unusable_arguments(arguments: dict, message: str) -> None:
    with pytest.raises(MedsegError, match=message):
        build(**arguments)


def test_sizes_it_cannot_take() -> None:
    with (
        torch.device("meta"),
        pytest.raises(MedsegError, match="emcad needs sides divisible by 32; got 48x64"),
    ):
        small()(torch.zeros(1, 3, 48, 64))
