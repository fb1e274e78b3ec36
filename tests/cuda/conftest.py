"""Tests on the GPU: run by scripts/gpu-check, skipped where there is none."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


def pytest_runtest_setup(item: pytest.Item) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA GPU here; scripts/gpu-check runs these where there is one")


@pytest.fixture
def device() -> torch.device:
    return torch.device("cuda")


@pytest.fixture(autouse=True)
def exact_float32() -> Iterator[None]:
    """Float32 products in float32, not TF32, unless a test (or the run it starts) chooses otherwise."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    torch.manual_seed(0)
    yield
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32 = before[1]
    torch.cuda.set_sync_debug_mode("default")
    # what a run on the CPU or on the GPU has switched on for its process
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark = False
