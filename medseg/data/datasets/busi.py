"""Breast Ultrasound Images (BUSI): the benign and malignant lesions alone, together, and with normal images; and
the three classes.
"""

from __future__ import annotations

from medseg.data.class_folders import by_folder
from medseg.data.datasets import DATASETS
from medseg.data.spec import DatasetSpec, Label, joined, paired

HOMEPAGE = "https://scholar.cu.edu.eg/?q=afahmy/pages/dataset"
LICENCE = "CC BY 4.0 (article)"
CITATION = (
    "Al-Dhabyani et al., Dataset of breast ultrasound images, Data in Brief 28, 2020, "
    "doi:10.1016/j.dib.2019.104863"
)
MASS = ("4147007", "SCT", "Mass")
UNITED = "several mask files of one image (_mask, _mask_1, ...) are united"
SAME_PICTURE = "benign (433) and malignant (145) are one picture and share a group, whatever their categories"
PATIENTS = "patients are not named: only exact duplicates share a group"


def _busi(
    title: str, label: str, kinds: tuple[str, ...], expected: int, notes: tuple[str, ...]
) -> DatasetSpec:
    several = len(kinds) > 1
    return DatasetSpec(
        title=title,
        channels=3,
        labels=(Label(label, MASS),),
        index=joined(
            *(
                paired(f"{kind}/*", f"{kind}/{{stem}}_mask*", category=kind if several else None)
                for kind in kinds
            )
        ),
        layout=kinds,
        homepage=HOMEPAGE,
        licence=LICENCE,
        citation=CITATION,
        expected=expected,
        empty_masks="normal" in kinds,
        notes=(UNITED, *notes, PATIENTS),
    )


@DATASETS.register("busi_benign")
def busi_benign() -> DatasetSpec:
    """Benign lesions in breast ultrasound (Al-Dhabyani et al. 2020)."""
    return _one_kind("benign", 437)


@DATASETS.register("busi_malignant")
def busi_malignant() -> DatasetSpec:
    """Malignant lesions in breast ultrasound (Al-Dhabyani et al. 2020)."""
    return _one_kind("malignant", 210)


def _one_kind(kind: str, expected: int) -> DatasetSpec:
    twin = "benign (433) and malignant (145) are one picture; an external split leaves it out of training"
    return _busi(f"BUSI {kind}", f"{kind} lesion", (kind,), expected, (twin,))


@DATASETS.register("busi_lesions")
def busi_lesions() -> DatasetSpec:
    """Benign and malignant lesions in breast ultrasound (Al-Dhabyani et al. 2020)."""
    return _busi("BUSI lesions", "lesion", ("benign", "malignant"), 647, (SAME_PICTURE,))


@DATASETS.register("busi")
def busi() -> DatasetSpec:
    """Breast ultrasound with benign, malignant and no lesions (Al-Dhabyani et al. 2020)."""
    empty = "the 133 normal images have empty masks"
    return _busi("BUSI", "lesion", ("benign", "malignant", "normal"), 780, (empty, SAME_PICTURE))


@DATASETS.register("busi_class", task="classification")
def busi_class() -> DatasetSpec:
    """Breast ultrasound as normal, benign or malignant (Al-Dhabyani et al. 2020)."""
    codes = {"normal": "17621005", "benign": "30807003", "malignant": "21594007"}
    return DatasetSpec(
        title="BUSI classes",
        channels=3,
        labels=tuple(Label(kind, (code, "SCT", kind.capitalize())) for kind, code in codes.items()),
        index=by_folder("{class}/*", names={kind: kind for kind in codes}, exclude="*_mask*"),
        layout=tuple(codes),
        homepage=HOMEPAGE,
        licence=LICENCE,
        citation=CITATION,
        expected=780,
        task="classification",
        notes=(
            "the masks beside the images are not read",
            "many images carry callipers or text, which lesions have more often than normal tissue",
            SAME_PICTURE,
            PATIENTS,
        ),
    )
