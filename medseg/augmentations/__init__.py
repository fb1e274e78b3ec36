"""Augmentations: random changes of images ``(C, H, W)`` and of their masks, if they have any, for the training part.

A registered function takes the chance of each transform, ``prob``, and its own ranges, and gives a list of
:class:`~medseg.augmentations.augment.Augment`. Filters change the image alone; geometric transforms move image
and mask together, the mask by its nearest pixel, and fill what comes from outside with 0.
``build_augments("rotation-gamma")`` builds by name, ``Pipeline`` applies them at random, ``copies`` makes one copy
per transform, and ``Augmentd`` is the MONAI dictionary transform. They serve segmentation and classification alike.

Those of the task classification, with the fact ``batch``, mix the images and labels of whole training batches
instead: ``build_augments`` leaves them out, and ``mixer("mixup-filter")`` builds them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medseg.registry import Registry

if TYPE_CHECKING:
    from medseg.augmentations._dictionary import Augmentd
    from medseg.augmentations.augment import Augment
    from medseg.augmentations.combined import build_augments
    from medseg.augmentations.mixing import mixer
    from medseg.augmentations.pipeline import Pipeline, copies

__all__ = ["AUGMENTATIONS", "Augment", "Augmentd", "Pipeline", "build", "build_augments", "copies", "mixer"]

AUGMENTATIONS = Registry("augmentation", __name__)
build = AUGMENTATIONS.build

_HOMES = {
    "Augment": "augment",
    "Augmentd": "_dictionary",  # imports MONAI, which the registry must not
    "Pipeline": "pipeline",
    "build_augments": "combined",
    "copies": "pipeline",
    "mixer": "mixing",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
