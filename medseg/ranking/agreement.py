"""Whether published values and ours put the same cells in the same order."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.ranking.bootstrap import draw, take_apart
from medseg.ranking.cells import Array
from medseg.ranking.estimate import codes, estimate, group_codes
from medseg.ranking.prose import chance
from medseg.ranking.protocols import PROTOCOL
from medseg.ranking.published import FACTORS, TABLE
from medseg.ranking.table import of_sets

if TYPE_CHECKING:
    import pandas as pd

#: of fewer cells there is no order to agree on
LEAST = 3
COLUMNS = (
    TABLE,
    "dataset",
    "metric",
    "split",
    PROTOCOL,
    "cells",
    "inside",
    "mean_difference",
    "tau",
    "p",
    "low",
    "high",
    "winner_published",
    "winner_ours",
    "agree",
    "p_winner",
)


def orders(
    compared: pd.DataFrame,
    values: Callable[[int], pd.DataFrame],
    better: Mapping[str, str],
    apart: Sequence[str] = (),
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Compare orders within each published table and data set, metric, split and protocol.

    Kendall's tau-b (1945, doi:10.1093/biomet/33.3.239) is 1 where both put all cells in the same order and -1 where
    they reverse it; its p value is of no agreement at all. Its interval holds what it is when our means are drawn anew
    by the bootstrap of repeats and groups of cases, together where all cells were tested on the same cases; of the
    published values nothing is known but themselves. Cells without augmentation belong to every protocol.

    Args:
        compared: rows of a comparison, with ``place``.
        values: gives the rows of a place.
        better: metric -> ``higher`` or ``lower``.
        apart: factors that the published table does not name: each of their levels has an order of its own.
        level: of the interval.
        draws: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        one row per group of two cells or more: ``table dataset metric split protocol``, the factors ``apart``, ``cells
        inside mean_difference tau p low high winner_published winner_ours agree p_winner``. ``p_winner`` is how often,
        in the draws, a published winner is the first of ours. ``tau`` needs three cells.
    """
    import pandas as pd

    found = [
        {**keys, **_order(rows, values, better[str(keys["metric"])], level, draws, seed)}
        for keys, rows in _groups(compared[np.isfinite(compared["ours"])], apart)
        if len(rows) > 1
    ]
    place = COLUMNS.index("cells")
    return pd.DataFrame(found, columns=[*COLUMNS[:place], *apart, *COLUMNS[place:]])


def display(found: pd.DataFrame) -> pd.DataFrame:
    """The orders for people: tau with its interval in one column, and no column without any entry."""
    shown = found[list(found.columns[: found.columns.get_loc("mean_difference")])].fillna("").copy()
    shown["mean difference"] = [f"{value:+.4f}" for value in found["mean_difference"]]
    shown["Kendall's tau"] = [
        "" if tau != tau else f"{tau:.2f}" + (f" ({low:.2f} to {high:.2f})" if low == low else "")
        for tau, low, high in zip(found["tau"], found["low"], found["high"], strict=True)
    ]
    shown["p"] = ["" if p != p else f"{p:.3f}" if p >= 0.001 else "<0.001" for p in found["p"]]
    shown["published winner"], shown["our winner"] = found["winner_published"], found["winner_ours"]
    shown["agree"] = found["agree"]
    shown["P(published wins)"] = [chance(float(p)) for p in found["p_winner"]]
    return shown[[c for c in shown.columns if (shown[c].astype(str) != "").any()]]


def _groups(compared: pd.DataFrame, apart: Sequence[str]) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """The rows whose order is compared: each published cell at most once in a group."""
    keys = [c for c in (TABLE, "dataset", "metric", "split", *apart) if c in compared.columns]
    for key, rows in compared.groupby(keys, sort=False):
        named = dict(zip(keys, key if isinstance(key, tuple) else (key,), strict=True))
        protocols = [name for name in rows[PROTOCOL].unique() if name] or [""]
        for protocol in protocols:
            mine = rows[rows[PROTOCOL].isin(["", protocol])]
            yield {**named, PROTOCOL: protocol}, mine.drop_duplicates(_factors(mine))


def _factors(rows: pd.DataFrame) -> list[str]:
    return [c for c in FACTORS if c in rows.columns and c not in ("dataset", "split")]


def _order(
    rows: pd.DataFrame,
    values: Callable[[int], pd.DataFrame],
    better: str,
    level: float,
    draws: int,
    seed: int,
) -> dict[str, Any]:
    sign = 1.0 if better == "higher" else -1.0
    published, ours = rows["published"].to_numpy() * sign, rows["ours"].to_numpy() * sign
    drawn = _draw([values(place) for place in rows["place"]], draws, seed) * sign
    best, first = _winners(published), _winners(ours)
    names = _names(rows)
    tau, p, low, high = math.nan, math.nan, math.nan, math.nan
    if len(rows) >= LEAST:
        from scipy.stats import kendalltau

        tau, p = map(float, kendalltau(published, ours))
        if drawn.size:
            tails = [(1 - level) / 2, (1 + level) / 2]
            taus = taus_of(published, drawn)
            low, high = map(float, np.quantile(taus[np.isfinite(taus)], tails)) if tau == tau else (low, high)
    return {
        "cells": len(rows),
        "inside": int((rows["inside"] == "yes").sum()),
        "mean_difference": float((rows["ours"] - rows["published"]).mean()),
        "tau": tau,
        "p": p,
        "low": low,
        "high": high,
        "winner_published": " = ".join(names[i] for i in np.flatnonzero(best)),
        "winner_ours": " = ".join(names[i] for i in np.flatnonzero(first)),
        "agree": "yes" if (best & first).any() else "no",
        "p_winner": float(best[drawn.argmax(1)].mean()) if drawn.size else math.nan,
    }


def _names(rows: pd.DataFrame) -> list[str]:
    """Each cell by the levels that differ."""
    varied = [c for c in _factors(rows) if rows[c].nunique() > 1]
    return [" ".join(filter(None, row)) for row in rows[varied].itertuples(index=False, name=None)]


def _winners(values: Array) -> Array:
    """The best values, equal ones to 12 digits."""
    return np.isclose(values, values.max(), rtol=1e-12, atol=0)


def taus_of(published: Array, drawn: Array) -> Array:
    """Kendall's tau-b of one order with each of many.

    Shape:
        published ``(K,)``, drawn ``(draws, K)``, result ``(draws,)``: NaN where one of the two has no order.
    """
    one, two = np.triu_indices(len(published), 1)
    theirs = np.sign(published[one] - published[two])
    ours = np.sign(drawn[:, one] - drawn[:, two])
    untied = np.sqrt(np.count_nonzero(theirs) * np.count_nonzero(ours, axis=1))
    return np.divide(ours @ theirs, untied, out=np.full(len(drawn), np.nan), where=untied > 0)


def _draw(cells: Sequence[pd.DataFrame], draws: int, seed: int) -> Array:
    """Our means drawn anew, ``(draws, K)``; empty where nothing tells of chance."""
    paired = _paired(cells)
    if paired is not None:
        values, repeat, group = paired
        part = take_apart(0, values, np.zeros(len(values), np.int64), repeat, group)
        if len(part.repeats) > 1 or part.per_run > 1:
            return draw([[part]], [False], draws, seed)[0]
    found = [estimate(cell) for cell in cells]
    if any(e.variance != e.variance for e in found):
        return np.empty((0, len(cells)))
    rng = np.random.default_rng([seed, 2])
    columns = [rng.standard_normal(draws) if math.isinf(e.df) else rng.standard_t(e.df, draws) for e in found]
    spread = np.sqrt([e.variance for e in found])
    return np.array([e.mean for e in found]) + np.stack(columns, axis=1) * spread


def _paired(cells: Sequence[pd.DataFrame]) -> tuple[Array, Array, Array] | None:
    """One row per repeat and case, one column per cell, where all cells were tested on the same cases."""
    import pandas as pd

    keys = [c for c in ("repeat", "case") if c in cells[0].columns]
    if not keys or any(of_sets(cell).any() for cell in cells):
        return None
    wide = pd.concat([cell.set_index(keys)["value"] for cell in cells], axis=1)
    if wide.isna().to_numpy().any():
        return None
    first = cells[0].set_index(keys).loc[wide.index].reset_index()
    return wide.to_numpy(float), codes(first, "repeat"), group_codes(first)
