"""Where a table to rank or report comes from: the options that say it, and the reading of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from medseg.cli.progress import progress_bar
from medseg.errors import MedsegError

if TYPE_CHECKING:
    import pandas as pd

Command = Callable[..., Any]


def levels_of(ctx: click.Context, option: click.Parameter, given: tuple[str, ...]) -> dict[str, list[str]]:
    """Parse ``KEY=VALUE[,VALUE...]`` options; the values of one key given twice add up."""
    pairs: dict[str, list[str]] = {}
    for text in given:
        key, equals, values = text.partition("=")
        if not (key and equals):
            raise click.BadParameter(f"{text!r} is not {option.metavar}")
        pairs.setdefault(key, []).extend(value.strip() for value in values.split(","))
    return pairs


def directions_of(ctx: click.Context, option: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    pairs = levels_of(ctx, option, given)
    for metric, ways in pairs.items():
        if len(ways) != 1 or ways[0] not in ("higher", "lower"):
            raise click.BadParameter(
                f"{metric}={','.join(ways)} is neither {metric}=higher nor {metric}=lower"
            )
    return {metric: ways[0] for metric, ways in pairs.items()}


def columns_of(ctx: click.Context, option: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    pairs = levels_of(ctx, option, given)
    for key, names in pairs.items():
        if len(names) != 1:
            raise click.BadParameter(f"{key} is given {len(names)} columns: {', '.join(names)}")
    return {key: names[0] for key, names in pairs.items()}


def source_options(command: Command) -> Command:
    """The sources, and the options that say where else a table comes from and how it is read."""
    return _with(
        command,
        click.argument("sources", nargs=-1, type=click.Path(path_type=Path), metavar="[SOURCE]..."),
        click.option(
            "--bundles",
            type=click.Path(path_type=Path),
            default="bundles",
            show_default=True,
            help="Folder of bundles whose finished runs are read when no source is given.",
        ),
        click.option(
            "--studies",
            type=click.Path(path_type=Path),
            default="studies",
            show_default=True,
            help="Folder of the studies that are named by their STUDY.yaml.",
        ),
        click.option(
            "--tracking-uri", help="Read the finished runs of this MLflow server or database instead."
        ),
        click.option("--experiment", default="medseg", show_default=True, help="MLflow experiment to read."),
        click.option("--of", "of", default="loss", show_default=True, help="Column whose levels compete."),
        click.option(
            "--where",
            multiple=True,
            callback=levels_of,
            metavar="COLUMN=LEVEL[,LEVEL...]",
            help="Take only these rows, also by a column of a CSV table that is no key; may be repeated.",
        ),
        click.option(
            "--column",
            "columns",
            multiple=True,
            callback=columns_of,
            metavar="KEY=NAME",
            help="A CSV table's column NAME is medseg's KEY (case, group, loss, value, dice, ...); may be repeated.",
        ),
        click.option(
            "--better",
            multiple=True,
            callback=directions_of,
            metavar="METRIC=higher|lower",
            help="Direction of a metric that neither the table nor medseg knows.",
        ),
    )


def judging_options(command: Command) -> Command:
    """The options of the evidence, but for the region of practical equivalence."""
    return _with(
        command,
        click.option(
            "--level",
            type=click.FloatRange(0.5, 1, min_open=True, max_open=True),
            default=0.95,
            show_default=True,
            help="Of the intervals.",
        ),
        click.option(
            "--draws", type=click.IntRange(100), default=2000, show_default=True, help="Of the bootstrap."
        ),
        click.option(
            "--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the bootstrap."
        ),
        click.option(
            "--fixed-datasets", is_flag=True, help="Speak of these data sets only, not of others like them."
        ),
    )


def _with(command: Command, *options: Callable[[Command], Command]) -> Command:
    for option in reversed(options):
        command = option(command)
    return command


def check_sources(sources: tuple[Path, ...], tracking_uri: str | None, columns: dict[str, str]) -> None:
    """Refuse options that contradict each other."""
    if sources and tracking_uri:
        raise click.UsageError("give either sources or --tracking-uri, not both")
    if columns and not any(map(is_csv, sources)):
        raise click.UsageError("--column names the columns of a CSV table; give one")


def split_conditions(
    sources: tuple[Path, ...], where: dict[str, list[str]]
) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Conditions on columns of CSV tables that are no keys, by which their rows may be told apart, and the others."""
    from medseg.results import COLUMNS

    apart = {column: levels for column, levels in where.items() if column not in COLUMNS}
    apart = apart if sources and all(map(is_csv, sources)) else {}
    return apart, {column: levels for column, levels in where.items() if column not in apart}


def is_csv(source: Path) -> bool:
    """Whether a source is a table, and neither a study nor a folder of bundles."""
    return source.suffix.lower() not in (".yaml", ".yml") and not source.is_dir()


def read_tables(
    sources: tuple[Path, ...],
    studies: Path,
    metrics: list[str],
    columns: dict[str, str],
    better: dict[str, str],
    bare: bool,
    apart: dict[str, list[str]] | None = None,
) -> pd.DataFrame:
    """The sources' tables, one below the other; ``bare`` is the folder of bundles that nobody named."""
    from medseg.ranking.table import load, read_runs, together

    tables = []
    for source in sources:
        if not bare and is_csv(source):
            tables.append(load([source], better, columns, metrics, say=note, rows=apart))
        else:
            tables.append(read_runs(_files(source, studies, bare), str(source), better, metrics))
    return together(tables)


def _files(source: Path, studies: Path, bare: bool) -> list[Path]:
    """The tables of cases of a study, named by its folder or file, or of the finished runs of a folder of bundles."""
    from medseg.results import case_files, finished

    if bare:
        return finished(source)
    from medseg.study import table
    from medseg.study.folder import StudyFolder

    if source.is_dir() and not StudyFolder(source).ledger.is_file():
        if not case_files(source):
            raise MedsegError(
                f"{source}: neither a study (no {StudyFolder(source).ledger.name}) nor a folder of bundles with "
                "finished runs"
            )
        return finished(source)
    if not source.is_dir():
        from medseg.study.spec import read_study

        source = studies / read_study(source, names=False).name
    for text in table.notes(source):
        note(text)
    return table.study_files(source)


def read_tracked(uri: str, experiment: str, metrics: list[str]) -> pd.DataFrame:
    """The finished runs of an MLflow store."""
    from medseg.ranking.tracking import from_mlflow

    with progress_bar("cases") as progress:
        return from_mlflow(uri, experiment, metrics, say=note, progress=progress)


def note(text: str) -> None:
    """Say something beside the result."""
    click.echo(f"note: {text}", err=True)
