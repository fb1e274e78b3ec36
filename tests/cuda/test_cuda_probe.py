"""The probe of a study on the GPU: time of a step behind the kernel's end, memory of the GPU."""

from __future__ import annotations

import pytest

from medseg.study.plan import chosen_device, usual_workers
from medseg.study.probe import Setup, probe

pytestmark = pytest.mark.cuda


def test_a_process_measures_a_setup() -> None:
    small = Setup("unet", "dice", (64, 64), 4, 3, model_arguments={"widths": [8, 16, 32]})
    found = probe(small, "cuda", limit=60.0)
    assert (found.fault, found.steps) == ("", 3)
    assert found.eval_seconds is not None
    assert found.train_seconds is not None
    # weights, gradients and Adam's two moments at least
    assert found.gpu_memory > 4 * 4 * found.parameters
    more = probe(
        Setup("unet", "dice", (128, 128), 4, 3, model_arguments={"widths": [8, 16, 32]}), "cuda", limit=60.0
    )
    assert more.gpu_memory > found.gpu_memory


def test_a_model_that_does_not_fit_is_told() -> None:
    found = probe(Setup("unet", "dice", (4096, 4096), 256, 3), "cuda", limit=60.0)
    assert "out of memory" in found.fault.lower()


def test_auto_is_the_gpu() -> None:
    import torch

    assert chosen_device("auto") == "cuda"
    assert usual_workers("cuda", 1, per_gpu=3) == 3 * torch.cuda.device_count()
