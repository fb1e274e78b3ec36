"""The numbers behind the figures of a classification: every metric, confusions, and bins of confidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from medseg.report.classes import Answers

if TYPE_CHECKING:
    import pandas as pd

Grouped = Mapping[str, Mapping[str, Sequence[Answers]]]
#: weights of images that all intervals together may draw, about a minute of one processor's time, and draws at least
BUDGET, FEWEST = 600_000_000, 200


def affordable(groups: Grouped, draws: int) -> int:
    """The number of draws: as many as wanted, fewer where so many images would take minutes."""
    images = sum(one.truth.size for some in groups.values() for runs in some.values() for one in runs)
    return min(draws, max(FEWEST, BUDGET // max(images, 1)))


def class_numbers(groups: Grouped, level: float, draws: int, seed: int) -> dict[str, pd.DataFrame]:
    """All of the tables below, by the names of their files: ``metrics classes confusion reliability``."""
    tables = {
        "metrics": metric_rows(groups, level, draws, seed),
        "classes": class_rows(groups),
        "confusion": confusion_rows(groups),
        "reliability": reliability_rows(groups),
    }
    return {name: table for name, table in tables.items() if len(table)}


def metric_rows(groups: Grouped, level: float, draws: int, seed: int) -> pd.DataFrame:
    """Every metric of each contestant and data set: its mean over runs, and the interval by whole groups.

    Returns:
        ``dataset contestant metric value low high runs images groups left_out``: ``images`` and ``groups`` are distinct
        ones, ``left_out`` the draws in which the metric was undefined.
    """
    import pandas as pd

    from medseg.metrics.classification import intervals_of_runs

    parts = []
    for dataset, contestants in groups.items():
        for name, runs in contestants.items():
            rows = [(one.probabilities, one.truth, one.groups) for one in runs]
            frame = intervals_of_runs(rows, runs[0].multilabel, level=level, draws=draws, seed=seed)
            frame["left_out"] = frame["metric"].map(frame.attrs["left_out"])
            frame.insert(0, "dataset", dataset)
            frame.insert(1, "contestant", name)
            frame.insert(6, "runs", len(runs))
            frame.insert(7, "images", len({case for one in runs for case in one.cases}))
            frame.insert(8, "groups", len({group for one in runs for group in one.groups}))
            parts.append(frame)
    return pd.concat(parts, ignore_index=True)


def class_rows(groups: Grouped) -> pd.DataFrame:
    """Each class against the rest, in the mean over runs.

    Returns:
        ``dataset contestant class images sensitivity specificity roc_auc pr_auc``: ``images`` of the class are those of
        all runs, in the mean; NaN where a metric is undefined.
    """
    import pandas as pd

    from medseg.metrics.classification.confusion import count
    from medseg.metrics.classification.curves import pr_auc, roc_auc

    rows = []
    for dataset, contestants in groups.items():
        for name, runs in contestants.items():
            counts = [count(one.probabilities, one.truth, one.multilabel, None) for one in runs]
            for k, label in enumerate(runs[0].classes):
                columns = [(one.probabilities[:, [k]], one.truth[:, [k]], True) for one in runs]
                rows.append(
                    {
                        "dataset": dataset,
                        "contestant": name,
                        "class": label,
                        "images": np.mean([one.truth[:, k].sum() for one in runs]),
                        "sensitivity": np.mean([c.recall[0, k] for c in counts]),
                        "specificity": np.mean([c.rejection[0, k] for c in counts]),
                        "roc_auc": np.mean([roc_auc(*column) for column in columns]),
                        "pr_auc": np.mean([pr_auc(*column) for column in columns]),
                    }
                )
    return pd.DataFrame(rows)


def confusion_matrix(runs: Sequence[Answers]) -> np.ndarray:
    """How often each class was taken for each, summed over runs: rows are the truth, columns the prediction.

    Shape:
        result ``(K, K)`` int64.
    """
    return sum(one.truth.T.astype(np.int64) @ one.found.astype(np.int64) for one in runs)


def confusion_rows(groups: Grouped) -> pd.DataFrame:
    """The confusion matrices as a table ``dataset contestant truth predicted images``; none of multi-label sets."""
    import pandas as pd

    rows = [
        (dataset, name, truth, predicted, int(matrix[i, j]))
        for dataset, contestants in groups.items()
        for name, runs in contestants.items()
        if not runs[0].multilabel
        for matrix in [confusion_matrix(runs)]
        for i, truth in enumerate(runs[0].classes)
        for j, predicted in enumerate(runs[0].classes)
    ]
    return pd.DataFrame(rows, columns=["dataset", "contestant", "truth", "predicted", "images"])


def reliability_rows(groups: Grouped) -> pd.DataFrame:
    """The bins of the expected calibration error, of all runs of a contestant together.

    Returns:
        ``dataset contestant bin low high claims confidence accuracy``: ``claims`` are the images (times labels) of the
        bin from ``low`` to ``high``, the last two their means; bins without claims are left out.
    """
    import pandas as pd

    from medseg.metrics.classification.calibration import BINS, bins, claims

    rows = []
    for dataset, contestants in groups.items():
        for name, runs in contestants.items():
            pairs = [claims(one.probabilities, one.truth, one.multilabel) for one in runs]
            confidence, right = (
                np.concatenate([part.ravel() for part in some]) for some in zip(*pairs, strict=True)
            )
            frame = pd.DataFrame(
                {"bin": bins(confidence), "confidence": confidence, "accuracy": right.astype(float)}
            )
            means = frame.groupby("bin").agg(
                claims=("confidence", "size"),
                confidence=("confidence", "mean"),
                accuracy=("accuracy", "mean"),
            )
            means = means.reset_index()
            means.insert(1, "low", means["bin"] / BINS)
            means.insert(2, "high", (means["bin"] + 1) / BINS)
            rows.append(means.assign(dataset=dataset, contestant=name))
    whole = pd.concat(rows, ignore_index=True)
    return whole[["dataset", "contestant", *(c for c in whole.columns if c not in ("dataset", "contestant"))]]


#: false-positive rates at which curves are averaged
GRID = np.linspace(0, 1, 201)


def roc_curve(runs: Sequence[Answers]) -> tuple[np.ndarray, np.ndarray]:
    """The ROC curve of a contestant: false- and true-positive rates, from (0, 0) to (1, 1).

    Of one run of two classes it is exact; else the mean of true-positive rates at equal false-positive rates, over runs
    and over the classes, each against the rest (Fawcett 2006, doi:10.1016/j.patrec.2005.10.010). Empty where no class
    has images with and without it.
    """
    curves = [curve for one in runs for curve in _curves(one)]
    if not curves:
        return np.zeros(0), np.zeros(0)
    if len(curves) == 1:
        return curves[0]
    mean = np.mean([np.interp(GRID, x, y) for x, y in curves], axis=0)
    return np.append(0, GRID), np.append(0, mean)


def _curves(one: Answers) -> list[tuple[np.ndarray, np.ndarray]]:
    from medseg.metrics.classification.curves import hits

    classes = range(1, 2) if len(one.classes) == 2 and not one.multilabel else range(len(one.classes))
    found = []
    for k in classes:
        if 0 < one.truth[:, k].sum() < len(one.truth):
            tp, fp = hits(one.probabilities[:, k], one.truth[:, k])
            found.append((np.append(0, fp[0] / fp[0, -1]), np.append(0, tp[0] / tp[0, -1])))
    return found
