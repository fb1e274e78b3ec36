"""The index as a record and as ``index.json``, one sample per line."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from medseg.data.class_table import Table
from medseg.data.documents import digest, read_document, write_document
from medseg.data.spec import Label
from medseg.errors import MedsegError

FORMAT = 1


@dataclass(frozen=True)
class Fault:
    """Why one case is not usable: the file, what was seen, what to do."""

    case: str
    file: str
    reason: str
    cure: str


@dataclass(frozen=True)
class IndexedSample:
    """A sample that was opened and found good.

    Args:
        case, image, masks, group, part, category, classes: as in ``Sample``; duplicates share a group.
        height: of the image, in pixels.
        width: of the image, in pixels.
        lesion_fraction: share of the pixels that the mask marks, 0 to 1; 0 for classification.
        content: SHA-256 of the bytes of the image and mask files.
        pixels: SHA-256 of the decoded image, the same for two files that show the same picture; an image of one
            single value, which shows nothing, is told by its file (segmentation) or its name (classification).
        stamps: size in bytes and modification time in ns of the image and each mask.
    """

    case: str
    image: str
    masks: tuple[str, ...]
    group: str
    part: str | None
    height: int
    width: int
    lesion_fraction: float
    content: str
    pixels: str
    stamps: tuple[tuple[int, int], ...]
    category: str | None = None
    classes: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[str, ...]:
        """The image and its masks."""
        return (self.image, *self.masks)


@dataclass(frozen=True)
class Rules:
    """How the folder was read, so that it can be read again in the same way.

    Args:
        images: glob of the images of a user's own data set, ``None`` for a registered one.
        masks: glob of the masks, with ``{stem}``.
        group: regular expression with a part named ``group``.
        grey_masks: masks are cut at half of full scale whatever their values.
        allow_empty: masks without lesion are good.
        skip_faulty: faulty pairs were left out.
        mask_value: the one value that means lesion in masks that are label maps.
        classes: pattern of a user's own folders of classes, with ``{class}``.
        table: a user's own table of classes.
        multilabel: images of the user's own table may have several classes, or none.
    """

    images: str | None = None
    masks: str | None = None
    group: str | None = None
    grey_masks: bool = False
    allow_empty: bool = False
    skip_faulty: bool = False
    mask_value: int | None = None
    classes: str | None = None
    table: Table | None = None
    multilabel: bool = False

    def source(self) -> dict[str, Any]:
        """The arguments of ``catalogue.find_spec`` that say where images, masks and classes are found."""
        names = ("images", "masks", "group", "classes", "table", "multilabel")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class Index:
    """The usable samples of one data set in one folder.

    Args:
        dataset: name of the data set.
        title: its title.
        root: absolute top folder, to which the samples' paths are relative.
        channels: channels of the images as they are read, 1 or 3.
        depth: type of the pixels, ``uint8``, ``uint16`` or ``float32``.
        labels: the structures of the masks, or all classes in the order of the channels.
        samples: in natural order of the listing.
        faults: the samples that were left out.
        duplicates: sets of cases that show the same picture, which share a group.
        rules: how the folder was read.
        task: ``segmentation`` or ``classification``.
        multilabel: an image may have several classes, or none.
    """

    dataset: str
    title: str
    root: Path
    channels: int
    depth: str
    labels: tuple[Label, ...]
    licence: str
    citation: str
    expected: int
    samples: tuple[IndexedSample, ...]
    faults: tuple[Fault, ...] = ()
    duplicates: tuple[tuple[str, ...], ...] = ()
    rules: Rules = field(default_factory=Rules)
    task: str = "segmentation"
    multilabel: bool = False

    @property
    def fingerprint(self) -> str:
        """SHA-256 over what the samples hold and how they are grouped, wherever the folder lies."""
        # categories and classes are appended only where there are some: other sets keep the fingerprints of old indexes
        lines = sorted(
            (s.case, s.group, s.part or "", s.content, *([s.category] if s.category else []), *s.classes)
            for s in self.samples
        )
        head = [FORMAT, self.dataset, self.channels, [label.name for label in self.labels]]
        kind = [] if self.task == "segmentation" else [self.task, self.multilabel]
        return digest([*head, *kind, lines])

    def targets(self) -> np.ndarray:
        """Which classes each image of a classification set has: ``(N, K)`` ``uint8`` of 0 and 1."""
        channel = {label.name: k for k, label in enumerate(self.labels)}
        targets = np.zeros((len(self.samples), len(channel)), np.uint8)
        for i, sample in enumerate(self.samples):
            targets[i, [channel[name] for name in sample.classes]] = 1
        return targets

    @property
    def groups(self) -> int:
        """Number of distinct groups."""
        return len({sample.group for sample in self.samples})

    @property
    def contradictions(self) -> tuple[tuple[str, ...], ...]:
        """The duplicates whose classes differ: one picture that is said to be two things."""
        classes = {sample.case: sample.classes for sample in self.samples}
        return tuple(cases for cases in self.duplicates if len({classes[case] for case in cases}) > 1)

    def class_counts(self) -> dict[str, int]:
        """Number of images of each class, in the order of the channels."""
        names = [label.name for label in self.labels]
        return dict(zip(names, self.targets().sum(axis=0, dtype=np.int64).tolist(), strict=True))


def index_path(dataset: str, prepared_dir: Path) -> Path:
    """Where the index of a data set lies: ``prepared/<dataset>/index.json``."""
    return prepared_dir / dataset / "index.json"


def write_index(index: Index, path: Path) -> None:
    """Write an index as JSON, one sample per line."""
    head = asdict(replace(index, samples=(), faults=(), duplicates=()))
    document = {"format": FORMAT, "fingerprint": index.fingerprint, **head, "root": str(index.root)}
    document["duplicates"] = [list(cases) for cases in index.duplicates]
    document["faults"] = [asdict(fault) for fault in index.faults]
    document["samples"] = [_line(sample) for sample in index.samples]
    write_document(document, path)


def _line(sample: IndexedSample) -> dict[str, Any]:
    """A sample for JSON; classes are said where there are some."""
    return {key: value for key, value in vars(sample).items() if key != "classes" or value}


def read_index(path: Path) -> Index:
    """Read an index.

    Raises:
        MedsegError: it is missing, broken, of another version, or was edited.
    """
    cure = "make it again with 'medseg data index'"
    document = read_document(path, cure)
    try:
        if document.pop("format") != FORMAT:
            raise MedsegError(f"{path}: written by another version of medseg; {cure}")
        fingerprint = document.pop("fingerprint")
        index = Index(**_revived(document))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise MedsegError(f"{path}: not a whole index ({error}); {cure}") from None
    if index.fingerprint != fingerprint:
        raise MedsegError(f"{path}: was changed by hand, its fingerprint no longer fits; {cure}")
    return index


def _revived(document: dict[str, Any]) -> dict[str, Any]:
    """The fields of an ``Index`` from JSON: lists become tuples and records."""
    labels = tuple(
        Label(item["name"], tuple(item["code"]) if item["code"] else None) for item in document["labels"]
    )
    samples = tuple(
        IndexedSample(
            **item
            | {name: tuple(item.get(name, ())) for name in ("masks", "classes")}
            | {"stamps": tuple(map(tuple, item["stamps"]))}
        )
        for item in document["samples"]
    )
    rules = dict(document["rules"])
    if rules.get("table"):
        rules["table"] = Table.revived(rules["table"])
    return document | {
        "root": Path(document["root"]),
        "labels": labels,
        "samples": samples,
        "faults": tuple(Fault(**item) for item in document["faults"]),
        "duplicates": tuple(map(tuple, document["duplicates"])),
        "rules": Rules(**rules),
    }
