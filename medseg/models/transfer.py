"""Transfer learning: stages of a pre-trained backbone that do not learn, or learn more slowly."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn import Parameter

from medseg.errors import MedsegError
from medseg.models._pretrained import records


def backbones(network: nn.Module) -> list[nn.Module]:
    """The modules of a network that know their stages."""
    return [m for m in network.modules() if isinstance(getattr(m, "stages", None), tuple)]


def freeze(network: nn.Module, stages: int, model: str) -> nn.Module:
    """The network, whose backbones' first stages neither learn nor move their batch statistics.

    Args:
        network: a network of this room.
        stages: how many, from the image on; 0 freezes nothing.
        model: its name, for messages.

    Raises:
        MedsegError: the network has no backbone, or not so many stages, or its pre-trained backbone has a first layer
            that begins at random and must learn.
    """
    if isinstance(stages, bool) or not isinstance(stages, int):
        raise MedsegError(f"frozen_stages={stages!r}: give a whole number, 0 or more")
    if stages == 0:
        return network
    found = backbones(network)
    most = min((len(stages_of(backbone)) for backbone in found), default=0)
    if not 0 < stages <= most:
        has = f"its backbone has {most} stages" if found else "it has no backbone with stages"
        raise MedsegError(f"frozen_stages={stages}: cannot freeze these of {model}; {has}")
    random = [record["random"] for record in records(network) if "random" in record]
    if random:
        raise MedsegError(
            f"frozen_stages={stages}: {random[0]} of {model} begins at random and must learn; use stem=standard"
        )
    for backbone in found:
        for stage in stages_of(backbone)[:stages]:
            for module in stage:
                module.requires_grad_(False)
                # training puts the whole network into training mode before every step
                module.register_forward_pre_hook(_evaluate)
    return network


def _evaluate(module: nn.Module, _: Any) -> None:
    module.eval()


def stages_of(backbone: Any) -> list[list[nn.Module]]:
    """The submodules of each stage of a backbone, from the image on."""
    return [[backbone.get_submodule(name) for name in names] for names in backbone.stages]


def parameter_groups(
    network: nn.Module, learning_rate: float, layer_decay: float = 1.0
) -> list[dict[str, Any]]:
    """The parameters that learn, in groups of one learning rate each, for an optimiser.

    A backbone's last stage learns at ``layer_decay`` times the learning rate, the stage before it at its square, and so
    on towards the image; all else at the whole learning rate (layer-wise decay, as in Clark et al. 2020,
    arXiv:2003.10555).

    Args:
        network: a network of this room.
        learning_rate: of what is not backbone.
        layer_decay: above 0 and at most 1; 1 gives one group.

    Raises:
        MedsegError: the decay is out of range, or the network has no backbone to apply it to.
    """
    if isinstance(layer_decay, (bool, str)) or not 0 < layer_decay <= 1:
        raise MedsegError(f"layer_decay={layer_decay!r}: give a number above 0 and at most 1")
    found = backbones(network)
    if layer_decay < 1 and not found:
        raise MedsegError(f"layer_decay={layer_decay}: this model has no backbone with stages; leave it at 1")
    rates: dict[Parameter, float] = {}
    for backbone in found:
        stages = stages_of(backbone)
        for index, stage in enumerate(stages):
            rate = learning_rate * layer_decay ** (len(stages) - index)
            rates.update({p: rate for module in stage for p in module.parameters()})
    groups: dict[float, list[Parameter]] = {}
    for parameter in network.parameters():
        if parameter.requires_grad:
            groups.setdefault(rates.get(parameter, learning_rate), []).append(parameter)
    return [{"params": members, "lr": rate} for rate, members in groups.items()]
