"""The podium: contests between the levels of one factor, 3-2-1 points, mean ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from medseg.augmentations.protocol import leaks
from medseg.errors import MedsegError
from medseg.ranking.holes import lines, missing, other_factors
from medseg.ranking.record import Ranking
from medseg.ranking.table import check_column, directions, normalise

if TYPE_CHECKING:
    import pandas as pd

POINTS = {1: 3, 2: 2, 3: 1}
SHOWN_HOLES = 10


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
        by: the column whose levels are the contests.
        metrics: one contest for each at every level of ``by``.
        better: metric -> ``higher`` or ``lower``, for metrics that neither the table nor the registry knows.

    Raises:
        MedsegError: an unknown column or metric, fewer than two contestants, or no contest without a hole.
    """
    table = normalise(table, better=better)
    for column in (of, by):
        check_column(table, column)
    if of == by:
        raise MedsegError(f"cannot rank {of} by {by}: name two different columns")
    metrics = list(dict.fromkeys(metrics))
    direction = directions(table, metrics, better)
    table = table[table["metric"].isin(metrics)].reset_index(drop=True)
    contestants = list(table[of].unique())
    if len(contestants) < 2:
        raise MedsegError(f"only one {of} in the table ({contestants[0]}): nothing to rank it against")
    holes = missing(table, of, by)
    _check_some_complete(table, holes, by)
    contests = _places(_contests(table, of, by, metrics), holes, of, by, direction)
    return Ranking(
        of=of,
        by=by,
        metrics=tuple(metrics),
        contests=contests,
        table=_summary(contests, metrics),
        missing=holes,
        notes=(*_notes(contests, direction, other_factors(table, of, by)), *leak_notes(table)),
    )


def _check_some_complete(table: pd.DataFrame, holes: pd.DataFrame, by: str) -> None:
    contests = len(table[by].unique()) * len(table["metric"].unique())
    if len(holes.drop_duplicates([by, "metric"])) == contests:
        named = lines(holes)
        rest = len(named) - SHOWN_HOLES
        more = [f"and {rest} more"] if rest > 0 else []
        raise MedsegError("\n  ".join(["no contest is complete; missing:", *named[:SHOWN_HOLES], *more]))


def _contests(table: pd.DataFrame, of: str, by: str, metrics: Sequence[str]) -> pd.DataFrame:
    """Mean, spread and number of runs of every contestant in every contest."""
    import pandas as pd

    key, others = [by, "metric", of], other_factors(table, of, by)
    settings = [c for c in others if c != "repeat"]
    runs = table.groupby([*key, *others], sort=False)["value"].mean().reset_index()
    means = runs.groupby([*key, *settings], sort=False)["value"].mean().reset_index()
    result = means.groupby(key, sort=False)["value"].mean().rename("mean").reset_index()
    spread = runs.groupby(key, sort=False)["value"].agg(spread="std", n="size").reset_index()
    grid = pd.MultiIndex.from_product(
        [table[by].unique(), metrics, sorted(table[of].unique())], names=key
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


def _notes(contests: pd.DataFrame, direction: Mapping[str, str], others: Sequence[str]) -> tuple[str, ...]:
    """What a reader must know to read the table."""
    complete = contests.loc[contests["complete"], "contest"].unique()
    out = [c for c in contests["contest"].unique() if c not in complete]
    better = ", ".join(f"{metric} ({way} is better)" for metric, way in direction.items())
    notes = [
        f"{len(complete)} contest{'s' * (len(complete) != 1)} of {better}; 3-2-1 points, ties share the "
        "better place; mean rank gives ties the average of their places.",
        "mean: over cases, then repeats, then the other factors, then complete contests; sd: over the "
        f"runs of a contest ({', '.join(others) or 'one run each'}), root mean square over contests.",
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
