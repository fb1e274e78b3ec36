"""Choice -> bundle folder: a dozen lines of knobs on top of a template that stays untouched."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from dataclasses import asdict, dataclass, field
from importlib.metadata import requires
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from string import Template
from typing import Any

from medseg import __version__
from medseg.augmentations import AUGMENTATIONS
from medseg.bundle.choice import Choice
from medseg.bundle.open import Bundle
from medseg.data.datasets import DATASETS
from medseg.data.index_file import index_path, read_index
from medseg.errors import MedsegError, unknown
from medseg.losses import LOSSES
from medseg.models import MODELS
from medseg.transforms import TRANSFORMS

SCHEMA = "meta_schema_20240725.json"
SCHEMA_URL = f"https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/{SCHEMA}"


@dataclass(frozen=True)
class Settings:
    """How a bundle trains; the defaults are the loss study's.

    Args:
        image_size: height and width in pixels to which images are stretched.
        epochs: at most so many.
        batch_size: images per step.
        learning_rate: Adam's.
        patience: epochs without a better validation Dice before training stops.
        seed: of weights, order and dropout.
        model_arguments: the model's own parameters where they differ from its defaults, such as ``widths``.
        loss_arguments: the loss's own, such as Tversky's ``alpha``.
    """

    image_size: tuple[int, int] = (224, 224)
    epochs: int = 200
    batch_size: int = 8
    learning_rate: float = 1e-3
    patience: int = 40
    seed: int = 42
    model_arguments: dict[str, Any] = field(default_factory=dict)
    loss_arguments: dict[str, Any] = field(default_factory=dict)


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


def dataset_facts(dataset: str, prepared: Path) -> dict[str, Any]:
    """What a bundle says of its data set: from the registry, or from the index of a user's own folder.

    Raises:
        MedsegError: the name is neither registered nor indexed.
    """
    own = index_path(dataset, prepared)
    if dataset not in DATASETS and not own.is_file():
        known = [*DATASETS.names(), *(p.parent.name for p in prepared.glob("*/index.json"))]
        raise unknown("data set", dataset, known)
    source: Any = DATASETS.build(dataset) if dataset in DATASETS else read_index(own)
    description = DATASETS[dataset].summary if dataset in DATASETS else f"The user's own data set {dataset}."
    return {
        "title": source.title,
        "description": description,
        "channels": source.channels,
        "labels": [asdict(label) for label in source.labels],
        "homepage": getattr(source, "homepage", ""),
        "licence": source.licence,
        "citation": source.citation,
    }


def check_parts(choice: Choice, settings: Settings, facts: dict[str, Any]) -> None:
    """Raise if a name or argument is unknown, or the model cannot take images of that size."""
    import torch

    for name in choice.preprocess:
        TRANSFORMS[name]
    AUGMENTATIONS[choice.augment]
    LOSSES.build(choice.loss, settings.loss_arguments)
    with torch.device("meta"):
        channels = {"in_channels": facts["channels"], "out_channels": len(facts["labels"])}
        network = MODELS.build(choice.model, settings.model_arguments, **channels)
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
    own = templates / "segmentation"
    knobs = _knobs(choice, settings, facts)
    mode = "RGB" if facts["channels"] == 3 else "L"
    short = _yaml(
        {
            k: knobs[k]
            for k in ("bundle_name", "model_name", "model_arguments", "channels", "classes", "image_size")
        }
    )
    return {
        "configs/train.yaml": _yaml(knobs) + _text(own / "train.yaml"),
        "configs/evaluate.yaml": _text(own / "evaluate.yaml"),
        "configs/multi_gpu_train.yaml": _text(own / "multi_gpu_train.yaml"),
        "configs/inference.yaml": short + f"image_mode: {mode}\n" + _text(own / "inference.yaml"),
        "configs/logging.conf": _text(templates / "logging.conf"),
        "configs/metadata.json": json.dumps(_metadata(choice, settings, facts), indent=2, ensure_ascii=False)
        + "\n",
        "docs/README.md": _readme(_text(own / "README.md"), choice, settings, facts),
        "LICENSE": _text(templates / "LICENSE"),
    }


def _text(path: Traversable) -> str:
    return path.read_text(encoding="utf-8")


def _knobs(choice: Choice, settings: Settings, facts: dict[str, Any]) -> dict[str, Any]:
    return {
        "bundle_name": choice.name,
        "dataset_name": choice.dataset,
        "model_name": choice.model,
        "loss_name": choice.loss,
        "augment_name": choice.augment,
        "preprocess": list(choice.preprocess),
        "channels": facts["channels"],
        "classes": len(facts["labels"]),
        **{k: list(v) if isinstance(v, tuple) else v for k, v in asdict(settings).items()},
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


def oldest(package: str) -> str:
    """The oldest version of a package that medseg declares, such as ``1.5`` for ``monai>=1.5``."""
    for line in requires("medseg") or ():
        name, _, version = line.partition(">=")
        if name.strip().lower() == package:
            return version.split(",")[0].split(";")[0].strip()
    raise MedsegError(f"medseg's installation declares no {package}; reinstall it with pip")


def _metadata(choice: Choice, settings: Settings, facts: dict[str, Any]) -> dict[str, Any]:
    labels = [label["name"] for label in facts["labels"]]
    height, width = settings.image_size
    tensor = {"type": "image", "format": "magnitude", "dtype": "float32", "spatial_shape": [height, width]}
    packages = ("monai", "torch", "numpy", "pytorch-ignite", "mlflow", "pandas", "pillow")
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
        "task": f"Segmentation of {' and '.join(labels)} in 2D images",
        "description": f"{choice.model} trained with the {choice.loss} loss on {facts['title']}",
        "authors": "The medseg developers",
        "copyright": "Copyright the medseg developers; the images belong to their authors",
        "data_source": facts["homepage"],
        "data_type": "8-bit or deeper 2D images; PNG, JPEG, TIFF, BMP, WebP or GIF",
        "image_classes": f"{facts['channels']} channel(s), intensity scaled from the full range of the pixels to 0..1",
        "label_classes": f"one channel per label, 0 background, 1 {', '.join(labels)}",
        "pred_classes": "one logit per pixel and channel",
        "intended_use": "Research only; no medical device",
        "references": [r for r in (facts["citation"], MODELS[choice.model].facts.get("paper")) if r],
        "medseg": choice.facts(),
        "network_data_format": {
            "inputs": {
                "image": {
                    **tensor,
                    "num_channels": facts["channels"],
                    "value_range": [0, 1],
                    "is_patch_data": False,
                    "channel_def": {"0": "red", "1": "green", "2": "blue"}
                    if facts["channels"] == 3
                    else {"0": "image"},
                }
            },
            "outputs": {
                "pred": {
                    **tensor,
                    "format": "segmentation",
                    "num_channels": len(labels),
                    "value_range": [0, 1],
                    "is_patch_data": False,
                    "channel_def": {
                        "0": "background",
                        **{str(i): label for i, label in enumerate(labels, 1)},
                    },
                }
            },
        },
    }


def _readme(template: str, choice: Choice, settings: Settings, facts: dict[str, Any]) -> str:
    height, width = settings.image_size
    return Template(template).substitute(
        title=choice.name,
        name=choice.name,
        description=f"Segmentation of {', '.join(label['name'] for label in facts['labels'])}, composed by medseg.",
        dataset_title=facts["title"],
        dataset_description=facts["description"],
        model=choice.model,
        model_summary=MODELS[choice.model].summary,
        loss=choice.loss,
        loss_summary=LOSSES[choice.loss].summary,
        augment=choice.augment,
        preprocess=", ".join(f"`{p}`" for p in choice.preprocess) or "none",
        channels=facts["channels"],
        height=height,
        width=width,
        homepage=facts["homepage"] or "the user's own folder",
        licence=facts["licence"] or "as the owner of the images says",
        citation=facts["citation"] or "none given",
    )


def setting_names() -> list[str]:
    """The names of the settings that a bundle is composed with."""
    return list(asdict(Settings()))


def settings_from(values: dict[str, Any]) -> Settings:
    """Settings with some values changed.

    Raises:
        MedsegError: a name is unknown or a value has the wrong type.
    """
    kinds = {name: type(value) for name, value in asdict(Settings()).items()}
    for name, value in values.items():
        if name not in kinds:
            raise unknown("setting", name, kinds)
        if kinds[name] is tuple:
            values[name] = _pair(value)
        elif kinds[name] is dict:
            if not isinstance(value, dict):
                raise MedsegError(f"{name}={value!r}: give a mapping such as {{widths: [8, 16]}}")
        elif not _fits(name, value, kinds[name]):
            allowed = "0 or more" if name == "seed" else "above 0"
            raise MedsegError(f"{name}={value!r}: give a number ({kinds[name].__name__}) {allowed}")
    return Settings(**values)


def _fits(name: str, value: Any, kind: type) -> bool:
    """Whether a number is of the setting's type and range; a seed may be 0."""
    if not isinstance(value, (int, kind)) or isinstance(value, bool):
        return False
    return value >= 0 if name == "seed" else 0 < value < math.inf


def _pair(value: Any) -> tuple[int, int]:
    """An image size: one number for a square, or [height, width]."""
    sides = [value, value] if isinstance(value, int) else value
    if (
        not isinstance(sides, (list, tuple))
        or len(sides) != 2
        or not all(isinstance(s, int) and s is not True and s > 0 for s in sides)
    ):
        raise MedsegError(f"image_size={value!r}: give one number of pixels or [height, width]")
    return (sides[0], sides[1])
