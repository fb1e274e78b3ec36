"""Where the values of a report come from, and what else is known of their runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from medseg.results import RUN_KEYS

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Source:
    """A results table, and what lies beside it.

    Args:
        table: normalised, see :func:`medseg.ranking.table.normalise`.
        name: what people call it, such as the study's name; no path.
        bundles: folder of the bundles whose runs these are; None where only the table is known.
        prepared: folder of indexes, splits and arrays; None where no image can be read.
        study: the study file as it was run last; empty where there is none.
        planned: how many runs the study has in all; 0 where nobody knows.
        unfinished: the runs without results: ``RUN_KEYS state reason``; None where there is no plan.
        notes: what a reader must know, in sentences.
    """

    table: pd.DataFrame = field(repr=False)
    name: str
    bundles: Path | None = None
    prepared: Path | None = None
    study: str = ""
    planned: int = 0
    unfinished: pd.DataFrame | None = None
    notes: tuple[str, ...] = ()

    def where(self, conditions: Mapping[str, Sequence[str]]) -> Source:
        """The part of it whose columns have one of the given levels.

        Raises:
            MedsegError: the table has no such column or level.
        """
        from medseg.ranking.table import where

        if not conditions:
            return self
        table, unfinished = where(self.table, conditions), self.unfinished
        if unfinished is None:
            return replace(self, table=table)
        for column, levels in conditions.items():
            if column in unfinished.columns:
                unfinished = unfinished[unfinished[column].astype(str).isin(list(levels))]
        return replace(self, table=table, unfinished=unfinished, planned=_runs(table) + len(unfinished))


def from_bundles(bundles: Path, prepared: Path, better: Mapping[str, str] | None = None) -> Source:
    """The finished runs below a folder of bundles.

    Args:
        bundles: the folder.
        prepared: folder of indexes, splits and arrays.
        better: metric -> ``higher`` or ``lower``, for metrics that medseg does not know.

    Raises:
        MedsegError: there is no finished run.
    """
    from medseg.ranking.table import read_runs
    from medseg.results import finished

    table = read_runs(finished(bundles), str(bundles), better)
    return Source(table, bundles.resolve().name, bundles, prepared)


def from_study(root: Path, better: Mapping[str, str] | None = None) -> Source:
    """The done runs of a study, and what its ledger says of the others.

    Args:
        root: the study's folder.
        better: metric -> ``higher`` or ``lower``, for metrics that medseg does not know.

    Raises:
        MedsegError: there is no study, or no run of it is done.
    """
    from medseg.ranking.table import read_runs
    from medseg.study.folder import StudyFolder
    from medseg.study.table import missing, notes, study_files

    folder = StudyFolder(root)
    table = read_runs(study_files(root), str(root), better)
    unfinished = missing(root)
    text = folder.study_file.read_text(encoding="utf-8") if folder.study_file.is_file() else ""
    return Source(
        table=table,
        name=folder.root.resolve().name,
        bundles=folder.bundles,
        prepared=Path(folder.read_options().prepared),
        study=text,
        planned=_runs(table) + len(unfinished),
        unfinished=unfinished,
        notes=tuple(notes(root)),
    )


def _runs(table: pd.DataFrame) -> int:
    return len(table.drop_duplicates([c for c in table.columns if c in RUN_KEYS]))
