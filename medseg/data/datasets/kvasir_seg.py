"""Kvasir-SEG."""

from __future__ import annotations

from medseg.data.datasets import DATASETS
from medseg.data.spec import DatasetSpec, Label, paired


@DATASETS.register("kvasir_seg")
def kvasir_seg() -> DatasetSpec:
    """Polyps in colonoscopy images (Jha et al. 2020)."""
    return DatasetSpec(
        title="Kvasir-SEG",
        channels=3,
        labels=(Label("polyp", ("41329004", "SCT", "Polyp")),),
        index=paired("images/*", "masks/{stem}.*"),
        layout=("images", "masks"),
        homepage="https://datasets.simula.no/kvasir-seg/",
        licence="research and education, with citation",
        citation="Jha et al., Kvasir-SEG: A Segmented Polyp Dataset, MMM 2020, "
        "doi:10.1007/978-3-030-37734-2_37",
        expected=1000,
        grey_masks=True,
        notes=(
            "masks are JPEG with intermediate grey levels: cut at half of full scale",
            "patients are not named: only exact duplicates share a group",
        ),
    )
