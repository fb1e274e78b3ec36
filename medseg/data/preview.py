"""A contact sheet of a data set: each image beside what every transform of an augmentation makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from medseg.augmentations import build_augments, copies
from medseg.augmentations.protocol import parse_augment
from medseg.data.index_file import Index
from medseg.data.outline import outline, show
from medseg.data.reading import read_sample
from medseg.errors import MedsegError
from medseg.results import atomic_write
from medseg.transforms.steps import Steps

FORMATS = ("png", "svg", "pdf")


def preview(
    index: Index,
    steps: Steps,
    augment: str,
    path: Path,
    *,
    cases: int = 4,
    seed: int = 42,
    arguments: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[str]:
    """Draw some images of a data set, the mask outlined or the class named: as preprocessed, then once per transform.

    Args:
        index: the data set.
        steps: how images are preprocessed.
        augment: names of augmentations, joined by ``-``; what is said of their protocol changes nothing here.
        path: the picture, ``.png``, ``.svg`` or ``.pdf``; replaced whole.
        cases: number of images, spread evenly over those with a lesion, or over the classes.
        seed: of the transforms.
        arguments: of the augmentations, by name.

    Returns:
        the cases that are shown.

    Raises:
        MedsegError: an unknown name, or a file that cannot be read or written in that format.
    """
    from matplotlib.figure import Figure

    if path.suffix[1:] not in FORMATS:
        raise MedsegError(f"{path}: a preview is written as {', '.join(f'.{f}' for f in FORMATS)}")
    steps.check_channels(index.channels)
    augments = build_augments(parse_augment(augment)[0], arguments or {})
    with_lesion = [i for i, sample in enumerate(index.samples) if sample.lesion_fraction]
    by_class = sorted(range(len(index.samples)), key=lambda i: index.samples[i].classes)
    among = with_lesion or by_class
    chosen = [among[int(i)] for i in np.linspace(0, len(among) - 1, min(cases, len(among))).round()]
    columns = 1 + len(augments)
    figure = Figure(figsize=(1.9 * columns, 2.05 * len(chosen) + 0.5), layout="constrained")
    axes = figure.subplots(len(chosen), columns, squeeze=False)
    for row, i in zip(axes, chosen, strict=True):
        picture, mask = steps.apply(*read_sample(index, index.samples[i]))
        image = picture.stored()
        sample = index.samples[i]
        title = (
            sample.case
            if index.task == "segmentation"
            else f"{sample.case}\n{', '.join(sample.classes) or 'none'}"
        )
        shown = [("original", image, mask[None]), *copies(augments, image, mask[None], (seed, i))]
        span = float(image.min()), float(image.max())
        for axis, (name, pixels, outlined) in zip(row, shown, strict=True):
            show(axis, pixels, span)
            outline(axis, np.asarray(outlined.any(0)))
            axis.set_title(title if name == "original" else name, fontsize=8)
    figure.suptitle(f"{index.title}: {augment}", fontsize=10)
    try:
        with atomic_write(path, "wb") as file:
            figure.savefig(file, format=path.suffix[1:], dpi=110)
    except OSError as error:
        raise MedsegError(f"{path}: cannot be written ({error.strerror}); give another --output") from None
    return [index.samples[i].case for i in chosen]
