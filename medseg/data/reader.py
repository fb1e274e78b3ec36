"""Images of every kind for MONAI's ``LoadImage``, read exactly as training reads them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.data import ImageReader

from medseg.data.images import read_picture
from medseg.transforms.picture import Picture


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
