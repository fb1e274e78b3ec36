"""Foot Ulcer Segmentation Challenge (FUSeg)."""

from __future__ import annotations

from medseg.data.datasets import DATASETS
from medseg.data.spec import DatasetSpec, Label, joined, paired

TOP = "Foot Ulcer Segmentation Challenge"


@DATASETS.register("foot_ulcer")
def foot_ulcer() -> DatasetSpec:
    """Foot ulcers in photographs (FUSeg challenge 2021, Wang et al. 2024)."""
    return DatasetSpec(
        title=TOP,
        channels=3,
        labels=(Label("foot ulcer", ("56208002", "SCT", "Ulcer")),),
        index=joined(
            paired("train/images/*", "train/labels/{stem}.*", part="training"),
            paired("validation/images/*", "validation/labels/{stem}.*", part="validation"),
        ),
        layout=("train/images", "train/labels"),
        homepage="https://github.com/uwm-bigdata/wound-segmentation",
        licence="research, with citation",
        citation="Wang et al., FUSeg: The Foot Ulcer Segmentation Challenge, Information 15(3), 2024, "
        "doi:10.3390/info15030140",
        expected=1010,
        empty_masks=True,
        notes=(
            "810 training and 200 validation images; the labels of the 200 test images are not published, so "
            "the official split tests on the validation part and draws its validation from the training part",
            "24 masks are empty and stay in",
            "exact duplicates, some across training and validation, share a group; patients are not named",
        ),
    )
