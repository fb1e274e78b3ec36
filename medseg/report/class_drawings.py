"""The figures of a classification, with their captions; and why one is left out."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import pandas as pd

from medseg.report import figures
from medseg.report.class_tables import Grouped, confusion_matrix, roc_curve
from medseg.report.drawings import CAPTIONS, Album
from medseg.report.figures.canvas import plural


def draw_classes(album: Album, groups: Grouped, tables: Mapping[str, pd.DataFrame], of: str) -> None:
    """Confusion matrices, ROC curves and reliability diagrams.

    Args:
        album: collects the pictures.
        groups: data set -> contestant -> answers of its runs.
        tables: those of :func:`class_numbers`.
        of: the factor whose levels compete.
    """
    if not groups:
        album.leave_out("confusion, ROC and reliability", "no probabilities of these runs are at hand")
        return
    for dataset, some in groups.items():
        first = next(iter(some.values()))[0]
        what = f"confusion matrices of {dataset}"
        if first.multilabel:
            album.leave_out(
                what, "an image may have several labels; each against the rest is in the table of classes"
            )
            continue
        matrices = {name: confusion_matrix(runs) for name, runs in some.items()}
        draw = partial(figures.draw_confusion, matrices, first.classes, dataset, of)
        album.add("classes", what, draw, CAPTIONS["confusion"])
    metrics = tables["metrics"]
    curves = {
        dataset: {name: roc_curve(runs) for name, runs in some.items()} for dataset, some in groups.items()
    }
    areas = metrics[metrics["metric"] == "roc_auc"]
    caption = CAPTIONS["roc"].format(over=_over(groups))
    album.add("classes", "ROC curves", partial(figures.draw_roc, curves, areas, of), caption)
    for dataset, some in groups.items():
        bins = tables["reliability"]
        bins = bins[bins["dataset"] == dataset]
        errors = metrics[(metrics["metric"] == "ece") & (metrics["dataset"] == dataset)]
        multilabel = next(iter(some.values()))[0].multilabel
        draw = partial(figures.draw_reliability, bins, errors, dataset, of, multilabel)
        album.add("classes", f"reliability on {dataset}", draw, CAPTIONS["reliability"])


def _over(groups: Grouped) -> str:
    """What a ROC curve is the mean of, in words; empty where it is of one run and two classes."""
    runs = max(len(runs) for some in groups.values() for runs in some.values())
    firsts = [next(iter(some.values()))[0] for some in groups.values()]
    several = any(len(one.classes) > 2 or one.multilabel for one in firsts)
    over = ([f"up to {plural(runs, 'run')}"] if runs > 1 else []) + (
        ["the classes, each against the rest"] if several else []
    )
    return f" A line is the mean over {' and '.join(over)}, at equal specificity." if over else ""
