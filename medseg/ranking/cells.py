"""The values of one metric as arrays: what the statistics work on instead of a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.augmentations.protocol import leaks
from medseg.errors import MedsegError
from medseg.ranking.podium import leak_notes
from medseg.ranking.table import describe, normalise, of_sets
from medseg.results import RUN_KEYS

if TYPE_CHECKING:
    import pandas as pd

Array = np.ndarray
SHOWN = 10
SET_NOTE = "{} is of a whole test part: a run has one value, and chance is read off repeats or data sets."


@dataclass(frozen=True)
class Cells:
    """Paired values: one row per data set, setting, repeat and case, one column per contestant.

    A setting is a combination of all factors but the data set, the repeat and the one whose levels compete; a
    block is a data set and a setting. Every value is finite: blocks with a hole are left out and named.

    Args:
        contestants: in name order.
        datasets: names, in order; one empty name if the table has none.
        models: likewise.
        blocks: the names of the blocks, in order.
        values: ``(rows, contestants)`` float64.
        dataset: index of the data set of each row.
        model: index of the model of each row.
        block: index of the block of each row.
        repeat: number of the repeat of each row; equal numbers in a data set are the same repeat.
        group: number of the group of each row (patient, video), the case itself where no group is given; equal
            numbers in a data set are the same group.
        per_case: whether the rows are cases; else they are the means of runs.
        notes: what was left out, in sentences.
    """

    contestants: list[str]
    datasets: list[str]
    models: list[str]
    blocks: list[str]
    values: Array
    dataset: Array
    model: Array
    block: Array
    repeat: Array
    group: Array
    per_case: bool
    notes: tuple[str, ...]

    @property
    def bounded(self) -> bool:
        """Whether every value lies in 0 to 1, as those of overlaps and probabilities do, and so does every mean."""
        return bool(self.values.min() >= 0 and self.values.max() <= 1)


def arrange(table: pd.DataFrame, of: str, metric: str) -> Cells:
    """Arrange the rows of one metric; the order of the table's rows does not matter.

    Args:
        table: a normalised table.
        of: the factor whose levels compete.
        metric: the metric.

    Raises:
        MedsegError: there are fewer than two contestants, a measurement is given twice, or no block is whole.
    """
    table = table[table["metric"] == metric]
    whole = _of_whole_sets(table)
    table, notes = (table, leak_notes(table)) if whole else _of_runs(table, of)
    codes, levels = _codes(table, of)
    contestants = levels[of]
    if len(contestants) < 2:
        raise MedsegError(f"only one {of} in the table ({contestants[0]}): nothing to compare it with")
    settings = [c for c in RUN_KEYS if c in codes and c not in (of, "dataset", "repeat")]
    block, names = _blocks(codes, levels, ["dataset", *settings])
    first, row = _numbered(_joined([block, codes["repeat"], codes["case"]]))
    values = np.full((len(first), len(contestants)), np.nan)
    place = row * len(contestants) + codes[of]
    times = np.bincount(place)
    if times.max() > 1:
        twice = int((times[place] > 1).argmax())
        raise MedsegError(f"measurement given twice: {describe(table.iloc[twice])}")
    values[row, codes[of]] = table["value"].to_numpy(float)
    keep, named = _whole(values, block[first], names, contestants)
    first = first[keep]
    kept, block = np.unique(block[first], return_inverse=True)
    return Cells(
        contestants=contestants,
        datasets=levels["dataset"],
        models=levels["model"],
        blocks=[names[i] for i in kept],
        values=values[keep],
        dataset=codes["dataset"][first],
        model=codes["model"][first],
        block=block,
        repeat=codes["repeat"][first],
        group=_groups(codes, levels)[first],
        per_case="case" in table.columns and not whole,
        notes=(*notes, *((SET_NOTE.format(metric),) if whole else ()), *named),
    )


def _of_whole_sets(table: pd.DataFrame) -> bool:
    """Whether every value is of a whole test part, in a table that has cases for other metrics."""
    return "case" in table.columns and bool(of_sets(table).all())


def ready(table: pd.DataFrame) -> pd.DataFrame:
    """Normalise a table unless it is so already; that would take longer than all the statistics."""
    import pandas as pd

    text = pd.api.types.is_string_dtype
    if {"metric", "value"} <= set(table.columns) and pd.api.types.is_float_dtype(table["value"]):
        keys = [c for c in (*RUN_KEYS, "case", "group") if c in table.columns]
        if all(text(table[c]) and not table[c].hasnans for c in keys):
            return table
    return normalise(table)


def _of_runs(table: pd.DataFrame, of: str) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The means of runs instead of cases where some contestants were tested on cases of their own."""
    notes = leak_notes(table)
    own = {name for name in table[of].unique() if leaks(name)} if of == "augment" else set()
    if "case" not in table.columns or not own or own == set(table[of]):
        return table, notes
    run = [c for c in (*RUN_KEYS, "metric") if c in table.columns]
    # the mean of a run with a hole is a hole
    grouped = table.assign(value=table["value"].where(np.isfinite(table["value"]))).groupby(run)["value"]
    means = grouped.mean().where(grouped.count() == grouped.size()).reset_index()
    return means, (
        *notes,
        "The leaking runs have test cases of their own: means of runs are compared, not cases.",
    )


def _codes(table: pd.DataFrame, of: str) -> tuple[dict[str, Array], dict[str, list[str]]]:
    """Each key column as numbers and the names they stand for, in order; a column that is not there is constant."""
    import pandas as pd

    codes: dict[str, Array] = {}
    levels: dict[str, list[str]] = {}
    for column in (*RUN_KEYS, "case", "group"):
        if column in table.columns:
            codes[column], names = pd.factorize(table[column], sort=True)
            levels[column] = [str(name) for name in names]
        elif column in ("dataset", "model", "repeat", "case"):
            codes[column], levels[column] = np.zeros(len(table), np.int64), [""]
    return codes, levels


def _joined(codes: list[Array]) -> Array:
    """One number for each combination of the codes, in their order."""
    joined = np.zeros(len(codes[0]), np.int64)
    for code in codes:
        joined = joined * (int(code.max(initial=0)) + 1) + code
    return joined


def _numbered(codes: Array) -> tuple[Array, Array]:
    """A row of each different code, and the codes numbered from 0 in their order."""
    import pandas as pd

    # hashing is several times as fast as the sorting of numpy.unique
    numbers, different = pd.factorize(codes, sort=True)
    first = np.empty(len(different), np.int64)
    first[numbers[::-1]] = np.arange(len(codes))[::-1]
    return first, numbers


def _blocks(
    codes: dict[str, Array], levels: dict[str, list[str]], factors: list[str]
) -> tuple[Array, list[str]]:
    """The block of each row, and the blocks' names: the levels of the factors that vary."""
    first, block = _numbered(_joined([codes[c] for c in factors]))
    shown = [c for c in factors if len(levels[c]) > 1] or factors[:1]
    return block, [" ".join(levels[c][codes[c][i]] for c in shown) for i in first]


def _groups(codes: dict[str, Array], levels: dict[str, list[str]]) -> Array:
    """The group of each row; a case without one is its own."""
    if "group" not in codes:
        return codes["case"]
    named = np.array([name != "" for name in levels["group"]])[codes["group"]]
    return np.where(named, codes["group"], len(levels["group"]) + codes["case"])


def _whole(
    values: Array, block: Array, names: list[str], contestants: list[str]
) -> tuple[Array, tuple[str, ...]]:
    """The rows of blocks in which nobody lacks a finite value, and the other blocks in words."""
    lacking = ~np.isfinite(values)
    holes = {
        int(b): [name for name, lacks in zip(contestants, lacking[block == b].any(0), strict=True) if lacks]
        for b in np.unique(block[lacking.any(1)])
    }
    keep = ~np.isin(block, list(holes))
    named = [f"{names[b] or 'the only block'} ({', '.join(who)})" for b, who in sorted(holes.items())]
    more = f", and {len(named) - SHOWN} more" if len(named) > SHOWN else ""
    if not keep.any():
        raise MedsegError(
            f"no block has the values of every contestant; values are missing in: {'; '.join(named[:SHOWN])}{more}"
        )
    if not named:
        return keep, ()
    return keep, (f"Left out for everyone, because of missing values: {'; '.join(named[:SHOWN])}{more}.",)


def sums(codes: Array, length: int, values: Array) -> Array:
    """Sum the rows of equal code.

    Shape:
        codes ``(rows,)``, values ``(rows, K)``, result ``(length, K)`` float64.
    """
    result: Any = np.empty((length, values.shape[1]))
    for column in range(values.shape[1]):
        result[:, column] = np.bincount(codes, values[:, column], length)
    return result


def means(codes: Array, length: int, values: Array) -> Array:
    """Average the rows of equal code; shapes as for :func:`sums`."""
    return sums(codes, length, values) / np.bincount(codes, minlength=length)[:, None]
