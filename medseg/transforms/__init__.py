"""Transforms: named steps that are made once, in order, before training and before every prediction.

A registered class builds a callable ``Picture -> Picture`` (:class:`medseg.transforms.picture.Picture`). It
keeps type and range of the pixels unless its docstring says otherwise, so that 12 and 16 bits stay exact. Facts
of an entry: ``version`` (of its formula; raised with each change of the numbers it gives), ``spatial`` (it
makes the network's size, has a ``geometry`` and can be undone; one per list), ``normalization`` (it makes
float32 of another range than 0 to 1; last in the list, and made on the device after augmentation).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medseg.registry import Registry

if TYPE_CHECKING:
    from medseg.transforms._dictionary import Preprocessd

TRANSFORMS = Registry("transform", __name__)
build = TRANSFORMS.build

__all__ = ["TRANSFORMS", "Preprocessd", "build"]


def __getattr__(name: str) -> Any:
    # MONAI takes seconds to import, so it waits until someone asks for its kind of transform
    if name == "Preprocessd":
        from medseg.transforms._dictionary import Preprocessd

        return Preprocessd
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
