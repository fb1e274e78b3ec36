"""The masks that lie beside images, found by the images' names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from medseg.data.address import stem
from medseg.data.pairing import masks_by_stem
from medseg.errors import MedsegError
from medseg.predict.inputs import Item


class Masks:
    """The masks of some inputs.

    Args:
        pattern: glob pattern from the image's own folder, with ``{stem}`` for the stem of its name, such as
            ``{stem}_mask*`` or ``../masks/{stem}.png``; it may match several files, which are united.
        items: the inputs.

    Raises:
        MedsegError: the pattern lacks ``{stem}``.
    """

    def __init__(self, pattern: str, items: Iterable[Item]) -> None:
        if pattern.count("{stem}") != 1 or "[" in pattern:
            raise MedsegError(
                f"mask pattern {pattern!r}: needs {{stem}} once, where the image's stem stands, and no '['"
            )
        self.pattern = pattern
        names: dict[Path, set[str]] = {}
        for item in items:
            names.setdefault(item.files[0].parent, set()).add(stem(item.files[0].name))
        self._found = {folder: self._in(folder, stems) for folder, stems in names.items()}

    def _in(self, folder: Path, stems: set[str]) -> dict[str, list[Path]]:
        """The masks of the images of one folder, by their stems."""
        parts = Path(self.pattern).parts
        fixed = next(i for i, part in enumerate(parts) if "{stem}" in part or "*" in part or "?" in part)
        base = folder.joinpath(*parts[:fixed]).resolve()
        if not base.is_dir():
            raise MedsegError(f"mask pattern {self.pattern!r}: there is no folder {base}")
        found = masks_by_stem(base, "/".join(parts[fixed:]), stems)
        return {owner: [base / name for name in files] for owner, files in found.items()}

    def of(self, file: Path) -> list[Path]:
        """The mask files of an image; none where there is none."""
        found = self._found.get(file.parent, {}).get(stem(file.name), [])
        return [mask for mask in found if mask != file.resolve()]

    def images(self, items: Sequence[Item]) -> list[Item]:
        """The items that are no masks of another, where images and masks share a folder."""
        masks = {mask for item in items for mask in self.of(item.files[0])}
        return [item for item in items if item.files[0].resolve() not in masks]

    def read(self, item: Item, frame: int, size: tuple[int, ...]) -> np.ndarray | None:
        """The mask of one frame of an item, ``(H, W)`` bool; None where there is no file.

        Args:
            item: an input.
            frame: of it, from 0; those of a NIfTI volume are slices of a mask volume.
            size: height and width of the image.

        Raises:
            MedsegError: a mask cannot be read, or is of another size.
        """
        from medseg.data.images import read_mask

        paths = self.of(item.files[0])
        if not paths or len(item.files) > 1:
            return None
        sliced = [Path(f"{path}#{frame}") for path in paths] if item.kind == "nifti" else paths
        mask = read_mask(sliced, empty_ok=True) > 0
        if mask.shape != tuple(size):
            seen, own = (" x ".join(map(str, one)) for one in (mask.shape, size))
            raise MedsegError(
                f"{paths[0].name}: the mask is {seen}, its image {own} (height x width); they must agree"
            )
        return mask
