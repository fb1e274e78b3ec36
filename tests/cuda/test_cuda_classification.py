"""Losses and mixtures of classification on the GPU: the CPU's values, and no waiting for the device."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from medseg.augmentations.mixing import mixer
from medseg.losses import LOSSES, build_for

pytestmark = pytest.mark.cuda

NAMES = LOSSES.names("classification")
CLASSES = 5
ARGUMENTS: dict[str, dict[str, Any]] = {"focal_cross_entropy": {"alpha": [1, 2, 3, 4, 5]}}


def batch() -> tuple[Tensor, Tensor]:
    """Logits ``(16, 5)`` and one-hot ``uint8`` rows."""
    return 3 * torch.randn(16, CLASSES), torch.eye(CLASSES, dtype=torch.uint8)[torch.arange(16) % CLASSES]


def loss_of(name: str) -> torch.nn.Module:
    return build_for(name, ARGUMENTS.get(name), range(3, 3 + CLASSES))


@pytest.mark.parametrize("name", NAMES)
def test_loss_equals_the_cpu(name: str, device: torch.device) -> None:
    logits, target = batch()
    for scale in (1.0, 1e4):
        results = []
        for place in ("cpu", device):
            leaf = (scale * logits).to(place).requires_grad_()
            value = loss_of(name)(leaf, target.to(place))
            (gradient,) = torch.autograd.grad(value, leaf)
            assert value.isfinite() and gradient.isfinite().all()
            results.append((value.detach().cpu(), gradient.cpu()))
        torch.testing.assert_close(results[1], results[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", NAMES)
def test_half_logits_give_a_float32_loss(name: str, dtype: torch.dtype, device: torch.device) -> None:
    logits, target = batch()
    half = logits.to(dtype).to(device).requires_grad_()
    with torch.autocast("cuda", dtype=dtype):
        value = loss_of(name)(half, target.to(device))
    value.backward()
    assert value.dtype == torch.float32 and half.grad is not None and half.grad.isfinite().all()
    expected = loss_of(name)(logits.to(dtype).float(), target)
    torch.testing.assert_close(value.detach().cpu(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_loss_does_not_wait_for_the_gpu(name: str, device: torch.device) -> None:
    logits, target = (part.to(device) for part in batch())
    logits.requires_grad_()
    loss = loss_of(name)
    loss(logits, target).backward()  # the first call takes its weights to the device
    torch.cuda.set_sync_debug_mode("error")
    loss(logits, target).backward()


@pytest.mark.parametrize("names", ["mixup", "cutmix", "mixup-cutmix"])
def test_mixture_equals_the_cpu_and_does_not_wait(names: str, device: torch.device) -> None:
    mix = mixer(names)
    assert mix is not None
    images, labels = torch.rand(6, 3, 20, 24), torch.eye(6, dtype=torch.uint8)
    on_gpu = images.to(device), labels.to(device)
    for seed in range(6):
        torch.manual_seed(seed)
        expected = mix(images, labels)
        torch.manual_seed(seed)
        torch.cuda.set_sync_debug_mode("error")
        mixed = mix(*on_gpu)
        torch.cuda.set_sync_debug_mode("default")
        for one, other in zip(mixed, expected, strict=True):
            torch.testing.assert_close(one.cpu(), other)
