"""Checks a bundle offline and names every fault with its file and key."""

from __future__ import annotations

import inspect
import pydoc
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from medseg.augmentations import AUGMENTATIONS, build_augments
from medseg.augmentations.protocol import batch_members, leaks, parse_augment, protocol_of, with_protocol
from medseg.bundle.describe import activation
from medseg.bundle.metadata import Fault, metadata_faults
from medseg.bundle.open import CONFIGS, Bundle
from medseg.bundle.settings import CLASS_KNOBS, SHARED_KNOBS
from medseg.errors import MedsegError, unknown
from medseg.losses import LOSSES
from medseg.models import MODELS, check_pretrained
from medseg.transforms import TRANSFORMS
from medseg.transforms.steps import build_steps

if TYPE_CHECKING:
    from monai.bundle import ComponentLocator

NEEDED = (
    "LICENSE",
    "docs/README.md",
    "configs/metadata.json",
    "configs/logging.conf",
    *(f"configs/{n}.yaml" for n in CONFIGS),
)
#: configs that are laid over train
OVERLAYS = ("evaluate", "multi_gpu_train")
#: what MONAI and MONAI Label look up by key
KEYS = {
    "train": (
        "bundle_root",
        "device",
        "dataset_dir",
        "network_def",
        "network",
        "run",
        "train::trainer",
        "train::trainer::max_epochs",
        "train::dataset",
        "train::inferer",
        "train::handlers",
        "validate::evaluator",
        "validate::handlers",
    ),
    "inference": (
        "bundle_root",
        "device",
        "dataset_dir",
        "dataset",
        "evaluator",
        "network_def",
        "inferer",
        "preprocessing",
        "postprocessing",
        "run",
    ),
}
#: parts that need neither data nor weights and are therefore built for real
BUILT = ("network_def", "loss", "optimizer", "train::inferer")


def verify(bundle: Bundle, *, execute: bool = True) -> list[Fault]:
    """Every fault of a bundle; an empty list says that it is sound.

    Looks for the files of MONAI's bundle specification, holds ``metadata.json`` against MONAI's schema (shipped,
    no network), and checks every component of every config: that it can be found, that it takes the arguments
    given, that every ``@reference`` exists, that overlays override something, and that train and inference agree.
    With ``execute`` it then builds network, loss and optimiser and compares one forward pass with the shapes that
    the metadata promise.

    Args:
        bundle: the bundle to check.
        execute: build and run the network; only for bundles you trust, since expressions are evaluated.
    """
    faults = [Fault(name, "", "file is missing") for name in NEEDED if not (bundle.root / name).is_file()]
    faults += metadata_faults(bundle)
    configs: dict[str, dict[str, Any]] = {}
    for name in CONFIGS:
        if bundle.config(name).is_file():
            try:
                configs[name] = bundle.read(name)
            except MedsegError as error:
                faults.append(Fault(f"configs/{name}.yaml", "", str(error)))
    for name, content in configs.items():
        file = f"configs/{name}.yaml"
        if name not in OVERLAYS:
            faults += [*_config_faults(file, content, {}, KEYS[name]), *_name_faults(file, content)]
        elif "train" in configs:
            faults += [*_overlay_faults(file, content, configs["train"])]
            faults += [*_config_faults(file, content, configs["train"], ())]
    if "train" in configs:
        faults += _argument_faults("configs/train.yaml", configs["train"], faults)
        faults += _told_otherwise(bundle, configs["train"], faults)
    if {"train", "inference"} <= set(configs):
        faults += _drift(configs["train"], configs["inference"])
    if execute and not faults:
        faults += _forward_faults(bundle)
    return faults


def walk(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of a nested config with its key, parts joined by ``::``.

    >>> [k for k, _ in walk({"a": {"b": [1]}})]
    ['', 'a', 'a::b', 'a::b::0']
    """
    yield key, value
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in items:
        yield from walk(inner, f"{key}::{name}" if key else str(name))


def _config_faults(
    file: str, content: dict[str, Any], base: dict[str, Any], needed: tuple[str, ...]
) -> Iterator[Fault]:
    known = {key for part in (base, content) for key, _ in walk(part)} | {
        str(k).replace("#", "::") for k in content
    }
    for key in needed:
        if key not in known:
            yield Fault(file, key, "is missing; MONAI looks it up by this key")
    for key, value in walk(content):
        if isinstance(value, dict) and "_target_" in value:
            reason = component_fault(value)
            if reason:
                yield Fault(file, key, reason)
        elif isinstance(value, str):
            for reference in references(value):
                if reference not in known:
                    yield Fault(file, key, f"refers to @{reference}, which is not defined")


def _overlay_faults(file: str, content: dict[str, Any], base: dict[str, Any]) -> Iterator[Fault]:
    """Keys such as ``validate::dataset`` that change nothing, because train has no such key."""
    known = {key for key, _ in walk(base)}
    for key in map(str, content):
        if ("::" in key or "#" in key) and key.replace("#", "::") not in known:
            yield Fault(file, key, "overrides nothing: configs/train.yaml has no such key")


def _name_faults(file: str, content: dict[str, Any]) -> Iterator[Fault]:
    """Components that medseg does not have."""
    for key, registry in (("model_name", MODELS), ("loss_name", LOSSES)):
        if key in content and content[key] not in registry.names():
            yield Fault(file, key, str(unknown(registry.kind, content[key], registry.names())))
    for name in parse_augment(str(content.get("augment_name", "vanilla")))[0].split("-"):
        if name not in AUGMENTATIONS.names():
            yield Fault(file, "augment_name", str(unknown(AUGMENTATIONS.kind, name, AUGMENTATIONS.names())))
    steps = content.get("preprocess", [])
    for name in steps if isinstance(steps, list) else [steps]:
        if name not in TRANSFORMS.names():
            yield Fault(file, "preprocess", str(unknown(TRANSFORMS.kind, name, TRANSFORMS.names())))


def _argument_faults(file: str, content: dict[str, Any], before: list[Fault]) -> Iterator[Fault]:
    """Steps, weights and augmentations of known names that cannot be had as the config says."""
    named = {fault.key for fault in before}
    if not {"preprocess", "image_size"} & named and "preprocess" in content and "image_size" in content:
        size = content["image_size"]
        given = content.get("preprocess_arguments")
        try:
            build_steps(content["preprocess"], given, size).check_channels(content.get("channels", 3))
        except MedsegError as error:
            yield Fault(file, "preprocess", str(error))
    if "model_name" not in named and "pretrained" in content:
        try:
            check_pretrained(content["model_name"], content["pretrained"], content.get("pretrained_data", ""))
        except MedsegError as error:
            yield Fault(file, "pretrained", str(error))
    if "loss_name" not in named and "loss_name" in content:
        try:
            check_activation(content["loss_name"], content)
        except MedsegError as error:
            yield Fault(file, "activation", str(error))
    if "augment_name" not in named and "augment_name" in content:
        names, protocol = parse_augment(str(content["augment_name"]))
        try:
            if not build_augments(names, content.get("augment_arguments")) or batch_members(names):
                with_protocol(names, protocol)
        except MedsegError as error:
            yield Fault(file, "augment_name", str(error))


def check_activation(loss: str, train: Mapping[str, Any]) -> None:
    """Raise if a classifier would train with a loss that reads its logits otherwise than its predictions do.

    Args:
        loss: name of the loss.
        train: the bundle's training config; one of segmentation has no such choice.

    Raises:
        MedsegError: the loss is unknown, for the other task, or for other probabilities.
    """
    if train.get("task") != "classification":
        return
    entry, now = LOSSES[loss], train.get("activation")
    if entry.task != "classification":
        raise MedsegError(f"loss {loss!r} is for {entry.task}, the bundle for classification")
    multilabel = bool(train.get("multilabel"))
    if multilabel and not entry.facts["multilabel"]:
        raise MedsegError(
            f"loss {loss!r} is for images of one class each, the bundle for several labels at once"
        )
    if activation(loss, multilabel) != now:
        raise MedsegError(
            f"loss {loss!r} trains logits for the activation {activation(loss, multilabel)!r}, the bundle's is {now!r};"
            " compose another bundle for it (medseg bundle create)"
        )


def _told_otherwise(bundle: Bundle, train: dict[str, Any], before: list[Fault]) -> Iterator[Fault]:
    """What ``metadata.json`` says of the experiment, a leak of test images above all, and the config does not."""
    file = "configs/metadata.json"
    if any(fault.file == file for fault in before):
        return
    told, steps = bundle.metadata.get("medseg"), train.get("preprocess")
    if not isinstance(told, dict):
        return
    augment = str(train.get("augment_name", "vanilla"))
    done = {key: train.get(f"{key}_name") for key in ("dataset", "model", "loss")}
    done |= {"augment": augment, "protocol": protocol_of(augment), "leaking": leaks(augment)}
    done |= {key: train[key] for key in ("task", "multilabel") if key in train}
    done |= {"preprocess": "-".join(map(str, steps))} if isinstance(steps, list) else {}
    for key, value in done.items():
        if key in told and told[key] != value:
            yield Fault(file, f"medseg::{key}", f"is {told[key]!r}, but {value!r} by configs/train.yaml")


def _drift(train: dict[str, Any], inference: dict[str, Any]) -> Iterator[Fault]:
    for key in (*SHARED_KNOBS, *CLASS_KNOBS):
        if train.get(key) != inference.get(key):
            reason = f"is {inference.get(key)!r}, but {train.get(key)!r} in configs/train.yaml"
            yield Fault("configs/inference.yaml", key, reason)


def references(text: str) -> list[str]:
    """The keys that a config text refers to, with ``::`` between parts.

    >>> references("$@a::b + '/x' + str(@c#d)")
    ['a::b', 'c::d']
    """
    if text.startswith("$"):
        found = re.findall(r"@(\w+(?:(?:::|#)\w+)*)", text)
    else:
        found = [text[1:]] if text.startswith("@") else []
    return [f.replace("#", "::") for f in found]


def component_fault(config: dict[str, Any]) -> str | None:
    """Why a ``_target_`` cannot be built with its arguments, or None; nothing is called."""
    target = config["_target_"]
    if not isinstance(target, str) or target.startswith(("$", "@")):
        return None
    try:
        component = locate(target)
    except pydoc.ErrorDuringImport as error:
        return f"_target_ {target!r} cannot be imported ({type(error.value).__name__}: {error.value})"
    if component is None:
        return f"_target_ {target!r} cannot be found"
    try:
        signature = inspect.signature(component)
    except (TypeError, ValueError):
        return None
    names = {k for k in config if not (k.startswith("_") and k.endswith("_"))}
    takes_any = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
    extra = names - set(signature.parameters)
    if extra and not takes_any:
        return f"{target} takes no argument {', '.join(sorted(extra))}"
    missing = [
        p.name
        for p in signature.parameters.values()
        if p.default is p.empty
        and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
        and p.name not in names
    ]
    if missing and config.get("_mode_") != "callable":
        return f"{target} needs the argument {', '.join(missing)}"
    return None


def locate(target: str) -> Any:
    """The class or function that MONAI would take for a ``_target_``: a full path, or a bare name of its own."""
    if "." in target:
        return pydoc.locate(target)
    paths = _monai_components().get_component_module_name(target)
    module = paths[0] if isinstance(paths, list) else paths
    return pydoc.locate(f"{module}.{target}") if module else None


@cache
def _monai_components() -> ComponentLocator:
    from monai.bundle import ComponentLocator

    return ComponentLocator(excludes=["_extensions"])


def _forward_faults(bundle: Bundle) -> list[Fault]:
    """Build what needs no data, then compare one forward pass with the metadata."""
    import torch
    from monai.bundle import ConfigParser

    parser = ConfigParser(bundle.read("train"))
    parser["device"] = torch.device("cpu")
    parser["pretrained"] = False  # a check must not download
    parser["bundle_root"] = str(bundle.root)
    if "class_counts" in parser.get():
        parser["class_counts"] = [1] * int(bundle.read("train")["classes"])  # of data that are not looked at
    built: dict[str, Any] = {}
    faults = []
    for key in BUILT:
        try:
            built[key] = parser.get_parsed_content(key, instantiate=True)
        except Exception as error:
            faults.append(Fault("configs/train.yaml", key, root_cause(error)))
    if "network_def" not in built:
        return faults
    tensors = bundle.metadata["network_data_format"]
    given, promised = tensors["inputs"]["image"], tensors["outputs"]["pred"]
    image = torch.rand(1, given["num_channels"], *given["spatial_shape"])
    key = "network_data_format"
    try:
        with torch.no_grad():
            pred = built["network_def"].eval()(image)
    except Exception as error:
        reason = f"a forward pass on {tuple(image.shape)} fails: {root_cause(error)}"
        return [*faults, Fault("configs/metadata.json", f"{key}::inputs::image", reason)]
    # of a classifier the shape is that of one row of values
    spatial = promised["spatial_shape"] if promised["format"] == "segmentation" else ()
    expected = (1, promised["num_channels"], *spatial)
    if tuple(pred.shape) != expected:
        reason = f"promises {expected}, but the network gives {tuple(pred.shape)}"
        faults.append(Fault("configs/metadata.json", f"{key}::outputs::pred", reason))
    return faults


def root_cause(error: BaseException) -> str:
    """The innermost reason of a chain of errors, on one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = " ".join(str(error).split())
    return text if isinstance(error, MedsegError) else f"{type(error).__name__}: {text}"[:300]
