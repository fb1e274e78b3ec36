"""``medseg rank``: the results table in, the rankings and what they are worth out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from medseg.cli.output import emit, format_option
from medseg.cli.progress import progress_bar
from medseg.errors import MedsegError

if TYPE_CHECKING:
    import pandas as pd

    from medseg.ranking.evidence import Evidence
    from medseg.ranking.findings import Findings

#: contests that get a column each at the terminal when nobody says --by
FEW = 8
#: suspicious runs that are named at the terminal
SHOWN = 20


def _pairs(ctx: click.Context, option: click.Parameter, given: tuple[str, ...]) -> dict[str, list[str]]:
    """Parse ``KEY=VALUE[,VALUE...]`` options; the values of one key given twice add up."""
    pairs: dict[str, list[str]] = {}
    for text in given:
        key, equals, values = text.partition("=")
        if not (key and equals):
            raise click.BadParameter(f"{text!r} is not {option.metavar}")
        pairs.setdefault(key, []).extend(value.strip() for value in values.split(","))
    return pairs


def _directions(ctx: click.Context, option: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    pairs = _pairs(ctx, option, given)
    for metric, ways in pairs.items():
        if len(ways) != 1 or ways[0] not in ("higher", "lower"):
            raise click.BadParameter(
                f"{metric}={','.join(ways)} is neither {metric}=higher nor {metric}=lower"
            )
    return {metric: ways[0] for metric, ways in pairs.items()}


def _columns(ctx: click.Context, option: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    pairs = _pairs(ctx, option, given)
    for key, names in pairs.items():
        if len(names) != 1:
            raise click.BadParameter(f"{key} is given {len(names)} columns: {', '.join(names)}")
    return {key: names[0] for key, names in pairs.items()}


def _widths(ctx: click.Context, option: click.Parameter, given: tuple[str, ...]) -> dict[str, float]:
    """Parse ``[METRIC=]WIDTH`` options; a width without a metric is for all others."""
    widths = {}
    for text in given:
        metric, _, width = text.rpartition("=")
        try:
            widths[metric] = float(width)
        except ValueError:
            raise click.BadParameter(f"{text!r} is not {option.metavar}") from None
        if not 0 <= widths[metric] < float("inf"):
            raise click.BadParameter(f"{text!r}: a width is 0 or more")
    return widths


@click.command()
@click.argument("sources", nargs=-1, type=click.Path(path_type=Path), metavar="[SOURCE]...")
@click.option(
    "--bundles",
    type=click.Path(path_type=Path),
    default="bundles",
    show_default=True,
    help="Folder of bundles whose finished runs are ranked when no source is given.",
)
@click.option(
    "--studies",
    type=click.Path(path_type=Path),
    default="studies",
    show_default=True,
    help="Folder of the studies that are named by their STUDY.yaml.",
)
@click.option("--tracking-uri", help="Rank the finished runs of this MLflow server or database instead.")
@click.option("--experiment", default="medseg", show_default=True, help="MLflow experiment to read.")
@click.option("--of", "of", default="loss", show_default=True, help="Column whose levels compete.")
@click.option(
    "--by",
    help="Column whose levels are the contests, or overall. By default dataset, model and overall in turn.",
)
@click.option(
    "--metric", default="dice", show_default=True, help="Metrics, one contest each; separate by commas."
)
@click.option(
    "--where",
    multiple=True,
    callback=_pairs,
    metavar="COLUMN=LEVEL[,LEVEL...]",
    help="Rank only these rows, also by a column of a CSV table that is no key; may be repeated.",
)
@click.option(
    "--column",
    "columns",
    multiple=True,
    callback=_columns,
    metavar="KEY=NAME",
    help="A CSV table's column NAME is medseg's KEY (case, group, loss, value, dice, ...); may be repeated.",
)
@click.option(
    "--better",
    multiple=True,
    callback=_directions,
    metavar="METRIC=higher|lower",
    help="Direction of a metric that neither the table nor medseg knows.",
)
@click.option("--no-evidence", is_flag=True, help="Points and mean ranks only, no statistics.")
@click.option(
    "--rope",
    "ropes",
    multiple=True,
    callback=_widths,
    metavar="[METRIC=]WIDTH",
    help="Differences up to this count as none. By default 0.01, or 1 px.",
)
@click.option(
    "--level",
    type=click.FloatRange(0.5, 1, min_open=True, max_open=True),
    default=0.95,
    show_default=True,
    help="Of the intervals.",
)
@click.option("--draws", type=click.IntRange(100), default=2000, show_default=True, help="Of the bootstrap.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the bootstrap.")
@click.option(
    "--fixed-datasets", is_flag=True, help="Speak of these data sets only, not of others like them."
)
@click.option("--pairs", is_flag=True, help="Show every pair's verdict, not only the best one's.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Also write everything to OUT.md or OUT.json, or the numbers of the tables to OUT.csv.",
)
@click.option(
    "--plot",
    "plot_file",
    type=click.Path(path_type=Path),
    help="Also draw the first ranking, to OUT.png, .svg or .pdf.",
)
@format_option
def rank(
    sources: tuple[Path, ...],
    bundles: Path,
    studies: Path,
    tracking_uri: str | None,
    experiment: str,
    of: str,
    by: str | None,
    metric: str,
    where: dict[str, list[str]],
    columns: dict[str, str],
    better: dict[str, str],
    no_evidence: bool,
    ropes: dict[str, float],
    level: float,
    draws: int,
    seed: int,
    fixed_datasets: bool,
    pairs: bool,
    output: Path | None,
    plot_file: Path | None,
    fmt: str,
) -> None:
    """Rank losses, models or augmentations, and say which differences are real.

    A SOURCE is a CSV table (tidy: columns dataset, model, loss, ..., metric, value; or a column per metric), a
    study's folder or STUDY.yaml, or a folder of bundles; without one, the finished runs below --bundles. 3-2-1
    points go to the first three of each contest; mean ranks, tests, intervals and verdicts stand beside them.

    \b
    medseg rank studies/losses_small
    medseg rank results.csv --of model --by dataset --metric dice,iou
    medseg rank theirs.csv --column case=image_id --column loss=criterion
    """
    from medseg.ranking.findings import check_format, find
    from medseg.ranking.table import where as keep
    from medseg.results import COLUMNS

    if sources and tracking_uri:
        raise click.UsageError("give either sources or --tracking-uri, not both")
    if columns and not any(map(_is_csv, sources)):
        raise click.UsageError("--column names the columns of a CSV table; give one")
    if output:
        check_format(output)
    metrics = [name.strip() for name in metric.split(",")]
    if tracking_uri:
        table = _tracked(tracking_uri, experiment, metrics)
    else:
        # a CSV table may have columns that are no keys, and tell its rows apart by them
        rows = {column: levels for column, levels in where.items() if column not in COLUMNS}
        rows = rows if sources and all(map(_is_csv, sources)) else {}
        where = {column: levels for column, levels in where.items() if column not in rows}
        table = _read(sources or (bundles,), studies, metrics, columns, better, bare=not sources, rows=rows)
    table = keep(table, where)

    def judged(name: str) -> Evidence:
        from medseg.ranking.judge import judge

        rope = ropes.get(name, ropes.get(""))
        return judge(
            table,
            of,
            name,
            better=better,
            rope=rope,
            level=level,
            draws=draws,
            seed=seed,
            fixed_datasets=fixed_datasets,
        )

    found = find(table, of, by, metrics, better, judge=None if no_evidence else judged)
    if output:
        found.write(output)
    if plot_file:
        from medseg.ranking.plots import plot

        plot(found.first, plot_file)
    _show(found, fmt, pairs, narrow=by is None)


def _is_csv(source: Path) -> bool:
    return source.suffix.lower() not in (".yaml", ".yml") and not source.is_dir()


def _read(
    sources: tuple[Path, ...],
    studies: Path,
    metrics: list[str],
    columns: dict[str, str],
    better: dict[str, str],
    bare: bool,
    rows: dict[str, list[str]] | None = None,
) -> pd.DataFrame:
    """The sources' tables, one below the other; ``bare`` is the folder of bundles that nobody named."""
    from medseg.ranking.table import load, normalise, together

    tables = []
    for source in sources:
        if not bare and _is_csv(source):
            tables.append(load([source], better, columns, metrics, say=_note, rows=rows))
        else:
            wide = _folder(source, studies, bare)
            tables.append(normalise(wide, str(source), better, metrics))
    return together(tables)


def _folder(source: Path, studies: Path, bare: bool) -> pd.DataFrame:
    """The cases of a study, named by its folder or file, or of the finished runs of a folder of bundles."""
    from medseg.results import case_files, read_bundles

    if bare:
        return read_bundles(source)
    from medseg.study import table
    from medseg.study.folder import StudyFolder

    if source.is_dir() and not StudyFolder(source).ledger.is_file():
        if not case_files(source):
            raise MedsegError(
                f"{source}: neither a study (no {StudyFolder(source).ledger.name}) nor a folder of bundles with "
                "finished runs"
            )
        return read_bundles(source)
    if not source.is_dir():
        from medseg.study.spec import read_study

        source = studies / read_study(source, names=False).name
    for note in table.notes(source):
        _note(note)
    return table.study_table(source)


def _tracked(uri: str, experiment: str, metrics: list[str]) -> pd.DataFrame:
    from medseg.ranking.tracking import from_mlflow

    with progress_bar("cases") as progress:
        return from_mlflow(uri, experiment, metrics, say=_note, progress=progress)


def _note(text: str) -> None:
    click.echo(f"note: {text}", err=True)


def _show(found: Findings, fmt: str, pairs: bool, narrow: bool) -> None:
    doubts = [f"suspicious: {line}" for line in found.first.doubts()]
    if fmt == "table":
        _tables(found, pairs, narrow)
        rest = [f"and {len(doubts) - SHOWN} more (--format json has all)"] if len(doubts) > SHOWN else []
        click.echo("\n".join([*found.notes, *doubts[:SHOWN], *rest]), nl=bool(found.notes or doubts))
    elif fmt == "md":
        click.echo(found.markdown(pairs), nl=False)
    elif fmt == "json":
        click.echo(found.json())
    else:
        emit(found.frame(), fmt)
        for doubt in doubts:
            click.echo(doubt, err=True)
    for hole in found.first.holes() if fmt != "md" else ():
        click.echo(f"missing: {hole}", err=True)


def _tables(found: Findings, pairs: bool, narrow: bool) -> None:
    from medseg.ranking import prose

    for by, remarks in found.remarks().items():
        ranking = found.rankings[by]
        few = not narrow or ranking.contests["contest"].nunique() <= FEW
        emit(found.display(by, contests=few), "table", title=prose.title(ranking))
        click.echo("\n".join(remarks) + "\n")
    for evidence in found.evidence.values():
        click.echo("\n".join(prose.evidence(evidence, pairs)) + "\n")
        if pairs:
            emit(prose.pairs_table(evidence), "table", title=f"pairs by {evidence.metric}")
