"""The holes of a results table: what one contestant lacks and another has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medseg.augmentations.protocol import leaks
from medseg.ranking.table import describe, of_sets
from medseg.results import RUN_KEYS

if TYPE_CHECKING:
    import pandas as pd

ABSENT = "not in the table"


def other_factors(table: pd.DataFrame, of: str, by: str) -> list[str]:
    """The run keys of the table besides the two that make contests and contestants."""
    return [c for c in RUN_KEYS if c in table.columns and c not in (of, by)]


def missing(table: pd.DataFrame, of: str, by: str) -> pd.DataFrame:
    """Find the holes of the grid.

    Within each level of ``by``, every contestant must have every combination of the other factors (a run)
    that anyone has there, and of it every metric of the table and every case, with a finite value. A contestant
    that trained on copies of test images was tested on cases of its own, which are not compared. Metrics of whole
    test parts have no cases: a run must have one value.

    Args:
        table: a normalised table of the metrics of interest.
        of: the factor whose levels compete.
        by: the factor whose levels are the contests; another choice of it has the same holes.

    Returns:
        one row per hole: the run keys, ``metric``, ``expected`` and ``found`` (numbers of values) and
        ``reason`` in words.
    """
    import pandas as pd

    sets = of_sets(table)
    contestants = table[[of]].drop_duplicates()
    if not sets.any():
        return _missing(table, of, by, contestants)
    parts = [table[~sets], table[sets].drop(columns=["case", "group"], errors="ignore")]
    return pd.concat([_missing(part, of, by, contestants) for part in parts if len(part)], ignore_index=True)


def _missing(table: pd.DataFrame, of: str, by: str, contestants: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    cell = ([by] if by in table.columns else []) + other_factors(table, of, by)
    own = table["augment"].map(leaks) if of == "augment" else np.zeros(len(table), bool)
    peers = table if own.all() else table[~own]
    places = peers[list(dict.fromkeys(cell + ["case"] * ("case" in table.columns)))].drop_duplicates()
    if cell:
        grid = places.groupby(cell, sort=False).size().rename("expected").reset_index()
    else:
        grid = pd.DataFrame({"expected": [len(places) if "case" in places.columns else 1]})
    grid = grid.merge(contestants, how="cross").merge(table[["metric"]].drop_duplicates(), how="cross")
    run = [c for c in (*RUN_KEYS, "case", "group") if c in (of, *cell)] + ["metric"]
    finite = table[np.isfinite(table["value"])]
    found = finite.groupby(run, sort=False).size().rename("found").reset_index()
    grid = grid.merge(found, how="left", on=run).fillna({"found": 0}).astype({"found": int})
    if own.any() and not own.all():
        given = table[own].groupby(run, sort=False).size().rename("given").reset_index()
        given = grid[run].merge(given, how="left", on=run)["given"]
        grid["expected"] = given.fillna(grid["expected"]).astype(int)
    holes = grid.loc[grid["found"] < grid["expected"], [*run, "expected", "found"]].reset_index(drop=True)
    return holes.assign(reason=_reasons(holes, table, run, cell))


def _reasons(holes: pd.DataFrame, table: pd.DataFrame, run: list[str], cell: list[str]) -> list[str]:
    if not len(holes):
        return []
    runs = table.groupby(run).groups
    cells = table.groupby(cell if len(cell) > 1 else cell[0]).groups if cell else {}
    told = table[[c for c in ("case", "value") if c in table.columns]]
    reasons = []
    for hole in holes.to_dict("records"):
        place = tuple(hole[c] for c in cell) if len(cell) != 1 else hole[cell[0]]
        mine = told.loc[runs.get(tuple(hole[c] for c in run), table.index[:0])]
        peers = told.loc[cells[place]] if cell else told
        reasons.append(_reason(mine, peers, hole["expected"] - hole["found"]))
    return reasons


def _reason(mine: pd.DataFrame, peers: pd.DataFrame, lacks: int) -> str:
    """Why a run is a hole: it is absent, or holds values that are not finite, or lacks cases of its peers."""
    if not len(mine):
        return ABSENT
    bad = mine[~np.isfinite(mine["value"])]
    if "case" not in mine.columns:
        return f"value={bad['value'].iloc[0]}"
    count = f"{lacks} case{'s' * (lacks > 1)}, first:"
    if len(bad):
        return f"{count} case={bad['case'].iloc[0]} value={bad['value'].iloc[0]}"
    return f"{count} case={peers.loc[~peers['case'].isin(mine['case']), 'case'].iloc[0]}"


def lines(holes: pd.DataFrame) -> list[str]:
    """The holes in words: ``dataset=kvasir_seg loss=bce repeat=1 metric=dice: 3 cases, first: case=7``."""
    return [
        describe(hole) + ("" if hole["reason"] == ABSENT else f": {hole['reason']}")
        for _, hole in holes.iterrows()
    ]
