"""Exporting: write in a staging folder, check, and move into place only what passed."""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from medseg.bundle.open import Bundle
from medseg.errors import MedsegError
from medseg.export import EXPORTERS
from medseg.export.check import Check


def export(
    target: str,
    bundle: Bundle,
    out: Path,
    inputs: Sequence[Path] = (),
    *,
    tolerance: float | None = None,
    repeat: str | None = None,
    **options: Any,
) -> Check:
    """Write a bundle for another tool, and keep it only if its answers are those of PyTorch.

    Args:
        target: name of the exporter.
        bundle: a trained bundle.
        out: the file or folder to write; in a folder that exists it is named after the bundle.
        inputs: image files to check on; none for synthetic images.
        tolerance: largest difference of a probability that passes; the exporter's own by default.
        repeat: name of the repeat whose weights are taken, such as ``0``; the released ones by default.
        options: further arguments of the exporter.

    Raises:
        MedsegError: ``out`` exists, a package is missing, the bundle is not trained, or the check failed; then nothing
            is left behind.
    """
    entry = EXPORTERS[target]
    for package, cure in entry.facts.get("needs", {}).items():
        if importlib.util.find_spec(package) is None:
            raise MedsegError(f"--to {target} needs the package {package}, which is not installed; {cure}")
    out = place_of(target, bundle, out)
    out.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    try:
        check = EXPORTERS.build(
            target,
            options,
            bundle=bundle,
            out=staging / out.name,
            inputs=inputs,
            tolerance=entry.facts["tolerance"] if tolerance is None else tolerance,
            repeat=repeat,
        )
        check.demand()
        check.path.replace(out)
        return replace(check, path=out)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def place_of(target: str, bundle: Bundle, out: Path) -> Path:
    """The file or folder that an export to ``out`` writes.

    Raises:
        MedsegError: there is something already.
    """
    facts = EXPORTERS[target].facts
    if out.is_dir():
        out = out / f"{bundle.name}{facts.get('suffix', '')}"
    if out.exists():
        raise MedsegError(f"{out} exists; remove it, or give another place with -o")
    return out
