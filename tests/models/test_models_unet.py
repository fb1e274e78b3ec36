"""U-Net: the published parameter count, its parts, and its arguments."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from medseg import models
from medseg.errors import MedsegError


def build(**arguments: object) -> nn.Module:
    return models.build("unet", **{"in_channels": 3, "out_channels": 1, **arguments})


def count(**arguments: object) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in build(**arguments).parameters())


@pytest.mark.parametrize(
    ("arguments", "parameters"),
    [
        ({}, 31_037_633),
        ({"normalization": None}, 31_031_745),
        # the paper's own: one channel in, two out
        ({"normalization": None, "in_channels": 1, "out_channels": 2}, 31_030_658),
        # the U-Net that the UNet++ paper compares with
        ({"normalization": None, "widths": (32, 64, 128, 256, 512)}, 7_760_097),
        ({"dropout": 0.5}, 31_037_633),
    ],
)
def test_published_parameter_counts(arguments: dict, parameters: int) -> None:
    assert count(**arguments) == parameters


def test_parameters_by_hand() -> None:
    # widths 2, 4, no norm: 3->2->2, 2->4->4, up 4->2, 4->2->2, head 2->1
    encoder = (27 * 2 + 2) + (18 * 2 + 2) + (18 * 4 + 4) + (36 * 4 + 4)
    decoder = (4 * 2 * 4 + 2) + (36 * 2 + 2) + (18 * 2 + 2)
    assert count(widths=[2, 4], normalization=None) == encoder + decoder + 3


@pytest.mark.parametrize("widths", [(4, 8), (4, 8, 16), (4, 5, 6, 7), (2, 2, 2, 2, 2, 2)])
def test_any_number_of_levels(widths: tuple[int, ...]) -> None:
    network = build(widths=widths)
    assert network.divisor == 2 ** (len(widths) - 1)
    images = torch.randn(2, 3, 2 * network.divisor, network.divisor)
    assert network(images).shape == (2, 1, 2 * network.divisor, network.divisor)


def test_a_pixel_sees_as_far_as_its_levels_reach() -> None:
    network = build(widths=(4, 8, 16), normalization=None)
    image = torch.randn(1, 3, 64, 64, requires_grad=True)
    network(image)[0, 0, 32, 32].backward()
    assert image.grad is not None
    seen = image.grad[0].abs().sum(0).nonzero()
    # two convolutions at 1/4 reach 8 pixels and at 1/2 twice 4, at 1/1 twice 2; pooling adds at most 3 + 3
    reach = (seen - 32).abs().max().item()
    assert 20 <= reach <= 26


def test_weights_start_as_in_the_paper() -> None:
    torch.manual_seed(0)
    network = build(widths=(64, 128))
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            inputs = layer.in_channels * layer.kernel_size[0] ** 2
        elif isinstance(layer, nn.ConvTranspose2d):
            inputs = layer.in_channels
        else:
            continue
        if layer.weight.numel() > 1000:
            assert layer.weight.std().item() == pytest.approx((2 / inputs) ** 0.5, rel=0.1)
        assert layer.bias is None or not layer.bias.any()


def test_signals_keep_their_size_through_a_deep_network_without_normalisation() -> None:
    torch.manual_seed(0)
    network = build(widths=(16, 32, 64, 128), normalization=None)
    assert 0.2 < network(torch.randn(2, 3, 64, 64)).std().item() < 5


def test_dropout_acts_in_training_only() -> None:
    network = build(widths=(4, 8), dropout=0.5, normalization=None)
    images = torch.randn(1, 3, 16, 16)
    assert not network.train()(images).equal(network(images))
    assert network.eval()(images).equal(network(images))
    assert build(widths=(4, 8), normalization=None).train()(images).isfinite().all()


def test_convolutions_before_a_normalisation_have_no_bias() -> None:
    convolutions = [layer for layer in build(widths=(4, 8)).modules() if isinstance(layer, nn.Conv2d)]
    assert [layer.bias is None for layer in convolutions if layer.kernel_size == (3, 3)] == [True] * 6
    plain = [
        layer for layer in build(widths=(4, 8), normalization=None).modules() if isinstance(layer, nn.Conv2d)
    ]
    assert all(layer.bias is not None for layer in plain)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"widths": (64,)}, r"model 'unet': widths must be two or more numbers above 0; got \[64\]"),
        ({"widths": (64, 0)}, r"got \[64, 0\]"),
        ({"normalization": "instance"}, "normalization must be 'batch' or null; got 'instance'"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1; got 1.0"),
        ({"width": 64}, "model 'unet': .*'width'; it takes in_channels, out_channels, widths"),
    ],
)
def test_unusable_arguments(arguments: dict, message: str) -> None:
    with pytest.raises(MedsegError, match=message):
        build(**arguments)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((250, 250), "unet needs sides divisible by 16; got 250x250; the nearest are 240x240 and 256x256"),
        ((224, 250), "got 224x250; the nearest are 224x240 and 224x256"),
        ((10, 32), "got 10x32; the nearest is 16x32"),
    ],
)
def test_sizes_it_cannot_take(shape: tuple[int, int], message: str) -> None:
    with pytest.raises(MedsegError, match=message):
        build(widths=(2, 2, 2, 2, 2))(torch.zeros(1, 3, *shape))


def test_output_weights_of_plain_and_wrapped_networks() -> None:
    class Wrapped(nn.Module):
        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module = module

        def forward(self, images: Tensor) -> Tensor:
            return self.module(images)

    assert models.output_weights(build(widths=(4, 8))) == {(0,): 1.0}
    deep = models.build("unetplusplus", in_channels=3, out_channels=1, widths=(2, 2, 2, 2))
    assert models.output_weights(deep) == {(0,): 1.0, (1,): 1.0, (2,): 1.0}
    assert models.output_weights(Wrapped(deep)) == {(0,): 1.0, (1,): 1.0, (2,): 1.0}
