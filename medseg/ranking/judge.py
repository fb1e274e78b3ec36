"""The judgement: which differences between contestants a results table proves."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medseg.errors import MedsegError
from medseg.ranking.bootstrap import Part, Variances, draw, places, take_apart, variances
from medseg.ranking.cells import Array, Cells, arrange, means, ready
from medseg.ranking.effects import cliffs_delta, cohens_dz, wins
from medseg.ranking.evidence import UNDERPOWERED, Evidence, Omnibus
from medseg.ranking.significance import holm, omnibus, rounded, wilcoxon
from medseg.ranking.table import check_column, directions
from medseg.ranking.verdict import Plan, cure, interval, sentence, verdicts

if TYPE_CHECKING:
    import pandas as pd

#: half widths of the region of practical equivalence of medseg's own metrics, by unit
ROPES = {"": 0.01, "px": 1.0}


def judge(
    table: pd.DataFrame,
    of: str = "loss",
    metric: str = "dice",
    *,
    better: Mapping[str, str] | None = None,
    rope: float | None = None,
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
    fixed_datasets: bool = False,
) -> Evidence:
    """Judge the differences between the levels of one factor.

    Means are macro means: over the cases of a run, then over repeats, then over the other factors, then over data
    sets. Everything depends on the values, the arguments and the seed alone, not on the order of the rows.

    Args:
        table: a tidy table (see :func:`medseg.ranking.table.normalise`), with cases or with one value per run.
        of: the column whose levels compete; data sets and repeats cannot.
        metric: the metric.
        better: metric -> ``higher`` or ``lower``, for a metric that neither the table nor the registry knows.
        rope: half width of the region of practical equivalence, in the metric's unit; 0.01 for medseg's metrics without
            a unit and for others whose values lie in 0..1, 1 for those in pixels.
        level: of the intervals and the critical difference.
        draws: of the bootstrap.
        seed: of the bootstrap and the Bayesian test.
        fixed_datasets: whether the data sets are all one wants to know about; else they are taken as a sample of
            data sets, and differences between them count as chance.

    Raises:
        MedsegError: an unknown column or metric, fewer than two contestants, no block without a hole, a measurement
            given twice, a region that must be given, or an argument out of range.
    """
    table = ready(table)
    _check(table, of, level, draws, seed)
    direction = directions(table, [metric], better)[metric]
    cells = arrange(table, of, metric)
    rope = _rope(rope, metric, cells)
    sign = 1.0 if direction == "higher" else -1.0
    views = _views(cells, sign, not fixed_datasets)
    order = _order(views[0])
    drawn = draw([v.parts for v in views], [v.between for v in views], draws, seed)
    levels = _levels(cells, views, drawn, order, sign, level)
    overall = levels[levels["by"] == "overall"]
    return Evidence(
        of=of,
        metric=metric,
        better=direction,
        rope=rope,
        level=level,
        draws=draws,
        seed=seed,
        per_case=cells.per_case,
        means=overall[["contestant", "mean", "low", "high"]].reset_index(drop=True),
        levels=levels,
        places=_places(cells, views[0], drawn[0], order),
        pairs=_pairs(cells, views[0], order, sign, rope, level),
        groupings=_groupings(cells, views, order, direction, rope, level, seed),
        notes=(*cells.notes, *_notes(cells, views[0], rope, level, fixed_datasets)),
    )


def _check(table: pd.DataFrame, of: str, level: float, draws: int, seed: int) -> None:
    check_column(table, of)
    if of in ("dataset", "repeat", "case", "group"):
        raise MedsegError(
            f"cannot judge the levels of {of!r}: their cases differ, so nothing is paired; "
            "judge a model, loss, preprocess, augment or split"
        )
    if not 0 < level < 1:
        raise MedsegError(f"level is {level}; it lies between 0 and 1, as 0.95")
    if draws < 1:
        raise MedsegError(f"draws is {draws}; at least 1 is needed, and 2000 are usual")
    if not 0 <= seed < 2**32:
        raise MedsegError(f"seed is {seed}; it lies between 0 and 2**32 - 1")


def _rope(rope: float | None, metric: str, cells: Cells) -> float:
    if rope is not None:
        if not 0 <= rope < np.inf:
            raise MedsegError(f"rope is {rope}; it is 0 or more, in the unit of {metric}")
        return float(rope)
    from medseg.engine.tracking import UNITS
    from medseg.metrics import BETTER
    from medseg.ranking.table import registered

    # the registry's metrics import torch, which takes seconds
    if metric in BETTER:
        return ROPES[UNITS.get(metric, "")]
    mine = registered(metric)
    if mine:
        return ROPES[mine.facts["unit"]]
    if cells.values.min() < 0 or cells.values.max() > 1:
        raise MedsegError(
            f"metric {metric!r} has values from {cells.values.min():g} to {cells.values.max():g} and no known unit: "
            "say with rope (--rope) how large a difference does not matter"
        )
    return ROPES[""]


@dataclass(frozen=True)
class View:
    """The values that one row of levels speaks of: all, those of a data set, or those of a model.

    Args:
        by: ``overall``, ``dataset`` or ``model``.
        level: its name.
        parts: one per data set, larger values the better.
        between: whether its data sets are drawn.
    """

    by: str
    level: str
    parts: list[Part]
    between: bool


def _views(cells: Cells, sign: float, between: bool) -> list[View]:
    """First ``overall``, then each data set and each model, of those that the table has several of."""
    goodness = cells.values * sign
    codes = np.unique(cells.dataset)

    def parts(rows: Array) -> list[Part]:
        return [
            take_apart(int(d), goodness[mine], cells.block[mine], cells.repeat[mine], cells.group[mine])
            for d in codes
            if (mine := np.flatnonzero(rows & (cells.dataset == d))).size
        ]

    whole = parts(np.ones(len(goodness), bool))
    views = [View("overall", "overall", whole, between and len(whole) > 1)]
    if len(codes) > 1:
        views += [View("dataset", cells.datasets[p.dataset], [p], False) for p in whole]
    models = np.unique(cells.model)
    if len(models) > 1:
        for model in models:
            found = parts(cells.model == model)
            views.append(View("model", cells.models[model], found, between and len(found) > 1))
    return views


def _mean(view: View) -> Array:
    return np.stack([part.mean for part in view.parts]).mean(0)


def _order(view: View) -> list[int]:
    """The contestants best first; equal ones, to 12 digits, by name."""
    return list(np.argsort(-rounded(_mean(view)), kind="stable"))


def _columns(view: View, order: list[int]) -> tuple[list[Part], Array, Array]:
    """The parts of the differences of all pairs, the better mean first, and the pairs."""
    one, two = (np.array(order)[i] for i in np.triu_indices(len(order), 1))
    return [part.of(lambda a: a[..., one] - a[..., two]) for part in view.parts], one, two


def _levels(
    cells: Cells, views: list[View], drawn: list[Array], order: list[int], sign: float, level: float
) -> pd.DataFrame:
    """Mean, interval and chance to be best of every contestant in every view.

    A mean is one over these data sets: how much harder one is than the other is no doubt about it. Only where nothing
    within data sets varies, as in a table of published means, are the data sets what the interval draws.
    """
    import pandas as pd

    rows = []
    for view, draws in zip(views, drawn, strict=True):
        spread, alone = (variances(view.parts, between) for between in (view.between, False))
        mean, half = _mean(view), (alone if alone.known else spread).half_width(level)
        best = places(draws)[:, 0] if spread.known else np.full(len(mean), np.nan)
        for k in order:
            low, high = sorted((sign * (mean[k] - half[k]), sign * (mean[k] + half[k])))
            if cells.bounded:
                low, high = max(low, 0.0), min(high, 1.0)
            rows.append((view.by, view.level, cells.contestants[k], sign * mean[k], low, high, best[k]))
    return pd.DataFrame(rows, columns=["by", "level", "contestant", "mean", "low", "high", "p_best"])


def _places(cells: Cells, view: View, draws: Array, order: list[int]) -> pd.DataFrame:
    import pandas as pd

    known = variances(view.parts, view.between).known
    chances = places(draws)[order] if known else np.full((len(order), len(order)), np.nan)
    names = [cells.contestants[k] for k in order]
    return pd.DataFrame(chances, pd.Index(names, name="contestant"), range(1, len(order) + 1))


def _pairs(
    cells: Cells, view: View, order: list[int], sign: float, rope: float, level: float
) -> pd.DataFrame:
    """Difference, interval, per-case test, effects and verdict of every pair."""
    import pandas as pd

    parts, one, two = _columns(view, order)
    found, alone = variances(parts, view.between), variances(parts, False)
    family = len(one)
    difference = np.stack([part.mean for part in parts]).mean(0)
    half = found.half_width(level, family)
    # what holds on data sets like these holds on these, and few repeats may tell less than the data sets do
    here = np.fmin(half, alone.half_width(level, family))
    names = [cells.contestants[k] for k in order]
    pairs = pd.DataFrame(itertools.combinations(names, 2), columns=["a", "b"])
    pairs["difference"] = difference
    reach = 1.0 if cells.bounded else np.inf
    for suffix, width in (("", half), ("_here", here)):
        pairs[f"low{suffix}"] = np.clip(difference - width, -reach, reach)
        pairs[f"high{suffix}"] = np.clip(difference + width, -reach, reach)
    pairs["p_cases"] = _over_cases(cells, one, two)
    pairs["p_cases_holm"] = holm(pairs["p_cases"].to_numpy(copy=True))
    pairs = pairs.assign(**_effects(cells, order, sign, rope))
    pairs["verdict"] = verdicts(difference, half, rope)
    pairs["here"] = verdicts(difference, here, rope)
    repeats = float(np.mean([len(part.repeats) for part in parts]))
    pairs["more_repeats"] = _needed(
        pairs["here"], difference, rope, alone, Plan(len(parts), repeats, False, level, family)
    )
    pairs["more_datasets"] = 0.0
    if view.between:
        plan = Plan(len(parts), repeats, True, level, family)
        pairs["more_datasets"] = _needed(pairs["verdict"], difference, rope, found, plan)
    pairs["words"] = _words(pairs, view, (found.known, alone.known), rope)
    return pairs


def _needed(said: pd.Series, difference: Array, rope: float, found: Variances, plan: Plan) -> list[float]:
    """What each pair lacks by a plan; 0 where nothing is open."""
    return [
        plan.needed(float(difference[p]), rope, found, p) if verdict == UNDERPOWERED else 0.0
        for p, verdict in enumerate(said)
    ]


def _words(pairs: pd.DataFrame, view: View, known: tuple[bool, bool], rope: float) -> list[str]:
    """The verdict of each pair, and beside one that is open what holds on these data sets."""
    words = []
    for row in pairs.to_dict("records"):
        repeats = cure(row["more_repeats"], "repeat", known[1])
        more = cure(row["more_datasets"], "data set", known[0]) if view.between else repeats
        values = (row["difference"], row["low"], row["high"])
        said = sentence((row["a"], row["b"]), values, row["verdict"], rope, more)
        if view.between and known[1] and row["verdict"] == UNDERPOWERED:
            bounds = interval(row["low_here"], row["high_here"], rope)
            said += f"; on these {len(view.parts)} data sets alone{bounds}: {row['here']}"
            said += f" too, {repeats}" if row["here"] == UNDERPOWERED else ""
        words.append(said)
    return words


def _over_cases(cells: Cells, one: Array, two: Array) -> Array:
    """The signed-rank test over the groups of cases, each with its mean over all repeats and settings."""
    if not cells.per_case:
        return np.full(len(one), np.nan)
    _, unit = np.unique(cells.dataset * (cells.group.max() + 1) + cells.group, return_inverse=True)
    values = means(unit, int(unit.max()) + 1, cells.values)
    return wilcoxon(rounded(values[:, one] - values[:, two], cells.values))[1]


def _effects(cells: Cells, order: list[int], sign: float, rope: float) -> dict[str, Array | list[str]]:
    """Cliff's delta over groups of cases or runs, Cohen's d and wins over blocks or, in a single one, runs."""
    values = cells.values[:, order] * sign
    width = int(max(cells.repeat.max(), cells.group.max())) + 1
    inner = cells.dataset * width + cells.group if cells.per_case else cells.block * width + cells.repeat
    _, first, unit = np.unique(inner, return_index=True, return_inverse=True)
    units = rounded(means(unit, len(first), values))
    blocks = _block_means(cells, values)
    if len(blocks) == 1:
        _, repeat = np.unique(cells.repeat, return_inverse=True)
        blocks = means(repeat, int(repeat.max()) + 1, values)
    one, two = np.triu_indices(len(order), 1)
    differences = rounded(blocks[:, one] - blocks[:, two], blocks)
    return {
        "cliffs_delta": cliffs_delta(units, cells.dataset[first]),
        "cohens_d": cohens_dz(differences),
        "wins": wins(differences, rope),
    }


def _block_means(cells: Cells, values: Array) -> Array:
    """The mean of each block over the cases of its runs, then over its repeats."""
    runs = cells.block * (cells.repeat.max() + 1) + cells.repeat
    _, first, run = np.unique(runs, return_index=True, return_inverse=True)
    return means(cells.block[first], len(cells.blocks), means(run, len(first), values))


def _groupings(
    cells: Cells, views: list[View], order: list[int], better: str, rope: float, level: float, seed: int
) -> dict[str, Omnibus]:
    """The tests over data sets, over models and over all blocks."""
    import pandas as pd

    names = [cells.contestants[k] for k in order]
    sign = 1.0 if better == "higher" else -1.0
    tables = {}
    for by in ("dataset", "model"):
        rows = {view.level: sign * _mean(view)[order] for view in views if view.by == by}
        if rows:
            tables[by] = pd.DataFrame.from_dict(rows, orient="index", columns=names)
    overall = _block_means(cells, cells.values)[:, order]
    tables["overall"] = pd.DataFrame(overall, cells.blocks, names)
    return {by: omnibus(by, values, better, rope, level, seed) for by, values in tables.items()}


def _one_repeat(between: bool, cases: bool) -> str:
    said = "There is one repeat: "
    if between:
        said += "the verdicts rest on the variation over data sets"
        if not cases:
            return f"{said}."
        said += ", and those on these data sets alone on that over test cases; "
    elif cases:
        said += "the verdicts rest on the variation over test cases; "
    return f"{said}what another training would change is not known."


def _notes(cells: Cells, view: View, rope: float, level: float, fixed: bool) -> list[str]:
    """What the verdicts rest on, in sentences."""
    datasets, repeats = len(view.parts), [len(part.repeats) for part in view.parts]
    cases = any(part.per_run > 1 for part in view.parts)
    pairs = len(cells.contestants) * (len(cells.contestants) - 1) // 2
    notes = [
        f"real: the difference is more than {rope:g}; tied: less; by intervals of {level:.0%}"
        + (f" that hold together for all {pairs} pairs." if pairs > 1 else ".")
    ]
    if view.between:
        notes.append(
            f"The {datasets} data sets are taken as a sample: a difference must hold on others like them. "
            "An interval of one mean is for these data sets."
        )
    elif datasets > 1:
        notes.append(
            f"The verdicts hold for these {datasets} data sets, with other repeats and cases of them."
        )
    elif not fixed:
        notes.append("There is one data set: the verdicts hold for it alone.")
    if max(repeats) == 1:
        notes.append(_one_repeat(view.between, cases))
    if not cells.per_case:
        notes.append("There are no values per case: the paired test over cases is not made.")
    if len(cells.contestants) == 2:
        notes.append("Friedman's and Nemenyi's tests need three contestants; for two there is Wilcoxon's.")
    if len(cells.blocks) == 1:
        notes.append("There is one block: the tests over blocks cannot be made.")
    return notes
