"""Frontal chest X-rays of NIH: a folder for each class, or all of ChestX-ray14 with its table of findings."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from medseg.data.class_folders import by_folder
from medseg.data.class_table import Table, from_csv
from medseg.data.datasets import DATASETS
from medseg.data.spec import DatasetSpec, Label, Sample
from medseg.errors import MedsegError

HOMEPAGE = "https://nihcc.app.box.com/v/ChestXray-NIHCC"
LICENCE = "no restrictions; cite the paper and name the NIH Clinical Center"
CITATION = (
    "Wang et al., ChestX-ray8: Hospital-scale chest X-ray database and benchmarks on weakly-supervised "
    "classification and localization of common thorax diseases, CVPR 2017, doi:10.1109/CVPR.2017.369"
)
MINED = "findings were mined from reports by a program, which its authors take to be right in over 90 %"
#: name of an image: the patient, and which of the patient's images it is
NAME = re.compile(r"(?P<patient>\d{8})_\d{3}")
#: the table, and the lists of the official parts
ENTRIES = "Data_Entry_2017*.csv"
LISTS = {"training": "train_val_list.txt", "testing": "test_list.txt"}
#: finding as the table writes it -> its label
FINDINGS = {
    "Atelectasis": Label("atelectasis", ("46621007", "SCT", "Atelectasis")),
    "Cardiomegaly": Label("cardiomegaly"),
    "Effusion": Label("effusion", ("60046008", "SCT", "Pleural effusion")),
    "Infiltration": Label("infiltration"),
    "Mass": Label("mass", ("4147007", "SCT", "Mass")),
    "Nodule": Label("nodule", ("27925004", "SCT", "Nodule")),
    "Pneumonia": Label("pneumonia", ("233604007", "SCT", "Pneumonia")),
    "Pneumothorax": Label("pneumothorax", ("36118008", "SCT", "Pneumothorax")),
    "Consolidation": Label("consolidation"),
    "Edema": Label("edema", ("19242006", "SCT", "Pulmonary edema")),
    "Emphysema": Label("emphysema"),
    "Fibrosis": Label("fibrosis"),
    "Pleural_Thickening": Label("pleural thickening"),
    "Hernia": Label("hernia"),
}


@DATASETS.register("chest_xray", task="classification")
def chest_xray() -> DatasetSpec:
    """Frontal chest X-rays with pneumonia and without findings, a folder each (Wang et al. 2017)."""
    return DatasetSpec(
        title="Chest X-ray",
        channels=1,
        labels=(Label("no finding"), FINDINGS["Pneumonia"]),
        index=index_folders,
        layout=("pneumonia", "no_findings"),
        homepage=HOMEPAGE,
        licence=LICENCE,
        citation=CITATION,
        task="classification",
        notes=(
            "a choice of NIH ChestX-ray14 in the folders pneumonia and no_findings",
            "where all names have the form 00001280_004, their first part, the patient, is the group",
            MINED,
        ),
    )


def index_folders(top: Path) -> list[Sample]:
    """The images of both folders; patients are known where all names tell them."""
    names = {"no_findings": "no finding", "pneumonia": "pneumonia"}
    samples = by_folder("{class}/*", names=names)(top)
    patients = [NAME.fullmatch(sample.case) for sample in samples]
    if not all(patients):
        return samples
    return [replace(s, group=match["patient"]) for s, match in zip(samples, patients, strict=True) if match]


@DATASETS.register("chest_xray14", task="classification")
def chest_xray14() -> DatasetSpec:
    """Frontal chest X-rays of 30,805 patients with up to 14 findings each (NIH ChestX-ray14, Wang et al. 2017)."""
    return DatasetSpec(
        title="NIH ChestX-ray14",
        channels=1,
        labels=tuple(FINDINGS.values()),
        index=index_table,
        layout=(ENTRIES,),
        homepage=HOMEPAGE,
        licence=LICENCE,
        citation=CITATION,
        expected=112120,
        task="classification",
        multilabel=True,
        notes=(
            "images lie in images/, or in images_001/images/ and its like; those that are not there are passed over",
            "an image may have several findings; No Finding means none of the 14",
            "the group is the Patient ID; train_val_list.txt and test_list.txt are the official parts",
            MINED,
        ),
    )


def index_table(top: Path) -> list[Sample]:
    """The images that are there, with the findings of the newest table.

    Raises:
        MedsegError: a table or list is not as NIH publishes it.
    """
    entries = sorted(file.name for file in top.glob(ENTRIES))[-1]
    table = Table(entries, "Image Index", ("Finding Labels",), "Patient ID")
    samples = from_csv(table, "images*/**/*.png", multilabel=True, none="No Finding", partial=True)(top)
    parts = _official_parts(top)
    named = {finding: label.name for finding, label in FINDINGS.items()}
    return [
        replace(
            sample,
            part=parts.get(sample.image.rsplit("/", 1)[-1]),
            classes=tuple(named.get(finding, finding) for finding in sample.classes),
        )
        for sample in samples
    ]


def _official_parts(top: Path) -> dict[str, str]:
    """Name of an image -> its part; none where the lists are not there."""
    parts: dict[str, str] = {}
    for part, file in LISTS.items():
        if (top / file).is_file():
            for name in (top / file).read_text(encoding="utf-8").split():
                if parts.setdefault(name, part) != part:
                    raise MedsegError(
                        f"{top / file}: {name} is also in {LISTS[parts[name]]}; get the lists again"
                    )
    return parts
