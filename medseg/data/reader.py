"""Images of every kind for MONAI's ``LoadImage``, read exactly as training reads them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from monai.data import ImageReader

from medseg.data.address import holds_image, split_address, stem
from medseg.data.images import read_picture
from medseg.data.sample import Sample
from medseg.data.volumes import expanded
from medseg.errors import MedsegError
from medseg.transforms.picture import Picture


def images_in(folder: Path | str, pattern: str = "*") -> list[dict[str, str]]:
    """The images of a folder as items ``{"image": path}``, one for each slice of a volume and each frame of a file.

    Args:
        folder: the folder.
        pattern: glob of the files below it; those that hold no image by ending or content are passed over.

    Raises:
        MedsegError: there is none.
    """
    root = Path(folder)
    files = sorted(file for file in root.glob(pattern) if file.is_file() and holds_image(file))
    if not files:
        raise MedsegError(f"{root}: no image by the pattern {pattern!r}; give another dataset_dir or pattern")
    one_each = [Sample(stem(file.name), file.relative_to(root).as_posix(), (), "") for file in files]
    return [{"image": str(root / s.image)} for one in one_each for s in expanded(one, root)]


def output_name(meta: Mapping[str, Any], saver: Any) -> dict[str, Any]:
    """What MONAI's ``SaveImaged`` names an image's prediction after, so that no two images share one.

    The file's stem, and ``_z003`` for slice 3; the whole name where another image of the folder has the same stem.
    Of a file below the saver's ``data_root_dir`` the sub-folders are kept.

    Args:
        meta: meta-data with the path as it was read.
        saver: the transform that saves.
    """
    file, part = split_address(Path(str(meta["filename_or_obj"])))
    alone = _stems(file.parent, file.parent.stat().st_mtime_ns)[stem(file.name).casefold()] < 2
    name = stem(file.name) if alone else file.name
    case = f"{name}_z{int(part):03d}" if part else name
    top = getattr(getattr(saver, "folder_layout", None), "data_root_dir", "")
    below = bool(top) and file.parent.resolve().is_relative_to(Path(top).resolve())
    # MONAI takes one ending off, and so may not find one in a UID
    return {"subject": str(file.parent / f"{case}.png") if below else f"{case}.png", "idx": None}


@lru_cache(maxsize=4)
def _stems(folder: Path, changed: int) -> Counter[str]:
    """How many images of a folder have each stem, capitals or not."""
    return Counter(stem(file.name).casefold() for file in folder.iterdir() if holds_image(file))


class PictureReader(ImageReader):
    """Reads PNG, JPEG, TIFF, PGM, DICOM (``file#3`` is frame 3) and slices of NIfTI (``file.nii.gz#12``).

    Arrays have the pixels' own type and MONAI's order, ``(C, W, H)``; what their numbers mean stands in the
    meta-data under ``picture``. Nothing of a DICOM header but that reaches the meta-data.

    Args:
        channels: 1 or 3.
    """

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.channels = channels

    def verify_suffix(self, filename: Any) -> bool:
        """Every file is tried; what cannot be read says why."""
        return True

    def read(self, data: Any, **kwargs: Any) -> list[Picture]:
        """The pictures of one path or several.

        Raises:
            FileFault: a file is missing, broken, or of a kind that is not read.
        """
        paths = data if isinstance(data, Sequence) and not isinstance(data, str) else [data]
        return [read_picture(Path(path), self.channels) for path in paths]

    def get_data(self, img: Any) -> tuple[np.ndarray, dict[str, Any]]:
        """The pixels ``(C, W, H)`` of the one picture, and its meta-data."""
        picture: Picture = img[0] if isinstance(img, list) else img
        values = np.ascontiguousarray(picture.values.swapaxes(1, 2))
        meta = {
            "original_channel_dim": 0,
            "spatial_shape": np.asarray(values.shape[1:]),
            "affine": np.eye(4),
            **picture.meta(),
        }
        return values, meta
