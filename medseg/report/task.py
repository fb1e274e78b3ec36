"""Which task a report is of: masks or classes, never both on one page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from medseg.errors import MedsegError
from medseg.report.runs import Run

if TYPE_CHECKING:
    import pandas as pd

SEGMENTATION, CLASSIFICATION = "segmentation", "classification"
#: metrics whose means are drawn beside that which ranks
BESIDE = {
    SEGMENTATION: ("dice", "iou", "recall", "precision"),
    CLASSIFICATION: ("accuracy", "balanced_accuracy", "roc_auc", "brier"),
}


def task_of(table: pd.DataFrame, runs: Sequence[Run] = ()) -> str:
    """The task of a table, by its metrics and by the bundles of its runs; segmentation where nothing tells.

    Args:
        table: a normalised table.
        runs: those at hand.

    Raises:
        MedsegError: it holds both.
    """
    from medseg.metrics import METRICS
    from medseg.metrics.classification import CLASS_METRICS

    rooms = ((SEGMENTATION, METRICS), (CLASSIFICATION, CLASS_METRICS))
    # of a folder with both, the runs of one task have empty columns for the other's metrics
    present = set(table.loc[table["value"].notna(), "metric"])
    # specificity is a metric of both
    told = {task for task, room in rooms for name in present if name in room and not _shared(name)}
    told |= {task for run in runs if (task := _declared(run))}
    if len(told) > 1:
        raise MedsegError(
            "the table holds runs of segmentation and of classification, which have no metric in common: "
            "report one task at a time (--where dataset=NAME,...)"
        )
    return told.pop() if told else SEGMENTATION


def of_task(table: pd.DataFrame, task: str) -> pd.DataFrame:
    """A table without the empty values of metrics that are none of the task's: they are no holes."""
    from medseg.metrics import METRICS
    from medseg.metrics.classification import CLASS_METRICS

    own, other = (METRICS, CLASS_METRICS) if task == SEGMENTATION else (CLASS_METRICS, METRICS)
    foreign = {name for name in table["metric"].unique() if name in other and name not in own}
    empty = table["value"].isna() & table["metric"].isin(foreign)
    if task == CLASSIFICATION and "case" in table.columns:
        # specificity, which both have, is none of single images
        empty |= table["value"].isna() & (table["metric"] == "specificity") & (table["case"] != "")
    return table[~empty].reset_index(drop=True) if empty.any() else table


def _shared(name: str) -> bool:
    from medseg.metrics import METRICS
    from medseg.metrics.classification import CLASS_METRICS

    return name in METRICS and name in CLASS_METRICS


def _declared(run: Run) -> str:
    return str(run.record.get("task") or told_by(run).get("task") or "")


def told_by(run: Run) -> dict[str, Any]:
    """What the bundle of a run says of itself in its metadata; empty where that is not to be read."""
    try:
        own = run.bundle.metadata.get("medseg")
    except MedsegError:
        return {}
    return own if isinstance(own, dict) else {}
