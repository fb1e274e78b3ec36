"""CVC-ClinicDB."""

from __future__ import annotations

import bisect

from medseg.data.datasets import DATASETS
from medseg.data.spec import DatasetSpec, Label, paired
from medseg.errors import MedsegError

#: last frame of each of the 29 video sequences, the frames numbered from 1 as in the official files; found
#: from the change between neighbouring frames (the least certain are 227, 447 and 546)
SEQUENCE_ENDS = (
    *(25, 50, 67, 78, 103, 126, 151, 177, 199, 205, 227, 252, 277, 297, 317),
    *(342, 363, 383, 408, 428, 447, 466, 478, 503, 528, 546, 571, 591, 612),
)


def sequence(stem: str) -> str:
    """The video sequence of a frame.

    >>> sequence("25"), sequence("26"), sequence("612")
    ('sequence_01', 'sequence_02', 'sequence_29')

    Raises:
        MedsegError: the name is no frame number from 1 to 612.
    """
    if not stem.isdecimal() or not 1 <= int(stem) <= SEQUENCE_ENDS[-1]:
        raise MedsegError(
            f"CVC-ClinicDB: file name {stem!r} is no frame number from 1 to 612, so its video is unknown"
        )
    return f"sequence_{bisect.bisect_left(SEQUENCE_ENDS, int(stem)) + 1:02d}"


@DATASETS.register("cvc_clinicdb")
def cvc_clinicdb() -> DatasetSpec:
    """Polyps in frames of 29 colonoscopy videos (Bernal et al. 2015)."""
    return DatasetSpec(
        title="CVC-ClinicDB",
        channels=3,
        labels=(Label("polyp", ("41329004", "SCT", "Polyp")),),
        index=paired("Original/*", "Ground Truth/{stem}.*", group=sequence),
        layout=("Original", "Ground Truth"),
        homepage="https://polyp.grand-challenge.org/CVCClinicDB/",
        licence="research, with citation",
        citation="Bernal et al., WM-DOVA maps for accurate polyp highlighting in colonoscopy, "
        "Computerized Medical Imaging and Graphics 43, 2015, doi:10.1016/j.compmedimag.2015.02.007",
        expected=612,
        grey_masks=True,
        notes=(
            "frames of one video are much alike: the group is the video sequence",
            "some masks carry intermediate grey levels: cut at half of full scale",
            "TIF frames are read by tifffile; OpenCV decodes them wrongly",
        ),
    )
