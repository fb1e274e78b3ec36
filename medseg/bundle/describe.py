"""What a bundle says of itself: ``metadata.json`` and ``docs/README.md``."""

from __future__ import annotations

from dataclasses import asdict
from importlib.metadata import requires
from pathlib import Path
from string import Template
from typing import Any

from medseg import __version__
from medseg.augmentations.protocol import leaks, parse_augment
from medseg.bundle.choice import Choice
from medseg.bundle.settings import Settings
from medseg.data.datasets import DATASETS
from medseg.data.index_file import index_path, read_index
from medseg.errors import MedsegError, unknown
from medseg.losses import LOSSES
from medseg.models import MODELS

#: how a protocol is told to people
PROTOCOL_WORDS = {
    "online": "drawn anew in each epoch",
    "split-then-augment": "one copy of each training image per transform, made once after splitting",
    "augment-then-split": "**leaking**: one copy of every image per transform, made before splitting, so that "
    "copies of test images were trained on; every score is too good, for comparison only",
}
#: what the models with a backbone are built of
BACKBONES = ("timm", "torchvision", "segmentation-models-pytorch")
#: how logits become probabilities, in words
ACTIVATIONS = {
    "softmax": "softmax",
    "sigmoid": "a sigmoid each, since an image may have several",
    "one_vs_rest": "a sigmoid each, normalised to sum 1",
}
SCHEMA = "meta_schema_20240725.json"
SCHEMA_URL = f"https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/{SCHEMA}"


def dataset_facts(dataset: str, prepared: Path) -> dict[str, Any]:
    """What a bundle says of its data set: from the registry, or from the index of a user's own folder.

    Raises:
        MedsegError: the name is neither registered nor indexed.
    """
    own = index_path(dataset, prepared)
    if dataset not in DATASETS and not own.is_file():
        known = {*DATASETS.names(), *(p.parent.name for p in prepared.glob("*/index.json"))}
        raise unknown("data set", dataset, known)
    source: Any = DATASETS.build(dataset) if dataset in DATASETS else read_index(own)
    depth = read_index(own).depth if own.is_file() else "uint8"
    description = DATASETS[dataset].summary if dataset in DATASETS else f"The user's own data set {dataset}."
    return {
        "title": source.title,
        "description": description,
        "channels": source.channels,
        "depth": depth,
        "labels": [asdict(label) for label in source.labels],
        "task": source.task,
        "multilabel": source.multilabel,
        "homepage": getattr(source, "homepage", ""),
        "licence": source.licence,
        "citation": source.citation,
    }


def oldest(package: str) -> str:
    """The oldest version of a package that medseg declares, such as ``1.5`` for ``monai>=1.5``."""
    for line in requires("medseg") or ():
        name, _, version = line.partition(">=")
        if name.strip().lower() == package:
            return version.split(",")[0].split(";")[0].strip()
    raise MedsegError(f"medseg's installation declares no {package}; reinstall it with pip")


def metadata(choice: Choice, settings: Settings, facts: dict[str, Any]) -> dict[str, Any]:
    labels = [label["name"] for label in facts["labels"]]
    classifies = facts["task"] == "classification"
    height, width = settings.image_size
    tensor = {"type": "image", "format": "magnitude", "dtype": "float32", "spatial_shape": [height, width]}
    protocol = parse_augment(choice.augment)[1]
    packages: tuple[str, ...] = ("monai", "torch", "numpy", "pytorch-ignite", "mlflow", "pandas", "pillow")
    packages += BACKBONES if MODELS[choice.model].facts.get("backbone") else ()
    return {
        "schema": SCHEMA_URL,
        "version": "0.1.0",
        "changelog": {"0.1.0": "composed, not trained"},
        "monai_version": oldest("monai"),
        "pytorch_version": oldest("torch"),
        "numpy_version": oldest("numpy"),
        "required_packages_version": {"medseg": __version__, **{p: oldest(p) for p in packages[3:]}},
        "supported_apps": {},
        "name": choice.name,
        "task": f"{_task(facts)} in 2D images",
        "description": _description(choice, facts),
        "authors": "The medseg developers",
        "copyright": "Copyright the medseg developers; the images belong to their authors",
        "data_source": facts["homepage"],
        "data_type": "8-bit or deeper 2D images; PNG, JPEG, TIFF, BMP, WebP, GIF, PGM, DICOM or a slice of NIfTI",
        "image_classes": f"{facts['channels']} channel(s), {_intensity(choice)}",
        "label_classes": f"one value per class: {', '.join(labels)}"
        if classifies
        else f"one channel per label, 0 background, 1 {', '.join(labels)}",
        "pred_classes": f"one logit per {'class' if classifies else 'pixel and channel'}",
        "intended_use": "Research only; no medical device",
        "references": [r for r in (facts["citation"], MODELS[choice.model].facts.get("paper")) if r],
        "medseg": {
            **choice.facts(),
            "protocol": protocol,
            "leaking": leaks(choice.augment),
            **({"task": facts["task"], "multilabel": facts["multilabel"]} if classifies else {}),
            "labels": [{"name": label["name"], "code": label["code"]} for label in facts["labels"]],
        },
        "network_data_format": {
            "inputs": {
                "image": {
                    **tensor,
                    "num_channels": facts["channels"],
                    "value_range": _value_range(choice),
                    "is_patch_data": False,
                    "channel_def": {"0": "red", "1": "green", "2": "blue"}
                    if facts["channels"] == 3
                    else {"0": "image"},
                }
            },
            "outputs": {
                "pred": {
                    **tensor,
                    **_answer(labels, classifies),
                    "num_channels": len(labels),
                    "value_range": [],  # logits have no bounds
                    "is_patch_data": False,
                }
            },
        },
    }


def activation(loss: str, multilabel: bool) -> str:
    """What turns a classifier's logits into probabilities, by the loss that it trains with.

    See :func:`medseg.metrics.classification.probabilities`.
    """
    if LOSSES[loss].facts["activation"] == "softmax":
        return "softmax"
    return "sigmoid" if multilabel else "one_vs_rest"


def _task(facts: dict[str, Any]) -> str:
    names = [label["name"] for label in facts["labels"]]
    if facts["task"] == "segmentation":
        return f"Segmentation of {' and '.join(names)}"
    return (
        f"{'Multi-label classification' if facts['multilabel'] else 'Classification'} as {' or '.join(names)}"
    )


def _answer(labels: list[str], classifies: bool) -> dict[str, Any]:
    """What the network's output is; of a classifier one row of values, as MONAI's model zoo writes it."""
    if classifies:
        return {
            "format": "classes",
            "spatial_shape": [1, len(labels)],
            "channel_def": {str(i): label for i, label in enumerate(labels)},
        }
    names = {"0": "background", **{str(i): label for i, label in enumerate(labels, 1)}}
    return {"format": "segmentation", "channel_def": names}


def _description(choice: Choice, facts: dict[str, Any]) -> str:
    text = f"{choice.model} trained with the {choice.loss} loss on {facts['title']}"
    return f"{text}; LEAKING: copies of test images were trained on" if leaks(choice.augment) else text


def _intensity(choice: Choice) -> str:
    """What the numbers of the network's input are."""
    if choice.preprocess and choice.preprocess[-1].startswith("normalize"):
        return f"intensity after {' and '.join(choice.preprocess)}"
    return "intensity scaled from the full range of the pixels to 0..1"


def _value_range(choice: Choice) -> list[int]:
    """The range of the network's input; of standardised images what nearly all pixels keep to."""
    last = choice.preprocess[-1] if choice.preprocess else ""
    return {"normalize_signed": [-1, 1], "normalize_zscore": [-10, 10], "normalize_imagenet": [-3, 3]}.get(
        last, [0, 1]
    )


def _augmentation(choice: Choice) -> str:
    """The augmentation and its protocol, in words."""
    names, protocol = parse_augment(choice.augment)
    if names == "vanilla":
        return "none"
    return f"`{names}`, {PROTOCOL_WORDS[protocol]}"


def _begins(choice: Choice, settings: Settings) -> str:
    """What the network's weights are before training, in words."""
    weights = MODELS[choice.model].facts.get("pretrained", ())
    if not weights or settings.pretrained is False:
        return "random weights"
    from medseg.models._pretrained import terms_of

    names = " and ".join(f"`{name}`" for name in weights)
    if isinstance(settings.pretrained, str):
        return f"weights of its backbone from a local file, in the form of {names}"
    terms = " and ".join(terms_of(name) or "its publisher's terms" for name in weights)
    return f"the published weights of its backbone, {names}, under {terms}"


def readme(template: str, choice: Choice, settings: Settings, facts: dict[str, Any]) -> str:
    height, width = settings.image_size
    return Template(template).substitute(
        title=choice.name,
        name=choice.name,
        description=f"{_task(facts)}, composed by medseg.",
        classes=", ".join(label["name"] for label in facts["labels"]),
        activation=ACTIVATIONS[activation(choice.loss, facts["multilabel"])]
        if facts["task"] == "classification"
        else "sigmoid",
        monitor="ROC-AUC" if facts["multilabel"] else "balanced accuracy",
        dataset_title=facts["title"],
        dataset_description=facts["description"],
        model=choice.model,
        model_summary=MODELS[choice.model].summary,
        begins=_begins(choice, settings),
        loss=choice.loss,
        loss_summary=LOSSES[choice.loss].summary,
        augment=_augmentation(choice),
        preprocess=", ".join(f"`{p}`" for p in choice.preprocess) or "none",
        channels=facts["channels"],
        height=height,
        width=width,
        values="values 0 to 1"
        if _value_range(choice) == [0, 1]
        else f"normalised by `{choice.preprocess[-1]}`",
        homepage=facts["homepage"] or "the user's own folder",
        licence=facts["licence"] or "as the owner of the images says",
        citation=facts["citation"] or "none given",
    )
