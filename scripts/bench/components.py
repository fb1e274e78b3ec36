"""Losses, metrics and data loading against MONAI's own, interleaved in one process.

    python scripts/bench/components.py [--rounds 31] [--images 200] [--size 224] [--json FILE]

- losses: forward and backward of one batch of 8, against MONAI's loss set to the same formula;
- metrics: the confusion count, and Dice, IoU, precision and recall per case, against MONAI's functions and metric
  classes and against four passes over boolean masks;
- data: one pass over a training part, memory-mapped and prepared, against CacheDataset and DataLoader.

All ways of one row get the same input and must give the same output, or the bench stops. Times are medians of
processor time on one thread; a ratio above 1 says how many times medseg's time the other takes in the same round.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

BATCH = 8
METRICS = ("dice", "iou", "precision", "recall")


@dataclass(frozen=True)
class Contest:
    """Ways of computing the same; the first is medseg's.

    Args:
        part: ``losses``, ``metrics`` or ``data``.
        name: what is computed.
        ways: name -> a function that computes it and returns the result as tensors.
    """

    part: str
    name: str
    ways: dict[str, Callable[[], list[Tensor]]]

    def check(self) -> None:
        """Stop the bench if the results differ."""
        results = {way: compute() for way, compute in self.ways.items()}
        expected = results.pop("medseg")
        for way, result in results.items():
            if len(result) != len(expected):
                sys.exit(f"{self.name}: {way} gives {len(result)} tensors, medseg {len(expected)}")
            for one, other in zip(result, expected, strict=True):
                same = one.shape == other.shape and torch.allclose(one.double(), other.double(), 1e-4, 1e-6)
                if not same:
                    sys.exit(f"{self.name}: {way} and medseg differ, so their times say nothing")

    def round(self, number: int) -> dict[str, float]:
        """Seconds of processor time of each way, once; every round starts with another way."""
        names = list(self.ways)
        first = number % len(names)
        seconds = {}
        for way in names[first:] + names[:first]:
            began = time.process_time()
            self.ways[way]()
            seconds[way] = time.process_time() - began
        return seconds


def losses(arguments: argparse.Namespace) -> Iterator[Contest]:
    """Losses on one batch whose target is float32, as MONAI wants it."""
    from monai.losses import DiceCELoss, DiceFocalLoss, DiceLoss, FocalLoss, TverskyLoss

    from medseg.losses import build

    one = {"sigmoid": True, "smooth_nr": 1.0, "smooth_dr": 1.0}
    two = {"sigmoid": True, "smooth_nr": 2.0, "smooth_dr": 2.0}
    focal = FocalLoss(gamma=0.2)
    others = {
        "dice": ("MONAI DiceLoss", DiceLoss(**one)),
        "iou": ("MONAI DiceLoss(jaccard)", DiceLoss(jaccard=True, **two)),
        "tversky": ("MONAI TverskyLoss", TverskyLoss(alpha=0.3, beta=0.7, **one)),
        "bce": ("torch BCEWithLogitsLoss", torch.nn.BCEWithLogitsLoss()),
        "focal": ("MONAI FocalLoss", lambda logits, target: 0.8 * focal(logits, target)),
        "focal_lin2017": ("MONAI FocalLoss(alpha)", FocalLoss(gamma=2.0, alpha=0.25)),
        "dice_bce": ("MONAI DiceCELoss", DiceCELoss(**one)),
        "dice_focal": ("MONAI DiceFocalLoss", DiceFocalLoss(gamma=0.2, lambda_focal=0.8, **one)),
    }
    logits = 3 * torch.randn(BATCH, 1, arguments.size, arguments.size)
    target = (torch.rand(logits.shape) > 0.8).float()
    for name, (other, loss) in others.items():
        ways = {"medseg": stepped(build(name), logits, target), other: stepped(loss, logits, target)}
        yield Contest("losses", name, ways)


def stepped(
    loss: Callable[[Tensor, Tensor], Tensor], logits: Tensor, target: Tensor
) -> Callable[[], list[Tensor]]:
    """Forward and backward; the result is the loss and its gradient."""
    leaf = logits.clone().requires_grad_()

    def step() -> list[Tensor]:
        leaf.grad = None
        value = loss(leaf, target)
        value.backward()
        return [value.detach(), leaf.grad]

    return step


def metrics(arguments: argparse.Namespace) -> Iterator[Contest]:
    """Counts and per-case values of masks none of which is empty, as MONAI gives NaN there.

    MONAI computes with numbers and gets the masks as float32; medseg and the four passes get booleans.
    """
    from monai.metrics import ConfusionMatrixMetric, DiceMetric, MeanIoU, get_confusion_matrix

    from medseg.metrics import per_case
    from medseg.metrics.overlap import confusion

    shape = (arguments.images, 1, arguments.size, arguments.size)
    true = torch.rand(shape) > 0.8
    predicted = true ^ (torch.rand(shape) > 0.9)
    numbers = (predicted.float(), true.float())
    rates = ConfusionMatrixMetric(metric_name=("precision", "sensitivity"), compute_sample=True)
    classes = (DiceMetric(), MeanIoU(), rates)

    def monai_counts() -> list[Tensor]:
        tp, fp, tn, fn = get_confusion_matrix(*numbers).unbind(-1)
        return [tp, fp, fn, tn]

    def monai_values() -> list[Tensor]:
        values: list[Tensor] = []
        for metric in classes:
            metric(*numbers)
            result = metric.aggregate(reduction="none")
            values += result if isinstance(result, list) else [result]
            metric.reset()
        return [value[:, 0] for value in values]

    def passes() -> list[Tensor]:
        pairs = ((predicted, true), (predicted, ~true), (~predicted, true), (~predicted, ~true))
        return [(one & other).sum((2, 3)) for one, other in pairs]

    def passes_values() -> list[Tensor]:
        tp, fp, fn, _ = (count[:, 0].double() for count in passes())
        return [2 * tp / (2 * tp + fp + fn), tp / (tp + fp + fn), tp / (tp + fp), tp / (tp + fn)]

    def values() -> list[Tensor]:
        return [torch.from_numpy(value) for value in per_case(predicted, true, METRICS).values()]

    counts = {"medseg": lambda: list(confusion(predicted, true).unbind(-1)), "four passes": passes}
    yield Contest("metrics", "confusion count", counts | {"MONAI get_confusion_matrix": monai_counts})
    ways = {"medseg": values, "four passes": passes_values, "MONAI metric classes": monai_values}
    yield Contest("metrics", "four metrics per case", ways)


def data(arguments: argparse.Namespace, folder: Path) -> Iterator[Contest]:
    """One epoch of float32 batches of images in 0..1 and masks, as a network gets them."""
    from monai.data import CacheDataset, DataLoader
    from monai.transforms import Compose, EnsureChannelFirstd, EnsureTyped, LoadImaged, ScaleIntensityRanged

    from medseg.data.prepared import loader, prepare
    from medseg.engine.device import prepare_batch

    draw(folder, arguments.images, arguments.size)
    prepared = prepare("bench", None, folder / "prepared", image_size=arguments.size)
    part = prepared.part("training")
    batches = loader(part, BATCH)
    keys = ("image", "label")
    items = prepared.splits.items(0)["training"]
    files = [{key: str(folder / "source" / item[key]) for key in keys} for item in items]
    steps = [
        LoadImaged(keys, reader="PILReader", reverse_indexing=False),
        EnsureChannelFirstd(keys),
        ScaleIntensityRanged(keys, 0, 255, 0, 1),
    ]
    plain = [*steps, EnsureTyped(keys, track_meta=False)]
    cached = DataLoader(CacheDataset(files, Compose(steps), progress=False), batch_size=BATCH)
    cached_plain = DataLoader(CacheDataset(files, Compose(plain), progress=False), batch_size=BATCH)

    def medseg_epoch() -> list[Tensor]:
        pairs = [prepare_batch(batch, torch.device("cpu")) for batch in batches]
        return [tensor for pair in pairs for tensor in pair]

    def epoch(source: DataLoader) -> list[Tensor]:
        return [batch[key] for batch in source for key in keys]

    ways = {
        "medseg": medseg_epoch,
        "MONAI CacheDataset": lambda: epoch(cached),
        "MONAI CacheDataset, plain tensors": lambda: epoch(cached_plain),
    }
    yield Contest("data", f"epoch of {len(part)} images", ways)


def draw(folder: Path, count: int, size: int) -> None:
    """RGB images of noise with a square each, indexed as the data set ``bench``."""
    from PIL import Image

    from medseg.data.index import build_index
    from medseg.data.index_file import index_path, write_index

    random = np.random.default_rng(0)
    source = folder / "source"
    for name in ("images", "masks"):
        (source / name).mkdir(parents=True)
    for number in range(count):
        mask = np.zeros((size, size), np.uint8)
        top, left = random.integers(0, size // 2, 2)
        mask[top : top + size // 4, left : left + size // 3] = 255
        pixels = random.integers(0, 256, (size, size, 3), np.uint8)
        Image.fromarray(pixels).save(source / "images" / f"{number:04d}.png")
        Image.fromarray(mask).save(source / "masks" / f"{number:04d}.png")
    index = build_index("bench", source, images="images/*.png", masks="masks/{stem}.png", channels=3)
    write_index(index, index_path("bench", folder / "prepared"))


def measure(contest: Contest, rounds: int) -> list[dict[str, object]]:
    """Check a contest, run it, and give one row per way."""
    contest.check()
    timed = [contest.round(number) for number in range(rounds)]
    rows = []
    for way in contest.ways:
        ratios = [seconds[way] / seconds["medseg"] for seconds in timed]
        times = {"ms": 1000 * statistics.median(seconds[way] for seconds in timed)}
        spread = {"ratio": statistics.median(ratios), "ratio_min": min(ratios), "ratio_max": max(ratios)}
        rows.append({"part": contest.part, "name": contest.name, "way": way, **times, **spread})
    return rows


def main(command: Sequence[str] | None = None) -> None:
    """Measure, print and optionally write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--images", type=int, default=200, help="images of the metrics and of the data set")
    parser.add_argument("--size", type=int, default=224, help="height and width in pixels")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args(command)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for contests in (losses(arguments), metrics(arguments), data(arguments, Path(folder))):
            for contest in contests:
                for row in measure(contest, arguments.rounds):
                    spread = f"({row['ratio_min']:.2f} to {row['ratio_max']:.2f})"
                    print(
                        f"{row['part']:8} {row['name']:22} {row['way']:34} {row['ms']:9.2f} ms"
                        f"   {row['ratio']:6.2f} of medseg {spread}",
                        flush=True,
                    )
                    rows.append(row)
    if arguments.json:
        settings = vars(arguments) | {"json": None, "torch": torch.__version__}
        arguments.json.write_text(json.dumps({"settings": settings, "results": rows}, indent=2))


if __name__ == "__main__":
    main()
