"""No augmentation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from medseg.augmentations import AUGMENTATIONS


@AUGMENTATIONS.register("vanilla")
def vanilla(prob: float = 0.0) -> list[Callable[..., Any]]:
    """The images as they are; ``prob`` has no effect."""
    return []
