"""Records of one data set's parts: a structure or class, and one image with its masks or its classes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Label:
    """One structure that masks show, or one class that images have.

    Args:
        name: plain name, such as ``polyp`` or ``pneumonia``.
        code: code value, coding scheme and meaning as in a DICOM code sequence (PS3.3 8.8), such as
            ``("4147007", "SCT", "Mass")``; ``None`` where no code is certain.
    """

    name: str
    code: tuple[str, str, str] | None = None


@dataclass(frozen=True)
class Sample:
    """One image and its masks or classes; paths are relative to the data set's top folder, with ``/``.

    Slice 12 (from 0) of a volume, or frame 12 of a DICOM file, is ``ct/p1.nii.gz#12``.

    Args:
        case: unique name of the image.
        image: its file; empty for a mask, or a row of a table, that has no image, which the index reports.
        masks: its mask files, united when there are several; empty when none was found, and for classification.
        group: patient, video or slide: samples of one group never lie on both sides of a split.
        part: official ``training``, ``validation`` or ``testing``; ``None`` where the set has no parts.
        category: class of the whole image in a segmentation set, such as ``malignant``; splits spread it alike.
        classes: names of the classes that the image has: exactly one in a one-of-K set, any number, also none, in a
            multi-label one; empty for segmentation.
    """

    case: str
    image: str
    masks: tuple[str, ...]
    group: str
    part: str | None = None
    category: str | None = None
    classes: tuple[str, ...] = ()
