"""CBIS-DDSM as The Cancer Imaging Archive (TCIA) gives it out: description CSVs, mammograms, ROI masks.

Every mammogram has a folder such as ``Mass-Training_P_00001_LEFT_CC`` with its DICOM file some levels below, and
every region of interest (ROI) a folder such as ``Mass-Training_P_00001_LEFT_CC_1`` with two: a mask of the whole
film and the cropped region. Which is which is told by their pixels, as the names, the order and the paths in the
CSVs mix them up.
"""

from __future__ import annotations

import csv
import os
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from medseg.data.address import DICOM_SUFFIXES
from medseg.data.datasets import DATASETS
from medseg.data.faults import FileFault
from medseg.data.spec import DatasetSpec, IndexFunction, Label, Sample, natural_key
from medseg.errors import MedsegError

#: folder of a mammogram, and with the number at its end, of one ROI
FOLDER = re.compile(r"(Mass|Calc)-(Training|Test)_P_\d+_(LEFT|RIGHT)_(CC|MLO)(_\d+)?")
PARTS = {"train": "training", "test": "testing"}
#: folders between the top folder and a mammogram's own
DEPTH = 4


@dataclass(frozen=True)
class Roi:
    """One row of a description CSV.

    Args:
        folder: of the ROI, such as ``Mass-Training_P_00001_LEFT_CC_1``.
        film: folder of its mammogram.
        patient: such as ``P_00001``.
        view: patient, side and projection, such as ``P_00001_LEFT_CC``.
        part: ``training`` or ``testing``.
        malignant: by its pathology.
    """

    folder: str
    film: str
    patient: str
    view: str
    part: str
    malignant: bool


@DATASETS.register("cbis_ddsm")
def cbis_ddsm() -> DatasetSpec:
    """Masses and calcifications in mammograms (Lee et al. 2017)."""
    both = "a film with masses and calcifications, which 3,103 counts twice, is one sample with all its masks"
    return _cbis("CBIS-DDSM", ("mass", "calc"), Label("lesion", ("52988006", "SCT", "Lesion")), 3103, both)


@DATASETS.register("cbis_ddsm_mass")
def cbis_ddsm_mass() -> DatasetSpec:
    """Masses in mammograms (Lee et al. 2017); calcifications, which are outlined coarsely, are left aside."""
    alone = "calcifications beside a mass are not marked"
    return _cbis("CBIS-DDSM masses", ("mass",), Label("mass", ("4147007", "SCT", "Mass")), 1592, alone)


def _cbis(title: str, kinds: tuple[str, ...], label: Label, expected: int, note: str) -> DatasetSpec:
    names = tuple(f"{kind}_case_description_{part}_set.csv" for kind in kinds for part in PARTS)
    return DatasetSpec(
        title=title,
        channels=1,
        labels=(label,),
        index=described(names),
        layout=names,
        homepage="https://www.cancerimagingarchive.net/collection/cbis-ddsm/",
        licence="CC BY 3.0",
        citation="Lee et al., A curated mammography data set for use in computer-aided detection and diagnosis "
        "research, Scientific Data 4, 2017, doi:10.1038/sdata.2017.177",
        expected=expected,
        fit_masks=True,
        resolve=with_masks,
        notes=(
            "the description CSVs lie in one folder, the DICOM folders in it or up to four levels below",
            "masks and cropped regions are told apart by their pixels, not by name, order or CSV",
            "several regions of one film are united; the category is malignant if one of them is",
            "masks of another size than the film are stretched to it if their proportions agree within 2 %",
            "the patient is the group; a patient of both official parts is left out of training",
            note,
        ),
    )


def described(names: tuple[str, ...]) -> IndexFunction:
    """An index function of the films that some description CSVs name.

    The masks of its samples are all files of the ROI folders; ``with_masks`` finds the masks among them.

    Args:
        names: of the CSVs, with ``train`` or ``test`` in each.
    """

    def index(folder: Path) -> list[Sample]:
        files = _dicom_files(folder)
        by_view: dict[str, list[Roi]] = defaultdict(list)
        for name in names:
            for roi in _rois(folder / name):
                by_view[roi.view].append(roi)
        if by_view and not files:
            raise MedsegError(
                f"{folder}: holds the CSVs but no folder such as {next(iter(by_view.values()))[0].film}; "
                "put the CSVs beside the folder that the NBIA Data Retriever made"
            )
        return [_sample(view, by_view[view], files) for view in sorted(by_view, key=natural_key)]

    return index


def with_masks(root: Path, sample: Sample) -> Sample:
    """The sample with the one mask of each of its ROIs, told by the pixels.

    Raises:
        FileFault: the film's folder holds several files, or a ROI has no mask or several.
    """
    if (root / sample.image).is_dir():
        raise FileFault(
            root / sample.image, "holds several DICOM files or none", "keep the one mammogram in it"
        )
    by_roi: dict[str, list[str]] = defaultdict(list)
    for name in sample.masks:
        by_roi[_top(name)].append(name)
    return replace(sample, masks=tuple(_mask_of(root, sorted(names)) for names in by_roi.values()))


def _mask_of(root: Path, names: list[str]) -> str:
    """The mask among the files of one ROI.

    Of two files the smaller one is decoded, which is the crop as a rule; the other is then read as the mask, and
    refused if it holds other values.
    """
    sized = sorted(names, key=lambda name: (root / name).stat().st_size if (root / name).is_file() else 0)
    *smaller, largest = sized
    masks = [name for name in smaller if _is_mask(root / name)]
    if not smaller or masks:
        masks += [largest] if _is_mask(root / largest) else []
    else:
        masks = [largest]
    if len(masks) != 1:
        top = root / PurePosixPath(names[0]).parent
        seen = f"{len(masks)} of its {len(names)} files have the two values of a mask"
        raise FileFault(top, seen, "get the series again, or keep one mask in it")
    return masks[0]


def _is_mask(file: Path) -> bool:
    from medseg.data.images import read_picture

    values = read_picture(file, 1).values
    low, high = int(values.min()), int(values.max())
    return low == 0 and high in (1, 255, 65535) and bool(((values == 0) | (values == high)).all())


def _sample(view: str, rois: list[Roi], files: dict[str, list[str]]) -> Sample:
    """One film with all its ROIs; a folder that is not there stands for its files, and is reported."""
    films = list(dict.fromkeys(roi.film for roi in rois))
    found = next((film for film in films if film in files), films[0])
    image = files.get(found, [])
    masks = [name for roi in dict.fromkeys(roi.folder for roi in rois) for name in files.get(roi) or [roi]]
    return Sample(
        case=view if len(films) > 1 else films[0],
        image=image[0] if len(image) == 1 else str(PurePosixPath(image[0]).parent) if image else found,
        masks=tuple(masks),
        group=rois[0].patient,
        part="testing" if any(roi.part == "testing" for roi in rois) else "training",
        category="malignant" if any(roi.malignant for roi in rois) else "benign",
    )


def _rois(path: Path) -> Iterator[Roi]:
    """The rows of a description CSV.

    Raises:
        MedsegError: a row or a column is not as in the official files.
    """
    part = next(name for key, name in PARTS.items() if f"_{key}_" in path.name)
    kind = "Mass" if path.name.startswith("mass") else "Calc"
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            for row in csv.DictReader(file):
                yield _roi({key.strip(): value.strip() for key, value in row.items()}, kind, part)
    except (OSError, KeyError, AttributeError, ValueError, csv.Error) as error:
        raise MedsegError(f"{path}: not as the official file ({error}); get it again") from None


def _roi(row: dict[str, str], kind: str, part: str) -> Roi:
    pathology, patient = row["pathology"], row["patient_id"]
    if pathology not in ("MALIGNANT", "BENIGN", "BENIGN_WITHOUT_CALLBACK"):
        raise ValueError(f"pathology {pathology!r} of {patient}")
    view = f"{patient}_{row['left or right breast']}_{row['image view']}"
    film = f"{kind}-{'Training' if part == 'training' else 'Test'}_{view}"
    if not FOLDER.fullmatch(film):
        raise ValueError(f"{film!r} is no name of a film")
    folder = f"{film}_{int(row['abnormality id'])}"
    return Roi(folder, film, patient, view, part, pathology == "MALIGNANT")


def _dicom_files(folder: Path) -> dict[str, list[str]]:
    """The DICOM files below each folder of a film or ROI, relative to the top folder."""
    found: dict[str, list[str]] = {}
    for place, below, _ in os.walk(folder):
        path = Path(place)
        below.sort()
        for name in [name for name in below if FOLDER.fullmatch(name)]:
            below.remove(name)
            files = sorted(
                file.relative_to(folder).as_posix()
                for file in (path / name).rglob("*")
                if file.suffix.lower() in DICOM_SUFFIXES and not file.name.startswith(".")
            )
            found.setdefault(name, []).extend(files)
        if len(path.relative_to(folder).parts) >= DEPTH:
            below.clear()
    return {name: files for name, files in found.items() if files}


def _top(name: str) -> str:
    """The folder of the ROI that a file belongs to."""
    return next(part for part in PurePosixPath(name).parts if FOLDER.fullmatch(part))
