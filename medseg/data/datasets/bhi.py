"""Breast histopathology images (BHI): tiles of whole-slide images with and without invasive ductal carcinoma."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from medseg.data.address import natural_key
from medseg.data.datasets import DATASETS
from medseg.data.faults import FileFault
from medseg.data.spec import DatasetSpec, Label, Sample

#: patient, place of the tile in the slide's image in pixels, and class
NAME = re.compile(r"(?P<patient>\d+)_idx5_x(?P<x>\d+)_y(?P<y>\d+)_class(?P<class>[01])\.png")
CLASSES = ("no IDC", "IDC")


@DATASETS.register("bhi", task="classification")
def bhi() -> DatasetSpec:
    """Tiles of breast tissue with and without invasive ductal carcinoma (Janowczyk & Madabhushi 2016)."""
    return DatasetSpec(
        title="Breast Histopathology Images",
        channels=3,
        labels=(Label(CLASSES[0]), Label(CLASSES[1], ("82711006", "SCT", "Infiltrating duct carcinoma"))),
        index=index,
        layout=("IDC_regular_ps50_idx5",),
        homepage="https://www.kaggle.com/datasets/paultimothymooney/breast-histopathology-images",
        licence="research, with citation",
        citation="Cruz-Roa et al., Automatic detection of invasive ductal carcinoma in whole slide images with "
        "convolutional neural networks, Proc. SPIE 9041, 2014, doi:10.1117/12.2043872; Janowczyk and Madabhushi, "
        "Deep learning for digital pathology image analysis, J Pathol Inform 7:29, 2016, "
        "doi:10.4103/2153-3539.186902",
        expected=277524,
        task="classification",
        resolve=checked,
        recognise=recognised,
        notes=(
            "277,524 tiles of 279 patients; the patient, and so the group, and the class stand in the file's name",
            "either <patient>/<class>/<tile>.png, or all tiles in one folder",
            "tiles are 50 x 50 pixels at 40x magnification reduced to 2.5x; those at the slide's edge are smaller",
            "neighbouring tiles of one slide look alike: an ungrouped split tests on the patients it trains on",
        ),
    )


def recognised(top: Path) -> bool:
    """Whether a folder holds the patients' folders, or the tiles."""
    return any(top.glob("*/[01]/*_class[01].png")) or any(top.glob("*_idx5_x*_y*_class[01].png"))


def index(top: Path) -> list[Sample]:
    """The tiles, in natural order, each with the patient and the class that its name tells."""
    samples = []
    for file in sorted(_tiles(top), key=natural_key):
        name = file.rsplit("/", 1)[-1]
        match = NAME.fullmatch(name)
        group = match["patient"] if match else file.split("/")[0]
        classes = (CLASSES[int(match["class"])],) if match else ()
        samples.append(Sample(name.removesuffix(".png"), file, (), group, None, None, classes))
    return samples


def _tiles(top: Path) -> Iterator[str]:
    """Paths of the PNG files in the top folder, or below it in ``<patient>/<class>``."""
    for entry in os.scandir(top):
        if _is_tile(entry.name):
            yield entry.name
        elif entry.name.isdigit():
            for kind in ("0", "1"):
                folder = Path(entry.path, kind)
                if folder.is_dir():
                    yield from (f"{entry.name}/{kind}/{tile}" for tile in _names(folder) if _is_tile(tile))


def _is_tile(name: str) -> bool:
    return name.endswith(".png") and not name.startswith(".")


def checked(top: Path, sample: Sample) -> Sample:
    """The sample, if its name has the known form and tells the patient and the class of its folders.

    Raises:
        FileFault: it does not.
    """
    file = top / sample.image
    match = NAME.fullmatch(file.name)
    if match is None:
        reason = "the name is not like 10253_idx5_x1001_y1001_class0.png"
        raise FileFault(file, reason, "restore its name or remove it")
    *folders, _ = sample.image.split("/")
    for kind, folder in zip(("patient", "class"), folders, strict=False):
        if match[kind] != folder:
            reason = f"the name says {kind} {match[kind]}, the folder {folder}"
            raise FileFault(file, reason, "move it to its own folder or remove it")
    return sample


def _names(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries]
