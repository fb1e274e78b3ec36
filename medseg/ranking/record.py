"""The result of a ranking, and the ways to show it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from medseg.errors import MedsegError
from medseg.ranking.holes import lines
from medseg.results import atomic_write, write_csv

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Ranking:
    """Who won which contest.

    Args:
        of: the factor whose levels compete.
        by: the factor whose levels are the contests.
        metrics: the metrics ranked by.
        contests: one row per contest and contestant: ``contest contestant mean spread n place points rank
            level metric complete``; ``n`` is the number of runs, ``spread`` the standard deviation over them.
        table: one row per contestant, best first: ``contestant points mean_rank firsts mean sd`` (the last
            two per metric if there are several) and the mean of every contest.
        missing: one row per hole of the grid (see :func:`medseg.ranking.holes.missing`).
        notes: what a reader must know, in sentences.
    """

    of: str
    by: str
    metrics: tuple[str, ...]
    contests: pd.DataFrame
    table: pd.DataFrame
    missing: pd.DataFrame
    notes: tuple[str, ...]

    def holes(self) -> list[str]:
        """The missing cells in words, one a line."""
        return lines(self.missing)

    def display(self) -> pd.DataFrame:
        """For people: mean and sd in one column, places in brackets, incomplete contests starred."""
        shown = self.table[["contestant", "points", "mean_rank", "firsts"]].copy()
        shown["mean_rank"] = [f"{rank:.2f}" for rank in shown["mean_rank"]]
        for metric in self.metrics:
            suffix = "" if len(self.metrics) == 1 else f" {metric}"
            pairs = zip(self.table[f"mean{suffix}"], self.table[f"sd{suffix}"], strict=True)
            shown[f"{metric} mean ± sd"] = [
                number(mean) + (f" ± {number(sd, mean)}" if sd == sd else "") for mean, sd in pairs
            ]
        for name, contest in self.contests.groupby("contest", sort=False):
            rows = contest.set_index("contestant").loc[self.table["contestant"]]
            star = "" if rows["complete"].all() else " *"
            shown[f"{name}{star}"] = [
                number(mean) + (f" ({place})" if place in (1, 2, 3) else "")
                for mean, place in zip(rows["mean"], rows["place"].fillna(0), strict=True)
            ]
        return shown.rename(columns={"contestant": self.of, "mean_rank": "mean rank"})

    def markdown(self) -> str:
        """The table, the notes and the missing cells as GitHub Markdown."""
        shown = self.display()
        rows = [list(map(str, shown.columns)), [" --- ", *[" ---: "] * (len(shown.columns) - 1)]]
        rows += [[str(cell).replace("|", "\\|") for cell in row] for row in shown.itertuples(index=False)]
        table = "".join(
            f"|{'|'.join(row)}|\n" if i == 1 else f"| {' | '.join(row)} |\n" for i, row in enumerate(rows)
        )
        facts = [*self.notes, *(f"missing: {hole}" for hole in self.holes())]
        return table + "\n" + "".join(f"- {fact}\n" for fact in facts)

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


def number(value: float, like: float | None = None) -> str:
    """A value with four decimals, two if it (or ``like``) is ten or more, nothing when it is missing."""
    if value != value:
        return ""
    return f"{value:.2f}" if abs(value if like is None else like) >= 10 else f"{value:.4f}"
