"""The premium of an unsound protocol: how much better the same experiment looks under it than under its sound twin."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.errors import MedsegError, unknown
from medseg.ranking.estimate import ONE_REPEAT, Estimate, difference, estimate
from medseg.ranking.protocols import BASE, LEAKING, PROTOCOL, SPLIT, UNGROUPED, with_protocols
from medseg.ranking.record import number
from medseg.ranking.table import directions
from medseg.results import RUN_KEYS

if TYPE_CHECKING:
    import pandas as pd

#: what may be unsound -> the words for both sides
KINDS = {"split": ("grouped", "ungrouped"), "protocol": ("sound", "leaking")}
SAID = {"split": "a split that ignores groups", "protocol": "augmenting before splitting"}
ALL = "all"
COLUMNS = (
    "of",
    "dataset",
    "model",
    "loss",
    "preprocess",
    "augment",
    "split",
    "metric",
    "sound",
    "unsound",
    "premium",
    "low",
    "high",
    "clear",
    "groups_sound",
    "groups_unsound",
    "repeats_sound",
    "repeats_unsound",
)
FACTORS = ("dataset", "model", "loss", "preprocess", "augment", "split")


@dataclass(frozen=True)
class Premium:
    """What unsound protocols add to scores.

    Args:
        rows: one row per pair of twins and metric: ``of`` (``split`` or ``protocol``), the factors with those of the
            sound twin, ``metric``, both means, ``premium low high``, positive where the unsound one looks better,
            ``clear`` (``yes`` where the interval does not hold 0, ``no``, or empty without an interval), and the
            numbers of groups and repeats behind both.
        overall: the same over all twins of each data set, and over data sets where there are several (``all``).
        level: of the intervals.
        notes: what a reader must know, in sentences.
    """

    rows: pd.DataFrame
    overall: pd.DataFrame
    level: float
    notes: tuple[str, ...]

    def display(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Some rows for people: the interval in one column, and no column without any entry."""
        shown = rows[[c for c in ("of", *FACTORS, "metric") if (rows[c] != "").any()]].copy()
        for name in ("sound", "unsound"):
            shown[name] = [number(value) for value in rows[name]]
        shown["premium"] = [
            f"{value:+.4f}" if abs(value) < 10 else f"{value:+.2f}" if value == value else ""
            for value in rows["premium"]
        ]
        bounds = zip(rows["low"], rows["high"], rows["premium"], strict=True)
        shown["interval"] = [
            f"{low:+.4f} to {high:+.4f}" if low == low and abs(like) < 10 else _wide(low, high)
            for low, high, like in bounds
        ]
        shown["clear"] = rows["clear"]
        for name in ("groups", "repeats"):
            pairs = zip(rows[f"{name}_sound"], rows[f"{name}_unsound"], strict=True)
            shown[name] = [f"{one} / {other}" if one or other else "" for one, other in pairs]
        return shown[[c for c in shown.columns if (shown[c] != "").any()]]

    def words(self) -> list[str]:
        """The overall premiums in sentences, then the notes."""
        lines = []
        for row in self.overall.to_dict("records"):
            mine = self.rows[(self.rows["metric"] == row["metric"]) & (self.rows["of"] == row["of"])]
            count = len(mine if row["dataset"] == ALL else mine[mine["dataset"] == row["dataset"]])
            where = "all data sets" if row["dataset"] == ALL else row["dataset"] or "the table"
            said = f" ({row['low']:+.4f} to {row['high']:+.4f})" if row["low"] == row["low"] else ""
            doubt = ": it may be chance" if row["clear"] == "no" else ""
            lines.append(
                f"{where}, {row['metric']}: {SAID[row['of']]} is worth {row['premium']:+.4f}{said}, over {count} "
                f"pair{'s' * (count != 1)} of twins{doubt}."
            )
        return [*lines, *self.notes]


def _wide(low: float, high: float) -> str:
    return f"{low:+.2f} to {high:+.2f}" if low == low else ""


def premium(
    table: pd.DataFrame,
    of: Sequence[str] = tuple(KINDS),
    metrics: Sequence[str] = (),
    *,
    better: Mapping[str, str] | None = None,
    level: float = 0.95,
) -> Premium:
    """Compare runs of an unsound protocol with their sound twins, which differ from them in nothing else.

    The twin of a split ``<name>-ungrouped``, which puts images of one patient, video or slide on both sides, is the
    split ``<name>``. That of an augmentation ``<name>-leaking``, which trains on copies of test images, is
    ``<name>-offline``, or ``<name>`` where there is none.

    Both sides have test parts of their own, so nothing is paired: the interval is Welch's, of variances over groups of
    cases and repeats, and rather too wide than too narrow where the two test parts share patients. An overall premium
    is the mean over twins; as these share test parts, its variance is that of the means over twins.

    Args:
        table: a normalised table.
        of: what may be unsound: ``split``, ``protocol``, or both.
        metrics: all by default.
        better: metric -> ``higher`` or ``lower``, for metrics that medseg does not know.
        level: of the intervals.

    Raises:
        MedsegError: there are no twins, or an unknown kind or metric.
    """
    for kind in of:
        if kind not in KINDS:
            raise unknown("kind of premium", kind, KINDS)
    way = directions(table, list(dict.fromkeys(metrics or table["metric"].unique())), better)
    marked = with_protocols(table[table["metric"].isin(list(way))])
    rows, overall = [], []
    for kind in of:
        twins = list(_twins(marked, kind))
        rows += [_row(kind, *twin, way, level) for twin in twins]
        overall += list(_overall(kind, twins, way, level))
    if not rows:
        raise MedsegError(_none(of))
    told = _frame(rows)
    return Premium(told, _frame(overall), level, tuple(_notes(told)))


def _none(of: Sequence[str]) -> str:
    said = {
        "split": "a split and its -ungrouped twin (medseg data split NAME --ungrouped)",
        "protocol": "an augmentation ending in -leaking and its -offline twin",
    }
    wanted = ", or ".join(said[kind] for kind in of)
    return f"no twins in the table: the same data set, model, loss and augmentation is needed under {wanted}"


Twin = tuple[dict[str, str], "pd.DataFrame", "pd.DataFrame"]


def _twins(table: pd.DataFrame, kind: str) -> Iterator[Twin]:
    """Each pair: what both are, the rows of the sound one and those of the unsound one."""
    columns = [c for c in RUN_KEYS if c in table.columns and c != "repeat"]
    keys = [*columns, "metric"]
    found = table.groupby([*keys, BASE, PROTOCOL, SPLIT], sort=False).indices
    names = [*keys, BASE, PROTOCOL, SPLIT]
    cells = {}
    for key, index in found.items():
        cell = dict(zip(names, map(str, key if isinstance(key, tuple) else (key,)), strict=True))
        cells[tuple(cell[c] for c in keys)] = (cell, index)
    for cell, index in cells.values():
        for said in _sound_names(cell, kind):
            twin = cells.get(tuple(({**cell, **said})[c] for c in keys))
            if twin is not None:
                yield {**twin[0]}, table.iloc[twin[1]], table.iloc[index]
                break


def _sound_names(cell: Mapping[str, str], kind: str) -> list[dict[str, str]]:
    """What the sound twin of a cell may be called, the best first; nothing for a cell that is sound."""
    leaking = cell[PROTOCOL] == LEAKING
    if kind == "split":
        ungrouped = cell[SPLIT].endswith(UNGROUPED) and not leaking
        return [{"split": cell[SPLIT].removesuffix(UNGROUPED)}] if ungrouped else []
    if not leaking:
        return []
    splits = (cell[SPLIT], cell[SPLIT] + UNGROUPED) if "split" in cell else ("",)
    return [
        {"augment": augment, "split": split}
        for split in splits
        for augment in (f"{cell[BASE]}-offline", cell[BASE])
    ]


def _row(
    kind: str,
    twin: Mapping[str, str],
    sound: pd.DataFrame,
    unsound: pd.DataFrame,
    way: Mapping[str, str],
    level: float,
) -> dict[str, Any]:
    return {**twin, "of": kind, **_numbers(estimate(sound), estimate(unsound), way[twin["metric"]], level)}


def _overall(
    kind: str, twins: Sequence[Twin], way: Mapping[str, str], level: float
) -> Iterator[dict[str, Any]]:
    """Over the twins of each data set, then over the data sets if there are several."""
    for metric in dict.fromkeys(twin["metric"] for twin, _, _ in twins):
        mine = [each for each in twins if each[0]["metric"] == metric and _finite(each)]
        datasets = list(dict.fromkeys(twin.get("dataset", "") for twin, _, _ in mine))
        for wanted in [[name] for name in datasets] + ([datasets] if len(datasets) > 1 else []):
            chosen = [each for each in mine if each[0].get("dataset", "") in wanted]
            sound = _over([one for _, one, _ in chosen])
            unsound = _over([other for _, _, other in chosen])
            name = wanted[0] if len(wanted) == 1 else ALL
            numbers = _numbers(sound, unsound, way[metric], level)
            yield {"of": kind, "dataset": name, "metric": metric, **numbers}


def _over(sides: Sequence[pd.DataFrame]) -> Estimate:
    """The mean over one side of all pairs: a pair is one setting on both, whatever its sides are called."""
    import pandas as pd

    return estimate(pd.concat([side.assign(pair=number) for number, side in enumerate(sides)]), ["pair"])


def _finite(twin: Twin) -> bool:
    return all(np.isfinite(side["value"]).all() for side in twin[1:])


def _numbers(sound: Estimate, unsound: Estimate, better: str, level: float) -> dict[str, Any]:
    pair = (unsound, sound) if better == "higher" else (sound, unsound)
    gap, low, high = difference(*pair, level)
    return {
        "sound": sound.mean,
        "unsound": unsound.mean,
        "premium": gap,
        "low": low,
        "high": high,
        "clear": "" if low != low else "no" if low <= 0 <= high else "yes",
        "groups_sound": sound.groups,
        "groups_unsound": unsound.groups,
        "repeats_sound": sound.repeats,
        "repeats_unsound": unsound.repeats,
    }


def _frame(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    import pandas as pd

    frame = pd.DataFrame(rows).reindex(columns=list(COLUMNS))
    text = ["of", *FACTORS, "metric", "clear"]
    frame[text] = frame[text].astype(object).fillna("")
    return frame


def _notes(rows: pd.DataFrame) -> Iterator[str]:
    yield "premium: how much better the unsound twin looks; positive also where lower values are better."
    yield "Twins have test parts of their own: nothing is paired, and intervals are of both sides' groups and repeats."
    if rows[["repeats_sound", "repeats_unsound"]].min().min() == 1:
        yield ONE_REPEAT
    if (rows["clear"] == "").any():
        yield "No interval: one value each cannot be told from chance."
