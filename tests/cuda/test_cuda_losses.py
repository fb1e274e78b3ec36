"""Losses on the GPU: the CPU's values and gradients, finite in half precision, no waiting for the device."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from medseg.losses import LOSSES

pytestmark = pytest.mark.cuda

SEGMENTATION = LOSSES.names("segmentation")
SHAPE = (3, 32, 40)


def one_hot(classes: int, share: float = 0.3) -> Tensor:
    """A uint8 target (3, classes, 32, 40); of one class the foreground alone."""
    if classes == 1:
        return (torch.rand(3, 1, 32, 40) < share).to(torch.uint8)
    labels = torch.randint(0, classes, SHAPE)
    return torch.nn.functional.one_hot(labels, classes).movedim(-1, 1).to(torch.uint8)


def value_and_gradient(name: str, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    logits = logits.clone().requires_grad_()
    value = LOSSES.build(name)(logits, target)
    value.backward()
    return value.detach().cpu(), logits.grad.cpu()


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("name", SEGMENTATION)
def test_equals_the_cpu(name: str, classes: int, device: torch.device) -> None:
    logits, target = 3 * torch.randn(3, classes, 32, 40), one_hot(classes)
    value, gradient = value_and_gradient(name, logits, target)
    layout = torch.channels_last
    on_gpu = value_and_gradient(name, logits.to(device, memory_format=layout), target.to(device))
    torch.testing.assert_close(on_gpu[0], value, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(on_gpu[1], gradient, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("fill", [0, 1])
@pytest.mark.parametrize("logit", [-1e4, 0.0, 1e4])
@pytest.mark.parametrize("name", SEGMENTATION)
def test_extremes_equal_the_cpu_and_are_finite(
    name: str, logit: float, fill: int, device: torch.device
) -> None:
    logits, target = torch.full((2, 1, 16, 16), logit), torch.full((2, 1, 16, 16), fill, dtype=torch.uint8)
    value, gradient = value_and_gradient(name, logits, target)
    on_gpu = value_and_gradient(name, logits.to(device), target.to(device))
    assert on_gpu[0].isfinite() and on_gpu[1].isfinite().all()
    torch.testing.assert_close(on_gpu[0], value, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(on_gpu[1], gradient, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", SEGMENTATION)
def test_half_logits_give_a_float32_loss(name: str, dtype: torch.dtype, device: torch.device) -> None:
    logits, target = (3 * torch.randn(3, 1, 32, 40)).to(dtype), one_hot(1)
    expected = LOSSES.build(name)(logits.float(), target)
    half = logits.to(device).requires_grad_()
    with torch.autocast("cuda", dtype=dtype):
        value = LOSSES.build(name)(half, target.to(device))
    value.backward()
    assert value.dtype == torch.float32
    assert half.grad.isfinite().all()
    torch.testing.assert_close(value.detach().cpu(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("name", SEGMENTATION)
def test_does_not_wait_for_the_gpu(name: str, classes: int, device: torch.device) -> None:
    logits = torch.randn(3, classes, 32, 40, device=device, requires_grad=True)
    target, loss = one_hot(classes).to(device), LOSSES.build(name)
    loss(logits, target).backward()  # the first call may set things up
    torch.cuda.set_sync_debug_mode("error")
    loss(logits, target).backward()
