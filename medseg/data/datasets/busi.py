"""Breast Ultrasound Images (BUSI): the benign and the malignant lesions, each a data set."""

from __future__ import annotations

from medseg.data.datasets import DATASETS
from medseg.data.spec import DatasetSpec, Label, paired


def _busi(kind: str, expected: int) -> DatasetSpec:
    return DatasetSpec(
        title=f"BUSI {kind}",
        channels=3,
        labels=(Label(f"{kind} lesion", ("4147007", "SCT", "Mass")),),
        index=paired(f"{kind}/*", f"{kind}/{{stem}}_mask*"),
        layout=(kind,),
        homepage="https://scholar.cu.edu.eg/?q=afahmy/pages/dataset",
        licence="CC BY 4.0 (article)",
        citation="Al-Dhabyani et al., Dataset of breast ultrasound images, Data in Brief 28, 2020, "
        "doi:10.1016/j.dib.2019.104863",
        expected=expected,
        notes=(
            "several mask files of one image (_mask, _mask_1, ...) are united",
            "benign (433) and malignant (145) are one picture; an external split leaves it out of training",
            "patients are not named: only exact duplicates share a group",
        ),
    )


@DATASETS.register("busi_benign")
def busi_benign() -> DatasetSpec:
    """Benign lesions in breast ultrasound (Al-Dhabyani et al. 2020)."""
    return _busi("benign", 437)


@DATASETS.register("busi_malignant")
def busi_malignant() -> DatasetSpec:
    """Malignant lesions in breast ultrasound (Al-Dhabyani et al. 2020)."""
    return _busi("malignant", 210)
