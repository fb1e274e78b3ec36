"""One sample from its files: the picture and its mask or classes, which the index checks and the arrays keep."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medseg.data.address import RASTER_SUFFIXES, split_address, suffix
from medseg.data.catalogue import find_spec
from medseg.data.images import FileFault, read_mask, read_picture, slices
from medseg.data.index_file import Index, IndexedSample, Rules
from medseg.data.spec import DatasetSpec, Sample
from medseg.transforms.picture import Picture


def read_sample(
    index: Index, sample: IndexedSample, channels: int | None = None
) -> tuple[Picture, np.ndarray]:
    """Read an indexed sample: its picture, and its mask ``(H, W)`` ``uint8`` of 0 and 1, of the same size.

    A sample of a classification set has a mask of 0, as it has no lesion drawn.

    Args:
        index: the data set.
        sample: one of its samples.
        channels: 1 or 3; as indexed if not given.

    Raises:
        FileFault: a file is gone or has changed for the worse since the index was made.
    """
    if index.task == "classification":
        picture = read_picture(index.root / sample.image, channels or index.channels)
        return picture, np.zeros(picture.values.shape[1:], np.uint8)
    spec = find_spec(index.dataset, **index.rules.source())
    return read_pair(sample, index.root, channels or index.channels, spec, index.rules, empty_ok=True)


def check_classes(root: Path, sample: Sample, spec: DatasetSpec) -> None:
    """Refuse an image whose classes are not those of its data set, or too many or few.

    Raises:
        FileFault: they are.
    """
    known = [label.name for label in spec.labels]
    strange = next((name for name in sample.classes if name not in known), None)
    if strange is not None:
        reason = f"class {strange!r} is none of {', '.join(known)}"
        raise FileFault(root / sample.image, reason, "correct its class or remove the image")
    if not spec.multilabel and len(sample.classes) != 1:
        seen = ", ".join(sample.classes) or "none"
        raise FileFault(root / sample.image, f"needs one class; it has {seen}", "name its one class")


def read_pair(
    sample: Sample | IndexedSample,
    root: Path,
    channels: int,
    spec: DatasetSpec,
    rules: Rules,
    empty_ok: bool,
) -> tuple[Picture, np.ndarray]:
    """Read an image and its mask by the rules of its data set.

    Args:
        sample: with an image and at least one mask.
        root: the data set's top folder.
        channels: of the image, 1 or 3.
        spec: the data set.
        rules: how its masks are read.
        empty_ok: a mask without lesion is good.

    Raises:
        FileFault: a file is missing or broken, or image and mask do not fit each other.
    """
    image = root / sample.image
    picture = read_picture(image, channels)
    height, width = picture.values.shape[1:]
    masks = [root / name for name in sample.masks]
    if spec.draw_mask:
        return picture, _drawn(masks, spec, (height, width), empty_ok)
    for mask in masks:
        _same_space(image, mask)
    fit = (height, width) if spec.fit_masks else None
    united = read_mask(masks, rules.grey_masks, empty_ok, rules.mask_value, fit)
    if united.shape != (height, width):
        seen = f"mask is {united.shape[1]}x{united.shape[0]}, image is {width}x{height} (width x height)"
        raise FileFault(masks[0], seen, "a mask needs its image's size")
    return picture, united


def _drawn(masks: list[Path], spec: DatasetSpec, size: tuple[int, int], empty_ok: bool) -> np.ndarray:
    united = np.zeros(size, np.uint8)
    for path in masks:
        if spec.draw_mask:
            united |= spec.draw_mask(*split_address(path), size)
    if not empty_ok and not united.any():
        raise FileFault(masks[0], "the mask is empty", "allow empty masks (--allow-empty) or remove the pair")
    return united


def _same_space(image: Path, mask: Path) -> None:
    """Refuse a mask volume that has other slices than the image's, or lies elsewhere in the patient."""
    image, mask = split_address(image)[0], split_address(mask)[0]
    kinds = [suffix(file.name) for file in (image, mask)]
    if all(kind in RASTER_SUFFIXES for kind in kinds):
        return
    numbers = slices(image), slices(mask)
    if numbers[0] != numbers[1]:
        seen = f"has {numbers[1]} slices, the image {numbers[0]}"
        raise FileFault(mask, seen, "a mask needs the slices of its image")
    if all(kind.startswith(".nii") for kind in kinds):
        from medseg.data.nifti import shift

        off = shift(image, mask)
        if off > 0.5:
            seen = f"lies up to {off:.1f} voxels beside its image by the affines of the two"
            raise FileFault(mask, seen, "correct the header of the mask, or resample it to the image")
