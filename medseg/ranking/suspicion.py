"""Suspicious runs: whose values can be read, and yet should not be believed before someone has looked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from medseg.ranking.holes import missing
from medseg.ranking.table import describe, normalise, of_sets
from medseg.results import RUN_KEYS

if TYPE_CHECKING:
    import pandas as pd

KINDS = ("missing", "nan", "identical", "constant", "perfect", "inverted")
#: fewer cases than this prove nothing
MIN_CASES = 3
#: so many common cases must agree in their values; distances in pixels agree by chance more easily than masks do
MIN_COMMON = 5
#: a mean of fewer digits may have been rounded, and rounded means agree by chance
DIGITS = 6
#: metrics that are 0 where the prediction is empty and the lesion is not, and 1 where both are
OVERLAPS = ("dice", "iou")
#: metrics that are ratios of counts of images: they agree by chance, to all their digits
COUNTED = ("accuracy", "balanced_accuracy", "macro_f1", "sensitivity", "specificity", "roc_auc", "pr_auc")
#: metrics of which no error at all is too good in so many cases
FLAWLESS, MANY_CASES = ("accuracy",), 20
#: metrics that guessing brings to 0.5
CHANCE = ("roc_auc",)


class Finding(NamedTuple):
    """One finding: the number of a run, the metric (empty: of the masks themselves), its kind, and why."""

    run: int
    metric: str
    kind: str
    reason: str


def suspicious(table: pd.DataFrame, of: str = "loss", by: str = "dataset") -> pd.DataFrame:
    """Name the runs of a table that cannot be compared as they are.

    - ``missing``: others have the run, or cases of it, that this one lacks (see ``holes.missing``).
    - ``nan``: values that are not finite.
    - ``identical``: the same predictions (by their hashes, else by values, else by unrounded means) in several
      repeats of one setting, compared on their common cases: training collapsed or was not repeated. Or the same
      values for every case under two settings, as a column that was copied.
    - ``constant``: every prediction is the same mask or the same class, or the value is the same for every case and not
      the best there is, or an overlap is 0 or 1 in every case, as empty predictions give it.
    - ``perfect``: not one of twenty images or more is classified wrongly, as where the test part was trained on.
    - ``inverted``: the area under the ROC curve is below 0.5, which guessing reaches.

    Two repeats that were tested on different cases are compared on the cases they share, at least five by values and
    three by hashes, which must not all have the same value. Means of at most six digits are not compared, nor values
    that are all right or wrong: two good classifiers err on the same few images. Nor are metrics that count images.

    Args:
        table: a results table, tidy or wide.
        of: the factor whose levels compete, for what is missing; nothing is where it is no column of the table.
        by: the factor whose levels are the contests, likewise.

    Returns:
        one row per run and finding: those of ``RUN_KEYS`` that the table has, ``metric`` (empty where the masks are
        meant), ``kind`` and ``reason``.
    """
    import pandas as pd

    table = normalise(table)
    found = doubtful(table)
    keys = [c for c in RUN_KEYS if c in table.columns]
    if not {of, by} <= set(keys) or of == by:
        return found
    holes = missing(table, of, by)
    holes = holes.assign(kind="missing")[[*keys, "metric", "kind", "reason"]]
    known = found.loc[found["kind"] == "nan", [*keys, "metric"]]
    named = set(known.itertuples(index=False, name=None))
    fresh = [row not in named for row in holes[[*keys, "metric"]].itertuples(index=False, name=None)]
    return pd.concat([holes[np.array(fresh, dtype=bool)], found], ignore_index=True)


def doubtful(table: pd.DataFrame) -> pd.DataFrame:
    """The findings of ``suspicious`` in what a normalised table holds, without what it lacks."""
    import pandas as pd

    keys = [c for c in RUN_KEYS if c in table.columns]
    number = table.groupby(keys, sort=False).ngroup().to_numpy() if keys else np.zeros(len(table), int)
    runs = table.loc[np.sort(np.unique(number, return_index=True)[1]), keys].reset_index(drop=True)
    case = table["case"].factorize()[0] if "case" in table.columns else None
    rows = [*_of_masks(table, number, case, runs), *_of_classes(table, number, case)]
    masked = {finding.run for finding in rows}
    values = table["value"].to_numpy()
    good = np.isfinite(values)
    codes, metrics = table["metric"].factorize()
    alone = of_sets(table) if case is not None else np.ones(len(table), bool)
    for code, metric in enumerate(metrics):
        mine = codes == code
        rows += _not_finite(table, np.flatnonzero(mine & ~good), number, number[mine], metric)
        whole = np.flatnonzero(mine & good & alone)
        found = [*_of_means(values[whole], number[whole], runs, metric)]
        whole = np.flatnonzero(mine & good & ~alone)
        if case is not None and len(whole):
            facts = (_best(table, mine), "prediction" in table.columns)
            found += _of_cases(values[whole], number[whole], case[whole], runs, metric, *facts)
        # a run whose predictions are told of needs no telling of its metrics
        rows += [finding for finding in found if finding.run not in masked]
    rows.sort(key=lambda finding: finding.run)
    named = runs.loc[[finding.run for finding in rows]].reset_index(drop=True)
    words = pd.DataFrame(
        {field: [getattr(finding, field) for finding in rows] for field in ("metric", "kind", "reason")},
        dtype=object,
    )
    return pd.concat([named, words], axis=1)


def _best(table: pd.DataFrame, mine: np.ndarray) -> float:
    """The best value that a metric can have."""
    lower = "better" in table.columns and (table["better"][mine] == "lower").any()
    return 0.0 if lower else 1.0


def _not_finite(
    table: pd.DataFrame, bad: np.ndarray, number: np.ndarray, all_of_metric: np.ndarray, metric: str
) -> Iterator[Finding]:
    for run in dict.fromkeys(number[bad].tolist()):
        mine = bad[number[bad] == run]
        row = table.iloc[mine[0]]
        case = f"case={row['case']} " if "case" in table.columns and row["case"] else ""
        count = f"{len(mine)} of {int((all_of_metric == run).sum())} values not finite, first: "
        yield Finding(run, metric, "nan", f"{count if case else ''}{case}value={row['value']}")


def _of_masks(
    table: pd.DataFrame, number: np.ndarray, case: np.ndarray | None, runs: pd.DataFrame
) -> list[Finding]:
    """What hashes and areas of the predictions tell, each run once whatever its metrics."""
    facts = [c for c in ("prediction", "predicted_px", "reference_px") if c in table.columns]
    if case is None or not {"prediction", "predicted_px"} & set(facts):
        return []
    # a case stands there once for each metric
    first = ~_repeated(number, case) & ~of_sets(table)
    table, number, case = table.loc[first, facts], number[first], case[first]
    rows: list[Finding] = []
    hashes = "prediction" in table.columns
    codes = table["prediction" if hashes else "predicted_px"].factorize(use_na_sentinel=True)[0]
    if hashes:
        codes = np.where((table["prediction"] == "").to_numpy(), -1, codes)
    for run, index in _each(number):
        if len(index) >= MIN_CASES and codes[index[0]] >= 0 and (codes[index] == codes[index[0]]).all():
            rows += _constant_masks(table.iloc[index], run)
    if hashes:
        known = codes >= 0
        told = {finding.run for finding in rows}
        found = _repeats(codes[known].astype(float), number[known], case[known], runs, MIN_CASES)
        rows += [
            Finding(run, "", "identical", f"the same predictions as {others} in all {n} common cases")
            for run, others, n in found
            if run not in told
        ]
    return rows


def _constant_masks(run: pd.DataFrame, number: int) -> list[Finding]:
    """One finding, unless the lesion is empty in every reference as it is in every prediction."""
    empty = "predicted_px" in run.columns and (run["predicted_px"] == 0).all()
    if empty and "reference_px" in run.columns and (run["reference_px"] == 0).all():
        return []
    if empty:
        reason = f"every prediction is empty, in {len(run)} cases"
    elif "prediction" in run.columns:
        reason = f"one and the same prediction in all {len(run)} cases"
    else:
        reason = f"every prediction has {run['predicted_px'].iloc[0]:g} pixels, in {len(run)} cases"
    return [Finding(number, "", "constant", reason)]


def _of_classes(table: pd.DataFrame, number: np.ndarray, case: np.ndarray | None) -> Iterator[Finding]:
    """The runs that give every image one class (or none), unless it is the true one of all."""
    if case is None or "predicted" not in table.columns:
        return
    first = ~_repeated(number, case) & ~of_sets(table)
    number, predicted = number[first], table.loc[first, "predicted"].to_numpy(object)
    truth = table.loc[first, "truth"].to_numpy(object) if "truth" in table.columns else None
    for run, index in _each(number):
        mine = predicted[index]
        true = mine if truth is None else truth[index]
        # neither is said of a run that classifies nothing
        said = ((mine != "") | (true != "")).any()
        right = truth is not None and (mine == true).all()
        if said and not right and len(index) >= MIN_CASES and (mine == mine[0]).all():
            name = repr(mine[0]) if mine[0] else "empty"
            yield Finding(run, "", "constant", f"every prediction is {name}, in {len(index)} cases")


def _of_cases(
    values: np.ndarray,
    run: np.ndarray,
    case: np.ndarray,
    runs: pd.DataFrame,
    metric: str,
    best: float,
    hashed: bool,
) -> list[Finding]:
    """What the values of one metric tell; of repeats nothing where hashes of the masks do."""
    rows, constant = [], set()
    for number, index in _each(run):
        mine = values[index]
        if metric in FLAWLESS and len(mine) >= MANY_CASES and (mine == best).all():
            reason = f"{metric} is {best:g} in each of {len(mine)} cases: were they trained on?"
            rows.append(Finding(number, metric, "perfect", reason))
        if ((mine == 0) | (mine == 1)).all():
            # right or wrong: runs agree in that by chance
            constant.add(number)
        if (mine == mine[0]).all():
            constant.add(number)
            if len(mine) >= MIN_CASES and mine[0] != best:
                reason = f"{metric}={mine[0]:.6g} in each of {len(mine)} cases"
                rows.append(Finding(number, metric, "constant", reason))
        elif metric in OVERLAPS and len(mine) >= MIN_CASES and ((mine == 0) | (mine == 1)).all():
            reason = f"{metric} is 0 or 1 in each of {len(mine)} cases, as of empty predictions"
            rows.append(Finding(number, metric, "constant", reason))
    if not hashed and not ((values == 0) | (values == 1)).all():
        rows += [
            Finding(number, metric, "identical", f"the same values as {others} in all {n} common cases")
            for number, others, n in _repeats(values, run, case, runs, MIN_COMMON)
        ]
    rows += _copies(values, run, case, runs, metric, constant)
    return rows


def _repeats(
    values: np.ndarray, run: np.ndarray, case: np.ndarray, runs: pd.DataFrame, enough: int
) -> Iterator[tuple[int, str, int]]:
    """Runs that equal another repeat of their setting on common cases: the run, the others, how many cases."""
    if "repeat" not in runs.columns:
        return
    setting = [c for c in runs.columns if c != "repeat"]
    alike = runs.groupby(setting, sort=False).ngroup().to_numpy() if setting else np.zeros(len(runs), int)
    for _, index in _each(alike[run]):
        numbers, row = np.unique(run[index], return_inverse=True)
        _, column = np.unique(case[index], return_inverse=True)
        grid = np.full((len(numbers), column.max() + 1), np.nan)
        grid[row, column] = values[index]
        partners: dict[int, list[int]] = {}
        common: dict[int, int] = {}
        for a, b in zip(*np.triu_indices(len(numbers), 1), strict=True):
            both = ~np.isnan(grid[a]) & ~np.isnan(grid[b])
            one, other = grid[a, both], grid[b, both]
            if len(one) >= enough and (one == other).all() and (one != one[0]).any():
                for this, that in ((a, b), (b, a)):
                    partners.setdefault(int(numbers[this]), []).append(int(numbers[that]))
                    common[int(numbers[this])] = min(common.get(int(numbers[this]), len(one)), len(one))
        for number, others in partners.items():
            yield number, _numbered("repeat", runs["repeat"].iloc[others]), common[number]


def _copies(
    values: np.ndarray,
    run: np.ndarray,
    case: np.ndarray,
    runs: pd.DataFrame,
    metric: str,
    constant: set[int],
) -> Iterator[Finding]:
    """Runs of different settings that have the same values for the same cases."""
    import pandas as pd

    bits = pd.util.hash_pandas_object(pd.DataFrame({"case": case, "value": values}), index=False).to_numpy()
    same: dict[tuple[int, int], list[int]] = {}
    for number, index in _each(run):
        if number not in constant and len(index) >= MIN_CASES:
            # a sum, so that the order of the cases does not matter
            same.setdefault((len(index), int(bits[index].sum())), []).append(number)
    setting = [c for c in runs.columns if c != "repeat"]
    for numbers in same.values():
        for number in numbers if len(numbers) > 1 else ():
            # repeats of one setting are told of as such
            others = [n for n in numbers if (runs.loc[n, setting] != runs.loc[number, setting]).any()]
            if others:
                known = f"the same value for every case as {_differing(runs, number, others)}"
                reason = f"{known}: a copy, or the same by definition?"
                yield Finding(number, metric, "identical", reason)


def _of_means(values: np.ndarray, run: np.ndarray, runs: pd.DataFrame, metric: str) -> Iterator[Finding]:
    same: dict[tuple[str, str], list[int]] = {}
    for number, value in zip(run.tolist(), values.tolist(), strict=True):
        if metric in OVERLAPS and value == 0:
            yield Finding(number, metric, "constant", f"{metric} is 0: no prediction meets its lesion")
        elif metric in CHANCE and value < 0.5:
            reason = f"{metric} is {value:.6g}, and guessing has 0.5: are the classes exchanged?"
            yield Finding(number, metric, "inverted", reason)
        elif metric in COUNTED:
            continue
        elif float(f"{value:.{DIGITS}g}") != value:
            dataset = runs["dataset"].iloc[number] if "dataset" in runs.columns else ""
            same.setdefault((dataset, f"{value:.12g}"), []).append(number)
    for numbers in same.values():
        for number in numbers if len(numbers) > 1 else ():
            others = _differing(runs, number, [other for other in numbers if other != number])
            yield Finding(number, metric, "identical", f"the same mean as {others}, to 12 digits")


def _repeated(number: np.ndarray, case: np.ndarray) -> np.ndarray:
    """Rows of a run and case that came before, under another metric."""
    import pandas as pd

    return pd.Series(number * (int(case.max(initial=0)) + 1) + case).duplicated().to_numpy()


def _each(numbers: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Each number with the positions where it stands."""
    order = np.argsort(numbers, kind="stable")
    starts = np.flatnonzero(np.diff(numbers[order], prepend=-1))
    for index in np.split(order, starts[1:]) if len(order) else ():
        yield int(numbers[index[0]]), index


def _differing(runs: pd.DataFrame, number: int, others: list[int]) -> str:
    """The first of some runs by what tells it from this one: ``loss=dice repeat=1``."""
    row, other = runs.loc[number], runs.loc[others[0]]
    words = describe(other[(row != other).to_numpy()])
    return words + (f" and {len(others) - 1} more" if len(others) > 1 else "")


def _numbered(noun: str, levels: Iterable[str]) -> str:
    names = list(levels)
    return f"{noun}{'s' * (len(names) > 1)} {', '.join(names)}"


def lines(found: pd.DataFrame) -> list[str]:
    """The findings in words: ``loss=bce repeat=1 metric=dice: constant: dice=0 in each of 20 cases``."""
    return [f"{describe(row)}: {row['kind']}: {row['reason']}" for _, row in found.iterrows()]
