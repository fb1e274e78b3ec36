"""The spec of a data set by its name: registered, or made from the patterns of a user's own folder."""

from __future__ import annotations

import re

from medseg.data.class_folders import by_folder
from medseg.data.class_table import Table, from_csv
from medseg.data.datasets import DATASETS
from medseg.data.pairing import grouper
from medseg.data.spec import DatasetSpec, IndexFunction, Label, paired
from medseg.errors import MedsegError, unknown


def find_spec(
    dataset: str,
    *,
    images: str | None = None,
    masks: str | None = None,
    group: str | None = None,
    classes: str | None = None,
    table: Table | None = None,
    multilabel: bool = False,
    channels: int | None = None,
    label: str | None = None,
) -> DatasetSpec:
    """The registered spec, or one made from the patterns or the table of a user's own folder.

    Raises:
        MedsegError: the name is unknown, not usable, or does not go with the patterns.
    """
    if images is None and masks is None and classes is None and table is None:
        if dataset not in DATASETS:
            cure = (
                "for a folder of your own give --images 'images/*' --masks 'masks/{stem}.*', or for classes"
                " --classes '{class}/*' or --table FILE.csv"
            )
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
    if not re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)*", dataset):
        raise MedsegError(f"data set name {dataset!r}: use a-z, 0-9 and single underscores, as in my_lesions")
    if classes is None and table is None:
        if images is None or masks is None:
            raise MedsegError(f"{dataset}: a folder of your own needs both --images and --masks")
        lesion = (Label(label or "lesion"),)
        return DatasetSpec(dataset, channels or 3, lesion, paired(images, masks, group=group), ())
    if masks is not None or label is not None or (classes is not None and table is not None):
        raise MedsegError(
            f"{dataset}: classes come from --classes or from --table, without --masks and --label, which say what is"
            " outlined; give one of the two"
        )
    if classes is not None and (images is not None or multilabel):
        raise MedsegError(
            f"{dataset}: --classes says itself which files are images, and a folder is one class; leave --images and"
            " --multilabel out"
        )
    index = (
        by_folder(classes, group=group) if classes is not None else _tabled(table, images, multilabel, group)
    )
    # columns of one class each are the classes, in their order; other names stand in the listing
    columns = table.classes if table is not None and len(table.classes) > 1 else ()
    labels = tuple(Label(name) for name in columns)
    return DatasetSpec(
        dataset, channels or 3, labels, index, (), task="classification", multilabel=multilabel
    )


def _tabled(table: Table | None, images: str | None, multilabel: bool, group: str | None) -> IndexFunction:
    if table is None:
        raise ValueError("no table given")
    if table.group is not None and group is not None:
        raise MedsegError("the group comes from a column of the table or from --group; give one of the two")
    by_path = grouper(group) if group is not None else None
    return from_csv(table, images or "**/*", multilabel=multilabel, group=by_path)
