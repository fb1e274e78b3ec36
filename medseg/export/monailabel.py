"""MONAI Label: an app folder with a bundle in it that a stock server serves, with no medseg installed there.

The network travels as TorchScript, which a server can run and train without the model's source; many models need
timm or segmentation-models-pytorch, which it has not. Reading, preprocessing and losses travel as copied modules of
medseg, so that they are to the bit what training did.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from medseg import __version__
from medseg.bundle.network import Recipe
from medseg.bundle.open import Bundle
from medseg.bundle.privacy import demand_no_local_path
from medseg.errors import MedsegError
from medseg.export import EXPORTERS
from medseg.export._closure import copy_modules, demand_unchanged, needed
from medseg.export.check import Check

if TYPE_CHECKING:
    import torch

TEMPLATES = files("medseg.export") / "templates" / "monailabel"
#: what of ``metadata.json`` travels
TOLD = (
    "schema",
    "version",
    "monai_version",
    "pytorch_version",
    "numpy_version",
    "task",
    "description",
    "authors",
    "copyright",
    "data_source",
    "data_type",
    "image_classes",
    "label_classes",
    "pred_classes",
    "intended_use",
    "references",
    "network_data_format",
)
#: words in a bundle's name by which MONAI Label takes it for another kind of task
TASK_WORDS = re.compile("detection|deepedit|deepgrow|classification", re.IGNORECASE)
#: the word by which it knows a classifier, unless one of these or this is in the name too
CLASSIFIES, SEGMENTS = "classification", re.compile("segmentation", re.IGNORECASE)
#: what a stock server brings for the copied modules, and the oldest release that they are tried with
BROUGHT = {
    "pytorch-ignite": "0.5.1",
    "nibabel": "5.2.0",
    "pillow": "10.1.0",
    "pydicom": "2.4.4",
    "tifffile": "2023.7.4",
}
#: what the copied code begins with
ROOTS = (
    "medseg.export.labelling",
    "medseg.transforms",
    "medseg.losses",
    "medseg.engine.metrics",
    "medseg.metrics",
)
#: and that of a classifier, which is not trained there
CLASS_ROOTS = ("medseg.export.labelling", "medseg.transforms", "medseg.metrics.classification")


@EXPORTERS.register("monailabel", form="folder", tolerance=1e-4)
def monailabel(
    bundle: Bundle, out: Path, inputs: Sequence[Path], *, tolerance: float, repeat: str | None = None
) -> Check:
    """An app folder for MONAI Label 0.8.5: /infer on PNG, NIfTI and DICOM, /train, /activelearning and /scoring.

    A classifier's answers are probabilities of classes, and it is not trained there: viewers save masks alone. The
    check runs the written configurations in a Python in which medseg cannot be imported, on whole image files, trains
    one step, and compares masks, or probabilities of classes, with those of ``medseg predict``.
    """
    from medseg.export._network import trained
    from medseg.export._rehearsal import rehearsed

    recipe, network = trained(bundle, repeat)
    served = write_app(bundle, recipe, network, out)
    return rehearsed("monailabel", out, served, recipe, network, inputs, tolerance)


def write_app(bundle: Bundle, recipe: Recipe, network: torch.nn.Module, out: Path) -> Path:
    """Write the app and its bundle.

    Args:
        bundle: that is exported.
        recipe: of it.
        network: its network with its weights.
        out: the app's folder, which must not exist or be empty.

    Returns:
        the bundle's folder in it.

    Raises:
        MedsegError: a step or a setting of the bundle cannot work on a stock server, or its metadata hold a path.
    """
    import torch

    from medseg.export.torchscript import write_torchscript

    _demand_portable(recipe)
    classifies = recipe.task == CLASSIFIES
    served = out / "model" / served_name(bundle.name, recipe.task)
    for folder in ("configs", "models", "docs"):
        (served / folder).mkdir(parents=True)
    package = copy_modules(needed(CLASS_ROOTS if classifies else ROOTS), served)
    demand_unchanged(served / package)
    write_torchscript(network, recipe, served / "models" / "network.ts", {})
    torch.save(network.state_dict(), served / "models" / "model.pt")
    metadata = _metadata(bundle, recipe, package, served.name)
    text = json.dumps(metadata, indent=2, ensure_ascii=False) + "\n"
    (served / "configs" / "metadata.json").write_text(text, encoding="utf-8")
    knobs = _knobs(recipe)
    if classifies:
        _write_config("inference", served, knobs, package, "inference_classes.yaml")
    else:
        _write_config("inference", served, knobs, package)
        _write_config("train", served, {**knobs, **_loss(bundle)}, package)
    words = _words(served.name, recipe, metadata, package)
    template = Template(_template("README_classes.md" if classifies else "README.md"))
    for readme in (out / "README.md", served / "docs" / "README.md"):
        readme.write_text(template.substitute(words), encoding="utf-8")
    (out / "main.py").write_text(_template("main.py"), encoding="utf-8")
    licence = files("medseg.bundle") / "templates" / "LICENSE"
    for place in (out, served):
        (place / "LICENSE").write_text(licence.read_text(encoding="utf-8"), encoding="utf-8")
    return served


def served_name(name: str, task: str = "segmentation") -> str:
    """A bundle's name on the server: without words by which MONAI Label would take it for another kind of task.

    >>> served_name("polyp_detection__unet__dice")
    'polyp_det__unet__dice'
    >>> served_name("bhi__resnet50__cross_entropy", "classification")
    'bhi__resnet50__cross_entropy__classification'
    """
    plain = TASK_WORDS.sub(lambda found: found[0][:3], name)
    return plain if task != CLASSIFIES else f"{SEGMENTS.sub('seg', plain)}__{CLASSIFIES}"


def _demand_portable(recipe: Recipe) -> None:
    from medseg.models import MODELS

    foreign = [name for name in recipe.preprocess if name in opencv_steps()]
    if foreign:
        raise MedsegError(
            f"monailabel: the preprocessing {', '.join(foreign)} needs OpenCV, which a stock MONAI Label server has "
            "not; train the bundle without it, or serve it with medseg serve"
        )
    if not MODELS[recipe.model].facts.get("scriptable"):
        raise MedsegError(f"monailabel: {recipe.model} cannot be scripted, as it would have to be there")


def opencv_steps() -> list[str]:
    """The registered steps of preprocessing whose code needs OpenCV."""
    import inspect

    from medseg.transforms import TRANSFORMS

    return [e.name for e in TRANSFORMS if "cv2" in inspect.getsource(inspect.getmodule(e.build) or e.build)]


def _knobs(recipe: Recipe) -> dict[str, Any]:
    return {
        "channels": recipe.channels,
        "classes": recipe.classes,
        "labels": [label.name for label in recipe.labels],
        "image_size": list(recipe.image_size),
        "preprocess": list(recipe.preprocess),
        "preprocess_arguments": dict(recipe.preprocess_arguments),
        **({"activation": recipe.activation} if recipe.task == CLASSIFIES else {}),
    }


def _loss(bundle: Bundle) -> dict[str, Any]:
    """The loss of training as plain values.

    Raises:
        MedsegError: it is missing or an expression.
    """
    config = bundle.read("train")
    knobs = {key: config.get(key) for key in ("loss_name", "loss_arguments")}
    if not isinstance(knobs["loss_name"], str) or "$" in json.dumps(knobs) or "@" in json.dumps(knobs):
        raise MedsegError(f"{bundle.config('train')}: loss_name and loss_arguments must be plain values")
    return {"loss_name": knobs["loss_name"], "loss_arguments": knobs["loss_arguments"] or {}}


def _metadata(bundle: Bundle, recipe: Recipe, package: str, name: str) -> dict[str, Any]:
    told = {key: bundle.metadata[key] for key in TOLD if key in bundle.metadata}
    told["changelog"] = {told["version"]: f"exported for MONAI Label by medseg {__version__}"}
    told["required_packages_version"] = dict(BROUGHT)
    told["supported_apps"] = {"monailabel": "0.8.5"}
    told["name"] = name
    own = bundle.metadata.get("medseg", {})
    kept = {key: own[key] for key in ("dataset", "model", "loss", "preprocess", "augment") if key in own}
    told["medseg"] = {**kept, "package": package, "version": __version__}
    names = [label.name for label in recipe.labels]
    if recipe.task == CLASSIFIES:
        told["medseg"] |= {"task": recipe.task, "multilabel": recipe.multilabel}
    else:
        names = ["background", *names]
    told["network_data_format"]["outputs"]["pred"]["channel_def"] = {
        str(number): label for number, label in enumerate(names)
    }
    demand_no_local_path(told, "configs/metadata.json")
    return told


def _write_config(
    name: str, served: Path, knobs: Mapping[str, Any], package: str, template: str = ""
) -> None:
    import yaml

    head = yaml.safe_dump(dict(knobs), sort_keys=False, default_flow_style=None, allow_unicode=True)
    body = Template(_template(template or f"{name}.yaml")).substitute(package=package)
    (served / "configs" / f"{name}.yaml").write_text(head + body, encoding="utf-8")


def _words(name: str, recipe: Recipe, metadata: Mapping[str, Any], package: str) -> dict[str, Any]:
    return {
        "name": name,
        "description": str(metadata.get("description", name)).rstrip("."),
        "intended_use": str(metadata.get("intended_use", "Research only; no medical device")).rstrip("."),
        "package": package,
        "version": __version__,
        "labels": ", ".join(label.name for label in recipe.labels),
        "channels": recipe.channels,
        "height": recipe.image_size[0],
        "width": recipe.image_size[1],
    }


def _template(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")
