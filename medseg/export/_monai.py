"""Runs a bundle's network as MONAI's own loader finds it; a program of its own, since that loader sets up the process.

``python -m medseg.export._monai FOLDER NAME BETWEEN KIND...`` loads bundle ``FOLDER/NAME`` by ``monai.bundle.load``
(``KIND`` is ``model`` for its config and weights, ``script`` for its TorchScript file), runs it on the images of
``BETWEEN/images.npy`` and writes its logits to ``BETWEEN/KIND.npy``.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.errors import MedsegError

if TYPE_CHECKING:
    import numpy as np
    import torch

#: seconds until a process that does not answer is given up
LIMIT = 900


def answers_of_monai(
    folder: Path, name: str, images: torch.Tensor, kinds: Sequence[str] = ("model",)
) -> list[np.ndarray]:
    """The logits ``(N, C, H, W)`` of a bundle that MONAI loads in a fresh process, one array for each kind.

    Args:
        folder: the folder that holds the bundle.
        name: of the bundle.
        images: ``(N, C, H, W)``.
        kinds: ``model``, ``script``, or both.

    Raises:
        MedsegError: MONAI cannot load it.
    """
    import numpy as np

    with tempfile.TemporaryDirectory(prefix="medseg-monai-") as between:
        np.save(Path(between) / "images.npy", images.numpy())
        command = [sys.executable, "-m", "medseg.export._monai", str(folder.resolve()), name, between, *kinds]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=LIMIT, cwd=between, check=False
        )
        files = [Path(between) / f"{kind}.npy" for kind in kinds]
        if done.returncode or not all(file.is_file() for file in files):
            reason = (done.stderr.strip().splitlines() or ["no word"])[-1][:300]
            raise MedsegError(f"MONAI cannot load {name} as written: {reason}")
        return [np.load(file) for file in files]


def main(folder: str, name: str, between: str, *kinds: str) -> None:
    """Load, run, write."""
    import numpy as np
    import torch

    images = torch.from_numpy(np.load(Path(between) / "images.npy"))
    for kind in kinds:
        network = _loaded(folder, name, kind)
        if not isinstance(network, torch.nn.Module):
            raise MedsegError("monai.bundle.load gives no network")
        network.eval()
        with torch.inference_mode(), torch.jit.optimized_execution(False):
            logits = torch.cat([network(part) for part in images.split(4)])
        np.save(Path(between) / f"{kind}.npy", logits.numpy())


def _loaded(folder: str, name: str, kind: str) -> Any:
    from monai.bundle import load

    if kind == "script":
        network, *_ = load(name, bundle_dir=folder, load_ts_module=True, device="cpu")  # type: ignore[misc]
        return network
    return load(name, bundle_dir=folder, workflow_type="inference", device="cpu")


if __name__ == "__main__":
    main(*sys.argv[1:])
