"""The answer in words: who is best, who is tied with it, what it costs, and what more data would tell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medseg.ranking.evidence import REAL, TIED, UNDERPOWERED, Evidence
from medseg.report.figures.canvas import listed, plural, short, shown
from medseg.report.figures.cost import amount, cheapest_tied, mean_costs

if TYPE_CHECKING:
    import pandas as pd

    from medseg.ranking.findings import Findings
    from medseg.ranking.record import Ranking

#: pairs of the best that are told one by one
TOLD = 4
#: contestants that are really worse and still named
WORSE = 5


#: metrics as people write them
NAMES = {
    "dice": "Dice",
    "iou": "IoU",
    "mean_iou": "mean IoU",
    "hd95": "HD95 (px)",
    "nsd": "surface Dice",
    "balanced_accuracy": "balanced accuracy",
    "brier": "Brier score",
    "ece": "expected calibration error",
    "log_loss": "log loss",
    "macro_f1": "macro F1",
    "pr_auc": "PR-AUC",
    "roc_auc": "ROC-AUC",
}


def called(metric: str) -> str:
    """A metric's name in a sentence."""
    return NAMES.get(metric, metric)


def interval(low: float, high: float) -> str:
    """An interval in words, empty where it is not known: ``0.690 to 0.730``."""
    return "" if low != low or high != high else f"{short(low)} to {short(high)}"


def lead(findings: Findings, metric: str, datasets: int) -> str:
    """The one sentence that answers the question.

    Args:
        findings: rankings and evidence of the metric; without evidence the points decide.
        metric: the metric.
        datasets: how many data sets there are; 0 if the table names none.
    """
    where = (
        f"On {'this data set' if datasets == 1 else f'these {datasets} data sets'}" if datasets else "Here"
    )
    evidence = findings.evidence.get(metric)
    if evidence is None:
        best = findings.first.table.iloc[0]
        return (
            f"{where} {shown(best['contestant'])} has the most points ({best['points']}) among "
            f"{plural(len(findings.first.table), findings.first.of)}; whether that is real was not judged."
        )
    best = evidence.means.iloc[0]
    extreme = "highest" if evidence.better == "higher" else "lowest"
    bounds = interval(best["low"], best["high"])
    within = f" ({evidence.level:.0%} interval {bounds})" if bounds else ""
    return (
        f"{where} {shown(best['contestant'])} has the {extreme} mean {called(metric)} of "
        f"{plural(len(evidence.means), evidence.of)}: {short(best['mean'])}{within}. {_peers(evidence, 'here')}"
        f"{_elsewhere(evidence)}"
    )


def _elsewhere(evidence: Evidence) -> str:
    """What of it holds on other data sets, where that is something else."""
    if versus_best(evidence, "here") == versus_best(evidence):
        return ""
    return f" On other data sets like these: {_peers(evidence, 'verdict')}"


def _peers(evidence: Evidence, column: str) -> str:
    """Who is as good as the best, who may be, and how many are worse, by a column of verdicts."""
    verdicts = versus_best(evidence, column)
    groups = {
        verdict: [n for n in evidence.contestants if verdicts.get(n) == verdict]
        for verdict in (TIED, UNDERPOWERED, REAL)
    }
    said = []
    if groups[TIED]:
        said.append(f"Tied with it: {listed(groups[TIED])}.")
    if groups[UNDERPOWERED]:
        said.append(f"Not told apart from it yet: {listed(groups[UNDERPOWERED])}.")
    if len(groups[REAL]) == len(verdicts):
        said.append("It is really better than every other.")
    elif groups[REAL]:
        rest = "Every other one is really worse." if len(groups[REAL]) > WORSE else ""
        said.append(rest or f"Really worse: {listed(groups[REAL])}.")
    return " ".join(said)


def versus_best(evidence: Evidence, column: str = "verdict") -> dict[str, str]:
    """Contestant -> verdict of its pair with the best: on data sets like these, or ``here``, on these alone."""
    best = evidence.contestants[0]
    pairs = evidence.pairs[(evidence.pairs["a"] == best) | (evidence.pairs["b"] == best)]
    return {
        str(b if a == best else a): str(verdict)
        for a, b, verdict in pairs[["a", "b", column]].itertuples(index=False, name=None)
    }


def further(findings: Findings, metric: str, costs: pd.DataFrame) -> list[str]:
    """What else a reader in a hurry must know, one sentence each."""
    evidence = findings.evidence.get(metric)
    said = []
    if evidence is not None:
        said += [sentence for sentence in (cheapest(evidence, costs),) if sentence]
        said.append(tally(evidence))
        said += open_pairs(evidence)
    said += [sentence for ranking in findings.rankings.values() if (sentence := podium(ranking, evidence))]
    return said


def cheapest(evidence: Evidence, costs: pd.DataFrame) -> str:
    """Which contestant to take if training time counts; empty where it is not known."""
    if not len(costs):
        return ""
    price = mean_costs(costs, evidence.of).reindex(evidence.contestants)
    if not (price > 0).all():
        return ""
    best, cheap = evidence.contestants[0], cheapest_tied(evidence, costs)
    if cheap == best:
        return f"Nothing cheaper may be as good: a run with {shown(best)} trains for {_time(price[best])}."
    return (
        f"The cheapest that is not shown to be worse is {shown(cheap)}: a run trains for {_time(price[cheap])}, "
        f"with {shown(best)} for {_time(price[best])}."
    )


def _time(seconds: float) -> str:
    return amount(float(seconds), "seconds")


def tally(evidence: Evidence) -> str:
    """How many pairs have which verdict, and what the verdicts mean."""
    counts = evidence.pairs["verdict"].value_counts()
    number = {verdict: int(counts.get(verdict, 0)) for verdict in (REAL, TIED, UNDERPOWERED)}
    return (
        f"Of {plural(len(evidence.pairs), 'pair')}, {number[REAL]} differ really (by more than "
        f"{evidence.rope:g} {called(evidence.metric)}), {number[TIED]} are tied (within it), and "
        f"{number[UNDERPOWERED]} are under-powered: these data do not tell."
    )


def open_pairs(evidence: Evidence) -> list[str]:
    """What would settle the under-powered pairs of the best."""
    best, pairs = evidence.contestants[0], evidence.pairs
    mine = pairs[((pairs["a"] == best) | (pairs["b"] == best)) & (pairs["verdict"] == UNDERPOWERED)]
    words = [str(sentence) for sentence in mine["words"]]
    rest = len(words) - TOLD
    return [
        *words[:TOLD],
        *([f"{plural(rest, 'more pair')} of {shown(best)} like these."] if rest > 0 else []),
    ]


def podium(ranking: Ranking, evidence: Evidence | None) -> str:
    """Whose points are the most where that is not the one with the best mean, and where points and ranks disagree."""
    points = ranking.table.set_index("contestant")["points"]
    first, said = points.index[0], []
    # who shares the most points leads as well
    if evidence is not None and points.get(evidence.contestants[0], 0) < points.iloc[0]:
        said.append(
            f"By 3-2-1 points ({ranking.by}) {shown(first)} leads with {points.iloc[0]}, "
            f"not {shown(evidence.contestants[0])}."
        )
    if ranking.disagreements():
        said.append(ranking.disagreement().removeprefix("! ").capitalize())
    return " ".join(said)
