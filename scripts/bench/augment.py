"""Augmentation against plain albumentations and MONAI's equivalents, interleaved in one process.

    python scripts/bench/augment.py [--rounds 15] [--images 32] [--size 224] [--data FOLDER] [--only NAME,...]
        [--json FILE]

A row is one transform applied to every image and its mask, or a group with the chance of 0.2 for each of its
transforms, or with all of them ("geometric, every one"). medseg gets ``(C, H, W)`` and a generator of its own for
each sample, as in training. albumentations gets its own layout ``(H, W, C)`` and draws on, or is "seeded" for each
sample, without which its draws depend on the order of the samples. MONAI gets float32 tensors without meta-data.
"fancy_pca, first epoch" computes the basis of each image, the other rows know it.

tests/augmentations shows that medseg and albumentations give the same image for the same parameters; MONAI's
transforms are the nearest of their kind. Times are medians of processor time on one thread; a ratio above 1 says how
many times medseg's time the other takes in the same round.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # or the import below asks the package index for a newer release
GROUPS = ("filter", "geometric", "all")
Samples = Sequence[tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Contest:
    """Ways of augmenting all samples once; the first is medseg's.

    Args:
        name: of the row.
        ways: name -> a function of the epoch that augments.
    """

    name: str
    ways: dict[str, Callable[[int], None]]

    def round(self, number: int) -> dict[str, float]:
        """Seconds of processor time of each way, once; every round starts with another way."""
        names = list(self.ways)
        first = number % len(names)
        seconds = {}
        for way in names[first:] + names[:first]:
            began = time.process_time()
            self.ways[way](number)
            seconds[way] = time.process_time() - began
        return seconds


def contests(samples: Samples, only: Sequence[str]) -> Iterator[Contest]:
    """A row for each transform, and rows for the groups."""
    from medseg.augmentations import AUGMENTATIONS

    plain, monai = plain_transforms(), monai_transforms()
    for name in only or [*plain, *GROUPS]:
        members = AUGMENTATIONS[name].facts.get("members")
        rows = {name: 1.0} if members is None else {name: 0.2, f"{name}, every one": 1.0}
        for row, prob in rows.items():
            chosen = members or [name]
            ways = {
                "medseg": medseg_way(name, prob, samples, keys=True),
                "albumentations": plain_way([plain[single](prob) for single in chosen], samples),
                "albumentations, seeded": plain_way(
                    [plain[single](prob) for single in chosen], samples, True
                ),
            }
            if all(single in monai for single in chosen):
                ways["MONAI"] = monai_way([monai[single](prob) for single in chosen], samples)
            yield Contest(row, ways)
        if name == "fancy_pca":
            first = {"medseg": medseg_way(name, 1.0, samples, keys=False)}
            yield Contest("fancy_pca, first epoch", first | {"albumentations": ways["albumentations"]})


def medseg_way(name: str, prob: float, samples: Samples, keys: bool) -> Callable[[int], None]:
    """The pipeline of one name, with a generator for each sample."""
    from medseg.augmentations import Pipeline, build_augments

    pipeline = Pipeline(build_augments(name, prob=prob))

    def augment(epoch: int) -> None:
        for number, (image, mask) in enumerate(samples):
            pipeline(image, mask, np.random.default_rng((0, epoch, number)), number if keys else None)

    augment(0)
    return augment


def plain_transforms() -> dict[str, Callable[[float], Any]]:
    """albumentations' transforms with medseg's ranges."""
    import albumentations as A

    share = 0.0625
    return {
        "clahe": lambda p: A.CLAHE(clip_limit=(1, 4), p=p),
        "gaussian_blur": lambda p: A.GaussianBlur(sigma_limit=(0.5, 3.0), p=p),
        "equalize": lambda p: A.Equalize(p=p),
        "fancy_pca": lambda p: A.FancyPCA(alpha=0.1, p=p),
        "rotation": lambda p: A.Rotate(limit=(-90, 90), p=p),
        "vertical_flip": lambda p: A.VerticalFlip(p=p),
        "horizontal_flip": lambda p: A.HorizontalFlip(p=p),
        "flip": lambda p: A.OneOf([A.HorizontalFlip(), A.VerticalFlip()], p=p),
        "grid_distortion": lambda p: A.GridDistortion(num_steps=5, distort_limit=(-0.3, 0.3), p=p),
        "translation": lambda p: A.Affine(translate_percent=(-share, share), p=p),
        "scaling": lambda p: A.Affine(scale=(0.9, 1.1), keep_ratio=True, p=p),
        "shear": lambda p: A.Affine(shear=(-10, 10), p=p),
        "elastic": lambda p: A.ElasticTransform(alpha=300, sigma=10, p=p),
        "brightness": lambda p: A.RandomBrightnessContrast(contrast_limit=(0, 0), p=p),
        "channel_shift": lambda p: A.RGBShift(*[(-20.4, 20.4)] * 3, p=p),
        "gamma": lambda p: A.RandomGamma(gamma_limit=(80, 120), p=p),
        "sharpening": lambda p: A.Sharpen(p=p),
        "noise": lambda p: A.GaussNoise(std_range=(0.02, 0.1), p=p),
    }


def plain_way(transforms: Sequence[Any], samples: Samples, seeded: bool = False) -> Callable[[int], None]:
    """A ``Compose`` of albumentations, drawing on or seeded for each sample."""
    import albumentations as A

    compose = A.Compose(transforms, seed=0)
    turned = [(np.ascontiguousarray(image.transpose(1, 2, 0)), mask[0]) for image, mask in samples]

    def augment(epoch: int) -> None:
        for number, (image, mask) in enumerate(turned):
            if seeded:
                compose.set_random_seed(epoch * len(turned) + number)
            compose(image=image, mask=mask)

    augment(0)
    return augment


def monai_transforms() -> dict[str, Callable[[float], Any]]:
    """MONAI's nearest transforms, where it has any."""
    from monai import transforms as M

    both: dict[str, Any] = {"keys": ("image", "label"), "mode": ("bilinear", "nearest")}
    zeros: dict[str, Any] = {**both, "padding_mode": "zeros"}
    image: dict[str, Any] = {"keys": "image"}
    move = 0.0625 * 224
    return {
        "gaussian_blur": lambda p: M.RandGaussianSmoothd(
            **image, sigma_x=(0.5, 3.0), sigma_y=(0.5, 3.0), prob=p
        ),
        "equalize": lambda p: M.HistogramNormalized(**image, num_bins=256, min=0, max=1),
        "rotation": lambda p: M.RandRotated(**zeros, range_x=math.pi / 2, prob=p),
        "vertical_flip": lambda p: M.RandFlipd(both["keys"], prob=p, spatial_axis=0),
        "horizontal_flip": lambda p: M.RandFlipd(both["keys"], prob=p, spatial_axis=1),
        "grid_distortion": lambda p: M.RandGridDistortiond(
            **zeros, num_cells=5, distort_limit=(-0.3, 0.3), prob=p
        ),
        "translation": lambda p: M.RandAffined(**zeros, translate_range=(move, move), prob=p),
        "scaling": lambda p: M.RandZoomd(**both, min_zoom=0.9, max_zoom=1.1, padding_mode="constant", prob=p),
        "shear": lambda p: M.RandAffined(**zeros, shear_range=(math.tan(math.pi / 18),) * 2, prob=p),
        "elastic": lambda p: M.Rand2DElasticd(**zeros, spacing=(20, 20), magnitude_range=(1, 3), prob=p),
        "brightness": lambda p: M.RandShiftIntensityd(**image, offsets=0.2, prob=p),
        "gamma": lambda p: M.RandAdjustContrastd(**image, gamma=(0.8, 1.2), prob=p),
        "sharpening": lambda p: M.RandGaussianSharpend(**image, prob=p),
        "noise": lambda p: M.RandGaussianNoised(**image, std=0.1, prob=p),
    }


def monai_way(transforms: Sequence[Any], samples: Samples) -> Callable[[int], None]:
    """A ``Compose`` of MONAI."""
    import torch
    from monai.data import set_track_meta
    from monai.transforms import Compose

    set_track_meta(False)
    compose = Compose(transforms).set_random_state(0)
    tensors = [
        {"image": torch.from_numpy(image.astype(np.float32) / 255), "label": torch.from_numpy(mask).float()}
        for image, mask in samples
    ]

    def augment(epoch: int) -> None:
        for sample in tensors:
            compose(sample)

    augment(0)
    return augment


def drawn(count: int, size: int) -> Samples:
    """RGB images of smooth shading and speckle, with a bright disc each, and its mask."""
    import cv2

    random = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size]
    samples = []
    for _ in range(count):
        row, column = random.uniform(size / 4, 3 * size / 4, 2)
        mask = ((y - row) ** 2 + (x - column) ** 2 < random.uniform(size / 8, size / 4) ** 2).astype(np.uint8)
        shading = cv2.GaussianBlur(random.normal(0, 1, (size, size, 3)), (0, 0), size / 12) * size
        image = (
            110 + 3 * shading + random.normal(0, 12, (size, size, 3)) + 60 * mask[..., None] * (1, 0.7, 0.5)
        )
        pixels = image.clip(0, 255).astype(np.uint8)
        samples.append((np.ascontiguousarray(pixels.transpose(2, 0, 1)), mask[None]))
    return samples


def read(folder: Path, count: int, size: int) -> Samples:
    """The first images of a folder, stretched, with the masks of the drawn ones."""
    from PIL import Image

    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".png", ".jpg", ".jpeg"))
    masks = [mask for _, mask in drawn(count, size)]
    samples = []
    for path, mask in zip(files, masks, strict=False):
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB").resize((size, size)))
        samples.append((np.ascontiguousarray(pixels.transpose(2, 0, 1)), mask))
    if not samples:
        raise SystemExit(f"{folder}: no .png or .jpg; give a folder of images")
    return samples


def measure(contest: Contest, rounds: int, images: int) -> list[dict[str, Any]]:
    """Run a contest and give one row per way."""
    timed = [contest.round(number) for number in range(rounds)]
    rows = []
    for way in contest.ways:
        ratios = [seconds[way] / seconds["medseg"] for seconds in timed]
        rows.append(
            {
                "name": contest.name,
                "way": way,
                "images_per_s": images / statistics.median(seconds[way] for seconds in timed),
                "ratio": statistics.median(ratios),
                "ratio_min": min(ratios),
                "ratio_max": max(ratios),
            }
        )
    return rows


def main(command: Sequence[str] | None = None) -> None:
    """Measure, print and optionally write JSON."""
    import cv2
    import torch

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--size", type=int, default=224, help="height and width in pixels")
    parser.add_argument("--data", type=Path, help="a folder of images; drawn ones if not given")
    parser.add_argument("--only", default="", help="names of augmentations, joined by ','")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args(command)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    if arguments.data:
        samples = read(arguments.data, arguments.images, arguments.size)
    else:
        samples = drawn(arguments.images, arguments.size)
    rows = []
    for contest in contests(samples, [name for name in arguments.only.split(",") if name]):
        for row in measure(contest, arguments.rounds, len(samples)):
            spread = f"({row['ratio_min']:.2f} to {row['ratio_max']:.2f})"
            print(
                f"{row['name']:24} {row['way']:24} {row['images_per_s']:10.0f} images/s"
                f"   {row['ratio']:6.2f} of medseg {spread}",
                flush=True,
            )
            rows.append(row)
    if arguments.json:
        settings = {"size": arguments.size, "rounds": arguments.rounds, "images": len(samples)}
        settings["data"] = arguments.data.name if arguments.data else "drawn"
        arguments.json.write_text(json.dumps({"settings": settings, "results": rows}, indent=2))


if __name__ == "__main__":
    main()
