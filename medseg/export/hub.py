"""A folder for the Hugging Face hub or the MONAI model zoo: a bundle with a model card, ready to be uploaded."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from string import Template
from typing import Any

from medseg.bundle.archive import files_of, json_configs, run_facts, with_manifest, write_folder
from medseg.bundle.network import Recipe
from medseg.bundle.open import Bundle
from medseg.export import EXPORTERS
from medseg.export._network import activation_words, answer_shape, trained
from medseg.export.archive import check_package, torchscript_bytes
from medseg.export.check import Check

#: large files that the hub keeps outside git
ATTRIBUTES = "*.pt filter=lfs diff=lfs merge=lfs -text\n*.ts filter=lfs diff=lfs merge=lfs -text\n"
CARD = Template("""
# $name

$description

**$use.** The configuration is under the Apache License 2.0 (`LICENSE`); the weights are bound by the terms of the
images they were trained on as well.

| | |
| --- | --- |
| images | $channels channel(s), $height x $width pixels, float32 |
| output | logits `($shape)`; $activation |
| $kind | $labels |
| preprocessing | $preprocess |
| trained on | $source |

## Test results
$results
## Use

With PyTorch alone, on images that are preprocessed as above (values 0 to 1 unless a step says otherwise):

```python
import torch
network = torch.jit.load("models/model.ts").eval()
logits = network(torch.zeros(1, $channels, $height, $width))
```

With MONAI, from the folder that holds this one:

```python
from monai.bundle import load
network, metadata, _ = load("$name", bundle_dir=".", load_ts_module=True, device="cpu")
```

With medseg, which reads, preprocesses and restores images of every kind:

```
medseg bundle import $name
medseg predict $name IMAGES -o OUT
```
""")


@EXPORTERS.register("hub-folder", form="folder", suffix="", tolerance=1e-4)
def hub_folder(
    bundle: Bundle, out: Path, inputs: Sequence[Path], *, tolerance: float, repeat: str | None = None
) -> Check:
    """A folder with model card, configs, ``model.pt`` and ``model.ts`` for a model hub; nothing is uploaded."""
    recipe, network = trained(bundle, repeat)
    files = files_of(bundle, repeat)
    files |= json_configs(files)
    files["models/model.ts"] = torchscript_bytes(bundle, recipe, network)
    files["README.md"] = card(bundle, recipe, run_facts(bundle, repeat), out.name).encode()
    # the manifest names the bundle by the folder, which the user may have called otherwise
    write_folder(with_manifest(files, out.name), out)
    (out / ".gitattributes").write_text(ATTRIBUTES, encoding="utf-8")
    with tempfile.TemporaryDirectory(prefix="medseg-hub-") as folder:
        check = check_package(
            "hub-folder", out, out, Path(folder), network, recipe, inputs, tolerance, script=True
        )
    return replace(check, notes=(*check.notes, "nothing was uploaded"))


def card(bundle: Bundle, recipe: Recipe, record: Mapping[str, Any], folder: str) -> str:
    """The model card: YAML for the hub, then text for people.

    Args:
        bundle: the bundle.
        recipe: its recipe.
        record: what is known of the run that its weights come from.
        folder: what the bundle is called where it goes.
    """
    height, width = recipe.image_size
    metadata = bundle.metadata
    labels = ", ".join(label.name for label in recipe.labels)
    steps = [f"`{name}`{_arguments(recipe, name)}" for name in recipe.preprocess]
    text = CARD.substitute(
        name=folder,
        description=f"{metadata.get('task', recipe.task.capitalize())}: {metadata.get('description', '')}.",
        use=metadata.get("intended_use", "Research only"),
        channels=recipe.channels,
        shape=", ".join(map(str, ("N", *answer_shape(recipe)))),
        kind="classes" if recipe.task == "classification" else "labels",
        height=height,
        width=width,
        activation=_activation(recipe),
        labels=labels,
        preprocess=", ".join(steps) or f"stretched to {height} x {width}, full range of the pixels to 0..1",
        source=metadata.get("data_source") or "the owner's own images",
        results=_results(record, "Metrics" if recipe.task == "classification" else "Means"),
    )
    return f"---\n{_front_matter(bundle, recipe, record)}---\n{text}"


def _activation(recipe: Recipe) -> str:
    cut = recipe.multilabel or (recipe.task == "segmentation" and recipe.classes == 1)
    return f"{activation_words(recipe)}, then 0.5" if cut else activation_words(recipe)


def _front_matter(bundle: Bundle, recipe: Recipe, record: Mapping[str, Any]) -> str:
    """The card's YAML, as the hub's own library writes it."""
    from huggingface_hub import EvalResult, ModelCardData

    dataset = str(bundle.metadata.get("medseg", {}).get("dataset") or "own images")
    results = [
        EvalResult(
            task_type=f"image-{recipe.task}",
            dataset_type=dataset,
            dataset_name=dataset,
            dataset_split="test",
            metric_type=name,
            metric_value=round(float(value), 6),
        )
        for name, value in _scores(record).items()
    ]
    data = ModelCardData(
        license="other",
        license_name="apache-2.0-with-the-terms-of-the-data",
        license_link="LICENSE",
        library_name="monai",
        pipeline_tag=f"image-{recipe.task}",
        tags=["monai", "medical", recipe.task, "medseg"],
        model_name=bundle.name,
        eval_results=results or None,
    )
    return data.to_yaml() + "\n"


def _scores(record: Mapping[str, Any]) -> dict[str, float]:
    """The finite values of the test part, by metric."""
    scores = record.get("test")
    found = scores.items() if isinstance(scores, Mapping) else ()
    return {
        str(name): float(value)
        for name, value in found
        if isinstance(value, (int, float)) and abs(value) < float("inf")
    }


def _results(record: Mapping[str, Any], what: str) -> str:
    scores = _scores(record)
    if not scores:
        return "\nThe bundle tells none.\n"
    rows = "\n".join(f"| {name} | {value:.4f} |" for name, value in scores.items())
    tags = record.get("tags") or {}
    cases = f" over {tags['cases_testing']} cases" if tags.get("cases_testing") else ""
    seen = "of which COPIES WERE TRAINED ON" if tags.get("leaking") else "which the network never saw"
    column = "mean" if what == "Means" else "value"
    return f"\n{what}{cases} of the test part, {seen}.\n\n| metric | {column} |\n| --- | ---: |\n{rows}\n"


def _arguments(recipe: Recipe, name: str) -> str:
    given = recipe.preprocess_arguments.get(name)
    return f" {json.dumps(given)}" if given else ""
