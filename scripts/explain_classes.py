"""The picture and the table of docs/explain.md on classifiers: where a trained bundle's maps lie, and a random one's.

    python scripts/explain_classes.py BUNDLE IMAGE... --masks '{stem}_mask*' [--label malignant] [-o OUT.png]

Maps of one class are compared with the masks beside the images, method by method, for the bundle's weights and for
random ones in their place, which are asked about the same class of each image.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from explain_pictures import sheet

from medseg.bundle.network import build_network
from medseg.bundle.open import Bundle
from medseg.explain.classes import ClassExplainer, ClassQuestion
from medseg.explain.localization import summary
from medseg.explain.masks import Masks
from medseg.predict.inputs import find_items
from medseg.predict.predictor import Predictor
from medseg.transforms.picture import Picture

METHODS = ("gradcam", "gradcampp", "hirescam", "layercam", "occlusion")


def main() -> None:
    arguments = _arguments()
    predictor = Predictor.of(Bundle(arguments.bundle))
    cases = _cases(arguments.images, arguments.masks, predictor)
    if arguments.out:
        explainers = [_explainer(predictor, method, arguments.label, arguments.layer) for method in METHODS]
        rows = [[one.drawn(picture, one(picture, "", mask)) for one in explainers] for picture, mask in cases]
        sheet(rows).save(arguments.out, optimize=True)
        return
    torch.manual_seed(0)
    control = Predictor(predictor.recipe, [build_network(predictor.recipe, None)])
    labels = [arguments.label or _likeliest(predictor, picture) for picture, _ in cases]
    for method in METHODS:
        for name, one in (("trained", predictor), ("random", control)):
            known = {label: _explainer(one, method, label, arguments.layer) for label in set(labels)}
            answers = [
                known[label](picture, "", mask) for label, (picture, mask) in zip(labels, cases, strict=True)
            ]
            print(f"{method:10} {name:8} {summary(answer.measures for answer in answers)}", flush=True)


def _cases(paths: list[Path], pattern: str, predictor: Predictor) -> list[tuple[Picture, np.ndarray]]:
    """The pictures that have a mask with a lesion, and these masks."""
    items, _ = find_items(paths)
    masks = Masks(pattern, items)
    cases = []
    for item in masks.images(items):
        picture = item.read(0, predictor.recipe.channels)
        mask = masks.read(item, 0, picture.values.shape[1:])
        if mask is not None and mask.any():
            cases.append((picture, mask))
    return cases


def _likeliest(predictor: Predictor, picture: Picture) -> str:
    return predictor.recipe.labels[int(predictor.classify([picture])[0].probabilities.argmax())].name


def _explainer(predictor: Predictor, method: str, label: str, layer: str) -> ClassExplainer:
    if method != "occlusion":
        return ClassExplainer(predictor, ClassQuestion(method, layer, label))
    size = max(4, predictor.recipe.image_size[0] // 6)
    return ClassExplainer(predictor, ClassQuestion(method, "", label, arguments={"size": size}))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument(
        "--masks", required=True, help="pattern from the image's folder, such as '{stem}_mask*'"
    )
    parser.add_argument(
        "--label", default="", help="the class; of each image the likeliest if it is not given"
    )
    parser.add_argument("--layer", default="", help="the model's own if it is not given")
    parser.add_argument("-o", "--out", type=Path, help="the picture; the table is printed if it is not given")
    return parser.parse_args()


if __name__ == "__main__":
    main()
