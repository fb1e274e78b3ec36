"""UNet++: the published parameter count, the triangle, and its outputs."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from medseg import models
from medseg.errors import MedsegError
from medseg.models.unetplusplus import mean_of_probabilities


def build(**arguments: object) -> nn.Module:
    return models.build("unetplusplus", **{"in_channels": 3, "out_channels": 1, **arguments})


def count(**arguments: object) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in build(**arguments).parameters())


@pytest.mark.parametrize(
    ("arguments", "parameters"),
    [
        ({}, 9_042_276),
        # the authors' Keras model with one channel in and one head
        ({"in_channels": 1, "deep_supervision": False}, 9_041_601),
        ({"dropout": 0.0}, 9_042_276),
    ],
)
def test_published_parameter_counts(arguments: dict, parameters: int) -> None:
    assert count(**arguments) == parameters


def test_with_one_level_below_it_is_a_unet() -> None:
    unet = models.build("unet", in_channels=3, out_channels=1, widths=(4, 8), normalization=None)
    assert count(widths=(4, 8)) == sum(p.numel() for p in unet.parameters())


def test_the_triangle() -> None:
    network = build(widths=(2, 3, 4, 5, 6))
    rows = [[node.convolution[0].in_channels for node in column] for column in network.columns]
    # node X(i, j) joins j + 1 pieces of its row's width: the upsampled one and j earlier ones
    assert rows == [[4, 6, 8, 10], [6, 9, 12], [8, 12], [10]]
    assert [[node.up.in_channels for node in column] for column in network.columns] == [
        [3, 4, 5, 6],
        [3, 4, 5],
        [3, 4],
        [3],
    ]


@pytest.mark.parametrize(("head", "levels"), [(0, 1), (1, 2), (2, 3)])
def test_a_head_uses_the_levels_of_its_own_smaller_unet(head: int, levels: int) -> None:
    network = build(widths=(2, 3, 4, 5), dropout=0.0).train()
    network(torch.randn(1, 3, 16, 16))[head].sum().backward()
    used = [encoder[0].weight.grad is not None for encoder in (*network.encoder, network.bottom)]
    assert used == [level <= levels for level in range(4)]


def test_training_gives_every_map_and_evaluation_their_mean() -> None:
    network = build(widths=(4, 4, 4, 4), dropout=0.0)
    images = torch.randn(2, 3, 16, 16)
    maps = network.train()(images)
    assert isinstance(maps, tuple) and len(maps) == 3
    assert not torch.allclose(maps[0], maps[2])
    mean = sum(torch.sigmoid(m) for m in maps) / 3
    torch.testing.assert_close(torch.sigmoid(network.eval()(images)), mean)


def test_the_mean_of_probabilities_is_right_by_hand_and_finite_far_out() -> None:
    # sigmoid(0) = 0.5 and sigmoid(log 3) = 0.75 have the mean 0.625, whose logit is log(5 / 3)
    maps = torch.tensor([0.0, math.log(3)]).view(2, 1, 1, 1, 1)
    torch.testing.assert_close(mean_of_probabilities(maps).squeeze(), torch.tensor(math.log(5 / 3)))
    far = mean_of_probabilities(torch.tensor([1e4, -1e4, 1e4]).view(3, 1, 1, 1, 1)).squeeze()
    torch.testing.assert_close(far, torch.tensor(math.log(2)))
    classes = torch.randn(4, 2, 3, 5, 5)
    probabilities = torch.softmax(mean_of_probabilities(classes), 1)
    torch.testing.assert_close(probabilities, torch.softmax(classes, 2).mean(0))


def test_without_deep_supervision_there_is_one_map_from_the_last_node() -> None:
    network = build(widths=(4, 4, 4), dropout=0.0, deep_supervision=False)
    deep = build(widths=(4, 4, 4), dropout=0.0)
    weights = {key.replace("heads.1.", "heads.0."): value for key, value in deep.state_dict().items()}
    deep_weights = {key: weights[key] for key in network.state_dict()}
    deep_weights["heads.0.weight"] = deep.heads[1].weight
    deep_weights["heads.0.bias"] = deep.heads[1].bias
    network.load_state_dict(deep_weights)
    images = torch.randn(1, 3, 8, 8)
    assert models.output_weights(network) == {(0,): 1.0}
    logits = network.train()(images)
    assert isinstance(logits, torch.Tensor)
    torch.testing.assert_close(logits, deep.train()(images)[1])


def test_dropout_follows_every_convolution_but_the_heads() -> None:
    network = build(widths=(2, 2, 2))
    dropped = [layer.p for layer in network.modules() if isinstance(layer, nn.Dropout)]
    assert dropped == [0.5] * 2 * 6
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in network.modules())
    normalised = build(widths=(2, 2, 2), normalization="batch", dropout=0.0)
    assert sum(isinstance(layer, nn.BatchNorm2d) for layer in normalised.modules()) == 2 * 6
    assert not any(isinstance(layer, nn.Dropout) for layer in normalised.modules())


def test_mistakes() -> None:
    with pytest.raises(MedsegError, match="unetplusplus needs sides divisible by 4; got 30x32"):
        build(widths=(2, 2, 2))(torch.zeros(1, 3, 30, 32))
    with pytest.raises(MedsegError, match="model 'unetplusplus': widths must be two or more"):
        build(widths=(2,))
