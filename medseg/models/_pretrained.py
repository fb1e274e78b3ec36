"""Published weights of a backbone: fetched through timm's hub or read from a local file, checked, and declared."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from textwrap import shorten
from typing import Any

from torch import Tensor, nn

from medseg.errors import MedsegError

#: weights of these backbones lie in segmentation-models-pytorch's repositories on the hub, all others in timm's
MIX_TRANSFORMER = "mit_"
#: endings of the file that a local folder may hold for a backbone, in this order
ENDINGS = (".safetensors", ".pth", ".pt", ".bin")
#: whose terms go beyond those of the code that loads the weights, by how their names begin
TERMS = {MIX_TRANSFORMER: "NVIDIA's licence for SegFormer: research and evaluation only, non-commercial"}
#: what the hub's weights were trained on, by the last part of their tag
TRAINED_ON = {"in1k": "ImageNet-1k", "imagenet": "ImageNet-1k"}

State = dict[str, Tensor]

log = logging.getLogger(__name__)


def load_weights(
    network: Any,
    weights: str,
    pretrained: bool | str,
    *,
    model: str,
    first: str,
    unused: Sequence[str] = (),
    convert: Callable[[State], State] | None = None,
    random: Sequence[str] = (),
) -> None:
    """Load the published weights of a backbone into it, all of them, and note on it where they came from.

    The first convolution's filters are summed or repeated where the network does not take three channels, as
    timm does. The note is the attribute ``provenance``, see :func:`medseg.models.provenance`.

    Args:
        network: the backbone; what it has must be in the file, with the same shapes.
        weights: name of the weights as the hub has them, such as ``pvt_v2_b2.in1k`` or ``mit_b3.imagenet``.
        pretrained: True downloads them; a path is a file, or a folder with a file ``<weights>.safetensors``
            (or ``.pth``, ``.pt``, ``.bin``); False does nothing.
        model: the model's name, for messages.
        first: name of the first convolution, such as ``patch_embed.proj``.
        unused: how keys begin that the file has and the network does not need, such as ``head.``.
        convert: from the file's keys and shapes to the network's, where they differ.
        random: the network's tensors that cannot begin from the file, since the network has another layer there; they
            stay as they are, which is warned of and noted.

    Raises:
        MedsegError: the weights cannot be downloaded or found or read, or do not fit the backbone.
    """
    if pretrained is False:
        return
    path = _downloaded(weights, model) if pretrained is True else _local(weights, str(pretrained), model)
    state = _read(path, model)
    state = convert(state) if convert else state
    state = {key: value for key, value in state.items() if key not in random}
    _adapt_channels(network, state, f"{first}.weight", f"{path.name} for {weights}")
    own = network.state_dict()
    published = {key: value for key, value in own.items() if key not in random}
    _check_fit(published, state, f"{model}: {path.name} does not hold {weights}", tuple(unused))
    network.load_state_dict({key: state.get(key, value) for key, value in own.items()})
    if random:
        log.warning(
            "%s: %s begins at random, since %s has another layer there", model, ", ".join(random), weights
        )
    terms = terms_of(weights)
    if terms:
        log.warning("%s: the weights %s are under %s", model, weights, terms)
    network.provenance = {
        "weights": weights,
        "source": repository(weights) if pretrained is True else f"file {path.name}",
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "trained_on": trained_on(weights) if pretrained is True else "undeclared",
        "terms": terms or "as the publisher says",
        **({"random": ", ".join(random)} if random else {}),
    }


def terms_of(weights: str) -> str:
    """The terms of weights that go beyond those of the code that loads them; empty where there are none."""
    return next((text for start, text in TERMS.items() if weights.startswith(start)), "")


def repository(weights: str) -> str:
    """The hub's repository of a backbone's weights.

    >>> repository("pvt_v2_b2.in1k"), repository("mit_b3.imagenet")
    ('timm/pvt_v2_b2.in1k', 'smp-hub/mit_b3.imagenet')
    """
    return f"{'smp-hub' if weights.startswith(MIX_TRANSFORMER) else 'timm'}/{weights}"


def trained_on(weights: str) -> str:
    """What the hub's weights were trained on, if their tag names one known data set and no tuning after another.

    >>> trained_on("resnet50.tv_in1k"), trained_on("resnet50.fb_swsl_ig1b_ft_in1k")
    ('ImageNet-1k', 'as its publisher says')
    """
    parts = weights.rpartition(".")[2].split("_")
    several = {"ft", "jft"} & set(parts)
    return "as its publisher says" if several else TRAINED_ON.get(parts[-1], "as its publisher says")


def _downloaded(weights: str, model: str) -> Path:
    """The hub's file in the cache of ``huggingface_hub``, downloaded if it is not there."""
    from huggingface_hub import hf_hub_download

    name, told = repository(weights), logging.getLogger("huggingface_hub")
    level = told.level
    try:
        told.setLevel(logging.ERROR)  # of every attempt that fails it warns; one line says it all
        return Path(hf_hub_download(name, "model.safetensors"))
    except Exception as error:  # the hub raises errors of many libraries
        raise MedsegError(
            f"{model}: its weights {name} cannot be downloaded ({_reason(error)}); give a file or folder"
            f" (--set pretrained=FOLDER) or begin from random weights (--set pretrained=false)"
        ) from error
    finally:
        told.setLevel(level)


def _local(weights: str, place: str, model: str) -> Path:
    path = Path(place).expanduser()
    if path.is_dir():
        names = [f"{weights}{ending}" for ending in ENDINGS]
        found = [path / name for name in names if (path / name).is_file()]
        if not found:
            raise MedsegError(
                f"{model}: {path} has none of {', '.join(names)}; --set pretrained=false does without"
            )
        path = found[0]
    if not path.is_file():
        raise MedsegError(
            f"{model}: no file or folder {path}; give one that has {weights}, or --set pretrained=false"
        )
    return path


def _read(path: Path, model: str) -> State:
    """The tensors of a file, read without running code."""
    from timm.models import load_state_dict

    try:
        return load_state_dict(str(path), device="cpu", weights_only=True)
    except Exception as error:  # torch and safetensors raise errors of many kinds
        raise MedsegError(
            f"{model}: {path} is no file of weights that is safe to read ({_reason(error)})"
        ) from error


def _reason(error: Exception) -> str:
    """What a library says of a failure, on one short line."""
    return shorten(f"{type(error).__name__}: {error}", 180, placeholder=" ...")


def _adapt_channels(network: nn.Module, state: State, key: str, file: str) -> None:
    from timm.models import adapt_input_conv

    channels = network.state_dict()[key].shape[1]
    if key in state and state[key].ndim == 4 and state[key].shape[1] == 3 and channels != 3:
        try:
            state[key] = adapt_input_conv(channels, state[key])
        except NotImplementedError:
            raise MedsegError(f"{file}: 3 channels cannot be turned into {channels}") from None


def _check_fit(own: State, state: State, fault: str, unused: tuple[str, ...]) -> None:
    """Raise unless the file has every tensor of the network, with its shape, and nothing strange besides."""
    counters = {key for key in own if key.endswith("num_batches_tracked")}
    missing = sorted(own.keys() - state.keys() - counters)
    strange = sorted(key for key in state.keys() - own.keys() if not key.startswith(unused or ("\0",)))
    wrong = sorted(key for key in own.keys() & state.keys() if own[key].shape != state[key].shape)
    for keys, what in (
        (missing, "lacks"),
        (wrong, "has another shape of"),
        (strange, "has, but the backbone not,"),
    ):
        if keys:
            raise MedsegError(
                f"{fault}: it {what} {keys[0]}" + (f" and {len(keys) - 1} more" if keys[1:] else "")
            )


def records(network: nn.Module) -> list[dict[str, str]]:
    """The notes that ``load_weights`` left on a network's backbones."""
    found: list[Any] = [getattr(module, "provenance", None) for module in network.modules()]
    return [record for record in found if isinstance(record, dict)]


def declare(network: nn.Module, trained_on: str) -> None:
    """Note what the local files of a network's weights were trained on."""
    for record in records(network):
        record["trained_on"] = trained_on
