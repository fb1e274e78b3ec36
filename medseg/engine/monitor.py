"""The validation metric that chooses a run's weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: what such metrics are called in running text
MONITORED = {"dice": "Dice", "balanced_accuracy": "balanced accuracy", "roc_auc": "ROC-AUC"}


def best_value(run: Mapping[str, Any]) -> tuple[str, float] | None:
    """The metric that chose a run's weights and its best value, from ``run.json``; None where it is not trained.

    >>> best_value({"monitor": "roc_auc", "best_val_roc_auc": 0.9}), best_value({"best_val_dice": 0.8})
    (('roc_auc', 0.9), ('dice', 0.8))
    """
    monitor = str(run.get("monitor") or "dice")
    value = run.get(f"best_val_{monitor}")
    return None if value is None else (monitor, float(value))
