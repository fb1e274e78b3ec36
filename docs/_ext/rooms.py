"""Writes a page per room of components from its registry, so that a new file is a documented one."""

from __future__ import annotations

import inspect
import math
import re
from pathlib import Path
from typing import Any

import yaml
from docutils import nodes

from medseg.augmentations import AUGMENTATIONS
from medseg.data.datasets import DATASETS
from medseg.data.spec import DatasetSpec
from medseg.losses import LOSSES
from medseg.metrics import METRICS
from medseg.metrics.classification import CLASS_METRICS
from medseg.models import MODELS
from medseg.registry import Entry, Registry
from medseg.transforms import TRANSFORMS

ROOMS = {
    "losses": LOSSES,
    "models": MODELS,
    "metrics": METRICS,
    "class_metrics": CLASS_METRICS,
    "datasets": DATASETS,
    "augmentations": AUGMENTATIONS,
    "transforms": TRANSFORMS,
}
TITLES = {"datasets": "Data sets", "class_metrics": "Metrics of classification"}


def page(title: str, room: Registry) -> str:
    """A room's page: what all its components promise, then each of them."""
    contract = inspect.getdoc(__import__(room.room, fromlist=["_"])) or ""
    parts = [heading(title, "="), contract, overview(room), *(component(entry) for entry in room)]
    return "\n\n".join(parts) + "\n"


def heading(text: str, line: str) -> str:
    return f"{text}\n{line * len(text)}"


def overview(room: Registry) -> str:
    """A table of names and summaries, each name a link to its section; of models, one of sizes besides."""
    rows = [[reference(e), first_sentence(e)] for e in room]
    summaries = table({"name": 25, "what it is": 75}, rows)
    if room is not MODELS:
        return summaries
    sizes = (
        "With the default arguments, for one colour image of 224 x 224 pixels and one class (of classifiers two;"
        " their published figures are for the 1000 classes of ImageNet). A MAC is one"
        " multiplication and addition, in convolutions and matrix products; the published figures were"
        " measured on the authors' own code, or on the closest that runs."
    )
    return f"{summaries}\n\n{sizes}\n\n{sizes_of(room)}"


def sizes_of(room: Registry) -> str:
    """The table of models: size and work, ours and the authors', and what to know before choosing one."""
    columns = {
        "name": 14,
        "parameters": 9,
        "published": 9,
        "MACs": 8,
        "published MACs": 9,
        "backbone": 12,
        "outputs in training": 9,
        "paper": 14,
        "licence": 16,
    }
    rows = []
    for entry in room:
        known = entry.facts
        rows.append(
            [
                reference(entry),
                rounded(known["parameters"], 1e6, "M"),
                rounded(known.get("published_parameters"), 1e6, "M"),
                rounded(known["macs"], 1e9, "G"),
                rounded(known.get("published_macs"), 1e9, "G"),
                known.get("backbone", ""),
                "several" if known["deep_supervision"] else "one",
                linked(known["paper"]),
                known["licence"],
            ]
        )
    return table(columns, rows)


def table(columns: dict[str, int], rows: list[list[str]]) -> str:
    """A table from columns and their widths in per cent, and a cell for each."""
    head = [
        ".. list-table::",
        "   :header-rows: 1",
        f"   :widths: {' '.join(map(str, columns.values()))}",
        "",
    ]
    lines = [
        f"   {' ' if index else '*'} - {text}".rstrip()
        for row in [list(columns), *rows]
        for index, text in enumerate(row)
    ]
    return "\n".join([*head, *lines])


def rounded(number: float | None, unit: float, letter: str) -> str:
    return "" if number is None else f"{number / unit:.4g} {letter}"


def reference(entry: Entry) -> str:
    """A link to a component's section."""
    return f":ref:`{entry.name} <{anchor(entry)}>`"


def first_sentence(entry: Entry) -> str:
    return entry.doc.splitlines()[0]


def anchor(entry: Entry) -> str:
    return f"{entry.build.__module__.rsplit('.', 1)[0]}-{entry.name}".replace(".", "-").replace("_", "-")


def component(entry: Entry) -> str:
    """One component: its facts, then its docstring."""
    kind = "autoclass" if inspect.isclass(entry.build) else "autofunction"
    path = f"{entry.build.__module__}.{entry.build.__qualname__}"
    parts = [
        f".. _{anchor(entry)}:",
        heading(entry.name, "-"),
        facts(known_facts(entry)),
        f".. {kind}:: {path}",
    ]
    return "\n\n".join(part for part in parts if part)


def known_facts(entry: Entry) -> dict[str, Any]:
    """The facts of registration; of a data set, those of its spec."""
    if not entry.build.__module__.startswith("medseg.data."):
        names = {
            name: name.replace("_", " ").replace("cam ", "CAM ").replace("macs", "MACs")
            for name in entry.facts
        }
        return {names[name]: value for name, value in entry.facts.items()}
    spec: DatasetSpec = entry.build()
    return {
        "title": spec.title,
        "channels": spec.channels,
        "labels": ", ".join(label.name for label in spec.labels),
        "task": f"{spec.task}, several labels at once" if spec.multilabel else spec.task,
        "images": spec.expected or "",
        "folders": ", ".join(f"``{name}/``" for name in spec.layout),
        "download": spec.homepage,
        "licence": spec.licence,
        "citation": spec.citation,
        "notes": "; ".join(spec.notes),
    }


def facts(known: dict[str, Any]) -> str:
    """A field list of the facts that are known."""
    shown = {name: readable(value) for name, value in known.items()}
    return "\n".join(f":{name}: {linked(text)}" for name, text in shown.items() if text)


def readable(value: Any) -> str:
    """A fact in words: yes or no, thousands parted, several values with commas, arguments as a bundle has them."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return (
            f"``{yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=math.inf).strip()}``"
        )
    if isinstance(value, (tuple, list)):
        return ", ".join(map(str, value))
    if isinstance(value, int) and value >= 10_000:
        return f"{value:,}"
    return "" if value is None else str(value)


def linked(text: str) -> str:
    """Text with arXiv numbers and DOIs as links."""
    text = re.sub(r"\barXiv:(\d{4}\.\d{4,5})", r"`arXiv:\1 <https://arxiv.org/abs/\1>`__", text)
    return re.sub(r"(?:\bdoi:)?\b(10\.\d{4,}/[^\s,;]+)", r"`doi:\1 <https://doi.org/\1>`__", text)


def plain(app: Any, ctx: Any, lines: list[str]) -> None:
    """Show help as it is written, and a path's default without Python's ``PosixPath('...')``."""
    for i, line in enumerate(lines):
        if "``" not in line and not line.lstrip().startswith(".. "):
            line = re.sub(r"([\\\\*`])", r"\\\1", line)
        lines[i] = re.sub(r"PosixPath\('(.*?)'\)", r"'\1'", line)


def dashes(app: Any, doctree: nodes.document) -> None:
    """Turn the two hyphens that Sphinx sets behind a parameter into a dash; those of options stay."""
    for text in list(doctree.findall(nodes.Text)):
        if text == " -- ":
            text.parent.replace(text, nodes.Text(" \N{EN DASH} "))


def write_pages(app: Any) -> None:
    """Write the pages that changed into ``generated/``, and remove those of rooms that are no more."""
    folder = Path(app.srcdir) / "generated"
    folder.mkdir(exist_ok=True)
    for name, room in ROOMS.items():
        text = page(TITLES.get(name, name.capitalize()), room)
        path = folder / f"{name}.rst"
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
    for path in folder.glob("*.rst"):
        if path.stem not in ROOMS:
            path.unlink()


def setup(app: Any) -> dict[str, bool]:
    app.connect("builder-inited", write_pages)
    app.connect("doctree-read", dashes)
    app.connect("sphinx-click-process-options", plain)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
