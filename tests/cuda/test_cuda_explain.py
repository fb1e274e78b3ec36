"""Class-activation maps on the GPU: those of the CPU, with channels-last weights and without mixed precision."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from medseg.engine.device import place
from medseg.explain import METHODS, build
from medseg.explain.layers import choose_layer
from medseg.explain.scores import RegionScore
from medseg.models import MODELS

pytestmark = pytest.mark.cuda


def experienced(name: str, side: int) -> nn.Module:
    """A small network with the statistics of a batch."""
    torch.manual_seed(0)
    network = MODELS[name].build(in_channels=3, out_channels=1, **MODELS[name].facts["small"])
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None
    with torch.no_grad():
        network.train()(torch.randn(2, 3, side, side))
    return network.eval()


@pytest.mark.parametrize("method", METHODS.names())
@pytest.mark.parametrize("name", ["unet", "emcad"])
def test_map_equals_the_cpu(name: str, method: str, device: torch.device) -> None:
    side = 64
    network = experienced(name, side)
    layer = MODELS[name].facts["cam_layer"]
    images, region = torch.randn(1, 3, side, side), torch.rand(side, side) < 0.5
    arguments = {"size": 32} if method == "occlusion" else {}
    maps = []
    for where in (torch.device("cpu"), device):
        placed = place(copy.deepcopy(network), where)
        score = RegionScore(0, region.to(where))
        built = build(method, arguments, network=placed, layer=layer)
        maps.append(built.compute_map(images.to(where), score))
        assert maps[-1].device.type == where.type and maps[-1].dtype == torch.float32
    assert maps[0].any()
    torch.testing.assert_close(maps[1].cpu(), maps[0], rtol=1e-2, atol=1e-3 * float(maps[0].max()))


def test_layers_and_their_cells_equal_the_cpu(device: torch.device) -> None:
    network = experienced("unet", 64)
    layer = choose_layer(network, 3, (64, 64), "bottom")
    assert choose_layer(place(copy.deepcopy(network), device), 3, (64, 64), "bottom") == layer
    raw = torch.rand(1, 1, *layer.size)
    spread = layer.spread(raw.to(device), (64, 64))
    torch.testing.assert_close(spread.cpu(), layer.spread(raw, (64, 64)))
