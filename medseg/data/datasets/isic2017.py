"""ISIC 2017, part 1 (lesion segmentation)."""

from __future__ import annotations

from medseg.data.datasets import DATASETS
from medseg.data.spec import DatasetSpec, IndexFunction, Label, joined, paired

#: official folder names: part, images, masks
FOLDERS = (
    ("training", "ISIC-2017_Training_Data", "ISIC-2017_Training_Part1_GroundTruth"),
    ("validation", "ISIC-2017_Validation_Data", "ISIC-2017_Validation_Part1_GroundTruth"),
    ("testing", "ISIC-2017_Test_v2_Data", "ISIC-2017_Test_v2_Part1_GroundTruth"),
)


def _part(part: str, images: str, masks: str) -> IndexFunction:
    return paired(f"{images}/*", f"{masks}/{{stem}}_segmentation.*", part=part, exclude="*_superpixels.*")


@DATASETS.register("isic2017")
def isic2017() -> DatasetSpec:
    """Skin lesions in dermoscopy images (ISIC challenge 2017, Codella et al. 2018)."""
    return DatasetSpec(
        title="ISIC 2017",
        channels=3,
        labels=(Label("skin lesion", ("52988006", "SCT", "Lesion")),),
        index=joined(*(_part(*folders) for folders in FOLDERS)),
        layout=FOLDERS[0][1:],
        homepage="https://challenge.isic-archive.com/data/#2017",
        licence="CC0 1.0",
        citation="Codella et al., Skin lesion analysis toward melanoma detection: a challenge at ISBI 2017, "
        "ISBI 2018, arXiv:1710.05006",
        expected=2750,
        notes=(
            "2000 training, 150 validation, 600 test images in folders of their own; training alone works",
            "superpixel files beside the images are no images",
            "patients are not named: only exact duplicates share a group",
        ),
    )
