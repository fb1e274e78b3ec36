"""Images with what they are and what they were taken for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from medseg.data.outline import show
from medseg.errors import MedsegError
from medseg.report.figures.canvas import WIDTH, Drawing, canvas, clip, entitle, listed, plural, styled

PER_ROW = 4
#: letters that fit above a picture
LETTERS = 26


@dataclass(frozen=True)
class ClassPicture:
    """An image with its words.

    Args:
        title: lines above the image, such as contestant, case, truth and answer.
        image: ``(C, H, W)``, any type.
    """

    title: str
    image: np.ndarray = field(repr=False)


@styled
def draw_class_images(pictures: Sequence[ClassPicture], title: str) -> Drawing:
    """Draw images in rows of four with their lines above.

    Args:
        pictures: what to draw.
        title: what stands above.

    Raises:
        MedsegError: there is no picture.
    """
    if not pictures:
        raise MedsegError("there is no such image")
    columns = min(PER_ROW, max(2, len(pictures)))
    lines = -(-len(pictures) // columns)
    texts = ["\n".join(clip(line, LETTERS) for line in one.title.splitlines()) for one in pictures]
    above = max(text.count("\n") + 1 for text in texts)
    ratio = max(one.image.shape[1] / one.image.shape[2] for one in pictures)
    width = WIDTH if columns == PER_ROW else 0.2 + 2.2 * columns
    figure = canvas(0.6 + lines * (width / columns * ratio + 0.14 * above + 0.06), width)
    panels = figure.subplots(lines, columns, squeeze=False)
    for axes in panels.flat:
        axes.set_axis_off()
    for axes, one, text in zip(panels.flat, pictures, texts, strict=False):
        show(axes, one.image)
        axes.set_title(text, fontsize=8, loc="center")
    entitle(figure, title)
    told = listed([one.title.replace("\n", ", ") for one in pictures])
    alt = f"{title}, {plural(len(pictures), 'image')}: {told}."
    return Drawing("images", title, alt, figure)
