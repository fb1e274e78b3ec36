"""What a data set is: task, labels, channels, where its files lie, how images find masks, classes and groups."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from medseg.data.address import IMAGE_SUFFIXES, natural_key, stem
from medseg.data.pairing import files_of, grouper, masks_by_stem, without_masks
from medseg.data.sample import Label, Sample
from medseg.data.volumes import expanded
from medseg.errors import MedsegError

__all__ = ["IMAGE_SUFFIXES", "PARTS", "DatasetSpec", "Label", "Sample", "joined", "natural_key", "paired"]

#: the parts of a split, in the order of a study
PARTS = ("training", "validation", "testing")


IndexFunction = Callable[[Path], list[Sample]]
#: top folder and a sample with the files that belong to it -> the sample with the files that are its masks
Resolver = Callable[[Path, Sample], Sample]
#: annotation file, what is meant in it, and (height, width) -> mask ``(H, W)`` ``uint8`` of 0 and 1
MaskDrawer = Callable[[Path, str, tuple[int, int]], np.ndarray]


@dataclass(frozen=True)
class DatasetSpec:
    """One data set, in full.

    Args:
        title: name as its authors write it.
        channels: channels of an image, 1 or 3.
        labels: the structures of the masks; for classification all classes, in the order of the channels (none: those
            that the listing has, in natural order).
        index: top folder -> samples.
        layout: folders and files that the top folder holds, by which it is recognised; ``*`` stands for any text.
        homepage: the official download page.
        licence: terms of use, as best known.
        citation: the paper to cite.
        expected: official number of images with masks, or with classes.
        grey_masks: masks carry intermediate grey levels and are cut at half of full scale.
        empty_masks: masks without any lesion are part of the data set.
        fit_masks: masks of another size but the image's proportions (within 2 %) are stretched to it.
        resolve: tells by their content which files of a sample are its masks, when the index is made.
        draw_mask: draws a mask from an annotation such as ``Info.txt#mdb001``, where masks are no images.
        task: ``segmentation`` or ``classification``.
        multilabel: an image may have several classes, or none.
        recognise: tells the top folder, where no names of a layout do.
        notes: known faults and how they are handled.
        draw: draws the data set into an empty folder (built-in sets only).
    """

    title: str
    channels: int
    labels: tuple[Label, ...]
    index: IndexFunction
    layout: tuple[str, ...]
    homepage: str = ""
    licence: str = ""
    citation: str = ""
    expected: int = 0
    grey_masks: bool = False
    empty_masks: bool = False
    fit_masks: bool = False
    resolve: Resolver | None = None
    draw_mask: MaskDrawer | None = None
    task: str = "segmentation"
    multilabel: bool = False
    recognise: Callable[[Path], bool] | None = None
    notes: tuple[str, ...] = ()
    draw: Callable[[Path], None] | None = None

    def locate(self, folder: Path) -> Path:
        """The top folder: the one given, one at most three levels below, or one above by its layout.

        Raises:
            MedsegError: there is none, or several.
        """
        if not folder.is_dir():
            raise MedsegError(
                f"{folder}: no such folder; get {self.title} from {self.homepage or 'its authors'}"
            )
        if self.found_in(folder):
            return folder.resolve()
        above = [top for top in self._above(folder.resolve()) if self.found_in(top)]
        if above:
            return above[0]
        for depth in ("*", "*/*", "*/*/*"):
            below = [top for top in sorted(folder.glob(depth)) if top.is_dir() and self.found_in(top)]
            if len(below) > 1:
                names = ", ".join(str(top) for top in below[:4])
                raise MedsegError(f"{folder}: holds {self.title} several times ({names}); name one of them")
            if below:
                return below[0].resolve()
        wanted = ", ".join(name if PurePosixPath(name).suffix else f"{name}/" for name in self.layout)
        raise MedsegError(f"{folder}: {self.title} not found: no folder here or below holds {wanted}")

    def found_in(self, top: Path) -> bool:
        """Whether a folder has the layout of the data set."""
        if self.recognise is not None:
            return self.recognise(top)
        return all(any(top.glob(name)) if "*" in name else (top / name).exists() for name in self.layout)

    def _above(self, folder: Path) -> list[Path]:
        """The folders of which ``folder`` would be a part of the layout: ``X`` for ``X/images``."""
        tops = []
        for name in self.layout:
            parts = PurePosixPath(name).parts
            for length in range(1, len(parts) + 1):
                if folder.parts[-length:] == parts[:length] and len(folder.parts) > length:
                    tops.append(folder.parents[length - 1])
        return tops


def paired(
    images: str,
    masks: str,
    *,
    group: str | Callable[[str], str] | None = None,
    part: str | None = None,
    exclude: str | None = None,
    category: str | None = None,
) -> IndexFunction:
    """An index function that pairs images and masks by the stem of their names.

    A volume (NIfTI, or DICOM of several frames) becomes one sample per slice, ``p1_z012``, with the same slice of
    its mask volumes.

    Args:
        images: glob pattern of the images, such as ``images/*``; only image files count.
        masks: glob pattern of an image's masks with ``{stem}`` for the image's stem, such as
            ``masks/{stem}.*``; it may match several files, which are united.
        group: regular expression with a part named ``group``, searched in the image's path, or a function
            of the image's stem; without it each image, or each volume, is its own group.
        part: the official part that all these samples belong to.
        exclude: glob pattern of files that are no images of the set.
        category: the class of all these images.

    Raises:
        MedsegError: ``masks`` lacks ``{stem}``, or ``group`` is no such expression.
    """
    if masks.count("{stem}") != 1 or "[" in masks:
        raise MedsegError(
            f"mask pattern {masks!r}: needs {{stem}} once, where the image's stem stands, and no '['"
        )
    for pattern in (images, masks):
        if not pattern or pattern.startswith("/") or ".." in PurePosixPath(pattern).parts:
            raise MedsegError(f"pattern {pattern!r}: must be relative to the data folder and stay within it")
    group_of = grouper(group)

    def index(folder: Path) -> list[Sample]:
        candidates = [
            name for name in files_of(folder, images) if not exclude or not fnmatch.fnmatch(name, exclude)
        ]
        found = masks_by_stem(folder, masks, {stem(name) for name in candidates})
        samples = []
        for name in without_masks(candidates, found):
            own = tuple(mask for mask in found.get(stem(name), ()) if mask != name)
            samples.append(Sample(stem(name), name, own, group_of(name), part, category))
        stems = {sample.case for sample in samples}
        orphans = [
            Sample(case, "", tuple(files), case, part) for case, files in found.items() if case not in stems
        ]
        slices = [piece for sample in samples for piece in expanded(sample, folder)]
        return slices + sorted(orphans, key=lambda sample: natural_key(sample.case))

    return index


def joined(*indexes: IndexFunction) -> IndexFunction:
    """One index function of several, such as one for each official part."""
    return lambda folder: [sample for index in indexes for sample in index(folder)]
