"""The sections of the page, from the findings to plain text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from medseg.ranking import prose
from medseg.ranking.podium import OVERALL
from medseg.report.answer import called, further, interval, lead, versus_best
from medseg.report.content import Block, Facts, Paragraph, Picture, Points, Section, Table, table_of
from medseg.report.figures.canvas import plural, short, shown
from medseg.report.figures.cost import amount, mean_costs
from medseg.report.runs import Run, dates, settings, without_paths
from medseg.results import RUN_KEYS

if TYPE_CHECKING:
    import pandas as pd

    from medseg.ranking.evidence import Evidence
    from medseg.ranking.findings import Findings
    from medseg.report.source import Source

#: contests beyond which a table of rankings shows none of them; the heat maps and the files do
CONTESTS = 12
#: contestants up to which a table of metrics has a column for each
BESIDE_EACH_OTHER = 4
#: suspicious and missing runs that are named
NAMED = 40


def answer(findings: Findings, metric: str, source: Source, costs: pd.DataFrame) -> Section:
    """The answer first: who is best, who may be, and what is in the way of an answer."""
    table = source.table
    datasets = table["dataset"].nunique() if "dataset" in table.columns else 0
    blocks: list[Block] = [Paragraph(lead(findings, metric, datasets), "lead")]
    blocks += [Points(warnings, "warning") for warnings in [_warnings(findings, source)] if warnings]
    blocks += [Points(said) for said in [tuple(further(findings, metric, costs))] if said]
    blocks.append(_contestants(findings, metric, costs))
    return Section("answer", "The answer", tuple(blocks))


def _warnings(findings: Findings, source: Source) -> tuple[str, ...]:
    """What makes the answer doubtful, with where to read on."""
    said = []
    first = findings.first
    leaks = [note for note in first.notes if note.startswith("LEAKING")]
    said += leaks
    if len(first.suspicious):
        runs = len(first.suspicious[[c for c in RUN_KEYS if c in first.suspicious.columns]].drop_duplicates())
        verb = "is" if runs == 1 else "are"
        said.append(f"{plural(runs, 'run')} that {verb} ranked {verb} suspicious: see “Not to be trusted”.")
    if len(first.missing):
        number = len(first.missing[[c for c in RUN_KEYS if c in first.missing.columns]].drop_duplicates())
        said.append(
            f"{plural(number, 'run')} of the grid {'is' if number == 1 else 'are'} missing or incomplete."
        )
    if source.unfinished is not None and len(source.unfinished):
        said.append(f"{len(source.unfinished)} of {source.planned} planned runs have no results.")
    return tuple(said)


def _contestants(findings: Findings, metric: str, costs: pd.DataFrame) -> Table:
    """One row per contestant: mean, interval, probability of being first, verdict, points, rank, time."""
    import pandas as pd

    evidence = findings.evidence.get(metric)
    by = OVERALL if OVERALL in findings.rankings else next(iter(findings.rankings))
    known = findings.rankings[by].table.set_index("contestant")
    rows = []
    for name in evidence.contestants if evidence else list(known.index):
        row: dict[str, str] = {findings.first.of: shown(name)}
        if evidence:
            row |= _judged(evidence, name)
        if name in known.index:
            row |= {"points": str(known["points"][name]), "mean rank": f"{known['mean_rank'][name]:.2f}"}
        rows.append(row)
    frame = pd.DataFrame(rows).fillna("")
    if len(costs):
        price = mean_costs(costs, findings.first.of)
        names = evidence.contestants if evidence else list(known.index)
        frame["time per run"] = [_priced(price.get(name)) for name in names]
    note = f"Points and mean ranks: {_over(by)}."
    if evidence:
        note = f"Best mean first; {evidence.level:.0%} intervals. P(first): probability of being the first. {note}"
    right = [c for c in frame.columns[1:] if c != "against the best"]
    return table_of(frame, f"The {plural(len(frame), findings.first.of)} at a glance", note, right)


def _priced(seconds: float | None) -> str:
    return amount(float(seconds), "seconds") if seconds is not None and seconds == seconds else ""


def _judged(evidence: Evidence, name: str) -> dict[str, str]:
    mean = evidence.means.set_index("contestant").loc[name]
    verdict = "the best" if name == evidence.contestants[0] else versus_best(evidence).get(name, "")
    return {
        evidence.metric: short(mean["mean"]),
        "interval": interval(mean["low"], mean["high"]),
        "P(first)": prose.chance(evidence.places.iloc[:, 0].get(name)),
        "against the best": {"real": "really worse"}.get(verdict, verdict),
    }


def _over(by: str) -> str:
    return "over all combinations of the other factors" if by == OVERALL else f"by {_named(by)}"


def _named(factor: str) -> str:
    return "data set" if factor == "dataset" else factor


def what_was_run(source: Source, runs: Sequence[Run]) -> Section:
    """The grid, the settings, the versions and the days; no path and no name of a machine."""
    table = source.table
    keys = [c for c in RUN_KEYS if c in table.columns]
    number = len(table[keys].drop_duplicates()) if keys else 0
    pairs = [("source", without_paths(source.name)), ("runs", f"{number}" + _planned(source))]
    for key in keys:
        levels = [shown(str(level)) for level in dict.fromkeys(table[key])]
        if levels != ["none"]:
            pairs.append(
                (_named(key), f"{', '.join(levels)}" + (f" ({len(levels)})" if len(levels) > 3 else ""))
            )
    if "case" in table.columns:
        place = [c for c in ("dataset", "case") if c in table.columns]
        cases = len(table.loc[table["case"] != "", place].drop_duplicates())
        pairs.append(("test cases", f"{cases} different ones"))
    pairs.append(("metrics", ", ".join(dict.fromkeys(table["metric"]))))
    pairs += settings(runs)
    began, ended = dates(runs)
    if began:
        pairs.append(("run", began if began == ended else f"{began} to {ended}"))
    blocks: list[Block] = [Facts(tuple((term, value) for term, value in pairs))]
    if number and not runs:
        blocks.append(Paragraph("Only the table is known: settings, versions and dates are not."))
    elif len(runs) < number:
        blocks.append(
            Paragraph(f"Settings, versions and dates are of the {len(runs)} runs whose record is at hand.")
        )
    blocks += [Points(tuple(without_paths(note) for note in source.notes[:NAMED]))] if source.notes else []
    return Section("run", "What was run", tuple(blocks))


def _planned(source: Source) -> str:
    return f" of {source.planned} planned" if source.planned else ""


def ranking(findings: Findings, metric: str, pictures: Sequence[Picture]) -> Section:
    """A table and a heat map per grouping, with the notes on how to read them."""
    blocks: list[Block] = []
    remarks = findings.remarks()
    for by, one in findings.rankings.items():
        contests = one.contests["contest"].nunique() <= CONTESTS and by != OVERALL
        cells = findings.display(by, contests).map(str)
        title = f"{plural(len(one.table), one.of)} {_over(by)}".capitalize()
        blocks.append(table_of(cells, title, "", list(cells.columns[1:])))
        blocks += [Points(tuple(remarks[by]))] if remarks[by] else []
    evidence = findings.evidence.get(metric)
    if evidence:
        blocks += [table for by in ("dataset", "model") for table in _firsts(evidence, by)]
    return Section("ranking", "Ranking", (*blocks, *pictures))


def _firsts(evidence: Evidence, by: str) -> list[Table]:
    """The probability of being first within each level of a factor."""
    levels = evidence.levels[evidence.levels["by"] == by]
    if levels["level"].nunique() < 2 or levels["p_best"].isna().all():
        return []
    wide = levels.pivot(index="contestant", columns="level", values="p_best").reindex(evidence.contestants)
    wide = wide[list(dict.fromkeys(levels["level"]))].map(prose.chance)
    frame = wide.rename(index=shown).rename_axis(evidence.of).reset_index()
    title = f"Probability of being the first within each {_named(by)}"
    note = f"Of {evidence.metric}, when repeats and cases are drawn anew; 1.00 is certain."
    return [table_of(frame, title, note, list(frame.columns[1:]))]


def evidence(findings: Findings, metric: str, pictures: Sequence[Picture]) -> Section:
    """The tests, and the verdict on every pair."""
    found = findings.evidence.get(metric)
    if found is None:
        return Section(
            "evidence", "Is it real?", tuple(Paragraph(note, "warning") for note in findings.notes)
        )
    tables = [table for table in (_tests(found), _pairs(found), _pair_tests(found)) if table.rows]
    notes = (*found.notes, *findings.notes)
    blocks: list[Block] = [*tables, *([Points(notes)] if notes else []), *pictures]
    return Section("evidence", "Is it real?", tuple(blocks))


def _tests(found: Evidence) -> Table:
    import pandas as pd

    rows = [
        {
            "blocks": _named(by) if by != OVERALL else "all combinations",
            "number": str(len(test.values)),
            "Friedman χ²": _statistic(test.friedman),
            "p": _p(test.friedman_p),
            "Iman-Davenport F": _statistic(test.iman_davenport),
            "p (F)": _p(test.iman_davenport_p),
            "critical difference": _statistic(test.critical_difference),
        }
        for by, test in found.groupings.items()
    ]
    frame = pd.DataFrame(rows)
    note = (
        f"Small p: not all {_several(found.of)} are alike. Mean ranks farther apart than the critical difference "
        f"(Nemenyi, {found.level:.0%}) differ."
    )
    return table_of(frame, "Tests over blocks", note, list(frame.columns[1:]))


def _pairs(found: Evidence) -> Table:
    import pandas as pd

    rows = []
    apart = not found.pairs["low"].equals(found.pairs["low_here"])
    for pair in found.pairs.to_dict("records"):
        rows.append(
            {
                "better": shown(pair["a"]),
                "than": shown(pair["b"]),
                "by": short(pair["difference"]),
                "interval": interval(pair["low"], pair["high"]),
                "verdict": pair["verdict"],
                "on these data sets": pair["here"] if apart else "",
                "would need": _needs(pair),
            }
        )
    frame = _told(pd.DataFrame(rows))
    right = [c for c in frame.columns if c in ("by", "interval")]
    note = (
        "Intervals hold for all pairs at once. What an under-powered pair would need is a rough number: it takes the "
        "variances of this table for those of a larger one."
    )
    return table_of(frame, f"Every pair of {_several(found.of)}", note, right, rows=200)


def _told(frame: pd.DataFrame) -> pd.DataFrame:
    """The columns in which something stands."""
    frame = frame.fillna("")
    return frame[[c for c in frame.columns if (frame[c] != "").any()]]


def _several(factor: str) -> str:
    """The levels of a factor: ``losses``, ``data sets``."""
    return plural(2, factor).removeprefix("2 ")


def _pair_tests(found: Evidence) -> Table:
    import pandas as pd

    by = OVERALL if OVERALL in found.groupings else next(iter(found.groupings), "")
    blocks = _over_blocks(found, by)
    rows = [
        {
            "better": shown(pair["a"]),
            "than": shown(pair["b"]),
            "p cases": _p(pair.get("p_cases_holm")),
            "Cliff's δ": _signed(pair.get("cliffs_delta")),
            "d": _signed(pair.get("cohens_d")),
            **blocks.get(frozenset((pair["a"], pair["b"])), {}),
        }
        for pair in found.pairs.to_dict("records")
    ]
    frame = _told(pd.DataFrame(rows))
    if len(frame.columns) < 3:
        frame = frame.head(0)
    over = (
        f" Blocks: {'all combinations of the other factors' if by == OVERALL else _several(by)}."
        if by
        else ""
    )
    note = (
        "p: Wilcoxon's signed-rank test over cases and over blocks, with Holm's correction, and Nemenyi's by ranks. "
        f"P(better) and P(same): the Bayesian signed-rank test over blocks.{over}"
    )
    return table_of(frame, "Tests of each pair", note, list(frame.columns[2:]), rows=200)


def _over_blocks(found: Evidence, by: str) -> dict[frozenset[str], dict[str, str]]:
    """Pair -> what the tests over the blocks of one grouping say of it."""
    if not by:
        return {}
    test = found.groupings[by]
    said: dict[frozenset[str], dict[str, str]] = {}
    for row in test.wilcoxon.to_dict("records"):
        names = frozenset((row["a"], row["b"]))
        nemenyi = test.nemenyi.loc[row["a"], row["b"]] if len(test.nemenyi) else float("nan")
        said[names] = {"p blocks": _p(row["p_holm"]), "p Nemenyi": _p(nemenyi)}
    for row in test.bayes.to_dict("records"):
        names = frozenset((row["a"], row["b"]))
        chances = {"P(better)": prose.chance(row["p_a"]), "P(same)": prose.chance(row["p_rope"])}
        said[names] = {**said.get(names, {}), **chances}
    return said


def _needs(pair: Mapping[Any, Any]) -> str:
    """What would settle an under-powered pair: the numbers alone."""
    from medseg.ranking.verdict import cure

    numbers = [(pair["more_datasets"], "data set"), (pair["more_repeats"], "repeat")]
    said = [cure(more, noun).removesuffix(" needed") for more, noun in numbers if more > 0]
    if len(said) == 2:
        return f"{said[0]}; on these data sets {said[1]}"
    return said[0] if said else "not known" if pair["verdict"] == "under-powered" else ""


def doubts(findings: Findings, source: Source) -> Section:
    """Suspicious runs and holes, by name."""
    first = findings.first
    blocks: list[Block] = []
    if len(first.suspicious):
        frame = _runs_only(first.suspicious, ["metric", "kind", "reason"])
        note = "These runs are ranked, and marked ? in the tables. A collapsed run is a result, a copied one a mistake."
        blocks.append(table_of(frame, "Suspicious runs", note, rows=NAMED))
    if len(first.missing):
        frame = _runs_only(first.missing, ["metric", "expected", "found", "reason"])
        blocks.append(table_of(frame, "Missing from the grid", "Never averaged over.", rows=NAMED))
    if source.unfinished is not None and len(source.unfinished):
        frame = _runs_only(source.unfinished, ["state", "reason"])
        blocks.append(table_of(frame, "Runs without results", "As the study's ledger has them.", rows=NAMED))
    if not blocks:
        blocks.append(Paragraph("No run is suspicious, and none is missing."))
    return Section("doubts", "Not to be trusted", tuple(blocks))


def _runs_only(frame: pd.DataFrame, more: Sequence[str]) -> pd.DataFrame:
    """Keys that say something, and some columns, as text without paths."""
    keys = [c for c in RUN_KEYS if c in frame.columns and frame[c].astype(str).str.strip().ne("").any()]
    shown_columns = frame[[*keys, *(c for c in more if c in frame.columns)]]
    return shown_columns.map(lambda value: "" if value != value else without_paths(str(value)))


def classes(rows: pd.DataFrame, of: str, level: float, draws: int, pictures: Sequence[Picture]) -> Section:
    """Every metric of each contestant with its interval, a table per data set, and the figures."""
    blocks: list[Block] = []
    for dataset, mine in rows.groupby("dataset", sort=False) if len(rows) else ():
        cells = mine.assign(
            cell=[_bounded(*row) for row in mine[["value", "low", "high"]].itertuples(index=False)]
        )
        wide = cells.pivot(index="contestant", columns="metric", values="cell")
        wide = wide.loc[list(dict.fromkeys(mine["contestant"])), list(dict.fromkeys(mine["metric"]))]
        wide.index = wide.index.map(shown)
        # few contestants stand side by side, so that the page need not scroll
        wide = wide.T.rename(index=called) if len(wide) <= BESIDE_EACH_OTHER else wide.rename(columns=called)
        frame = wide.rename_axis("metric" if len(wide.columns) <= BESIDE_EACH_OTHER else of).reset_index()
        note = _drawn(mine, level, draws)
        blocks.append(table_of(frame, f"Every metric on {dataset}", note, list(frame.columns[1:])))
    return Section("classes", "What is taken for what", (*blocks, *pictures))


def _bounded(value: float, low: float, high: float) -> str:
    bounds = interval(low, high)
    return f"{short(value)} ({bounds})" if bounds else short(value)


def _drawn(rows: pd.DataFrame, level: float, draws: int) -> str:
    """Of what the values and intervals of a data set are."""
    first = rows.iloc[0]
    note = (
        f"Means over runs, with {level:.0%} intervals of {draws} draws of whole groups: {int(first['groups'])} groups, "
        f"{plural(int(first['images']), 'image')}."
    )
    lost = rows[rows["left_out"] > 0]
    if len(lost):
        worst = lost.loc[lost["left_out"].idxmax()]
        number, metric = int(worst["left_out"]), called(str(worst["metric"]))
        note += f" Draws without a class were left out: up to {number} ({metric})."
    return note


def images(pictures: Sequence[Picture], left: bool) -> Section:
    """Figures of cases, with a word on what they show of people."""
    said = "These figures show images of test cases and their names; --no-images makes a page without them."
    blocks: list[Block] = [Paragraph(said)] if pictures and left else []
    return Section("images", "Cases in pictures", (*blocks, *pictures))


def _p(value: float | None) -> str:
    if value is None or value != value:
        return ""
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _statistic(value: float) -> str:
    return "" if value != value else f"{value:.2f}"


def _signed(value: float | None) -> str:
    return "" if value is None or value != value else f"{value:+.2f}"
