"""TorchScript: one file that PyTorch runs from Python or C++ without medseg, MONAI or the model's source."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from medseg.bundle.network import Recipe
from medseg.bundle.open import Bundle
from medseg.errors import MedsegError
from medseg.export import EXPORTERS
from medseg.export._network import checked, said_of, trained
from medseg.export.check import Check

if TYPE_CHECKING:
    import torch

#: the extra file in which MONAI's ``load_net_with_metadata`` looks
METADATA = "metadata.json"


@EXPORTERS.register("torchscript", form="file", suffix=".ts", tolerance=1e-4)
def torchscript(
    bundle: Bundle, out: Path, inputs: Sequence[Path], *, tolerance: float, repeat: str | None = None
) -> Check:
    """One TorchScript file (``.ts``) with its metadata, for PyTorch in Python or C++ and for MONAI.

    The model is scripted, so that it takes any batch, any size its divisor allows, and can still be trained; a model
    that says it cannot be scripted is traced at the bundle's size.
    """
    recipe, network = trained(bundle, repeat)
    note = write_torchscript(network, recipe, out, said_of(bundle, recipe))
    with quiet():
        import torch

        written = torch.jit.load(out, map_location="cpu").eval()
        with torch.jit.optimized_execution(False):
            return checked("torchscript", out, network, written, recipe, inputs, tolerance, [note])


def write_torchscript(
    network: torch.nn.Module, recipe: Recipe, path: Path, metadata: Mapping[str, object]
) -> str:
    """Write a network as TorchScript, without the paths of this machine that PyTorch puts in.

    Args:
        network: in the mode that the file shall be in.
        recipe: of its bundle.
        path: of the file.
        metadata: kept inside as ``metadata.json``.

    Returns:
        ``scripted``, or ``traced`` with what that costs.

    Raises:
        MedsegError: PyTorch cannot script the network.
    """
    import torch

    from medseg.models import MODELS

    scriptable = MODELS[recipe.model].facts.get("scriptable", False)
    extra = {METADATA: json.dumps(metadata, ensure_ascii=False, sort_keys=True).encode()}
    with quiet():
        try:
            if scriptable:
                module = torch.jit.script(network)
            else:
                module = torch.jit.trace(network, torch.zeros(2, recipe.channels, *recipe.image_size))
        except Exception as error:  # torch's compiler fails in many of its own ways
            reason = " ".join(str(error).split())[:200]
            raise MedsegError(f"{recipe.model} cannot become TorchScript ({reason})") from error
        torch.jit.save(module, path, extra)
    _without_debug_files(path)
    return "scripted" if scriptable else "traced: only images of the bundle's size, and not to be trained"


@contextmanager
def quiet() -> Iterator[None]:
    """Without PyTorch's word that TorchScript is in maintenance."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*torch\.jit.*", category=FutureWarning)
        warnings.filterwarnings("ignore", message=r".*torch\.jit.*", category=DeprecationWarning)
        yield


def _without_debug_files(path: Path) -> None:
    """Rewrite a TorchScript file without ``*.debug_pkl``: they map code to source files by their paths."""
    import torch

    reader = torch._C.PyTorchFileReader(str(path))
    names = [n for n in reader.get_all_records() if not n.endswith(".debug_pkl")]
    # the writer adds these itself
    records = {n: reader.get_record(n) for n in names if n != "version" and not n.startswith(".data/")}
    del reader
    stripped = path.with_name(f"{path.name}.stripped")
    writer = torch._C.PyTorchFileWriter(str(stripped))
    for name, content in records.items():
        writer.write_record(name, content, len(content))
    writer.write_end_of_file()
    stripped.replace(path)
