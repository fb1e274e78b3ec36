"""Prediction on the GPU: the masks of the CPU, less memory than a batch asks for, accumulators off the card."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from medseg.bundle.network import Recipe, build_network
from medseg.data.sample import Label
from medseg.predict.predictor import Predictor, Settings
from medseg.transforms.picture import Picture

pytestmark = pytest.mark.cuda


def recipe(side: int, widths: list[int]) -> Recipe:
    return Recipe("unet", {"widths": widths}, 1, 1, (side, side), (), {}, (Label("lesion"),))


def predictor(folder: Path, side: int, widths: list[int], **settings) -> Predictor:
    """A U-Net whose weights are the same in each call."""
    weights = folder / "model.pt"
    plain = recipe(side, widths)
    if not weights.exists():
        torch.manual_seed(0)
        torch.save(build_network(plain, None).state_dict(), weights)
    return Predictor(plain, [build_network(plain, weights)], Settings(**settings))


def pictures(count: int, size: tuple[int, int]) -> list[Picture]:
    draw = np.random.default_rng(0)
    return [Picture.of(draw.integers(0, 256, (1, *size)).astype(np.uint8)) for _ in range(count)]


@pytest.mark.parametrize("windows", [False, True])
def test_probabilities_are_those_of_the_cpu(device: torch.device, tmp_path: Path, windows: bool):
    images = pictures(3, (150, 170))
    given = {"flips": True, "sliding_window": windows}
    cpu = predictor(tmp_path, 64, [8, 16], device="cpu", **given)(images)
    exact = predictor(tmp_path, 64, [8, 16], device="cuda", amp=False, **given)(images)
    mixed = predictor(tmp_path, 64, [8, 16], device="cuda", **given)(images)
    for one, two, three in zip(cpu, exact, mixed, strict=True):
        assert np.abs(one.probabilities - two.probabilities).max() < 1e-4
        assert 0 < np.abs(one.probabilities - three.probabilities).max() < 0.02
        unsure = np.abs(one.probabilities[0] - 0.5) < 1e-4
        assert ((one.mask == two.mask) | unsure).all()


def test_a_batch_that_the_card_cannot_hold_is_halved(device: torch.device, tmp_path: Path):
    images = pictures(24, (256, 256))
    small = predictor(tmp_path, 256, [16, 32], device="cuda", batch_size=1, amp=False)(images)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(device).total_memory
    # room for a few images of 256 x 256 with 16 channels and their convolutions, not for 24
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 2.5e8) / total)
    try:
        asked = predictor(tmp_path, 256, [16, 32], device="cuda", batch_size=24, amp=False)
        found = asked(images)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert asked.batch_size < 24
    for one, two in zip(small, found, strict=True):
        assert np.abs(one.probabilities - two.probabilities).max() < 1e-4


def test_windows_of_a_large_image_leave_the_image_off_the_card(device: torch.device, tmp_path: Path):
    peaks = []
    for size in ((256, 256), (2000, 2500)):
        ready = predictor(tmp_path, 256, [8, 16], device="cuda", batch_size=1, sliding_window=True)
        torch.cuda.reset_peak_memory_stats()
        ready(pictures(1, size))
        peaks.append(torch.cuda.max_memory_allocated())
    # the large image alone is 20 MB as floats
    assert peaks[1] - peaks[0] < 5e6
