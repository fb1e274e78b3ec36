"""The picture and the table of docs/explain.md: a trained bundle's maps of some images, by method and layer.

    python scripts/explain_pictures.py BUNDLE IMAGE... --layers bottom decoder.1 [-o OUT.png]

Where the bundle looks is compared with the mask that it predicts: the mean share of each map's energy inside it, the
mean share of the image that it covers, and the same with random weights in the bundle's place.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from medseg.bundle.network import build_network
from medseg.bundle.open import Bundle
from medseg.data.images import read_picture
from medseg.explain.explainer import Explainer, Question
from medseg.explain.heat import heat_overlay
from medseg.predict.overlay import displayed
from medseg.predict.predictor import Predictor
from medseg.transforms.picture import Picture

METHODS = ("gradcam", "gradcampp", "hirescam", "layercam")
#: the columns of the picture, each a method and which of the two layers
COLUMNS = (("gradcam", 0), ("gradcampp", 0), ("gradcam", 1), ("hirescam", 1), ("occlusion", None))
#: height and width of a drawn image, pixels between two, and their colours
CELL, GAP, PAPER = (150, 190), 4, 255


def main() -> None:
    arguments = _arguments()
    predictor = Predictor.of(Bundle(arguments.bundle))
    pictures = {path: read_picture(path, predictor.recipe.channels) for path in arguments.images}
    if arguments.out:
        _drawn(predictor, pictures, arguments.layers).save(arguments.out, optimize=True)
    else:
        _table(predictor, pictures, arguments.layers)


def _drawn(predictor: Predictor, pictures: dict[Path, Picture], layers: list[str]) -> Image.Image:
    explainers = [
        Explainer(predictor, Question(method, "" if at is None else layers[at])) for method, at in COLUMNS
    ]
    rows = []
    for picture in pictures.values():
        answers = [explainer(picture) for explainer in explainers]
        rows.append([heat_overlay(displayed(picture), one.heat, one.predicted) for one in answers])
    return sheet(rows)


def _table(predictor: Predictor, pictures: dict[Path, Picture], layers: list[str]) -> None:
    torch.manual_seed(0)
    control = Predictor(predictor.recipe, [build_network(predictor.recipe, None)])
    masks = {path: predictor([picture])[0].mask for path, picture in pictures.items()}
    kept = [path for path in pictures if masks[path].any()]
    print(
        f"{len(kept)} images with a mask; it covers {np.mean([(masks[path] > 0).mean() for path in kept]):.3f}"
    )
    for layer in layers:
        for method in METHODS:
            shares = []
            for one in (
                Explainer(predictor, Question(method, layer)),
                Explainer(control, Question(method, layer)),
            ):
                shares.append(np.mean([_energy(one, pictures[path], masks[path] > 0) for path in kept]))
            print(f"{method:10} {layer:12} trained {shares[0]:.3f}, random {shares[1]:.3f}", flush=True)


def _energy(explainer: Explainer, picture: Picture, mask: np.ndarray) -> float:
    """The share of a map inside the mask that is asked about, whichever network is asked."""
    return explainer.explain_region(picture, mask).energy or 0.0


def sheet(rows: list[list[np.ndarray]]) -> Image.Image:
    """Drawn images in rows and columns, with few colours."""
    height, width = CELL
    columns = max(map(len, rows))
    canvas = np.full((len(rows) * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3), PAPER, np.uint8)
    for r, row in enumerate(rows):
        for c, cell in enumerate(row):
            small = Image.fromarray(cell).resize((width, height), Image.Resampling.LANCZOS)
            top, left = r * (height + GAP), c * (width + GAP)
            canvas[top : top + height, left : left + width] = np.asarray(small)
    return Image.fromarray(canvas).quantize(160, dither=Image.Dither.NONE)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("--layers", nargs=2, required=True)
    parser.add_argument("-o", "--out", type=Path, help="the picture; the table is printed if it is not given")
    return parser.parse_args()


if __name__ == "__main__":
    main()
