"""How a bundle predicts."""

from __future__ import annotations

from dataclasses import dataclass, fields

from medseg.bundle.network import Recipe
from medseg.errors import MedsegError

#: settings of masks, which whole images have not
OF_MASKS = ("sliding_window", "overlap", "scale", "min_area")


@dataclass(frozen=True)
class Settings:
    """How a bundle predicts.

    Args:
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:1``.
        threshold: a pixel is of the lesion from this probability on; an image that may have several classes has those.
        batch_size: images, or windows of one image, that pass through the network at once.
        flips: average over the image and its three mirror images.
        sliding_window: cut the image into windows of the network's size instead of bringing the whole to it.
        overlap: of neighbouring windows, as a share of their side, below 1.
        scale: by how much an image is stretched before windows are cut from it.
        min_area: lesions of fewer pixels are left out of masks.
        amp: mixed precision on a GPU.
    """

    device: str = "auto"
    threshold: float = 0.5
    batch_size: int = 8
    flips: bool = False
    sliding_window: bool = False
    overlap: float = 0.25
    scale: float = 1.0
    min_area: int = 0
    amp: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise MedsegError(f"threshold must be above 0 and at most 1; got {self.threshold}")
        if not 0 <= self.overlap < 1:
            raise MedsegError(f"overlap must be at least 0 and below 1; got {self.overlap}")
        if not 0 < self.scale <= 16:
            raise MedsegError(f"scale must be above 0 and at most 16; got {self.scale}")
        if self.batch_size < 1 or self.min_area < 0:
            raise MedsegError(
                f"batch_size must be at least 1 and min_area at least 0; got {self.batch_size} and {self.min_area}"
            )


def demand_meaning(recipe: Recipe, settings: Settings) -> None:
    """Refuse settings that a classifier has no use for.

    Raises:
        MedsegError: one of masks is set, or a threshold where each image has one class, the likeliest.
    """
    if recipe.task != "classification":
        return
    plain = {one.name: one.default for one in fields(Settings)}
    for name in OF_MASKS:
        if getattr(settings, name) != plain[name]:
            option = f"--{name.replace('_', '-')}"
            raise MedsegError(f"{option} is for masks, and this bundle classifies whole images; leave it out")
    if settings.threshold != plain["threshold"] and not recipe.multilabel:
        raise MedsegError(
            f"threshold={settings.threshold} has no meaning where each image has one class, the likeliest; "
            "leave it out, and cut the probabilities in the table as you like"
        )
