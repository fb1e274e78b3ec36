"""ColonSegNet: the published parameter count, its residual block, and which map goes where."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from medseg import models
from medseg.errors import MedsegError
from medseg.models.colonsegnet import ResidualBlock


def build(**arguments: Any) -> Any:
    return models.build("colonsegnet", **{"in_channels": 3, "out_channels": 1, **arguments})


def count(**arguments: Any) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in build(**arguments).parameters())


@pytest.mark.parametrize(
    ("arguments", "parameters"),
    [
        ({}, 5_014_049),
        # the image meets a 3x3 and a 1x1 convolution of 64 filters; the head has 32 weights and a bias
        ({"in_channels": 1}, 5_014_049 - 2 * 64 * (9 + 1)),
        ({"out_channels": 3}, 5_014_049 + 2 * (32 + 1)),
    ],
)
def test_published_parameter_counts(arguments: dict, parameters: int) -> None:
    assert count(**arguments) == parameters


def settle(network: nn.Module) -> None:
    """Give every normalisation numbers of its own, so that their order shows."""
    torch.manual_seed(1)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight)
            nn.init.normal_(layer.bias)
            nn.init.normal_(layer.running_mean)
            nn.init.uniform_(layer.running_var, 0.5, 2)


def normalised(maps: Tensor, layer: Any) -> Tensor:
    scale = layer.weight / (layer.running_var + 1e-5).sqrt()
    return (maps - layer.running_mean.view(-1, 1, 1)) * scale.view(-1, 1, 1) + layer.bias.view(-1, 1, 1)


def test_the_residual_block_weighs_the_channels_of_its_shortcut_only() -> None:
    block: Any = ResidualBlock(3, 32).eval()
    settle(block)
    maps = torch.randn(2, 3, 8, 8)
    first, norm1, _, second, norm2 = block.convolutions
    branch = normalised(functional.conv2d(maps, first.weight, first.bias, padding=1), norm1).clamp(min=0)
    branch = normalised(functional.conv2d(branch, second.weight, second.bias, padding=1), norm2)
    narrow, norm, squeeze = block.shortcut
    shortcut = normalised(torch.einsum("oi,nihw->nohw", narrow.weight[:, :, 0, 0], maps), norm)
    shortcut = shortcut + (norm.weight / (norm.running_var + 1e-5).sqrt() * narrow.bias).view(-1, 1, 1)
    # one number per channel: averaged, narrowed to 32 / 16 = 2, widened, and between 0 and 1
    inner = torch.relu(shortcut.mean((2, 3)) @ squeeze.fc1.weight[:, :, 0, 0].T)
    assert inner.shape == (2, 2)
    gate = torch.sigmoid(inner @ squeeze.fc2.weight[:, :, 0, 0].T)
    expected = (branch + shortcut * gate[:, :, None, None]).clamp(min=0)
    torch.testing.assert_close(block(maps), expected, rtol=1e-4, atol=1e-4)


def watch(network: Any, *names: str) -> dict[str, tuple[tuple[Tensor, ...], Any]]:
    """What the named parts are given and what they give."""
    seen: dict[str, Any] = {}
    for name in names:
        network.get_submodule(name).register_forward_hook(
            lambda _, given, result, name=name: seen.update({name: (given, result)})
        )
    return seen


def test_every_map_goes_where_the_paper_sends_it() -> None:
    network = build(width=8).eval()
    seen = watch(network, "encoder1", "encoder2", "join1", "join2", "join3", "join4", "head")
    with torch.no_grad():
        network(torch.randn(1, 3, 32, 64))
    s11, s12 = seen["encoder1"][1]
    s21, s22 = seen["encoder2"][1]
    assert [(m.shape[1], 32 // m.shape[2]) for m in (s11, s12, s21, s22)] == [
        (8, 1),
        (8, 2),
        (32, 4),
        (32, 8),
    ]
    # the second block begins with the largest of each 2x2 pixels
    blocks = s12.unfold(2, 2, 2).unfold(3, 2, 2).amax((4, 5))
    torch.testing.assert_close(seen["encoder2"][0][0], blocks)
    t1, t2, t3, t4 = (seen[f"join{number}"] for number in (1, 2, 3, 4))
    assert t1[0][0] is s22 and t1[0][1] is s12
    assert t2[0][0] is s21 and t2[0][1] is t1[1]
    assert t3[0][0] is t2[1] and t3[0][1] is s11
    assert t4[0][0] is s12 and t4[0][1] is t3[1]
    assert seen["head"][0][0] is t4[1]
    assert [m[1].shape[1] for m in (t1, t2, t3, t4)] == [16, 16, 8, 4]


def test_transposed_convolutions_enlarge_without_gaps() -> None:
    network = build(width=8)
    sizes = [
        (join.up.kernel_size[0], join.up.stride[0], join.up.padding[0])
        for join in (network.join1, network.join2, network.join3, network.join4)
    ]
    assert sizes == [(4, 4, 0), (4, 2, 1), (4, 2, 1), (4, 2, 1)]


def test_the_enlarged_map_comes_first() -> None:
    join = build(width=8).join1
    coarse, fine = torch.randn(1, 32, 2, 2), torch.randn(1, 8, 8, 8)
    join.block = nn.Identity()
    maps = join(coarse, fine)
    torch.testing.assert_close(maps[:, :16], join.up(coarse))
    torch.testing.assert_close(maps[:, 16:], fine)


@pytest.mark.parametrize("width", [0, 7, -2])
def test_unusable_widths(width: int) -> None:
    message = f"model 'colonsegnet': width must be an even number above 0; got {width}"
    with pytest.raises(MedsegError, match=message):
        build(width=width)


def test_sizes_it_cannot_take() -> None:
    message = "colonsegnet needs sides divisible by 8; got 20x32; the nearest are 16x32 and 24x32"
    with pytest.raises(MedsegError, match=message):
        build(width=2)(torch.zeros(1, 3, 20, 32))
