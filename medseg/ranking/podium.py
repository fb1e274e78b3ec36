"""The podium: contests between the levels of one factor, 3-2-1 points, mean ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from medseg.augmentations.protocol import leaks
from medseg.errors import MedsegError
from medseg.ranking.holes import lines, missing, other_factors
from medseg.ranking.record import Ranking
from medseg.ranking.suspicion import doubtful
from medseg.ranking.table import check_column, directions, normalise
from medseg.results import RUN_KEYS

if TYPE_CHECKING:
    import pandas as pd

POINTS = {1: 3, 2: 2, 3: 1}
SHOWN_HOLES = 10
#: the grouping whose contests are the combinations of all the other factors but repeats
OVERALL = "overall"


@dataclass(frozen=True)
class Runs:
    """What a table says of each run: all that rankings by several factors share.

    Args:
        of: the factor whose levels compete.
        direction: metric -> ``higher`` or ``lower``.
        means: one row per run and metric: the run's keys, ``metric`` and ``value``, the mean over its cases.
        missing: the holes of the grid.
        suspicious: the findings of ``suspicion.doubtful``.
        notes: what a reader must know.
    """

    of: str
    direction: dict[str, str]
    means: pd.DataFrame
    missing: pd.DataFrame
    suspicious: pd.DataFrame
    notes: tuple[str, ...]


def rank(
    table: pd.DataFrame,
    of: str = "loss",
    by: str = "dataset",
    metrics: Sequence[str] = ("dice",),
    better: Mapping[str, str] | None = None,
) -> Ranking:
    """Rank the levels of one factor over contests; a contest is one level of another factor and one metric.

    A contestant's value in a contest is a macro mean: over the cases of a run, then over the repeats of a
    setting, then over the settings (the combinations of the other factors), so that every run counts the
    same whatever its number of cases. Places 1, 2, 3 earn 3, 2, 1 points; equal values (to 12 digits) share
    the better place and its points, while mean ranks give ties the average of their places. The spread is
    the standard deviation over the runs of a contest (n - 1). A contest with a hole is named in the result
    and earns nobody anything.

    Args:
        table: a tidy or wide results table (see :func:`medseg.ranking.table.normalise`).
        of: the column whose levels compete.
        by: the column whose levels are the contests; ``overall`` makes one of every combination of all the
            other factors but repeats.
        metrics: one contest for each at every level of ``by``.
        better: metric -> ``higher`` or ``lower``, for metrics that neither the table nor the registry knows.

    Raises:
        MedsegError: an unknown column or metric, fewer than two contestants, or no contest without a hole.
    """
    return place(summarise(normalise(table, better=better), of, by, metrics, better), by)


def summarise(
    table: pd.DataFrame, of: str, by: str, metrics: Sequence[str], better: Mapping[str, str] | None = None
) -> Runs:
    """Turn a normalised table into runs; :func:`place` then ranks them by any of ``RUN_KEYS``, or by ``by``.

    Raises:
        MedsegError: an unknown column or metric, or fewer than two contestants.
    """
    for column in (of,) if by == OVERALL else (of, by):
        check_column(table, column)
    if of == by:
        raise MedsegError(f"cannot rank {of} by {by}: name two different columns")
    direction = directions(table, list(dict.fromkeys(metrics)), better)
    table = table[table["metric"].isin(list(direction))].reset_index(drop=True)
    contestants = list(table[of].unique())
    if len(contestants) < 2:
        raise MedsegError(f"only one {of} in the table ({contestants[0]}): nothing to rank it against")
    keys = list(dict.fromkeys([c for c in (*RUN_KEYS, of, by) if c in table.columns]))
    holes = missing(table, of, by)
    return Runs(
        of=of,
        direction=direction,
        means=table.groupby([*keys, "metric"], sort=False)["value"].mean().reset_index(),
        missing=holes,
        suspicious=doubtful(table),
        notes=leak_notes(table),
    )


def groupings(table: pd.DataFrame, of: str) -> list[str]:
    """What to rank by if nobody says: data set and model if there are two or more, overall if that is more.

    Raises:
        MedsegError: the table has no other factor.
    """
    factors = [c for c in RUN_KEYS if c in table.columns and c != of]
    if not factors:
        raise MedsegError(f"nothing to rank {of} by: the table has none of {', '.join(RUN_KEYS)} besides")
    varied = [c for c in factors if c != "repeat" and table[c].nunique() > 1]
    chosen: list[str] = [c for c in ("dataset", "model") if c in varied]
    if len(varied) > 1 or (varied and not chosen):
        chosen.append(OVERALL)
    return chosen or factors[:1]


def place(runs: Runs, by: str) -> Ranking:
    """Rank runs by one factor, or ``overall``.

    Raises:
        MedsegError: no contest is without a hole.
    """
    means, holes, odd = (
        _with_contests(frame, runs, by) for frame in (runs.means, runs.missing, runs.suspicious)
    )
    _check_some_complete(means, holes, by)
    metrics = list(runs.direction)
    contests = _places(_contests(means, runs.of, by, metrics), holes, runs.of, by, runs.direction)
    contests["suspicious"] = _counted(contests, odd, runs.of, by)
    return Ranking(
        of=runs.of,
        by=by,
        metrics=tuple(metrics),
        contests=contests,
        table=_summary(contests, metrics),
        missing=runs.missing,
        notes=(*_notes(contests, runs.direction), *runs.notes),
        suspicious=runs.suspicious,
    )


def _with_contests(frame: pd.DataFrame, runs: Runs, by: str) -> pd.DataFrame:
    """The frame with a column ``by``: as it is, or the levels of all varied factors but repeats."""
    if by != OVERALL:
        return frame
    others = [c for c in other_factors(runs.means, runs.of, by) if c != "repeat"]
    varied = [c for c in others if runs.means[c].nunique() > 1] or others[:1]
    names = ["/".join(filter(None, row)) for row in frame[varied].itertuples(index=False, name=None)]
    return frame.assign(**{by: names if varied else OVERALL})


def _counted(contests: pd.DataFrame, odd: pd.DataFrame, of: str, by: str) -> list[int]:
    """How many suspicious runs each contestant has in each contest."""
    keys = [c for c in RUN_KEYS if c in odd.columns]
    found: dict[tuple[str, str, str], set[tuple[str, ...]]] = {}
    metrics = list(contests["metric"].unique())
    for row in odd.to_dict("records"):
        for metric in [row["metric"]] if row["metric"] else metrics:
            place = (row.get(by, ""), metric, row.get(of, ""))
            found.setdefault(place, set()).add(tuple(row[c] for c in keys))
    places = zip(contests["level"], contests["metric"], contests["contestant"], strict=True)
    return [len(found.get(place, ())) for place in places]


def _check_some_complete(means: pd.DataFrame, holes: pd.DataFrame, by: str) -> None:
    contests = len(means[by].unique()) * len(means["metric"].unique())
    if len(holes.drop_duplicates([by, "metric"])) == contests:
        named = lines(holes)
        rest = len(named) - SHOWN_HOLES
        more = [f"and {rest} more"] if rest > 0 else []
        raise MedsegError("\n  ".join(["no contest is complete; missing:", *named[:SHOWN_HOLES], *more]))


def _contests(runs: pd.DataFrame, of: str, by: str, metrics: Sequence[str]) -> pd.DataFrame:
    """Mean, spread and number of runs of every contestant in every contest."""
    import pandas as pd

    key = [by, "metric", of]
    settings = [c for c in other_factors(runs, of, by) if c != "repeat"]
    means = runs.groupby([*key, *settings], sort=False)["value"].mean().reset_index()
    result = means.groupby(key, sort=False)["value"].mean().rename("mean").reset_index()
    spread = runs.groupby(key, sort=False)["value"].agg(spread="std", n="size").reset_index()
    grid = pd.MultiIndex.from_product(
        [runs[by].unique(), metrics, sorted(runs[of].unique())], names=key
    ).to_frame(index=False)
    result = grid.merge(result, "left", on=key).merge(spread, "left", on=key).fillna({"n": 0})
    names = result[by] if len(metrics) == 1 else result[by] + " " + result["metric"]
    result.insert(0, "contest", names)
    return result.rename(columns={of: "contestant", by: "level"}).astype({"n": int})


def _places(
    contests: pd.DataFrame, holes: pd.DataFrame, of: str, by: str, direction: Mapping[str, str]
) -> pd.DataFrame:
    """Add places, ranks and points where the contest is complete; a contestant with a hole has no mean."""
    faulty = set(zip(holes[by], holes["metric"], strict=True))
    contests["complete"] = [
        contest not in faulty for contest in zip(contests["level"], contests["metric"], strict=True)
    ]
    lacking = set(zip(holes[by], holes["metric"], holes[of], strict=True))
    names = zip(contests["level"], contests["metric"], contests["contestant"], strict=True)
    contests.loc[[name in lacking for name in names], ["mean", "spread"]] = float("nan")
    # to 12 significant digits, so that sums in another order stay ties
    cost = contests["mean"].map(lambda mean: float(f"{mean:.12g}"))
    cost = cost.where(contests["metric"].map(direction) == "lower", -cost).where(contests["complete"])
    grouped = cost.groupby(contests["contest"])
    contests["place"] = grouped.rank(method="min").astype("Int64")
    contests["rank"] = grouped.rank(method="average")
    contests["points"] = contests["place"].map(POINTS).fillna(0).where(contests["complete"]).astype("Int64")
    return contests[
        [
            "contest",
            "contestant",
            "mean",
            "spread",
            "n",
            "place",
            "points",
            "rank",
            "level",
            "metric",
            "complete",
        ]
    ]


def _summary(contests: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """One row per contestant: points, mean rank, firsts, mean and spread per metric, a column per contest."""
    done = contests[contests["complete"]]
    grouped = done.groupby("contestant")
    table = grouped.agg(points=("points", "sum"), mean_rank=("rank", "mean"))
    table["firsts"] = grouped["place"].agg(lambda place: int((place == 1).sum()))
    for metric in metrics:
        suffix = "" if len(metrics) == 1 else f" {metric}"
        mine = (
            done[done["metric"] == metric].assign(variance=lambda c: c["spread"] ** 2).groupby("contestant")
        )
        table[f"mean{suffix}"] = mine["mean"].mean()
        table[f"sd{suffix}"] = mine["variance"].mean() ** 0.5
    order = list(contests["contest"].unique())
    columns = contests.pivot(index="contestant", columns="contest", values="mean")[order]
    table = table.join(columns).reset_index()
    table = table.sort_values(["points", "mean_rank", "contestant"], ascending=[False, True, True])
    return table.astype({"points": int, "firsts": int}).reset_index(drop=True)


def _notes(contests: pd.DataFrame, direction: Mapping[str, str]) -> tuple[str, ...]:
    """What a reader must know to read the table."""
    complete = contests.loc[contests["complete"], "contest"].unique()
    out = [c for c in contests["contest"].unique() if c not in complete]
    better = ", ".join(f"{metric} ({way} is better)" for metric, way in direction.items())
    notes = [
        f"{len(complete)} contest{'s' * (len(complete) != 1)} of {better}.",
        "3-2-1 points, ties share the better place; mean rank gives ties the average of their places.",
        "mean: over cases, then repeats, then the other factors, then complete contests; sd: over the runs of a "
        "contest, which differ in repeat and the other factors, root mean square over contests.",
    ]
    if out:
        notes.append(f"* incomplete, without points or ranks: {', '.join(out)}.")
    return tuple(notes)


def leak_notes(table: pd.DataFrame) -> tuple[str, ...]:
    """A warning if some runs of the table were trained on copies of their test images."""
    if "augment" not in table.columns:
        return ()
    leaking = sorted(name for name in table["augment"].unique() if leaks(name))
    if not leaking:
        return ()
    return (
        f"LEAKING: {', '.join(leaking)}: copies of test images were trained on, the values are too good.",
    )
