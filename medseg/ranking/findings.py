"""All that a results table says: rankings by several factors, the evidence for them, and what is not to be trusted."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.errors import MedsegError
from medseg.ranking import prose
from medseg.ranking.podium import groupings, place, summarise
from medseg.ranking.record import Ranking, markdown_table
from medseg.results import atomic_write, write_csv

if TYPE_CHECKING:
    import pandas as pd

    from medseg.ranking.evidence import Evidence

FORMATS = (".csv", ".md", ".json")


@dataclass(frozen=True)
class Findings:
    """Rankings of one table by one or more factors, and the evidence of each metric.

    Args:
        rankings: factor (or ``overall``) -> ranking; at least one.
        evidence: metric -> evidence; empty where none was asked for or could be had.
        notes: what a reader must know besides the rankings' own notes.
    """

    rankings: dict[str, Ranking]
    evidence: dict[str, Evidence]
    notes: tuple[str, ...] = ()

    @property
    def first(self) -> Ranking:
        """The first ranking; what is missing or suspicious is the same in all."""
        return next(iter(self.rankings.values()))

    def display(self, by: str, contests: bool = True) -> pd.DataFrame:
        """A ranking for people, with the probability of being the first where there is evidence."""
        ranking = self.rankings[by]
        shown = ranking.display(contests)
        for number, (metric, evidence) in enumerate(self.evidence.items()):
            first = evidence.places.iloc[:, 0]
            name = "P(first)" if len(self.evidence) == 1 else f"P(first) {metric}"
            chances = [prose.chance(first.get(contestant)) for contestant in ranking.table["contestant"]]
            shown.insert(4 + number, name, chances)
        return shown

    def remarks(self) -> dict[str, list[str]]:
        """What a reader must know of each ranking, what holds for several only at the last of them."""
        told: dict[str, list[str]] = {}
        seen: set[str] = set()
        for by, ranking in reversed(self.rankings.items()):
            told[by] = [remark for remark in ranking.remarks() if remark not in seen]
            seen.update(told[by])
        return {by: told[by] for by in self.rankings}

    def markdown(self, pairs: bool = False) -> str:
        """Everything as GitHub Markdown.

        Args:
            pairs: every pair's verdict instead of only those of the best with the others.
        """
        parts = []
        for by, remarks in self.remarks().items():
            title = f"## {prose.title(self.rankings[by])}\n\n" if len(self.rankings) > 1 else ""
            facts = "".join(f"- {remark}\n" for remark in remarks)
            parts.append(f"{title}{markdown_table(self.display(by))}\n{facts}")
        for evidence in self.evidence.values():
            head, *lines = prose.evidence(evidence, pairs)
            parts.append(f"## {head}\n\n" + "".join(f"- {line}\n" for line in lines))
            if pairs:
                parts.append(markdown_table(prose.pairs_table(evidence)))
        told = [*self.notes, *(f"suspicious: {line}" for line in self.first.doubts())]
        told += [f"missing: {line}" for line in self.first.holes()]
        if told:
            parts.append("".join(f"- {line}\n" for line in told))
        return "\n".join(parts)

    def frame(self) -> pd.DataFrame:
        """One table of numbers: a ranking's own, or the rankings' one below the other without single contests."""
        import pandas as pd

        if len(self.rankings) == 1:
            return self._with_chances(self.first.table)
        parts = []
        for by, ranking in self.rankings.items():
            contests = set(ranking.contests["contest"])
            table = ranking.table[[c for c in ranking.table.columns if c not in contests]].copy()
            table.insert(0, "by", by)
            parts.append(self._with_chances(table))
        return pd.concat(parts, ignore_index=True)

    def _with_chances(self, table: pd.DataFrame) -> pd.DataFrame:
        table = table.copy()
        for metric, evidence in self.evidence.items():
            name = "p_first" if len(self.evidence) == 1 else f"p_first {metric}"
            table[name] = table["contestant"].map(evidence.places.iloc[:, 0])
        return table

    def record(self) -> dict[str, Any]:
        """Everything as plain values: ``of metrics groupings evidence suspicious missing notes``.

        A grouping has ``table`` (one row per contestant), ``contests``, ``disagreements`` and ``notes``; the evidence
        of a metric has the fields of :class:`medseg.ranking.evidence.Evidence`, tables as lists of rows.
        """
        first = self.first
        return {
            "of": first.of,
            "metrics": list(first.metrics),
            "groupings": {
                by: {
                    "table": rows(self._with_chances(ranking.table)),
                    "contests": rows(ranking.contests),
                    "disagreements": [list(pair) for pair in ranking.disagreements()],
                    "notes": list(ranking.notes),
                }
                for by, ranking in self.rankings.items()
            },
            "evidence": {metric: plain(asdict(evidence)) for metric, evidence in self.evidence.items()},
            "suspicious": rows(first.suspicious),
            "missing": rows(first.missing),
            "notes": list(self.notes),
        }

    def json(self) -> str:
        """``record`` as JSON text; a number that does not exist or has no end is ``null``."""
        return json.dumps(self.record(), indent=2, ensure_ascii=False)

    def write(self, path: Path) -> None:
        """Write ``.csv`` (``frame``), ``.md`` (``markdown`` with all pairs) or ``.json``, by the file's extension.

        Raises:
            MedsegError: another extension.
        """
        check_format(path)
        if path.suffix == ".csv":
            write_csv(self.frame(), path)
            return
        with atomic_write(path) as file:
            file.write(self.markdown(pairs=True) if path.suffix == ".md" else self.json() + "\n")


def check_format(path: Path) -> None:
    """Raise MedsegError unless findings can be written to a file of that name."""
    if path.suffix not in FORMATS:
        raise MedsegError(f"{path}: a ranking is written as .csv, .md or .json")


def find(
    table: pd.DataFrame,
    of: str = "loss",
    by: str | None = None,
    metrics: Sequence[str] = ("dice",),
    better: Mapping[str, str] | None = None,
    judge: Callable[[str], Evidence] | None = None,
) -> Findings:
    """Rank a normalised table by one factor, or by data set, model and overall.

    Args:
        table: a normalised table (see :func:`medseg.ranking.table.normalise`).
        of: the column whose levels compete.
        by: the column whose levels are the contests, or ``overall``; by default each of data set and model that has
            two levels or more, and overall if that says more.
        metrics: one contest for each at every level of ``by``.
        better: metric -> ``higher`` or ``lower``, for metrics that neither the table nor the registry knows.
        judge: gives the evidence of a metric; none is given if it is None, and where it cannot judge a note says why.

    Raises:
        MedsegError: an unknown column or metric, fewer than two contestants, or no contest without a hole.
    """
    names = [by] if by else groupings(table, of)
    runs = summarise(table, of, names[0], metrics, better)
    rankings: dict[str, Ranking] = {}
    notes, faults = [], []
    for name in names:
        try:
            rankings[name] = place(runs, name)
        except MedsegError as error:
            faults.append(error)
            notes.append(f"by {name}: no contest is complete.")
    if not rankings:
        raise faults[0]
    found = {}
    for metric in runs.direction:
        try:
            if judge:
                found[metric] = judge(metric)
        except MedsegError as error:
            notes.append(f"no evidence of {metric}: {error}")
    return Findings(rankings, found, tuple(notes))


def rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """A table as a list of rows of plain values."""
    return [{str(key): plain(value) for key, value in row.items()} for row in frame.to_dict("records")]


def plain(value: Any) -> Any:
    """A value as JSON knows it: tables as rows, series by their index, no number as None."""
    import pandas as pd

    if isinstance(value, pd.DataFrame):
        return rows(value if isinstance(value.index, pd.RangeIndex) else value.reset_index(names="name"))
    if isinstance(value, pd.Series):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    if value is pd.NA or (isinstance(value, float) and not abs(value) < float("inf")):
        return None
    return value
