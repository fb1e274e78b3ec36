"""The images that an exported file is checked on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from medseg.bundle.network import Recipe
from medseg.bundle.open import Bundle
from medseg.data.address import file_of, holds_image, stem
from medseg.data.faults import FileFault
from medseg.data.images import read_picture
from medseg.data.index_file import index_path, read_index
from medseg.data.sample import Sample
from medseg.data.volumes import expanded

if TYPE_CHECKING:
    import torch

#: images that a check reads at most, taken evenly from those there are
MOST = 32
SYNTHETIC = "synthetic images"


@dataclass(frozen=True, eq=False)
class Examples:
    """Network inputs, and where they came from.

    Args:
        batch: ``(N, C, h, w)`` float32, as prediction prepares them.
        source: in words.
    """

    batch: torch.Tensor = field(repr=False)
    source: str

    def __len__(self) -> int:
        return len(self.batch)


def read_examples(recipe: Recipe, inputs: Sequence[Path]) -> Examples:
    """The network's inputs for image files, or noise of their shape where there are none.

    Args:
        recipe: of the bundle.
        inputs: image files; a slice of a volume or a frame as ``file#12``.

    Raises:
        FileFault: a file cannot be read.
    """
    import torch

    from medseg.predict.predictor import Predictor

    predictor = Predictor(recipe, [])
    if not inputs:
        generator = torch.Generator().manual_seed(0)
        shape = (4, recipe.channels, *recipe.image_size)
        return Examples(torch.rand(shape, generator=generator), SYNTHETIC)
    chosen = spread(inputs)
    ready = [predictor.prepared(read_picture(path, recipe.channels)) for path in chosen]
    return Examples(torch.stack(ready), "real images")


def spread(files: Sequence[Path], most: int = MOST) -> list[Path]:
    """At most so many of the files, evenly from first to last."""
    if len(files) <= most:
        return list(files)
    return [files[round(number * (len(files) - 1) / (most - 1))] for number in range(most)]


def images_at(paths: Sequence[Path]) -> list[Path]:
    """The images of files and folders, one for each slice of a volume and each frame of a file, in order.

    Raises:
        FileFault: a path does not exist or holds no image, or a volume's header cannot be read.
    """
    found: list[Path] = []
    for path in paths:
        if not path.exists():
            raise FileFault(path, "no such file or folder", "give images to check on")
        files = [f for f in sorted(path.rglob("*")) if f.is_file()] if path.is_dir() else [path]
        images = [file for file in files if holds_image(file)]
        if not images:
            raise FileFault(path, "holds no image", "give images to check on")
        for file in images:
            one = Sample(stem(file.name), file.name, (), "")
            found += [file.parent / sample.image for sample in expanded(one, file.parent)]
    return found


def indexed_images(bundle: Bundle, prepared: Path) -> list[Path]:
    """The images of the data set that a bundle was trained on, as far as its index and its files are here."""
    name = str(bundle.metadata.get("medseg", {}).get("dataset", ""))
    path = index_path(name, prepared)
    if not name or not path.is_file():
        return []
    index = read_index(path)
    found = [index.root / sample.image for sample in index.samples]
    return [image for image in found if file_of(image).is_file()]
