"""Choice -> bundle folder: a dozen lines of knobs on top of a template that stays untouched."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.augmentations import build_augments
from medseg.augmentations.protocol import batch_members, parse_augment, with_protocol
from medseg.bundle.choice import Choice
from medseg.bundle.describe import activation, dataset_facts, metadata, readme
from medseg.bundle.open import Bundle
from medseg.bundle.settings import CLASS_KNOBS, SHARED_KNOBS, Settings
from medseg.errors import MedsegError
from medseg.losses import LOSSES, build_for
from medseg.models import MODELS, check_pretrained
from medseg.models import build as build_model
from medseg.transforms.steps import build_steps

if TYPE_CHECKING:  # Python 3.10 lacks the module
    from importlib.resources.abc import Traversable


def compose(choice: Choice, folder: Path, settings: Settings | None = None, *, prepared: Path) -> Bundle:
    """Write the bundle of a choice to ``folder/<name>/``, whole or not at all.

    Args:
        choice: what the bundle is made of; every name is checked.
        folder: where bundles are kept.
        settings: how it trains.
        prepared: where the indexes of a user's own data sets are.

    Raises:
        MedsegError: a name is unknown, the size does not suit the model, or the bundle exists.
    """
    settings = settings or Settings()
    facts = dataset_facts(choice.dataset, prepared)
    check_parts(choice, settings, facts)
    root = folder / choice.name
    if root.exists():
        raise MedsegError(f"{root} exists; remove it, or run it as it is")
    content = _files(choice, settings, facts)
    folder.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder, prefix=f".{choice.name}."))
    try:
        for relative, text in content.items():
            path = temporary / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        (temporary / "models").mkdir()
        temporary.chmod(0o755)
        temporary.rename(root)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return Bundle(root.resolve())


def check_parts(choice: Choice, settings: Settings, facts: dict[str, Any]) -> None:
    """Raise if a name or argument is unknown, or the model cannot take images of that size."""
    check_preprocess(choice, settings, facts)
    check_augment(choice, settings, facts)
    check_loss(choice, settings, facts)
    check_model(choice, settings, facts)


def check_preprocess(choice: Choice, settings: Settings, facts: dict[str, Any]) -> None:
    """Raise if the preprocessing cannot be built, or not for the data set's channels."""
    steps = build_steps(choice.preprocess, settings.preprocess_arguments, settings.image_size)
    steps.check_channels(facts["channels"])


def check_augment(choice: Choice, settings: Settings, facts: dict[str, Any]) -> None:
    """Raise if the augmentation cannot be built, is for the other task, or makes none of its protocol's copies."""
    names, protocol = parse_augment(choice.augment)
    augments, mixed = build_augments(names, settings.augment_arguments), batch_members(names)
    if mixed and facts["task"] != "classification":
        raise MedsegError(f"augmentation {mixed[0]!r} mixes classes; {_told(choice, facts)}")
    if mixed or not augments:
        with_protocol(names, protocol)  # refuses to make copies by nothing


def check_loss(choice: Choice, settings: Settings, facts: dict[str, Any]) -> None:
    """Raise if the loss cannot be built, or is not for the data set's kind of labels."""
    entry = LOSSES[choice.loss]
    if entry.task != facts["task"]:
        known = ", ".join(LOSSES.names(facts["task"]))
        raise MedsegError(f"loss {choice.loss!r} is for {entry.task}; {_told(choice, facts)}. Known: {known}")
    if entry.task == "segmentation":
        LOSSES.build(choice.loss, settings.loss_arguments)
        return
    build_for(choice.loss, settings.loss_arguments, [1] * len(facts["labels"]))
    if facts["multilabel"] and not entry.facts["multilabel"]:
        known = ", ".join(e.name for e in LOSSES if e.task == entry.task and e.facts["multilabel"])
        raise MedsegError(
            f"loss {choice.loss!r} is for images of one class each; {_told(choice, facts)}. Known: {known}"
        )
    if batch_members(parse_augment(choice.augment)[0]) and not entry.facts["soft"]:
        raise MedsegError(
            f"loss {choice.loss!r} takes whole classes, and {choice.augment!r} mixes them; use cross_entropy"
        )


def _told(choice: Choice, facts: dict[str, Any]) -> str:
    """What the data set is, in the words of an error."""
    kind = "of several labels at once" if facts["multilabel"] else f"of the task {facts['task']}"
    return f"{choice.dataset} is {kind}"


def check_model(choice: Choice, settings: Settings, facts: dict[str, Any]) -> None:
    """Raise if the model cannot be built, begin with these weights, or take batches of that size."""
    import torch

    from medseg.models.transfer import parameter_groups

    if MODELS[choice.model].task != facts["task"]:
        known = ", ".join(MODELS.names(facts["task"]))
        raise MedsegError(
            f"model {choice.model!r} is for {MODELS[choice.model].task}; {_told(choice, facts)}. Known: {known}"
        )
    if settings.sampling != "natural" and facts["task"] != "classification":
        raise MedsegError(f"sampling={settings.sampling!r} is by class; {_told(choice, facts)}")
    with torch.device("meta"):
        channels = {"in_channels": facts["channels"], "out_channels": len(facts["labels"])}
        more = {"frozen_stages": settings.frozen_stages, **channels}
        network = build_model(choice.model, settings.model_arguments, **more)
    parameter_groups(network, settings.learning_rate, settings.layer_decay)
    check_pretrained(choice.model, pretrained(choice, settings), settings.pretrained_data)
    if settings.batch_size == 1 and not MODELS[choice.model].facts.get("batch_of_one", True):
        raise MedsegError(f"{choice.model} cannot train on batches of one image; set batch_size to 2 or more")
    least = getattr(network, "least_side", 1)
    if min(settings.image_size) < least:
        size = " x ".join(map(str, settings.image_size))
        raise MedsegError(f"{choice.model} needs sides of {least} pixels and more; image_size is {size}")
    divisor = getattr(network, "divisor", 1)
    if any(side < divisor or side % divisor for side in settings.image_size):
        height, width = (f"{side}" for side in settings.image_size)
        near = " x ".join(str(max(divisor, round(side / divisor) * divisor)) for side in settings.image_size)
        raise MedsegError(
            f"{choice.model} needs sides divisible by {divisor};"
            f" image_size is {height} x {width}; the nearest is {near}"
        )


def _files(choice: Choice, settings: Settings, facts: dict[str, Any]) -> dict[str, str]:
    """Every file of the bundle as text, by its path in the bundle."""
    templates = files("medseg.bundle") / "templates"
    own = templates / facts["task"]
    knobs = _knobs(choice, settings, facts)
    short = _yaml({key: knobs[key] for key in ("bundle_name", *SHARED_KNOBS, *CLASS_KNOBS) if key in knobs})
    return {
        "configs/train.yaml": _yaml(knobs) + _text(own / "train.yaml"),
        "configs/evaluate.yaml": _text(own / "evaluate.yaml"),
        "configs/multi_gpu_train.yaml": _text(own / "multi_gpu_train.yaml"),
        "configs/inference.yaml": short + _text(own / "inference.yaml"),
        "configs/logging.conf": _text(templates / "logging.conf"),
        "configs/metadata.json": json.dumps(metadata(choice, settings, facts), indent=2, ensure_ascii=False)
        + "\n",
        "docs/README.md": readme(_text(own / "README.md"), choice, settings, facts),
        "LICENSE": _text(templates / "LICENSE"),
    }


def _text(path: Traversable) -> str:
    return path.read_text(encoding="utf-8")


def pretrained(choice: Choice, settings: Settings) -> bool | str:
    """What a bundle's backbone begins with: as set, else the published weights where there are some."""
    if settings.pretrained is None:
        return bool(MODELS[choice.model].facts.get("pretrained"))
    return settings.pretrained


def _knobs(choice: Choice, settings: Settings, facts: dict[str, Any]) -> dict[str, Any]:
    own: dict[str, Any] = {}
    values = asdict(settings)
    if facts["task"] == "classification":
        multilabel = facts["multilabel"]
        own = {
            "task": facts["task"],
            "multilabel": multilabel,
            "activation": activation(choice.loss, multilabel),
        }
    else:
        del values["sampling"]
    return {
        "bundle_name": choice.name,
        "dataset_name": choice.dataset,
        "model_name": choice.model,
        "loss_name": choice.loss,
        "augment_name": choice.augment,
        "preprocess": list(choice.preprocess),
        "channels": facts["channels"],
        "classes": len(facts["labels"]),
        **own,
        **{k: list(v) if isinstance(v, tuple) else v for k, v in values.items()},
        "pretrained": pretrained(choice, settings),
    }


def _yaml(values: dict[str, Any]) -> str:
    """One line per value, such that MONAI's reader (YAML 1.1) reads it back as it is.

    >>> print(_yaml({"dataset_name": "2017", "learning_rate": 1e-5, "image_size": [32, 32]}), end="")
    dataset_name: '2017'
    learning_rate: 1.0e-05
    image_size: [32, 32]
    """
    import yaml

    lines = (yaml.safe_dump({k: v}, default_flow_style=True, width=10_000) for k, v in values.items())
    return "".join(f"{line.strip()[1:-1]}\n" for line in lines)
