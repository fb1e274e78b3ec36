"""Metrics on the GPU: the CPU's counts and values, exactly, and counting never waits for the device."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from medseg.metrics import METRICS, per_case
from medseg.metrics.overlap import binarise, confusion

pytestmark = pytest.mark.cuda


def masks(channels: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Two alike masks, of which the first case is empty in both and the second in one."""
    target = torch.rand(4, channels, height, width) < 0.3
    target[:2] = False
    prediction = target ^ (torch.rand(target.shape) < 0.1)
    prediction[0] = False
    return prediction, target


@pytest.mark.parametrize("size", [(17, 31), (64, 700), (224, 224)])
@pytest.mark.parametrize("channels", [1, 3])
def test_counts_equal_the_cpu(channels: int, size: tuple[int, int], device: torch.device) -> None:
    prediction, target = masks(channels, *size)
    counts = confusion(prediction.to(device, memory_format=torch.channels_last), target.to(device))
    assert counts.device.type == device.type
    assert torch.equal(counts.cpu(), confusion(prediction, target))


@pytest.mark.parametrize("channels", [1, 3])
def test_binarise_equals_the_cpu(channels: int, device: torch.device) -> None:
    logits = torch.randn(2, channels, 40, 40)
    logits[0, 0, 0, 0] = 0.0
    assert torch.equal(binarise(logits.to(device)).cpu(), binarise(logits))


def test_every_metric_equals_the_cpu(device: torch.device) -> None:
    prediction, target = masks(1, 60, 50)
    on_cpu, on_gpu = per_case(prediction, target), per_case(prediction.to(device), target.to(device))
    assert list(on_gpu) == METRICS.names()
    for name, values in on_cpu.items():
        assert on_gpu[name].tolist() == pytest.approx(values.tolist(), rel=1e-12, abs=1e-12), name


@pytest.mark.parametrize("channels", [1, 3])
def test_counting_does_not_wait_for_the_gpu(channels: int, device: torch.device) -> None:
    logits = torch.randn(4, channels, 224, 224, device=device)
    target = (torch.rand(4, channels, 224, 224, device=device) < 0.3).to(torch.uint8)
    confusion(binarise(logits), target)
    torch.cuda.set_sync_debug_mode("error")
    confusion(binarise(logits), target)
