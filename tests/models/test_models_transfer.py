"""Transfer learning: frozen stages stay as they are, and learning rates decay towards the image."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from medseg import models
from medseg.errors import MedsegError
from medseg.models._backbones import pyramid
from medseg.models.transfer import backbones, freeze, parameter_groups, stages_of


class Backbone(nn.Module):
    """Two stages of a convolution and batch normalisation each."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2)
        self.deep, self.deep_norm = nn.Conv2d(2, 2, 3, padding=1), nn.BatchNorm2d(2)
        self.stages = (("stem", "norm"), ("deep", "deep_norm"))

    def forward(self, images: Tensor) -> Tensor:
        return self.deep_norm(self.deep(self.norm(self.stem(images))))


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.head = Backbone(), nn.Conv2d(2, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.backbone(images))


def trained(network: nn.Module) -> dict[str, bool]:
    """Which entries of the state change in one step of training."""
    before = {key: value.clone() for key, value in network.state_dict().items()}
    optimizer = torch.optim.Adam(parameter_groups(network, 0.1))
    network.train()
    network(torch.randn(4, 1, 8, 8)).square().sum().backward()
    optimizer.step()
    return {key: not torch.equal(value, before[key]) for key, value in network.state_dict().items()}


@pytest.mark.parametrize(
    ("stages", "frozen"), [(0, ()), (1, ("stem", "norm")), (2, ("stem", "norm", "deep", "deep_norm"))]
)
def test_frozen_stages_neither_learn_nor_move_their_statistics(stages: int, frozen: tuple[str, ...]) -> None:
    changed = trained(freeze(Network(), stages, "net"))
    for key, moved in changed.items():
        if key != "backbone.deep.bias":  # a bias before a normalisation has no gradient
            part = key.split(".")[1]
            assert moved == (part not in frozen), key


def test_a_frozen_network_gives_a_state_that_any_other_takes() -> None:
    network = freeze(Network(), 1, "net")
    other = Network()
    other.load_state_dict(network.state_dict())
    images = torch.randn(2, 1, 8, 8)
    torch.testing.assert_close(other.eval()(images), network.eval()(images))


def test_rates_fall_from_the_head_to_the_image() -> None:
    network = Network()
    rates = {id(p): group["lr"] for group in parameter_groups(network, 1.0, 0.5) for p in group["params"]}
    assert rates[id(network.head.weight)] == 1.0
    assert rates[id(network.backbone.deep_norm.weight)] == 0.5
    assert rates[id(network.backbone.stem.weight)] == 0.25
    assert len(rates) == len(list(network.parameters()))


def test_one_group_without_decay_and_none_for_what_is_frozen() -> None:
    network = Network()
    (group,) = parameter_groups(network, 0.1)
    assert group["lr"] == 0.1 and len(group["params"]) == len(list(network.parameters()))
    (group,) = parameter_groups(freeze(network, 2, "net"), 0.1)
    assert [id(p) for p in group["params"]] == [id(network.head.weight), id(network.head.bias)]


def test_mistakes() -> None:
    for decay in (0.0, -1.0, 1.5):
        with pytest.raises(MedsegError, match="give a number above 0 and at most 1"):
            parameter_groups(Network(), 0.1, decay)
    for words in ("0.5", True):
        with pytest.raises(MedsegError, match=f"layer_decay={words!r}: give a number above 0"):
            parameter_groups(Network(), 0.1, words)
    for number in (1.5, "1", True):
        with pytest.raises(MedsegError, match=f"frozen_stages={number!r}: give a whole number, 0 or more"):
            freeze(Network(), number, "net")
    with pytest.raises(MedsegError, match="no backbone with stages; leave it at 1"):
        parameter_groups(nn.Conv2d(1, 1, 1), 0.1, 0.5)
    with pytest.raises(MedsegError, match="frozen_stages=-1: cannot freeze these of net; its backbone has 2"):
        freeze(Network(), -1, "net")


@pytest.mark.parametrize("name", [e.name for e in models.MODELS if e.facts.get("pretrained")])
def test_every_pretrained_backbone_knows_its_stages(name: str) -> None:
    entry = models.MODELS[name]
    network = entry.build(in_channels=3, out_channels=1, **entry.facts["small"])
    found = backbones(network)
    assert len(found) == len(entry.facts["pretrained"])
    for backbone in found:
        stages = stages_of(backbone)
        own = {id(p) for p in backbone.parameters()}
        staged = [id(p) for stage in stages for module in stage for p in module.parameters()]
        assert len(stages) >= 4 and sorted(staged) == sorted(own), "each parameter lies in one stage"


def test_a_backbone_with_hooks_has_a_stage_for_each_map() -> None:
    network = pyramid("xception65.tf_in1k", 1, model="deeplabv3plus")
    names = [names for (*_, names) in network.stages]
    assert len(network.stages) == len(network(torch.rand(1, 1, 64, 64))) == 5
    assert names == [
        name.replace("blocks.", "blocks_").split(".")[0] for name in network.feature_info.module_name()
    ]
