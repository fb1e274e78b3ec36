"""The result of a ranking, and the ways to show it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from medseg.errors import MedsegError
from medseg.ranking import suspicion
from medseg.ranking.holes import lines
from medseg.results import atomic_write, write_csv

if TYPE_CHECKING:
    import pandas as pd

#: pairs told in words where points and mean ranks disagree
SHOWN = 3


@dataclass(frozen=True)
class Ranking:
    """Who won which contest.

    Args:
        of: the factor whose levels compete.
        by: the factor whose levels are the contests, or ``overall``.
        metrics: the metrics ranked by.
        contests: one row per contest and contestant: ``contest contestant mean spread n place points rank
            level metric complete suspicious``; ``n`` is the number of runs, ``spread`` the standard deviation over
            them, ``suspicious`` how many of them are named in ``suspicious``.
        table: one row per contestant, best first: ``contestant points mean_rank firsts mean sd`` (the last
            two per metric if there are several) and the mean of every contest.
        missing: one row per hole of the grid (see :func:`medseg.ranking.holes.missing`).
        notes: what a reader must know, in sentences.
        suspicious: one row per finding about a run that is ranked (see :mod:`medseg.ranking.suspicion`).
    """

    of: str
    by: str
    metrics: tuple[str, ...]
    contests: pd.DataFrame
    table: pd.DataFrame
    missing: pd.DataFrame
    notes: tuple[str, ...]
    suspicious: pd.DataFrame

    def holes(self) -> list[str]:
        """The missing cells in words, one a line."""
        return lines(self.missing)

    def doubts(self) -> list[str]:
        """The suspicious runs in words, one finding a line."""
        return suspicion.lines(self.suspicious)

    def disagreements(self) -> list[tuple[str, str]]:
        """The pairs of which the first has more points and the second the better mean rank."""
        rows = list(self.table[["contestant", "points", "mean_rank"]].itertuples(index=False, name=None))
        return [
            (one, other)
            for one, points, rank in rows
            for other, fewer, better in rows
            if points > fewer and round(rank, 9) > round(better, 9)
        ]

    def disagreement(self) -> str:
        """In a sentence where points and mean ranks disagree; empty where they do not."""
        pairs = self.disagreements()
        if not pairs:
            return ""
        known = self.table.set_index("contestant")
        told = [
            f"{a} is before {b} by points ({known['points'][a]} to {known['points'][b]}) and behind it by mean rank "
            f"({known['mean_rank'][a]:.2f} to {known['mean_rank'][b]:.2f})"
            for a, b in pairs[:SHOWN]
        ]
        rest = f"; so are {len(pairs) - SHOWN} more pairs" if len(pairs) > SHOWN else ""
        return f"! points and mean rank disagree by {self.by}: {'; '.join(told)}{rest}."

    def remarks(self) -> list[str]:
        """The notes, and what the marks in the table mean where there are any."""
        marked = ["? suspicious runs, named below."] if self.contests["suspicious"].any() else []
        return [*self.notes, *filter(None, [self.disagreement()]), *marked]

    def display(self, contests: bool = True) -> pd.DataFrame:
        """For people: mean and sd in one column, places in brackets, incomplete contests starred.

        A mean rank that disagrees with the points is marked ``!``, a value with suspicious runs behind it ``?``.

        Args:
            contests: with a column for each contest.
        """
        shown = self.table[["contestant", "points", "mean_rank", "firsts"]].copy()
        swapped = {name for pair in self.disagreements() for name in pair}
        shown["mean_rank"] = [
            f"{rank:.2f}{' !' * (name in swapped)}"
            for name, rank in zip(self.table["contestant"], self.table["mean_rank"], strict=True)
        ]
        doubtful = self.contests.groupby(["contestant", "metric"])["suspicious"].sum()
        for metric in self.metrics:
            suffix = "" if len(self.metrics) == 1 else f" {metric}"
            columns = [self.table[name] for name in ("contestant", f"mean{suffix}", f"sd{suffix}")]
            shown[f"{metric} mean ± sd"] = [
                number(mean)
                + (f" ± {number(sd, mean)}" if sd == sd else "")
                + " ?" * bool(doubtful[name, metric])
                for name, mean, sd in zip(*columns, strict=True)
            ]
        for name, contest in self.contests.groupby("contest", sort=False) if contests else ():
            rows = contest.set_index("contestant").loc[self.table["contestant"]]
            star = "" if rows["complete"].all() else " *"
            shown[f"{name}{star}"] = [
                number(mean) + (f" ({place})" if place in (1, 2, 3) else "") + " ?" * bool(odd)
                for mean, place, odd in zip(
                    rows["mean"], rows["place"].fillna(0), rows["suspicious"], strict=True
                )
            ]
        return shown.rename(columns={"contestant": self.of, "mean_rank": "mean rank"})

    def markdown(self) -> str:
        """The table, the notes, the suspicious runs and the missing cells as GitHub Markdown."""
        facts = [*self.remarks(), *(f"suspicious: {doubt}" for doubt in self.doubts())]
        facts += [f"missing: {hole}" for hole in self.holes()]
        return markdown_table(self.display()) + "\n" + "".join(f"- {fact}\n" for fact in facts)

    def write(self, path: Path) -> None:
        """Write the table as ``.csv`` (numbers as they are) or ``.md`` (for people), by the file's extension.

        Raises:
            MedsegError: another extension.
        """
        if path.suffix == ".csv":
            write_csv(self.table, path)
        elif path.suffix == ".md":
            with atomic_write(path) as file:
                file.write(self.markdown())
        else:
            raise MedsegError(f"{path}: a ranking is written as .csv or .md")


def markdown_table(shown: pd.DataFrame) -> str:
    """A table of text as GitHub Markdown, all columns but the first to the right."""
    rows = [list(map(str, shown.columns)), [" --- ", *[" ---: "] * (len(shown.columns) - 1)]]
    rows += [[str(cell).replace("|", "\\|") for cell in row] for row in shown.itertuples(index=False)]
    return "".join(
        f"|{'|'.join(row)}|\n" if i == 1 else f"| {' | '.join(row)} |\n" for i, row in enumerate(rows)
    )


def number(value: float, like: float | None = None) -> str:
    """A value with four decimals, two if it (or ``like``) is ten or more, nothing when it is missing."""
    if value != value:
        return ""
    return f"{value:.2f}" if abs(value if like is None else like) >= 10 else f"{value:.4f}"
