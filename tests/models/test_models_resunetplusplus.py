"""ResUNet++: the published parameter counts, and its blocks against plain formulations of them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from medseg import models
from medseg.errors import MedsegError
from medseg.models.resunetplusplus import ASPP, Attention, DecoderBlock, ResidualBlock, SqueezeExcitation

SMALL = (8, 9, 10, 11, 12)


def build(**arguments: object) -> nn.Module:
    return models.build("resunetplusplus", **{"in_channels": 3, "out_channels": 1, **arguments})


def count(**arguments: object) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in build(**arguments).parameters())


def stir(network: nn.Module) -> nn.Module:
    """Give batch normalisations numbers of their own, as training would."""
    torch.manual_seed(0)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for values in (layer.weight, layer.running_var):
                nn.init.uniform_(values, 0.5, 1.5)
            for values in (layer.bias, layer.running_mean):
                nn.init.normal_(values, std=0.1)
    return network.eval()


def normalise(maps: Tensor, norm: nn.Module) -> Tensor:
    return functional.batch_norm(maps, norm.running_mean, norm.running_var, norm.weight, norm.bias)


def convolve(maps: Tensor, layer: nn.Module, stride: int = 1, rate: int = 1) -> Tensor:
    padding = rate if layer.weight.shape[-1] == 3 else 0
    return functional.conv2d(maps, layer.weight, layer.bias, stride=stride, padding=padding, dilation=rate)


@pytest.mark.parametrize(
    ("filters", "parameters"),
    [((16, 32, 64, 128, 256), 4_062_993), ((32, 64, 128, 256, 512), 16_228_001)],
)
def test_published_parameter_counts(filters: tuple[int, ...], parameters: int) -> None:
    assert count(filters=filters) == parameters


def test_parameters_by_hand() -> None:
    def convolution(a: int, b: int, side: int = 3) -> int:
        return side * side * a * b + b

    def residual(a: int, b: int, stem: bool = False) -> int:
        norms = (0 if stem else 2 * a) + 2 * b + 2 * b
        return norms + convolution(a, b) + convolution(b, b) + convolution(a, b, 1) + 2 * b * (b // 8)

    def aspp(a: int, b: int) -> int:
        return 4 * (convolution(a, b) + 2 * b) + convolution(b, b, 1)

    def decoder(skip: int, a: int, b: int) -> int:
        attention = 2 * skip + convolution(skip, a) + 2 * (2 * a + convolution(a, a))
        return attention + residual(a + skip, b)

    encoder = residual(3, 8, stem=True) + residual(8, 9) + residual(9, 10) + residual(10, 11)
    up = decoder(10, 12, 11) + decoder(9, 11, 10) + decoder(8, 10, 9)
    assert count(filters=SMALL) == encoder + aspp(11, 12) + up + aspp(9, 8) + convolution(8, 1, 1)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_residual_block(stride: int) -> None:
    block = stir(ResidualBlock(5, 16, stride=stride))
    maps = torch.randn(2, 5, 8, 12)
    norm1, _, conv1, norm2, _, conv2 = block.convolutions
    inner = convolve(normalise(maps, norm1).relu(), conv1, stride)
    inner = convolve(normalise(inner, norm2).relu(), conv2)
    conv, norm = block.shortcut
    total = inner + normalise(convolve(maps, conv, stride), norm)
    narrow, wide = (block.squeeze_excitation.weights[i].weight.flatten(1) for i in (1, 3))
    weights = torch.sigmoid((total.mean((2, 3)) @ narrow.T).relu() @ wide.T)
    torch.testing.assert_close(block(maps), total * weights[:, :, None, None])


def test_the_stem_begins_with_a_convolution() -> None:
    network = build(filters=SMALL)
    kinds = [type(layer).__name__ for layer in network.stem.convolutions]
    assert kinds == ["Conv2d", "BatchNorm2d", "ReLU", "Conv2d"]
    for block in network.encoder:
        kinds = [type(layer).__name__ for layer in block.convolutions]
        assert kinds == ["BatchNorm2d", "ReLU", "Conv2d", "BatchNorm2d", "ReLU", "Conv2d"]
        assert block.convolutions[2].stride == block.shortcut[0].stride == (2, 2)
        assert block.shortcut[0].kernel_size == (1, 1)


def test_squeeze_and_excitation_narrows_to_an_eighth() -> None:
    block = SqueezeExcitation(32)
    assert [tuple(p.shape) for p in block.parameters()] == [(4, 32, 1, 1), (32, 4, 1, 1)]
    for parameter in block.parameters():
        nn.init.zeros_(parameter)
    maps = torch.randn(1, 32, 3, 3)
    torch.testing.assert_close(block(maps), maps / 2)


def test_aspp_adds_its_branches_up_without_activation_or_mean() -> None:
    block = stir(ASPP(3, 5))
    maps = torch.randn(2, 3, 20, 24)
    total = sum(
        normalise(convolve(maps, conv, rate=rate), norm)
        for rate, (conv, norm) in zip((1, 6, 12, 18), block.branches, strict=True)
    )
    torch.testing.assert_close(block(maps), convolve(total, block.output))
    # without an activation it is an affine map
    middle = block((maps + maps.flip(0)) / 2)
    torch.testing.assert_close(middle, (block(maps) + block(maps).flip(0)) / 2)


def test_attention() -> None:
    block = stir(Attention(3, 5))
    encoder, decoder = torch.randn(2, 3, 8, 12), torch.randn(2, 5, 4, 6)

    def activated(maps: Tensor, sequence: nn.Module) -> Tensor:
        return convolve(normalise(maps, sequence[0]).relu(), sequence[2])

    total = functional.max_pool2d(activated(encoder, block.encoder), 2) + activated(decoder, block.decoder)
    torch.testing.assert_close(block(encoder, decoder), decoder * activated(total, block.weights))


def test_attention_has_a_weight_per_channel_that_nothing_bounds() -> None:
    block = stir(Attention(3, 4))
    nn.init.zeros_(block.weights[2].weight)
    block.weights[2].bias.data = torch.tensor([0.0, 1.0, -2.0, 30.0])
    decoder = torch.randn(1, 4, 4, 4)
    expected = decoder * torch.tensor([0.0, 1.0, -2.0, 30.0])[:, None, None]
    torch.testing.assert_close(block(torch.randn(1, 3, 8, 8), decoder), expected)


def test_a_decoder_block_attends_then_repeats_pixels_then_joins() -> None:
    block = stir(DecoderBlock(3, 5, 8))
    encoder, decoder = torch.randn(2, 3, 8, 12), torch.randn(2, 5, 4, 6)
    large = block.attention(encoder, decoder).repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(block(encoder, decoder), block.residual(torch.cat((large, encoder), 1)))


def test_the_whole() -> None:
    network = stir(build(filters=SMALL, out_channels=2))
    images = torch.randn(1, 3, 16, 24)
    full = network.stem(images)
    half = network.encoder[0](full)
    quarter = network.encoder[1](half)
    maps = network.bridge(network.encoder[2](quarter))
    assert maps.shape == (1, 12, 2, 3)
    for decoder, skip in zip(network.decoder, (quarter, half, full), strict=True):
        maps = decoder(skip, maps)
    expected = network.head(network.aspp(maps))
    torch.testing.assert_close(network(images), expected)
    assert expected.shape == (1, 2, 16, 24)


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ((16, 32, 64, 128), r"filters must be five numbers of at least 8; got \[16, 32, 64, 128\]"),
        ((4, 8, 16, 32, 64), r"got \[4, 8, 16, 32, 64\]"),
    ],
)
def test_unusable_filters(filters: tuple[int, ...], message: str) -> None:
    with pytest.raises(MedsegError, match=f"model 'resunetplusplus': .*{message}"):
        build(filters=filters)


def test_sizes_it_cannot_take() -> None:
    with pytest.raises(
        MedsegError, match="resunetplusplus needs sides divisible by 8; got 60x64; .* 56x64 and 64x64"
    ):
        build(filters=SMALL)(torch.zeros(1, 3, 60, 64))
