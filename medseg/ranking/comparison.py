"""Published values against ours: cell by cell with an interval, and whether both put the cells in the same order."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medseg.errors import MedsegError
from medseg.ranking.agreement import orders
from medseg.ranking.estimate import ONE_REPEAT, estimate
from medseg.ranking.protocols import BASE, LEAKING, PROTOCOL, SPLIT, UNGROUPED, with_protocols
from medseg.ranking.published import FACTORS, TABLE, Aliases
from medseg.ranking.record import number
from medseg.ranking.suspicion import doubtful
from medseg.ranking.table import directions

if TYPE_CHECKING:
    import pandas as pd

COMPARED, NOT_RUN, NOT_PUBLISHED = "compared", "not run", "not published"
#: our columns by the names that published tables have for them
OWN = {"augment": BASE, "split": SPLIT}
NUMBERS = ("published", "ours", "low", "high", "difference")
COUNTS = ("cases", "groups", "repeats")


@dataclass(frozen=True)
class Comparison:
    """What a results table and a published one say of the same cells.

    Args:
        rows: one row per published value and cell of ours that answers to it, then the cells of ours that are not
            published: ``table``, our names of the factors, ``split protocol metric published ours low high difference
            inside cases groups repeats status``. ``inside`` is whether the published value lies in our interval:
            ``yes``, ``no``, or empty where there is no interval. ``status`` is ``compared``, ``not run`` or ``not
            published``.
        orders: see :func:`medseg.ranking.agreement.orders`.
        level: of the intervals.
        met: how many published values have a cell of ours or several.
        notes: what a reader must know, in sentences.
    """

    rows: pd.DataFrame
    orders: pd.DataFrame
    level: float
    met: int
    notes: tuple[str, ...]

    def of(self, status: str) -> pd.DataFrame:
        """The rows of one status."""
        return self.rows[self.rows["status"] == status].reset_index(drop=True)

    def display(self, status: str = COMPARED) -> pd.DataFrame:
        """The rows of one status for people: the interval in one column, and no column without any entry."""
        rows = self.of(status)
        factors = [c for c in rows.columns if c not in (*NUMBERS, *COUNTS, "inside", "status")]
        shown = rows[[c for c in factors if (rows[c] != "").any()]].copy()
        for name in ("published", "ours"):
            shown[name] = [number(value) for value in rows[name]]
        bounds = zip(rows["low"], rows["high"], rows["ours"], strict=True)
        shown["interval"] = [
            f"{number(low, like)} to {number(high, like)}" if low == low else "" for low, high, like in bounds
        ]
        shown["difference"] = [f"{value:+.4f}" if value == value else "" for value in rows["difference"]]
        shown["inside"] = rows["inside"]
        for name in COUNTS:
            shown[name] = [str(count) if count else "" for count in rows[name]]
        return shown[[c for c in shown.columns if (shown[c] != "").any()]]

    def words(self) -> list[str]:
        """The whole in a few sentences, then the notes."""
        compared = self.of(COMPARED)
        lines = [
            f"{len(compared)} comparisons of {self.met} published values; "
            f"{len(self.of(NOT_RUN))} published values have no run of ours, "
            f"{len(self.of(NOT_PUBLISHED))} means of ours are not published (--all lists both)."
        ]
        known = compared[compared["inside"] != ""]
        if len(known):
            inside = int((known["inside"] == "yes").sum())
            lines.append(
                f"{inside} of {len(known)} published values lie inside our {self.level:.0%} interval; "
                f"ours less the published: {_spread(compared['difference'])}."
            )
        return [*lines, *self.notes]


def _spread(differences: pd.Series) -> str:
    return (
        f"{differences.mean():+.4f} on average, {differences.min():+.4f} to {differences.max():+.4f}"
        if len(differences)
        else "nothing to compare"
    )


def compare(
    ours: pd.DataFrame,
    published: pd.DataFrame,
    aliases: Aliases | None = None,
    *,
    better: Mapping[str, str] | None = None,
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> Comparison:
    """Set our means against published values.

    A published value is met by every cell of ours that has its levels, where a level is ours by name or by an alias. An
    augmentation meets one under any protocol (``filter``, ``filter-offline``, ``filter-leaking``), and a cell of each
    split and of each level of what the published table does not name has a row of its own. Intervals are of our means
    alone, over groups of cases and repeats (see :func:`medseg.ranking.estimate.estimate`); published values come
    without.

    Args:
        ours: a normalised table.
        published: as :func:`medseg.ranking.published.read_published` gives it.
        aliases: what we call published levels.
        better: metric -> ``higher`` or ``lower``, for metrics that medseg does not know.
        level: of the intervals.
        draws: of the bootstrap, for the interval of the order.
        seed: likewise.

    Raises:
        MedsegError: no published value has a cell of ours, an alias is of nothing that is published, or the two are in
            different units.
    """
    aliases = aliases or Aliases()
    aliases.check(published)
    table = with_protocols(ours)
    cells = _Cells(table, published, aliases)
    met = [list(cells.rows_of(value)) for value in _records(published)]
    if not cells.met:
        raise MedsegError(_no_match(table, published, aliases))
    rows = [row for found in met for row in found] + cells.unpublished()
    frame = _frame(rows, cells, level)
    compared = frame["status"] == COMPARED
    _check_units(frame[compared])
    way = directions(ours, list(dict.fromkeys(frame.loc[compared, "metric"])), better)
    places = [row["place"] for row in rows if row["status"] == COMPARED]
    apart = [c for c in cells.factors.values() if c not in (*cells.named, "dataset")]
    ordered = orders(frame[compared].assign(place=places), cells.values, way, apart, level, draws, seed)
    count = sum(found[0]["status"] == COMPARED for found in met)
    notes = tuple(_notes(frame[compared], published, cells, table))
    return Comparison(frame, ordered, level, count, notes)


class _Cells:
    """Our cells: the runs that differ in nothing but the repeat, by metric."""

    def __init__(self, table: pd.DataFrame, published: pd.DataFrame, aliases: Aliases) -> None:
        self.table, self.aliases = table, aliases
        self.named = [c for c in FACTORS if c in published.columns]
        columns = {OWN.get(c, c): c for c in FACTORS if OWN.get(c, c) in table.columns}
        self.factors = {ours: name for ours, name in columns.items() if name != "split"}
        self.columns = [*self.factors, SPLIT, PROTOCOL, "metric"]
        whole = [*self.columns, *(c for c in ("augment", "split") if c in table.columns)]
        found = table.groupby(whole, sort=False).indices
        self.cells = [dict(zip(whole, map(str, _tuple(key)), strict=True)) for key in found]
        self.places = list(found.values())
        self.levels = {c: set(table[c].unique()) for c in self.columns}
        self.augments = {cell["augment"] for cell in self.cells if "augment" in cell}
        self.met: set[int] = set()
        self.used: dict[tuple[str, str], tuple[str, ...]] = {}
        self.metrics = {m for name in published["metric"].unique() for m in self._levels("metric", name)}

    def _levels(self, column: str, theirs: str) -> tuple[str, ...]:
        own = OWN.get(column, column)
        levels = self.levels.get(own, set())
        if column == "augment" and theirs in self.augments:
            # a name with its protocol, such as filter-leaking
            levels = levels | {theirs}
        found = self.aliases.ours(column, theirs, levels)
        if found and found != (theirs,):
            self.used[column, theirs] = found
        return found

    def values(self, place: int) -> pd.DataFrame:
        """The rows of a cell."""
        return self.table.iloc[self.places[place]]

    def rows_of(self, value: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """The comparisons of one published value; one row that says so where we have no run of it."""
        wanted = {column: self._levels(column, str(value[column])) for column in (*self.named, "metric")}
        found = [place for place, cell in enumerate(self.cells) if self._meets(cell, wanted)]
        self.met.update(found)
        for place in found:
            yield self._row(place) | {
                TABLE: value[TABLE],
                "published": value["value"],
                "status": COMPARED,
            }
        if not found:
            known = {c: str(value[c]) for c in (TABLE, *self.named, "metric")}
            yield {**known, "published": value["value"], "place": -1, "status": NOT_RUN}

    def _meets(self, cell: Mapping[str, str], wanted: Mapping[str, tuple[str, ...]]) -> bool:
        """Whether a cell has the wanted level of every column that our table has."""
        for column, levels in wanted.items():
            said = {cell.get(OWN.get(column, column)), cell.get(column)} - {None}
            if said and not said & set(levels):
                return False
        return True

    def _row(self, place: int) -> dict[str, Any]:
        cell = self.cells[place]
        named = {name: cell[own] for own, name in self.factors.items()}
        return {
            TABLE: "",
            **named,
            "split": cell[SPLIT],
            PROTOCOL: cell[PROTOCOL],
            "metric": cell["metric"],
            "place": place,
        }

    def unpublished(self) -> list[dict[str, Any]]:
        """Our cells of a published metric that no published value meets."""
        return [
            self._row(place) | {"published": math.nan, "status": NOT_PUBLISHED}
            for place, cell in enumerate(self.cells)
            if place not in self.met and cell["metric"] in self.metrics
        ]


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]


def _tuple(key: object) -> tuple[object, ...]:
    return key if isinstance(key, tuple) else (key,)


def _frame(rows: Sequence[Mapping[str, Any]], cells: _Cells, level: float) -> pd.DataFrame:
    """The rows with our mean, interval and counts."""
    import pandas as pd

    known: dict[int, dict[str, Any]] = {}
    told = []
    for row in rows:
        place = row["place"]
        if place not in known:
            known[place] = _ours(cells.values(place), level) if place >= 0 else {}
        told.append({**row, **known[place]})
    factors = [c for c in FACTORS if c != "split" and (c in cells.named or c in cells.factors.values())]
    columns = [TABLE, *factors, "split", PROTOCOL, "metric", *NUMBERS, "inside", *COUNTS, "status"]
    frame = pd.DataFrame(told).reindex(columns=columns)
    frame["difference"] = frame["ours"] - frame["published"]
    frame["inside"] = [
        "" if low != low or value != value else "yes" if low <= value <= high else "no"
        for low, high, value in frame[["low", "high", "published"]].itertuples(index=False)
    ]
    text = [c for c in columns if c not in (*NUMBERS, *COUNTS)]
    frame[text] = frame[text].astype(object).fillna("")
    return (
        frame.astype({**dict.fromkeys(NUMBERS, float)})
        .fillna(dict.fromkeys(COUNTS, 0))
        .astype(dict.fromkeys(COUNTS, int))
    )


def _ours(values: pd.DataFrame, level: float) -> dict[str, Any]:
    found = estimate(values)
    low, high = found.interval(level)
    return {
        "ours": found.mean,
        "low": low,
        "high": high,
        "cases": found.cases,
        "groups": found.groups,
        "repeats": found.repeats,
    }


def _no_match(table: pd.DataFrame, published: pd.DataFrame, aliases: Aliases) -> str:
    """Why nothing meets: the first column of which no published level is ours, else the combination."""
    for column in (*FACTORS, "metric"):
        own = OWN.get(column, column)
        if column not in published.columns or own not in table.columns:
            continue
        theirs, levels = list(published[column].unique()), sorted(table[own].unique())
        if not any(aliases.ours(column, name, levels) for name in theirs):
            return (
                f"no published {column} ({_few(theirs)}) is one of ours ({_few(levels)}); "
                f"--alias {column}:{theirs[0]}={levels[0]} says what is what"
            )
    return "no published value has a run of ours: each level is there, but no combination of them"


def _few(names: Sequence[str], most: int = 6) -> str:
    shown = ", ".join(name or "none" for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")


def _check_units(compared: pd.DataFrame) -> None:
    for metric, rows in compared.groupby("metric"):
        ours, published = rows["ours"].dropna(), rows["published"]
        if len(ours) and ours.min() >= 0 and ours.max() <= 1 < published.max() <= 100:
            raise MedsegError(
                f"published {metric} goes up to {published.max():g} and ours lies in 0 to 1: give --percent if the "
                "published values are percentages"
            )


def _notes(
    compared: pd.DataFrame, published: pd.DataFrame, cells: _Cells, table: pd.DataFrame
) -> Iterator[str]:
    """What a reader must know of these comparisons."""
    for (column, theirs), names in cells.used.items():
        yield f"The published {column} {theirs} is taken for {' and '.join(names)} of ours."
    if (compared[PROTOCOL] == LEAKING).any():
        yield "Rows of protocol leaking: copies of test images were trained on, the values are too good."
    if compared["split"].str.endswith(UNGROUPED).any():
        yield (
            "Rows of a split that ends in -ungrouped: images of one patient, video or slide lie on both sides, the "
            "values may be too good for new patients ('medseg study premium' says by how much)."
        )
    if (compared["inside"] == "").any():
        yield "No interval: one value each cannot be told from chance."
    if ((compared["repeats"] == 1) & (compared["inside"] != "")).any():
        yield ONE_REPEAT
    yield from _impossible(published)
    yield from _repeated(published)
    measured = table[table["metric"].isin(compared["metric"])].drop(columns=[BASE, PROTOCOL, SPLIT])
    odd = doubtful(measured.reset_index(drop=True))
    if len(odd):
        yield f"{len(odd)} findings of suspicious runs among ours: 'medseg rank' names them."


def _impossible(published: pd.DataFrame) -> Iterator[str]:
    """A note where the published IoU is above the Dice of the same cell."""
    if not {"iou", "dice"} <= set(published["metric"]):
        return
    keys = [c for c in (TABLE, *FACTORS) if c in published.columns]
    wide = published.pivot(index=keys, columns="metric", values="value").dropna(subset=["iou", "dice"])
    above = int((wide["iou"] > wide["dice"]).sum())
    if above:
        yield (
            f"The published iou is above the dice in {above} of {len(wide)} cells, where no mask's IoU = Dice / (2 - "
            "Dice) can be: it may be a mean with the background (--alias metric:iou=mean_iou)."
        )


def _repeated(published: pd.DataFrame) -> Iterator[str]:
    """A note where several tables give one cell different values."""
    keys = [c for c in (*FACTORS, "metric") if c in published.columns]
    several = published.groupby(keys)["value"].nunique()
    count = int((several > 1).sum())
    if count:
        yield f"{count} cells stand in several tables with different values; each is compared by itself."
