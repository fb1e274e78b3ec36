"""Prediction of large images: seconds and peak memory of whole images, windows and flips, a process for each.

    python scripts/bench/predict.py [--sides 1000 2000 4000] [--size 256] [--widths 8 16 32] [--json FILE]

Images are grey, of 16 bits, side x 1.25 side pixels, as mammograms are. Memory is the peak of the whole process above
that of a process which predicted an image of the network's own size: what the image itself costs, per pixel.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

#: name -> settings of the predictor
MODES = {
    "whole": {},
    "windows": {"sliding_window": True},
    "windows, flips": {"sliding_window": True, "flips": True},
}


def measured(mode: str, size: int, widths: Sequence[int], shape: tuple[int, int]) -> dict[str, float]:
    """Seconds and peak bytes of this process for one prediction."""
    import numpy as np
    import torch

    from medseg.bundle.network import Recipe, build_network
    from medseg.data.sample import Label
    from medseg.predict.predictor import Predictor, Settings
    from medseg.transforms.picture import Picture

    torch.manual_seed(0)
    recipe = Recipe("unet", {"widths": list(widths)}, 1, 1, (size, size), (), {}, (Label("lesion"),))
    predictor = Predictor(
        recipe, [build_network(recipe, None)], Settings(device="cpu", batch_size=4, **MODES[mode])
    )
    # what is imported and allocated once; several windows, so that a batch is full
    predictor([Picture.of(np.zeros((1, 2 * size, 2 * size), np.uint16))])
    picture = Picture.of(np.random.default_rng(0).integers(0, 4096, (1, *shape)).astype(np.uint16))
    began = time.perf_counter()
    (found,) = predictor([picture])
    seconds = time.perf_counter() - began
    if found.mask.shape != shape:
        raise SystemExit(f"a mask of {found.mask.shape} for an image of {shape}")
    return {"seconds": seconds, "bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


def apart(mode: str, size: int, widths: Sequence[int], shape: tuple[int, int]) -> dict[str, float]:
    """``measured`` in a process of its own."""
    words = ["--one", mode, "--size", str(size), "--widths", *map(str, widths), "--sides", *map(str, shape)]
    done = subprocess.run([sys.executable, __file__, *words], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{mode} of {shape} failed, so it says nothing:\n{done.stderr}")
    return json.loads(done.stdout)


def main(command: Sequence[str] | None = None) -> None:
    """Measure, print and optionally write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sides", type=int, nargs="+", default=[1000, 2000, 4000])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--widths", type=int, nargs="+", default=[8, 16, 32])
    parser.add_argument("--modes", nargs="+", default=list(MODES), choices=list(MODES))
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(command)
    if given.one:
        print(json.dumps(measured(given.one, given.size, given.widths, tuple(given.sides))))
        return
    rows = []
    for mode in given.modes:
        base = apart(mode, given.size, given.widths, (given.size, given.size))
        for side in given.sides:
            shape = (side, side * 5 // 4)
            one = apart(mode, given.size, given.widths, shape)
            above = one["bytes"] - base["bytes"]
            rows.append(
                {
                    "mode": mode,
                    "image": f"{shape[0]} x {shape[1]}",
                    "seconds": round(one["seconds"], 2),
                    "process MB": round(one["bytes"] / 1e6),
                    "above base MB": round(above / 1e6),
                    "bytes per pixel": round(above / (shape[0] * shape[1]), 1),
                }
            )
            print(rows[-1], flush=True)
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
