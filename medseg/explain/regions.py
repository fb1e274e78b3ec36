"""Which pixels an explanation asks about."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medseg.errors import MedsegError

#: neighbours of a pixel in a lesion: all eight
EIGHT = np.ones((3, 3), bool)


class NoRegion(MedsegError):
    """There is nothing to explain: no pixel is of the region."""


@dataclass(frozen=True)
class Region:
    """What is asked about.

    Args:
        kind: ``predicted`` (all pixels predicted as the label), ``whole`` (every pixel of the image), ``lesion`` (one
            connected part of the prediction) or ``mask`` (the pixels of a mask file).
        number: of the lesion, from 1, the largest first.
        path: of the mask, or of a folder of masks that are named as the maps are, ``<name>.png``.
    """

    kind: str = "predicted"
    number: int = 1
    path: Path | None = None

    @classmethod
    def parse(cls, text: str) -> Region:
        """A region from ``predicted``, ``whole``, ``lesion:2`` or ``mask:FILE``.

        Raises:
            MedsegError: it is none of these.
        """
        kind, _, rest = text.partition(":")
        if text in ("predicted", "whole"):
            return cls(text)
        if kind == "lesion" and rest.isdecimal() and int(rest) > 0:
            return cls(kind, number=int(rest))
        if kind == "mask" and rest:
            if not Path(rest).exists():
                raise MedsegError(f"--region {text}: no such file or folder {rest}")
            return cls(kind, path=Path(rest))
        raise MedsegError(f"--region {text}: give predicted, whole, lesion:2 or mask:FILE")

    def __str__(self) -> str:
        """As it is given, without the mask's folder."""
        if self.path is not None:
            return f"{self.kind}:{self.path.name}"
        return f"{self.kind}:{self.number}" if self.kind == "lesion" else self.kind

    def of(self, predicted: np.ndarray, label: int, name: str = "", labels: int = 1) -> np.ndarray:
        """The region of one image, ``(H, W)`` bool.

        Args:
            predicted: the predicted mask ``(H, W)`` uint8, 0 and the numbers of the labels.
            label: the label's number, from 1.
            name: of the map, for a folder of masks.
            labels: how many labels the bundle has; of several, a mask file holds their numbers.

        Raises:
            NoRegion: it has no pixel.
            MedsegError: the mask cannot be read, or is of another size.
        """
        if self.kind == "whole":
            return np.ones(predicted.shape, bool)
        if self.path is not None:
            return self._read(predicted.shape, label, name, labels)
        region = predicted == label
        if not region.any():
            raise NoRegion("no lesion is predicted; --region whole asks about the whole image")
        return region if self.kind == "predicted" else lesion(region, self.number)

    def _read(self, size: tuple[int, ...], label: int, name: str, labels: int) -> np.ndarray:
        from medseg.data.images import read_mask

        path = Path(self.path or "")
        path = path / f"{name}.png" if path.is_dir() else path
        region = read_mask([path], empty_ok=True, value=label if labels > 1 else None) > 0
        if region.shape != size:
            seen, own = (" x ".join(map(str, one)) for one in (region.shape, size))
            raise MedsegError(
                f"{path}: the mask is {seen}, its image {own} (height x width); they must agree"
            )
        if not region.any():
            raise NoRegion(f"{path.name}: the mask is empty")
        return region


def lesion(region: np.ndarray, number: int) -> np.ndarray:
    """One connected part of a mask, by its place in the order of areas, the largest first; of equal ones the upper.

    Pixels that touch at a corner are connected.

    Args:
        region: ``(H, W)`` bool.
        number: from 1.

    Raises:
        NoRegion: there are fewer.
    """
    from scipy.ndimage import label as connected

    parts, count = connected(region, EIGHT)
    if number > count:
        raise NoRegion(f"there is no lesion {number}: {count} predicted")
    areas = np.bincount(parts.ravel())[1:]
    return parts == np.argsort(-areas, kind="stable")[number - 1] + 1
