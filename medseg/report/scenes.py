"""Which cases are shown: the same ones under every contestant, and those that went worst."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from medseg.report.runs import Run
from medseg.results import RUN_KEYS

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Scene:
    """Runs of one data set that differ in the contestant alone, and cases that all were tested on.

    Args:
        dataset: the data set.
        setting: what the runs have in common, in words.
        runs: contestant -> run, best first.
        cases: case -> why it was chosen.
    """

    dataset: str
    setting: str
    runs: dict[str, Run]
    cases: dict[str, str]


def scenes(
    table: pd.DataFrame, runs: Sequence[Run], of: str, metric: str, order: Sequence[str], count: int
) -> list[Scene]:
    """One scene for each data set, of the setting with the most contestants and, of these, the best mean.

    Of its cases are taken, in turn: that on which the contestants differ most, that of the median mean, the smallest
    lesion, and then those on which they differ most of what is left. Ties are in the order of the names.

    Args:
        table: a normalised table with cases.
        runs: the runs whose weights can be loaded.
        of: the factor whose levels compete; not the data set.
        metric: decides between cases.
        order: contestants, best first.
        count: how many cases at most.
    """
    others = [key for key in RUN_KEYS if key != of]
    settings: dict[tuple[str, ...], dict[str, Run]] = {}
    for run in runs:
        settings.setdefault(tuple(run.keys[key] for key in others), {})[run.keys[of]] = run
    rows = table[table["metric"] == metric]
    means = rows.groupby(others, sort=False)["value"].mean()
    sign = -1 if _lower(rows, metric) else 1
    chosen: dict[str, tuple[tuple[float, ...], tuple[str, ...]]] = {}
    place = others.index("dataset")
    for setting in sorted(settings):
        if len(settings[setting]) < 2:
            continue
        merit = (len(settings[setting]), sign * float(means.get(setting, float("-inf"))))
        if setting[place] not in chosen or merit > chosen[setting[place]][0]:
            chosen[setting[place]] = (merit, setting)
    found = []
    for dataset, (_, setting) in sorted(chosen.items()):
        mine = {name: settings[setting][name] for name in order if name in settings[setting]}
        cases = _cases(_grid(rows, of, dict(zip(others, setting, strict=True)), list(mine)), count)
        if cases:
            said = ", ".join(f"{key} {level}" for key, level in zip(others, setting, strict=True) if level)
            found.append(Scene(dataset, said, mine, cases))
    return found


def _lower(rows: pd.DataFrame, metric: str) -> bool:
    from medseg.ranking.table import directions

    return directions(rows, [metric])[metric] == "lower"


def _grid(rows: pd.DataFrame, of: str, setting: dict[str, str], names: list[str]) -> pd.DataFrame:
    """One row per case that all contestants were tested on: a column each, and ``reference_px`` where it is known."""
    for key, level in setting.items():
        rows = rows[rows[key] == level]
    rows = rows[rows[of].isin(names)]
    grid = rows.pivot(index="case", columns=of, values="value").reindex(columns=names)
    if "reference_px" in rows.columns:
        grid["reference_px"] = rows.groupby("case")["reference_px"].first()
    return grid.dropna(subset=names).sort_index()


def _cases(grid: pd.DataFrame, count: int) -> dict[str, str]:
    """Case -> why it was chosen, of a grid of values; at most ``count``."""
    if not len(grid) or count < 1:
        return {}
    values = grid.drop(columns="reference_px", errors="ignore")
    span = (values.max(axis=1) - values.min(axis=1)).sort_values(ascending=False, kind="stable")
    middle = values.mean(axis=1).sort_values(kind="stable")
    candidates = [
        (str(span.index[0]), "they differ most"),
        (str(middle.index[(len(middle) - 1) // 2]), "the median case"),
    ]
    if "reference_px" in grid.columns:
        sizes = grid["reference_px"][grid["reference_px"] > 0].sort_values(kind="stable")
        candidates += [(str(sizes.index[0]), "the smallest lesion")] if len(sizes) else []
    candidates += [(str(case), "they differ much") for case in span.index]
    chosen: dict[str, str] = {}
    for case, why in candidates:
        if len(chosen) < count:
            chosen.setdefault(case, why)
    return chosen
