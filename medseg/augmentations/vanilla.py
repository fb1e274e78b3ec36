"""No augmentation."""

from __future__ import annotations

from medseg.augmentations import AUGMENTATIONS
from medseg.augmentations.augment import Augment


@AUGMENTATIONS.register("vanilla", members=())
def vanilla(prob: float = 0.0) -> list[Augment]:
    """The images as they are; ``prob`` has no effect."""
    return []
