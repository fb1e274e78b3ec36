"""Backbones of other libraries as feature pyramids: timm's networks and segmentation-models-pytorch's MiT.

A backbone knows its ``stages``: the names of its submodules in the order of the forward pass, one tuple per level.
Transfer learning freezes them from the first on, or lets them learn more slowly (:mod:`medseg.models.transfer`).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from medseg.errors import MedsegError
from medseg.models._pretrained import MIX_TRANSFORMER, State, load_weights


class MixTransformer(nn.Module):
    """MiT, the encoder of SegFormer (Xie et al. 2021, arXiv:2105.15203), as segmentation-models-pytorch has it.

    Args:
        encoder: its encoder; gives two maps before the four of the stages.

    Shape:
        images ``(N, C, H, W)`` with sides divisible by 32, result four maps, 1/4 to 1/32 of the sides.
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, images: Tensor) -> list[Tensor]:
        return self.encoder(images)[2:]


def with_memory(build: Callable[[], nn.Module]) -> Any:
    """A network of another library, on torch's default device.

    Where that is ``meta`` it is built on the CPU first: some read numbers out of tensors while they are built, which a
    device without memory cannot give.
    """
    device = torch.empty(0).device
    with torch.device("cpu" if device.type == "meta" else device):
        network = build()
    return network.to(device)


def pyramid(
    backbone: str,
    in_channels: int,
    pretrained: bool | str = False,
    *,
    model: str,
    out_indices: Sequence[int] | None = None,
    **arguments: Any,
) -> nn.Module:
    """A backbone that gives a list of feature maps, finest first.

    Args:
        backbone: timm's name with its tag, such as ``pvt_v2_b2.in1k``; or ``mit_b0.imagenet`` to ``mit_b5.imagenet``.
        in_channels: channels of the image.
        pretrained: False, True, or a file or folder, see :func:`medseg.models._pretrained.load_weights`.
        model: the model's name, for messages.
        out_indices: which levels of timm's backbone; all by default. MiT gives its four.
        arguments: what timm's backbone takes besides, such as ``drop_path_rate`` or ``output_stride``.

    Raises:
        MedsegError: the backbone is unknown, or its weights cannot be had.
    """
    if backbone.startswith(MIX_TRANSFORMER):
        return _mix_transformer(backbone, in_channels, pretrained, model)
    import timm

    name = backbone.partition(".")[0]
    if not timm.is_model(name):
        raise MedsegError(f"{model}: timm has no backbone {backbone!r}")
    levels: dict[str, Any] = {} if out_indices is None else {"out_indices": tuple(out_indices)}
    known = {"features_only": True, "in_chans": in_channels, **levels, **arguments}
    network: Any = with_memory(lambda: timm.create_model(name, **known))
    network.stages = _stages(network)
    facts: Any = timm.get_pretrained_cfg(name)
    load_weights(
        network,
        backbone,
        pretrained,
        model=model,
        first=_flat(facts.first_conv, network),
        unused=[f"{part}." for part in _names(facts.classifier)],
        convert=_flattening(network, name),
    )
    return network


def _mix_transformer(backbone: str, in_channels: int, pretrained: bool | str, model: str) -> nn.Module:
    from segmentation_models_pytorch.encoders import encoders, get_encoder

    name = backbone.partition(".")[0]
    if name not in encoders:
        raise MedsegError(f"{model}: segmentation-models-pytorch has no encoder {backbone!r}")
    encoder = with_memory(lambda: get_encoder(name, in_channels=in_channels, weights=None))
    network: Any = MixTransformer(encoder)
    parts = [key for key, _ in encoder.named_children()]
    network.stages = tuple(tuple(f"encoder.{p}" for p in parts if p.endswith(str(i))) for i in (1, 2, 3, 4))
    load_weights(
        network,
        backbone,
        pretrained,
        model=model,
        first="encoder.patch_embed1.proj",
        unused=["encoder.head."],
        convert=lambda state: {f"encoder.{key}": value for key, value in state.items()},
    )
    return network


def _names(value: str | Sequence[str]) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def _stages(network: nn.Module) -> tuple[tuple[str, ...], ...]:
    """The submodules up to each map that timm's feature network returns, by its return layers or else its hooks."""
    children = [name for name, _ in network.named_children()]
    info: Any = network.feature_info
    hooked = {_flat(name, network).partition(".")[0] for name in info.module_name()}
    returned: Any = getattr(network, "return_layers", hooked)
    stages: list[tuple[str, ...]] = []
    now: list[str] = []
    for name in children:
        now.append(name)
        if name in returned:
            stages.append(tuple(now))
            now = []
    return tuple(stages)


def _flat(key: str, network: nn.Module) -> str:
    """A name of timm's network as its feature network has it, which writes ``stages.0`` as ``stages_0``."""
    children = dict(network.named_children())
    if key.partition(".")[0] in children:
        return key
    return re.sub(r"^([a-z_]+)\.(\d+)", r"\1_\2", key)


def _flattening(network: nn.Module, name: str) -> Callable[[State], State]:
    """From the keys of a file, timm's or the authors', to those of timm's feature network."""
    import timm

    module = sys.modules[timm.model_entrypoint(name).__module__]
    rename: Any = getattr(module, "checkpoint_filter_fn", None)

    def convert(state: State) -> State:
        known = rename(state, network) if rename else state
        return {_flat(key, network): value for key, value in known.items()}

    return convert
