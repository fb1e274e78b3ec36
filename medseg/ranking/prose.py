"""Rankings and evidence in sentences, the same at the terminal and in Markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from medseg.ranking.podium import OVERALL
from medseg.ranking.record import Ranking, number

if TYPE_CHECKING:
    import pandas as pd

    from medseg.ranking.evidence import Evidence, Omnibus


def title(ranking: Ranking) -> str:
    """What a ranking is of: ``loss by dataset``."""
    return f"{ranking.of} {OVERALL}" if ranking.by == OVERALL else f"{ranking.of} by {ranking.by}"


def chance(p: float | None) -> str:
    """A probability in two decimals; what is not quite 0 or 1 is not written as such.

    >>> chance(0.999), chance(0.5), chance(0.0)
    ('>0.99', '0.50', '0.00')
    """
    if p is None or p != p:
        return ""
    if 0.995 <= p < 1:
        return ">0.99"
    return "<0.01" if 0 < p < 0.005 else f"{p:.2f}"


def p_value(p: float) -> str:
    """A p value: ``p = 0.034`` or ``p < 0.001``."""
    if p != p:
        return "no p value"
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def evidence(found: Evidence, all_pairs: bool = False) -> list[str]:
    """The evidence in lines: a heading, the means, the verdicts and what they rest on, the tests over blocks.

    Args:
        found: the evidence.
        all_pairs: every pair's verdict instead of only those of the best with the others.
    """
    values = "values per case" if found.per_case else "means of runs"
    lines = [f"evidence: {found.metric} ({found.better} is better), from {values} in {_blocks(found)}"]
    means = [f"{row['contestant']} {_interval(row, 'mean')}" for row in found.means.to_dict("records")]
    lines.append(f"means with {found.level:.0%} intervals: {', '.join(means)}")
    shown = found.pairs
    if not all_pairs and len(found.contestants) > 2:
        shown = shown[shown["a"] == found.contestants[0]]
    lines += [str(words) for words in shown["words"]]
    lines += _tally(found, found.pairs.drop(index=shown.index))
    lines.append(
        f"Differences within ±{found.rope:g} count as none; bootstrap of {found.draws} draws, seed {found.seed}."
    )
    lines += found.notes
    for name, tests in found.groupings.items():
        # overall says nothing new where only one other factor varies
        others = [len(t.values) for key, t in found.groupings.items() if key != OVERALL]
        line = omnibus(name, tests, found.level)
        if line and not (name == OVERALL and len(tests.values) in others):
            lines.append(line)
    return lines


def _blocks(found: Evidence) -> str:
    """How much is compared: ``5 blocks of 3 data sets``, less than the table has where there are holes."""
    counts = {name: len(tests.values) for name, tests in found.groupings.items()}
    number, datasets = counts[OVERALL], counts.get("dataset", 1)
    said = f"{number} block{'s' * (number > 1)}"
    return f"{said} of {datasets} data sets" if datasets > 1 else said


def _tally(found: Evidence, rest: pd.DataFrame) -> list[str]:
    """How many of the pairs that are not told of have which verdict."""
    if not len(rest):
        return []
    tallies = []
    for column in ("verdict", "here"):
        counts = rest[column].value_counts()
        tallies.append(", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
    said = f"{len(rest)} more pair{'s' * (len(rest) > 1)}: {tallies[0]}"
    if tallies[1] != tallies[0]:
        said += f"; on these {len(found.groupings['dataset'].values)} data sets alone: {tallies[1]}"
    return [f"{said} (--pairs shows all)."]


def pairs_table(found: Evidence) -> pd.DataFrame:
    """Every pair's numbers, for people: the tests over blocks are those of the grouping with the most blocks.

    ``p cases`` and ``p blocks`` are Wilcoxon's with Holm's correction, ``Bayes`` the probabilities that a is better,
    that both are within the region, and that b is better. ``verdict`` goes with the interval of the difference; where
    data sets are taken as a sample, ``on these data sets`` is the verdict on them alone, with its interval.
    """
    shown = found.pairs[["a", "b"]].reset_index(drop=True)
    rows = found.pairs.to_dict("records")
    shown["difference"] = [_interval(row, "difference") for row in rows]
    shown["verdict"] = [row["verdict"] for row in rows]
    if not found.pairs["low"].equals(found.pairs["low_here"]):
        shown["on these data sets"] = [
            f"{row['here']} ({number(row['low_here'], row['difference'])} to "
            f"{number(row['high_here'], row['difference'])})"
            for row in rows
        ]
    shown["p cases"] = [_p(row["p_cases_holm"]) for row in rows]
    if found.groupings:
        tests = max(found.groupings.values(), key=lambda t: len(t.values))
        blocks = {frozenset((r["a"], r["b"])): r for r in tests.wilcoxon.to_dict("records")}
        bayes = {(r["a"], r["b"]): (r["p_a"], r["p_rope"], r["p_b"]) for r in tests.bayes.to_dict("records")}
        bayes |= {(b, a): chances[::-1] for (a, b), chances in bayes.items()}
        names = [(row["a"], row["b"]) for row in rows]
        shown["p blocks"] = [_p(blocks[frozenset(pair)]["p_holm"]) for pair in names]
        shown["Bayes"] = [" / ".join(map(chance, bayes[pair])) for pair in names]
    shown["Cliff's delta"] = [f"{row['cliffs_delta']:.2f}" for row in rows]
    shown["wins"] = [row["wins"] for row in rows]
    return shown


def _p(value: float) -> str:
    return "" if value != value else "<0.001" if value < 0.001 else f"{value:.3f}"


def omnibus(name: str, tests: Omnibus, level: float) -> str:
    """The tests over the blocks of one grouping in one line; empty where none could be made."""
    if len(tests.values) < 2:
        return ""
    said = []
    if tests.friedman == tests.friedman:
        said.append(f"Friedman chi2 = {tests.friedman:.2f}, {p_value(tests.friedman_p)}")
    if tests.iman_davenport == tests.iman_davenport:
        agree = " (all blocks agree)" if math.isinf(tests.iman_davenport) else ""
        said.append(
            f"Iman-Davenport F = {tests.iman_davenport:.2f}{agree}, {p_value(tests.iman_davenport_p)}"
        )
    if tests.critical_difference == tests.critical_difference:
        said.append(f"critical difference of mean ranks {tests.critical_difference:.2f} at {level:.0%}")
    if len(tests.wilcoxon) == 1:
        said.append(f"Wilcoxon's signed-rank test, {p_value(float(tests.wilcoxon['p'].iloc[0]))}")
    over = f"{len(tests.values)} blocks {name if name == OVERALL else f'by {name}'}"
    return f"{over}: {'; '.join(said)}" if said else ""


def _interval(row: Mapping[Any, Any], name: str) -> str:
    low, high = row["low"], row["high"]
    middle = number(row[name])
    return middle if low != low else f"{middle} ({number(low, row[name])} to {number(high, row[name])})"
