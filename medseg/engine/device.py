"""What a run does on its device: seeding, memory format, mixed precision, and batches."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medseg.transforms.normalize import normalized


def begin(device: torch.device, seed: int) -> None:
    """Seed every generator before the network is built, and choose the arithmetic of the device.

    On the CPU only deterministic algorithms run, so that a run can be repeated to the last digit. On CUDA
    cuDNN picks its fastest kernels and float32 products may use TF32.
    """
    seed_all(seed)
    if device.type == "cuda":
        torch.cuda.set_device(device)
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high")
    else:
        torch.use_deterministic_algorithms(True, warn_only=True)


def seed_all(*seeds: int) -> None:
    """Seed Python, numpy and torch by a number mixed from ``seeds`` (such as seed, epoch, rank)."""
    mixed = int(np.random.SeedSequence(seeds).generate_state(1)[0])
    random.seed(mixed)
    np.random.seed(mixed)
    torch.manual_seed(mixed)


def place(network: nn.Module, device: torch.device) -> nn.Module:
    """The network on its device, its weights channels-last on CUDA (where convolutions are faster for it)."""
    if device.type == "cuda":
        return network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network.to(device)


def amp_dtype() -> torch.dtype:
    """The 16-bit type for mixed precision: bfloat16 where the GPU has it, for its range, else float16."""
    if torch.cuda.is_available() and not torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.float16
    return torch.bfloat16


def prepare_batch(
    batch: dict[str, Tensor],
    device: torch.device,
    non_blocking: bool = False,
    normalization: str | None = None,
    **_: Any,
) -> tuple[Tensor, Tensor]:
    """Take a batch as stored to what network and loss want, on the device.

    Args:
        batch: ``image`` (N, C, H, W) uint8, uint16 or float, ``label`` (N, K, H, W) of 0 and 1.
        device: where to.
        non_blocking: copy without waiting for the host.
        normalization: name of a normalising transform, see ``medseg.transforms``; none if not given.

    Returns:
        image float32, integers scaled from their full range to 0..1 and then normalised, and label as stored.
    """
    image = batch["image"].to(device, non_blocking=non_blocking)
    label = batch["label"].to(device, non_blocking=non_blocking)
    scale = 1.0 if image.is_floating_point() else 1.0 / torch.iinfo(image.dtype).max
    layout = torch.channels_last if device.type == "cuda" else torch.contiguous_format
    image = image.to(torch.float32, memory_format=layout)
    image = image.mul_(scale) if scale != 1.0 else image
    return normalized(image, normalization) if normalization else image, label
