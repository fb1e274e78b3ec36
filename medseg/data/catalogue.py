"""The spec of a data set by its name: registered, or made from the patterns of a user's own folder."""

from __future__ import annotations

import re

from medseg.data.datasets import DATASETS
from medseg.data.spec import DatasetSpec, Label, paired
from medseg.errors import MedsegError, unknown


def find_spec(
    dataset: str,
    *,
    images: str | None = None,
    masks: str | None = None,
    group: str | None = None,
    channels: int | None = None,
    label: str | None = None,
) -> DatasetSpec:
    """The registered spec, or one made from the patterns of a user's own folder.

    Raises:
        MedsegError: the name is unknown, not usable, or does not go with the patterns.
    """
    if images is None and masks is None:
        if dataset not in DATASETS:
            cure = "for a folder of your own give --images 'images/*' --masks 'masks/{stem}.*'"
            raise MedsegError(f"{unknown('data set', dataset, DATASETS.names())}; {cure}")
        if group is not None or label is not None:
            raise MedsegError(
                f"{dataset} has its own groups and label; --group and --label are for your own folders"
            )
        return DATASETS.build(dataset)
    if dataset in DATASETS:
        raise MedsegError(
            f"{dataset} is a registered data set with its own layout; choose another name for your folder"
        )
    if images is None or masks is None:
        raise MedsegError(f"{dataset}: a folder of your own needs both --images and --masks")
    if not re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)*", dataset):
        raise MedsegError(f"data set name {dataset!r}: use a-z, 0-9 and single underscores, as in my_lesions")
    return DatasetSpec(
        dataset, channels or 3, (Label(label or "lesion"),), paired(images, masks, group=group), ()
    )
