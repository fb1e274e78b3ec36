"""What the losses of classification share: the check at the door."""

from __future__ import annotations

import torch
from torch import Tensor

from medseg.errors import MedsegError


def checked_classes(loss: str, logits: Tensor, target: Tensor, least: int = 1) -> tuple[Tensor, Tensor]:
    """Logits in at least float32 and the target in the same type.

    Args:
        loss: name of the loss, for messages.
        logits: ``(N, K)``.
        target: ``(N, K)``.
        least: number of classes that the loss needs.

    Raises:
        MedsegError: the shapes differ, are not ``(N, K)``, or there are too few classes.
    """
    if logits.shape != target.shape or logits.ndim != 2:
        raise MedsegError(
            f"loss {loss!r} takes logits and a target of the same shape (N, K);"
            f" got {tuple(logits.shape)} and {tuple(target.shape)}"
        )
    if logits.shape[1] < least:
        raise MedsegError(
            f"loss {loss!r} tells classes of one another and needs {least} or more;"
            f" got logits of shape {tuple(logits.shape)}"
        )
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return logits, target.to(logits.dtype)
