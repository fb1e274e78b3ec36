"""Layers: which give maps, where their cells lie, and the default layer of every registered model."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from medseg.errors import MedsegError
from medseg.explain import build
from medseg.explain.layers import Layer, choose_layer, map_layers
from medseg.explain.scores import RegionScore
from medseg.models import MODELS


class Mixed(nn.Module):
    """Maps of several kinds, tokens, channels-last maps, attention weights, a pooled value, and one layer run twice."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Conv2d(1, 6, 4, stride=4)
        self.tokens = nn.Linear(6, 6)
        self.last = nn.LayerNorm(6)
        self.attention = nn.Softmax(-1)
        self.pooled = nn.AdaptiveAvgPool2d(1)
        self.twice = nn.ReLU()
        self.never = nn.Conv2d(1, 1, 1)
        self.head = nn.Conv2d(6, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.twice(self.maps(images))
        n, c, h, w = maps.shape
        tokens = self.tokens(maps.flatten(2).transpose(1, 2))
        weights = self.attention(tokens[:, None] @ tokens[:, None].transpose(2, 3))
        maps = (weights[:, 0] @ tokens).transpose(1, 2).reshape(n, c, h, w)
        maps = self.last(maps.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return nn.functional.interpolate(self.head(self.twice(maps + self.pooled(maps))), scale_factor=4)


def test_layers_that_give_maps_are_found_and_no_others() -> None:
    layers = map_layers(Mixed().eval(), 1, (16, 24))
    assert layers == {"maps": Layer("maps", 6, (4, 6), 4.0), "head": Layer("head", 1, (4, 6), 4.0)}


def test_layers_of_a_network_of_one_size_are_found_all_the_same() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 2, stride=2), nn.Flatten(), nn.Linear(2 * 4 * 4, 3)).eval()
    assert map_layers(network, 1, (8, 8)) == {"0": Layer("0", 2, (4, 4), 2.0)}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("map", r"unknown layer 'map'. Did you mean 'maps'\? List them with --list-layers"),
        ("xyz", r"unknown layer 'xyz'. List them with --list-layers"),
        ("tokens", r"layer 'tokens' gives no maps .*, but tokens, pooled values or nothing"),
        ("twice", "layer 'twice' gives no maps .* in one run"),
        ("never", "layer 'never' gives no maps"),
    ],
)
def test_layer_that_gives_no_maps_is_refused(name: str, words: str) -> None:
    with pytest.raises(MedsegError, match=words):
        choose_layer(Mixed().eval(), 1, (16, 16), name)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("tokens", r"gives \(1, 16, 6\), no maps \(N, C, h, w\)"),
        ("twice", "is run 2 times in one pass"),
        ("never", "is run 0 times in one pass"),
        ("head.weight", "unknown layer 'head.weight'. Did you mean 'head'"),
        ("", "unknown layer ''"),
    ],
)
def test_method_refuses_a_layer_that_gives_no_maps(name: str, words: str) -> None:
    score = RegionScore(0, torch.ones(16, 16, dtype=torch.bool))
    with pytest.raises(MedsegError, match=words):
        build("gradcam", network=Mixed().eval(), layer=name).compute_map(torch.rand(1, 1, 16, 16), score)


def test_usual_map_is_stretched_over_the_image() -> None:
    raw = torch.rand(1, 1, 4, 6)
    wanted = nn.functional.interpolate(raw, size=(16, 24), mode="bilinear", align_corners=False)
    torch.testing.assert_close(Layer("a", 1, (4, 6), 4.0).spread(raw, (16, 24)), wanted)


@pytest.mark.parametrize(("row", "column"), [(1, 1), (14, 1), (7, 20), (2, 12)])
def test_map_of_a_padded_field_lies_where_the_evidence_is(row: int, column: int) -> None:
    """6 pixels of padding on each side, cells of 4 pixels: a bright pixel heats the cell that holds it."""
    network = nn.Sequential(nn.ZeroPad2d(6), nn.AvgPool2d(4)).eval()
    layer = choose_layer(network, 1, (16, 24), "1")
    assert (layer.size, layer.step) == ((7, 9), 4.0)
    images = torch.zeros(1, 1, 16, 24)
    images[..., row, column] = 1
    heat = layer.spread(network(images), (16, 24))[0, 0]
    hottest = (heat == heat.max()).nonzero().float().mean(0)
    assert (hottest - torch.tensor([row, column])).abs().max() <= 2


@pytest.mark.parametrize("cell", [(1, 1), (1, 2), (2, 1)])
def test_cells_of_fcn_lie_where_its_logits_put_them(cell: tuple[int, int]) -> None:
    """The network itself says where a cell of fc7 lies: where a single hot one raises the logits."""
    torch.manual_seed(0)
    network, entry = small("fcn"), MODELS["fcn"]
    name = entry.facts["cam_layer"]
    layer = choose_layer(network, 3, (64, 64), name, entry.facts["cam_origin"])
    impulse = torch.zeros(1, layer.channels, *layer.size)
    impulse[:, :, cell[0], cell[1]] = 1
    nn.init.ones_(network.score_fr.weight)
    for score in (*network.score_pools, network.score_fr):
        nn.init.zeros_(score.bias)
    for score in network.score_pools:
        nn.init.zeros_(score.weight)
    hook = network.get_submodule(name).register_forward_hook(lambda *_: impulse)
    with torch.no_grad():
        logits = network(torch.zeros(1, 3, 64, 64))[0, 0]
    hook.remove()
    heat = layer.spread(impulse[:, :1], (64, 64))[0, 0]
    places = [(one == one.max()).nonzero().float().mean(0) for one in (logits, heat)]
    assert (places[0] - places[1]).abs().max() <= 2


def small(name: str) -> nn.Module:
    arguments = {"in_channels": 3, "out_channels": 1, **MODELS[name].facts["small"]}
    return MODELS[name].build(**arguments).eval()


def experienced(name: str) -> tuple[nn.Module, int]:
    """A small network with the statistics of a batch, without which the values of many blocks explode."""
    torch.manual_seed(0)
    network = small(name)
    side = -(-48 // network.divisor) * network.divisor
    if MODELS[name].facts.get("starts_at_zero"):
        for parameter in network.parameters():
            if parameter.dim() > 1 and not parameter.any():
                nn.init.normal_(parameter, std=0.05)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None
    with torch.no_grad():
        network.train()(torch.randn(2, 3, side, side))
    return network.eval(), side


@pytest.mark.parametrize("name", MODELS.names("segmentation"))
def test_every_model_has_a_map_at_its_layer(name: str) -> None:
    network, side = experienced(name)
    layer = choose_layer(network, 3, (side, side), MODELS[name].facts["cam_layer"])
    assert layer.step == 2 ** round(torch.tensor(layer.step).log2().item())
    images = torch.randn(1, 3, side, side)
    region = torch.zeros(side, side, dtype=torch.bool)
    region[: side // 2] = True
    method, score = build("gradcam", network=network, layer=layer.name), RegionScore(0, region)
    # of a map and that of the opposite score one is not constant, unless nothing was seen
    both = [method.compute_map(images, one) for one in (score, lambda logits: -score(logits))]
    assert both[0].shape == both[1].shape == (1, 1, *layer.size)
    signed = layer.spread(both[0] - both[1], (side, side))
    assert signed.isfinite().all() and signed.shape == (1, 1, side, side)
    assert signed.std() > 1e-6 * signed.abs().max() > 0
