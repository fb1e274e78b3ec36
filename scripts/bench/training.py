"""Throughput of the whole training loop against a bare loop and a zoo-style bundle, interleaved in one process.

    python scripts/bench/training.py [--rounds 7] [--device cpu] [--json FILE]

All three train the same U-Net (widths 8, 16, 32 by default) on the same drawn RGB images, batch 8, with a
validation pass after every epoch:

- medseg: a composed bundle through MONAI's SupervisedTrainer, with its handlers, checkpoints and MLflow on sqlite;
- bare: forward, backward and step on one batch that lies on the device, and forward passes for validation;
- zoo: CacheDataset, dictionary transforms, decollate, stock handlers and metrics, as bundles of the model zoo do.

Figures are medians of processor time on the CPU and of wall time on a GPU. A ratio of 1 means as fast as bare.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from medseg.bundle.choice import Choice
from medseg.bundle.compose import compose
from medseg.bundle.open import Bundle
from medseg.bundle.settings import Settings
from medseg.data.index import build_index
from medseg.data.index_file import index_path, write_index
from medseg.engine.device import place
from medseg.engine.workflow import Options
from medseg.models import build as build_model

BATCH = 8


def draw(folder: Path, count: int, size: int) -> None:
    """RGB images with one disc each."""
    random = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    y, x = np.mgrid[:size, :size]
    for number in range(count):
        row, column = random.uniform(size / 4, 3 * size / 4, 2)
        mask = (y - row) ** 2 + (x - column) ** 2 < random.uniform(size / 10, size / 4) ** 2
        image = np.clip(random.normal(90 + 60 * mask[..., None], 30, (size, size, 3)), 0, 255)
        Image.fromarray(image.astype(np.uint8)).save(folder / "images" / f"{number:04d}.png")
        Image.fromarray((mask * 255).astype(np.uint8)).save(folder / "masks" / f"{number:04d}.png")


def draw_and_index(folder: Path, count: int, size: int) -> None:
    """The drawn images as the data set ``bench``, indexed below ``folder/prepared``."""
    draw(folder / "source", count, size)
    index = build_index(
        "bench", folder / "source", images="images/*.png", masks="masks/{stem}.png", channels=3
    )
    write_index(index, index_path("bench", folder / "prepared"))


def medseg_loop(
    folder: Path, arguments: argparse.Namespace, device: torch.device
) -> tuple[Callable[[], None], int, int]:
    """A fresh bundle run whose trainer is ready to go, and the steps per epoch of training and validation."""
    from monai.bundle import ConfigWorkflow

    logging.getLogger("monai.bundle.workflows").setLevel(logging.CRITICAL)
    bundle = Bundle((folder / "bundles" / "bench__unet__dice_bce").resolve())
    uri = f"sqlite:///{folder / 'mlruns' / 'mlflow.db'}"
    config = Options(prepared=folder / "prepared", tracking_uri=uri, progress=False).as_config(bundle)
    config |= {"device": device, "epochs": arguments.epochs}
    flow = ConfigWorkflow([str(bundle.config("train"))], workflow_type="train", logging_file=False, **config)
    flow.initialize()
    trainer = flow.parser.get_parsed_content("train::trainer")
    validation = flow.parser.get_parsed_content("validate::dataloader")
    return trainer.run, trainer.state.epoch_length, len(validation)


def bare_loop(
    arguments: argparse.Namespace, device: torch.device, steps: int, validation: int
) -> Callable[[], None]:
    """Forward, backward and step on one resident batch; the loss is medseg's dice_bce as in the bundle."""
    from medseg.losses import build as build_loss

    network = place(build_model("unet", in_channels=3, out_channels=1, widths=arguments.widths), device)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=device.type == "cuda")
    loss = build_loss("dice_bce")
    layout = torch.channels_last if device.type == "cuda" else torch.contiguous_format
    image = torch.rand(BATCH, 3, arguments.size, arguments.size, device=device).to(memory_format=layout)
    label = (torch.rand(BATCH, 1, arguments.size, arguments.size, device=device) > 0.9).to(torch.uint8)
    amp = torch.autocast("cuda", dtype=torch.bfloat16, enabled=device.type == "cuda")

    def run() -> None:
        for _ in range(arguments.epochs):
            network.train()
            for _ in range(steps):
                optimizer.zero_grad(set_to_none=True)
                with amp:
                    value = loss(network(image), label)
                value.backward()
                optimizer.step()
            network.eval()
            with torch.no_grad(), amp:
                for _ in range(validation):
                    network(image)

    return run


def zoo_loop(
    folder: Path, arguments: argparse.Namespace, device: torch.device, cached: dict
) -> Callable[[], None]:
    """The same training as a bundle of the model zoo puts it together."""
    from monai.engines import SupervisedEvaluator, SupervisedTrainer
    from monai.handlers import CheckpointSaver, MeanDice, StatsHandler, ValidationHandler, from_engine
    from monai.inferers import SimpleInferer
    from monai.losses import DiceCELoss
    from monai.transforms import Activationsd, AsDiscreted, Compose

    network = build_model("unet", in_channels=3, out_channels=1, widths=arguments.widths).to(device)
    post = Compose([Activationsd("pred", sigmoid=True), AsDiscreted("pred", threshold=0.5)])
    shared = {"device": device, "network": network, "inferer": SimpleInferer(), "amp": device.type == "cuda"}
    evaluator = SupervisedEvaluator(
        val_data_loader=cached["validation"],
        postprocessing=post,
        key_val_metric={"val_mean_dice": MeanDice(output_transform=from_engine(["pred", "label"]))},
        val_handlers=[StatsHandler(iteration_log=False)],
        **shared,
    )
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    trainer = SupervisedTrainer(
        max_epochs=arguments.epochs,
        train_data_loader=cached["training"],
        optimizer=optimizer,
        loss_function=DiceCELoss(sigmoid=True, squared_pred=False),
        postprocessing=post,
        key_train_metric={"train_mean_dice": MeanDice(output_transform=from_engine(["pred", "label"]))},
        train_handlers=[
            ValidationHandler(validator=evaluator, interval=1),
            StatsHandler(tag_name="train_loss", output_transform=from_engine(["loss"], first=True)),
            CheckpointSaver(save_dir=str(folder / "zoo"), save_dict={"model": network}, save_final=True),
        ],
        **shared,
    )
    return trainer.run


def zoo_data(folder: Path, arguments: argparse.Namespace) -> dict:
    """CacheDataset and DataLoader of both parts, of the same split as the bundle's."""
    from monai.data import CacheDataset, DataLoader
    from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged, Resized, ScaleIntensityd

    splits = json.loads((folder / "prepared" / "bench" / "splits" / "holdout.json").read_text())
    keys = ["image", "label"]
    size = (arguments.size, arguments.size)
    transform = Compose(
        [
            LoadImaged(keys),
            EnsureChannelFirstd(keys),
            Resized(keys, spatial_size=size, mode=("bilinear", "nearest")),
            ScaleIntensityd(keys),
        ]
    )
    loaders = {}
    for part in ("training", "validation"):
        items = [{k: str(folder / "source" / item[k]) for k in keys} for item in splits[f"{part}_0"]]
        dataset = CacheDataset(items, transform, progress=False, num_workers=2)
        loaders[part] = DataLoader(dataset, batch_size=BATCH, shuffle=part == "training", num_workers=0)
    return loaders


def timed(run: Callable[[], None], device: torch.device) -> float:
    """Seconds of processor time, or of wall time where a GPU works."""
    if device.type == "cuda":
        torch.cuda.synchronize()
        began = time.perf_counter()
        run()
        torch.cuda.synchronize()
        return time.perf_counter() - began
    began = time.process_time()
    run()
    return time.process_time() - began


def main() -> None:
    """Measure, print and optionally write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--epochs", type=int, default=2, help="epochs per round")
    parser.add_argument("--images", type=int, default=160)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--widths", type=int, nargs="+", default=[8, 16, 32])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    logging.disable(logging.WARNING)
    seconds: dict[str, list[float]] = {"medseg": [], "bare": [], "zoo": []}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        draw_and_index(folder, arguments.images, arguments.size)
        size = (arguments.size, arguments.size)
        settings = Settings(image_size=size, batch_size=BATCH, model_arguments={"widths": arguments.widths})
        compose(
            Choice("bench", "unet", "dice_bce"), folder / "bundles", settings, prepared=folder / "prepared"
        )
        cached: dict = {}
        for number in range(arguments.rounds + 1):
            run, steps, validation = medseg_loop(folder, arguments, device)
            cached = cached or zoo_data(folder, arguments)
            loops = {
                "medseg": run,
                "bare": bare_loop(arguments, device, steps, validation),
                "zoo": zoo_loop(folder, arguments, device, cached),
            }
            for name, loop in loops.items():
                spent = timed(loop, device)
                if number:  # the first round warms caches and kernels
                    seconds[name].append(spent)
    report(seconds, (steps + validation) * BATCH * arguments.epochs, arguments)


def report(seconds: dict[str, list[float]], images: int, arguments: argparse.Namespace) -> None:
    """Print throughput and the ratio to the bare loop of the same round."""
    ratios = {n: [b / s for b, s in zip(seconds["bare"], v, strict=True)] for n, v in seconds.items()}
    rows = {
        name: {
            "images_per_s": images / statistics.median(values),
            "ratio_to_bare": statistics.median(ratios[name]),
            "ratio_min": min(ratios[name]),
            "ratio_max": max(ratios[name]),
        }
        for name, values in seconds.items()
    }
    widths = ",".join(map(str, arguments.widths))
    print(
        f"U-Net ({widths}), {arguments.size} pixels, batch {BATCH}, {arguments.device}, {arguments.rounds} rounds"
    )
    for name, row in rows.items():
        spread = f"{row['ratio_min']:.2f} to {row['ratio_max']:.2f}"
        print(f"{name:8} {row['images_per_s']:8.1f} images/s   {row['ratio_to_bare']:.3f} of bare ({spread})")
    if arguments.json:
        arguments.json.write_text(
            json.dumps({"settings": vars(arguments) | {"json": None}, "results": rows}, indent=2)
        )


if __name__ == "__main__":
    main()
