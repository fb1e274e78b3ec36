"""The files of ``prepared/<dataset>/``: opened when they still fit, made when they are missing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from filelock import FileLock

from medseg.data.datasets import DATASETS
from medseg.data.duplicates import united
from medseg.data.index import Progress, build_index, content, find_spec, stamps
from medseg.data.index_file import Index, IndexedSample, index_path, read_index, write_index
from medseg.data.spec import Sample
from medseg.data.splits import make_splits, parse_split_name
from medseg.data.splits_file import Splits, read_splits, split_path, write_splits
from medseg.errors import MedsegError, unknown


def dataset_lock(dataset: str, prepared_dir: Path) -> FileLock:
    """The lock under which one process at a time writes below ``prepared/<dataset>/``."""
    folder = prepared_dir / dataset
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / ".lock")


def open_index(
    dataset: str, dataset_dir: Path | None, prepared_dir: Path, progress: Progress | None = None
) -> Index:
    """The index of a data set, checked against its files; a registered one is made when missing.

    Raises:
        MedsegError: there is no index and none can be made, or its files have changed.
    """
    path = index_path(dataset, prepared_dir)
    if not path.is_file():
        dataset_dir = source_folder(dataset, dataset_dir, prepared_dir)
    with dataset_lock(dataset, prepared_dir):
        if path.is_file():
            old = read_index(path)
            index = refreshed(old, dataset_dir)
            if index is not old:
                write_index(index, path)
            return index
        index = build_index(dataset, dataset_dir or Path(), progress=progress)
        write_index(index, path)
        return index


def source_folder(dataset: str, dataset_dir: Path | None, prepared_dir: Path) -> Path:
    """The folder to index: the one given, or where a built-in data set is drawn.

    Raises:
        MedsegError: none is given and the data set is not built in.
    """
    if dataset not in DATASETS and dataset_dir is not None:
        command = (
            f"medseg data index {dataset} --data {dataset_dir} --images 'images/*' --masks 'masks/{{stem}}.*'"
        )
        error = unknown("data set", dataset, DATASETS.names())
        raise MedsegError(
            f"{error}, and not indexed in {prepared_dir}; for a folder of your own: {command}, or for classes"
            " --classes '{class}/*' or --table FILE.csv"
        )
    if dataset_dir is not None:
        return dataset_dir
    if dataset in DATASETS and DATASETS.build(dataset).draw:
        return prepared_dir / dataset / "source"
    raise MedsegError(f"{dataset}: not indexed in {prepared_dir}; say where its folder is (--data DIR)")


def external_name(split: str, dataset: str, prepared_dir: Path) -> str | None:
    """The data set that a split tests on, if it is an external one."""
    path = split_path(dataset, prepared_dir, split)
    if path.is_file():
        return read_splits(path).test_dataset
    return (
        split.removeprefix("external-").removesuffix("-ungrouped") if split.startswith("external-") else None
    )


def open_splits(index: Index, name: str, prepared_dir: Path, test_index: Index | None = None) -> Splits:
    """A split of a data set; one with a usual name is made when missing.

    Raises:
        MedsegError: it fits another index, or has no usual name and was not made.
    """
    path = split_path(index.dataset, prepared_dir, name)
    with dataset_lock(index.dataset, prepared_dir):
        if not path.is_file():
            write_splits(make_splits(index, **parse_split_name(name), test_index=test_index), path)
        return read_splits(path, index, test_index)


def refreshed(index: Index, data_dir: Path | None) -> Index:
    """The index with its folder and stamps brought up to date, after a cheap look at the files.

    Sizes and modification times are compared; a file that differs in them, or lies elsewhere now, is read and
    its content compared. Nothing is decoded.

    Raises:
        MedsegError: a file is gone, has another content, or came in addition.
    """
    spec = find_spec(index.dataset, **index.rules.source())
    if spec.draw and data_dir is None and not spec.found_in(index.root):
        spec.draw(index.root)
    root = spec.locate(data_dir or index.root)
    cure = f"run 'medseg data index {index.dataset}' again"
    listed = spec.index(root)
    _same_listing(index, listed, spec.resolve is not None, cure)
    if index.task == "classification":
        _same_classes(index, listed, cure)
    samples = tuple(_fresh_sample(sample, root, cure) for sample in index.samples)
    return (
        index
        if root == index.root and samples == index.samples
        else replace(index, root=root, samples=samples)
    )


def _same_listing(index: Index, listed: list[Sample], resolved: bool, cure: str) -> None:
    masks = {s.image: s.masks for s in listed}
    for sample in index.samples:
        if not _same_masks(sample, masks.get(sample.image), resolved):
            what = "its masks changed" if sample.image in masks else "is gone"
            raise MedsegError(f"{index.dataset}: {sample.image} {what} since the index was made; {cure}")
    known = {sample.image for sample in index.samples} | {fault.file for fault in index.faults}
    cases = {fault.case for fault in index.faults}
    new = [s.image or s.masks[0] for s in listed if not {s.image, *s.masks} & known and s.case not in cases]
    if new:
        raise MedsegError(
            f"{index.dataset}: {len(new)} files came after the index was made, such as {new[0]}; {cure}"
        )


def _same_classes(index: Index, listed: list[Sample], cure: str) -> None:
    """Refuse a listing that tells other classes, parts or groups than it did: a table is easily corrected."""
    now = {sample.image: sample for sample in listed}
    groups = united({sample.case: now[sample.image].group for sample in index.samples}, index.duplicates)
    for sample in index.samples:
        new = now[sample.image]
        told = {"classes": new.classes, "part": new.part, "group": groups[sample.case]}
        for name, value in told.items():
            if value != getattr(sample, name):
                raise MedsegError(
                    f"{index.dataset}: {name} of {sample.image} changed since the index was made; {cure}"
                )


def _same_masks(sample: IndexedSample, listed: tuple[str, ...] | None, resolved: bool) -> bool:
    # of the files that belong to a sample, some may have been found to be no masks
    if resolved and listed is not None:
        return set(sample.masks) <= set(listed)
    return sample.masks == listed


def _fresh_sample(sample: IndexedSample, root: Path, cure: str) -> IndexedSample:
    files = [root / name for name in sample.files]
    try:
        now = stamps(files)
        if now == sample.stamps:
            return sample
        same = content(files) == sample.content
    except OSError as error:
        raise MedsegError(f"{error.filename}: {error.strerror}; {cure}") from None
    if not same:
        raise MedsegError(f"{files[0]}: it or its mask has changed since the index was made; {cure}")
    return replace(sample, stamps=now)
