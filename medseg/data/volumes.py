"""Volumes in a listing: one sample per slice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from medseg.data.address import RASTER_SUFFIXES, suffix
from medseg.data.sample import Sample
from medseg.errors import MedsegError


def expanded(sample: Sample, folder: Path) -> list[Sample]:
    """One sample per slice of a volume; other samples as they are.

    A file whose header cannot be read stays one sample, and the index reports why.
    """
    number = _slices(folder / sample.image)
    if number == 1:
        return [sample]
    width = max(3, len(str(number - 1)))
    volumes = {mask: _slices(folder / mask) > 1 for mask in sample.masks}
    return [
        replace(
            sample,
            case=f"{sample.case}_z{k:0{width}d}",
            image=f"{sample.image}#{k}",
            masks=tuple(f"{mask}#{k}" if volume else mask for mask, volume in volumes.items()),
        )
        for k in range(number)
    ]


def _slices(file: Path) -> int:
    if suffix(file.name) in RASTER_SUFFIXES:
        return 1
    from medseg.data.images import slices

    try:
        return slices(file)
    except MedsegError:
        return 1
