"""A spec and a folder become ``index.json``: every file opened, every fault found, every duplicate listed."""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from medseg.data.address import split_address
from medseg.data.catalogue import find_spec
from medseg.data.class_table import Table
from medseg.data.documents import digest
from medseg.data.duplicates import find_duplicates, united
from medseg.data.images import FileFault, read_picture
from medseg.data.index_file import Fault, Index, IndexedSample, Rules
from medseg.data.reading import check_classes, read_pair, read_sample
from medseg.data.spec import DatasetSpec, Label, Sample, natural_key
from medseg.errors import MedsegError

__all__ = [
    "FaultyFiles",
    "Progress",
    "build_index",
    "content",
    "find_duplicates",
    "find_spec",
    "read_sample",
    "stamps",
]

#: called with the number of samples done and their total
Progress = Callable[[int, int], None]


class FaultyFiles(MedsegError):
    """Some images, or pairs of image and mask, cannot be used; ``faults`` holds all of them."""

    def __init__(self, dataset: str, faults: tuple[Fault, ...], what: str = "pairs") -> None:
        shown = [f"  {fault.case}: {fault.reason} ({fault.file}); {fault.cure}" for fault in faults[:20]]
        more = [f"  ... and {len(faults) - 20} more"] if len(faults) > 20 else []
        self.counted = f"{len(faults)} faulty {what.removesuffix('s') if len(faults) == 1 else what}"
        head = f"{dataset}: {self.counted}; mend them, or leave them out with --skip-faulty"
        super().__init__("\n".join([head, *shown, *more]))
        self.faults, self.what = faults, what


def build_index(
    dataset: str,
    data_dir: Path,
    *,
    images: str | None = None,
    masks: str | None = None,
    group: str | None = None,
    channels: int | None = None,
    label: str | None = None,
    grey_masks: bool | None = None,
    allow_empty: bool | None = None,
    mask_value: int | None = None,
    skip_faulty: bool = False,
    classes: str | None = None,
    table: Table | None = None,
    multilabel: bool = False,
    progress: Progress | None = None,
) -> Index:
    """Open every image and mask of a data set and list the good ones.

    Args:
        dataset: a registered name, or a name of one's own together with ``images`` and ``masks``, with ``classes``, or
            with ``table``.
        data_dir: the folder of the data set; a built-in one is drawn there.
        images: glob of the images, relative to the folder.
        masks: glob of an image's masks, with ``{stem}``.
        group: regular expression with a part named ``group``, searched in the image's path.
        channels: 1 or 3; as the spec says (own data: 3) if not given.
        label: what the masks of one's own data set show.
        grey_masks: cut masks at half of full scale whatever their values; as the spec says if not given.
        allow_empty: masks without lesion are good; as the spec says if not given.
        mask_value: the one value that means lesion, for masks that are label maps.
        skip_faulty: leave faulty pairs out instead of raising.
        classes: pattern of the images of one's own folders of classes, with ``{class}``.
        table: one's own table of classes; ``images`` then says which files it means.
        multilabel: an image of one's own table may have several classes, or none.
        progress: told after each sample.

    Raises:
        FaultyFiles: some pairs are faulty and ``skip_faulty`` is not set.
        MedsegError: the name or the folder does not exist, no sample is usable, or there are too few classes.
    """
    source: dict[str, Any] = {"images": images, "masks": masks, "group": group}
    source |= {"classes": classes, "table": table, "multilabel": multilabel}
    spec = find_spec(dataset, **source, channels=channels, label=label)
    rules = Rules(
        **source,
        grey_masks=spec.grey_masks if grey_masks is None else grey_masks,
        allow_empty=spec.empty_masks if allow_empty is None else allow_empty,
        skip_faulty=skip_faulty,
        mask_value=mask_value,
    )
    channels = channels or spec.channels
    if channels not in (1, 3):
        raise MedsegError(f"{dataset}: channels is {channels}; images have 1 or 3")
    if spec.draw and not spec.found_in(data_dir):
        spec.draw(data_dir)
    root = spec.locate(data_dir)
    listed = spec.index(root)
    if not listed:
        raise MedsegError(f"{root}: no image of {spec.title} found; check the folder and the patterns")
    labels = spec.labels or _listed_classes(listed, spec)
    spec = replace(spec, labels=labels)
    twins = _twins(listed)
    twin_cases = {fault.case for fault in twins}
    single = [sample for sample in listed if sample.case not in twin_cases]
    opened, unusable = _open_all(single, root, channels, spec, rules, progress)
    samples, depth, odd = _one_depth(opened)
    faults = tuple(sorted((*unusable, *odd, *twins), key=lambda fault: natural_key(fault.case)))
    what = "pairs" if spec.task == "segmentation" else "images"
    if faults and not skip_faulty:
        raise FaultyFiles(dataset, faults, what)
    if not samples:
        raise MedsegError(
            f"{root}: every {what[:-1]} of {spec.title} is faulty; the first: {faults[0].reason}"
        )
    duplicates = find_duplicates(samples)
    groups = united({sample.case: sample.group for sample in samples}, duplicates)
    return Index(
        dataset,
        spec.title,
        root,
        channels,
        depth,
        labels,
        spec.licence,
        spec.citation,
        spec.expected,
        tuple(replace(sample, group=groups[sample.case]) for sample in samples),
        faults,
        duplicates,
        rules,
        spec.task,
        spec.multilabel,
    )


def _listed_classes(listed: list[Sample], spec: DatasetSpec) -> tuple[Label, ...]:
    """The classes of a user's own data set in natural order."""
    names = sorted({name for sample in listed for name in sample.classes if sample.image}, key=natural_key)
    if len(names) < (1 if spec.multilabel else 2):
        raise MedsegError(
            f"{spec.title}: the classes found are {', '.join(names) or 'none'}; at least two are needed to tell apart"
        )
    return tuple(Label(name) for name in names)


Opened = tuple[IndexedSample, str]


def _open_all(
    listed: list[Sample],
    root: Path,
    channels: int,
    spec: DatasetSpec,
    rules: Rules,
    progress: Progress | None,
) -> tuple[list[Opened], list[Fault]]:
    opened: list[Opened] = []
    faults: list[Fault] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = pool.map(lambda sample: _open_or_fault(sample, root, channels, spec, rules), listed)
        for done, (good, faulty) in enumerate(results, 1):
            opened += good
            faults += faulty
            if progress:
                progress(done, len(listed))
    return opened, faults


def _open_or_fault(
    sample: Sample, root: Path, channels: int, spec: DatasetSpec, rules: Rules
) -> tuple[list[Opened], list[Fault]]:
    if not sample.image:
        what = "mask" if spec.task == "segmentation" else "row of the table"
        reason, cure = f"the {what} has no image", f"restore the image or remove the {what}"
        return [], [Fault(sample.case, sample.masks[0], reason, cure)]
    if not sample.masks and spec.task == "segmentation":
        return [], [
            Fault(sample.case, sample.image, "the image has no mask", "restore the mask or remove the image")
        ]
    try:
        sample = spec.resolve(root, sample) if spec.resolve else sample
        if spec.task == "classification":
            check_classes(root, sample, spec)
        return [_open(sample, root, channels, spec, rules)], []
    except FileFault as fault:
        file = fault.path.relative_to(root).as_posix()
        return [], [Fault(sample.case, file, fault.reason, fault.cure)]


def _open(sample: Sample, root: Path, channels: int, spec: DatasetSpec, rules: Rules) -> Opened:
    segmentation = spec.task == "segmentation"
    if segmentation:
        picture, mask = read_pair(sample, root, channels, spec, rules, rules.allow_empty)
    else:
        picture, mask = read_picture(root / sample.image, channels), np.zeros(1)
    image = picture.stored()
    files = [root / name for name in (sample.image, *sample.masks)]
    # an even image, such as the outermost slice of a volume, shows nothing: another one is not the same picture
    even = bool((image == image.flat[0]).all())
    # two blank tiles are equal to the last byte, and would make one group of two patients
    nothing = [content(files[:1]), split_address(files[0])[1]] if segmentation else [sample.image]
    indexed = IndexedSample(
        **vars(sample),
        height=image.shape[1],
        width=image.shape[2],
        lesion_fraction=round(float(mask.mean()), 6),
        content=content(files),
        pixels=digest(nothing) if even else _fingerprint(image),
        stamps=stamps(files),
    )
    return indexed, str(image.dtype)


def content(files: Iterable[Path]) -> str:
    """SHA-256 over the bytes of some files, each hashed first so that their borders count.

    A slice stands for its whole volume, which is hashed once for all its slices.
    """
    return digest([_file_hash(path) for path in files])


def _file_hash(path: Path) -> str:
    file, part = split_address(path)
    if not part:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    status = file.stat()
    return _shared_hash(file, (status.st_size, status.st_mtime_ns))


@lru_cache(maxsize=1024)
def _shared_hash(file: Path, stamp: tuple[int, int]) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _fingerprint(image: np.ndarray) -> str:
    if (image == image[:1]).all():
        image = image[:1]
    return hashlib.sha256(repr((image.shape, str(image.dtype))).encode() + image.tobytes()).hexdigest()


def stamps(files: Iterable[Path]) -> tuple[tuple[int, int], ...]:
    """Size in bytes and modification time in ns of files."""
    found = (split_address(file)[0].stat() for file in files)
    return tuple((status.st_size, status.st_mtime_ns) for status in found)


def _one_depth(opened: list[Opened]) -> tuple[list[IndexedSample], str, list[Fault]]:
    """Keep the samples of the commonest pixel depth; the others are faults."""
    depths = Counter(depth for _, depth in opened) or Counter(["uint8"])
    common = depths.most_common(1)[0][0]
    cure = "save all images of a data set with one depth"
    odd = [
        Fault(sample.case, sample.image, f"pixels are {depth}, most images of the set {common}", cure)
        for sample, depth in opened
        if depth != common
    ]
    return [sample for sample, depth in opened if depth == common], common, odd


def _twins(listed: list[Sample]) -> list[Fault]:
    """Images that share a case name; their masks could not be told apart."""
    by_case: dict[str, list[str]] = defaultdict(list)
    for sample in listed:
        if sample.image:
            by_case[sample.case].append(sample.image)
    return [
        Fault(case, names[1], f"{len(names)} images share this name, as {names[0]}", "rename one of them")
        for case, names in by_case.items()
        if len(names) > 1
    ]
