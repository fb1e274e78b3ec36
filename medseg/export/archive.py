"""A bundle for others who have medseg: one zip, which ``medseg bundle import`` and MONAI's own loader take."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medseg.bundle.admission import admit
from medseg.bundle.archive import files_of, json_configs, with_manifest, write_zip
from medseg.bundle.network import Recipe
from medseg.bundle.open import Bundle
from medseg.errors import MedsegError
from medseg.export import EXPORTERS
from medseg.export._monai import answers_of_monai
from medseg.export._network import answers, said_of, trained
from medseg.export.check import DECIDED, Check, compare, undecided
from medseg.export.examples import read_examples
from medseg.export.torchscript import write_torchscript

if TYPE_CHECKING:
    import torch


@EXPORTERS.register("zip", form="file", suffix=".zip", tolerance=1e-5)
def archive(
    bundle: Bundle,
    out: Path,
    inputs: Sequence[Path],
    *,
    tolerance: float,
    repeat: str | None = None,
    script: bool = False,
) -> Check:
    """One zip with configs, weights, licence and a manifest of hashes; equal bundles are equal bytes.

    Args:
        bundle: a trained bundle.
        out: the file to write.
        inputs: image files to check on.
        tolerance: largest difference of a probability that passes.
        repeat: whose weights are taken.
        script: put ``models/model.ts`` in too, which runs without medseg.
    """
    recipe, network = trained(bundle, repeat)
    files = files_of(bundle, repeat)
    files |= json_configs(files)
    if script:
        files["models/model.ts"] = torchscript_bytes(bundle, recipe, network)
    write_zip(with_manifest(files, bundle.name), bundle.name, out)
    with tempfile.TemporaryDirectory(prefix="medseg-zip-") as folder:
        return check_package("zip", out, out, Path(folder), network, recipe, inputs, tolerance, script=script)


def check_package(
    target: str,
    path: Path,
    source: Path,
    folder: Path,
    network: torch.nn.Module,
    recipe: Recipe,
    inputs: Sequence[Path],
    tolerance: float,
    *,
    script: bool,
) -> Check:
    """Import a written zip or folder, and compare it as medseg and as MONAI load it with PyTorch.

    Args:
        target: name of the exporter.
        path: what was written.
        source: what is imported.
        folder: an empty one to import into.
        network: PyTorch's.
        recipe: of the bundle.
        inputs: image files; none for synthetic images.
        tolerance: largest difference of a probability that passes.
        script: whether it has a TorchScript file, which is compared too.
    """
    examples = read_examples(recipe, inputs)
    expected = answers(network, examples.batch)
    imported, inspection = admit(source, folder / "imported", trust=True)  # it is the user's own
    again = answers(trained(imported)[1], examples.batch)
    kinds = ("model", "script") if script else ("model",)
    parent = _as_monai_finds_it(source, folder)
    given = [again, *answers_of_monai(parent, imported.name, examples.batch, kinds)]
    worst = max(
        (compare(expected, logits, recipe=recipe) for logits in given),
        key=lambda difference: difference.probabilities,
    )
    notes = ["loaded by 'medseg bundle import' and by monai.bundle.load" + (" (twice)" if script else "")]
    if not undecided(expected, recipe):
        notes.append(DECIDED)
    if inspection.to_trust:
        notes.append(
            f"{len(inspection.to_trust)} part(s) are not of this medseg's template, so that import asks for --trust"
        )
    return Check(target, path, len(examples), examples.source, worst, tolerance, tuple(notes))


def torchscript_bytes(bundle: Bundle, recipe: Recipe, network: torch.nn.Module) -> bytes:
    """The network as a TorchScript file."""
    with tempfile.TemporaryDirectory(prefix="medseg-ts-") as folder:
        path = Path(folder) / "model.ts"
        write_torchscript(network, recipe, path, said_of(bundle, recipe))
        return path.read_bytes()


def _as_monai_finds_it(source: Path, folder: Path) -> Path:
    """The folder that holds the bundle: a zip is unpacked by MONAI's own function, as its download does."""
    if source.is_dir():
        return source.parent
    from monai.apps.utils import extractall

    target, log = folder / "monai", logging.getLogger("monai.apps")
    level = log.level
    log.setLevel(logging.WARNING)  # it would tell where it unpacks to
    try:
        extractall(source, target, has_base=True)
    finally:
        log.setLevel(level)
    if not any(target.iterdir()):
        raise MedsegError(f"MONAI unpacks nothing of {source.name}")
    return target
