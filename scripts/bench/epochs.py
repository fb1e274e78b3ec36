"""Seconds per epoch and peak memory of the study's settings, with and without mixed precision.

    python scripts/bench/epochs.py [--device cuda] [--models unet unetplusplus | all] [--amp-only] [--json FILE]

Each model trains as a composed bundle on drawn RGB images (224 x 224, batch 8), 60 % of them training and 20 %
validation. An epoch is training and validation; the figure is the median of the epochs after the first, which
warms kernels. Memory is the most that torch had allocated on the GPU, the resident images included.
Backbones begin at random, which costs the same and needs no network.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch
from training import BATCH, draw_and_index

from medseg.bundle.choice import Choice
from medseg.bundle.compose import compose
from medseg.bundle.open import Bundle
from medseg.bundle.settings import Settings
from medseg.engine.workflow import Options
from medseg.models import MODELS


def train(bundle: Bundle, folder: Path, device: torch.device, amp: bool) -> tuple[list[float], int, int]:
    """Train afresh: seconds of each epoch, images of an epoch, and the network's parameters."""
    from monai.bundle import ConfigWorkflow

    config = Options(prepared=folder / "prepared", tracking_uri="", progress=False).as_config(bundle)
    config |= {"device": device, "amp": amp, "checkpoint_seconds": 1e9}
    flow = ConfigWorkflow([str(bundle.config("train"))], workflow_type="train", logging_file=False, **config)
    flow.initialize()
    trainer = flow.parser.get_parsed_content("train::trainer")
    images = sum(len(flow.parser.get_parsed_content(f"{part}::dataset")) for part in ("train", "validate"))
    parameters = sum(p.numel() for p in flow.parser.get_parsed_content("network_def").parameters())
    trainer.run()
    record = flow.parser.get_parsed_content("record")
    return [row["epoch_seconds"] for row in record.curves], images, parameters


def measure(bundle: Bundle, folder: Path, device: torch.device, amp: bool) -> dict[str, Any]:
    """One row of the table."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    seconds, images, parameters = train(bundle, folder, device, amp)
    median = statistics.median(seconds[1:] or seconds)
    peak = torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else None
    return {
        "model": bundle.metadata["medseg"]["model"],
        "parameters_M": round(parameters / 1e6, 2),
        "amp": amp,
        "images_per_epoch": images,
        "seconds_per_epoch": round(median, 3),
        "slowest": round(max(seconds[1:] or seconds), 3),
        "images_per_s": round(images / median, 1),
        "peak_MiB": peak and round(peak),
    }


def precisions(device: torch.device, amp_only: bool) -> tuple[bool, ...]:
    """With mixed precision or not: the CPU has none."""
    if device.type != "cuda":
        return (False,)
    return (True,) if amp_only else (True, False)


def main() -> None:
    """Measure, print each row as it comes, and keep the JSON up to date with it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--models", nargs="+", default=["unet", "unetplusplus"])
    parser.add_argument("--amp-only", action="store_true", help="not without mixed precision")
    parser.add_argument("--widths", type=int, nargs="+", help="instead of each model's own")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    device = torch.device(arguments.device)
    size = (arguments.size, arguments.size)
    widths = {"widths": arguments.widths} if arguments.widths else {}
    settings = Settings(
        image_size=size, batch_size=BATCH, epochs=arguments.epochs, model_arguments=widths, pretrained=False
    )
    models = MODELS.names("segmentation") if arguments.models == ["all"] else arguments.models
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        draw_and_index(folder, arguments.images, arguments.size)
        for model in models:
            choice = Choice("bench", model, "dice_bce")
            bundle = compose(choice, folder / "bundles", settings, prepared=folder / "prepared")
            for amp in precisions(device, arguments.amp_only):
                rows.append(measure(bundle, folder, device, amp))
                print(rows[-1], flush=True)
                if arguments.json:
                    arguments.json.write_text(json.dumps(rows, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
