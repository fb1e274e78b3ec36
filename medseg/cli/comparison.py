"""``medseg study compare`` and ``medseg study premium``: results against published ones, and against unsound twins."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from medseg.cli.output import emit, format_option
from medseg.cli.tables import columns_of, directions_of, levels_of, note, read_tables

if TYPE_CHECKING:
    import pandas as pd

    from medseg.ranking.comparison import Comparison
    from medseg.ranking.premium import Premium

studies_option = click.option(
    "--studies",
    type=click.Path(path_type=Path),
    default=Path("studies"),
    show_default=True,
    help="Folder of the studies that are named by their STUDY.yaml.",
)
where_option = click.option(
    "--where",
    multiple=True,
    callback=levels_of,
    metavar="COLUMN=LEVEL[,LEVEL...]",
    help="Take only these of our runs; may be repeated.",
)
better_option = click.option(
    "--better",
    multiple=True,
    callback=directions_of,
    metavar="METRIC=higher|lower",
    help="Direction of a metric that neither the table nor medseg knows.",
)
level_option = click.option(
    "--level",
    type=click.FloatRange(0.5, 1, min_open=True, max_open=True),
    default=0.95,
    show_default=True,
    help="Of the intervals.",
)
csv_option = click.option(
    "--csv", "csv_file", type=click.Path(path_type=Path), help="Also write every row, as numbers, to FILE."
)


def _aliases(
    ctx: click.Context, option: click.Parameter, given: tuple[str, ...]
) -> dict[tuple[str, str], str]:
    """Parse ``COLUMN:THEIRS=OURS`` options."""
    aliases: dict[tuple[str, str], str] = {}
    for text in given:
        column, colon, names = text.partition(":")
        theirs, equals, ours = names.rpartition("=")
        if not (column and colon and theirs and equals and ours):
            raise click.BadParameter(f"{text!r} is not {option.metavar}")
        if (column, theirs) in aliases:
            raise click.BadParameter(f"{column}:{theirs} is given twice")
        aliases[column, theirs] = ours
    return aliases


def _listed(ctx: click.Context, option: click.Parameter, given: tuple[str, ...]) -> list[str]:
    """Parse options that are given several times or with commas."""
    return [name.strip() for text in given for name in text.split(",") if name.strip()]


@click.command()
@click.argument("results", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RESULTS...")
@click.argument("published", type=click.Path(path_type=Path), metavar="PUBLISHED.csv")
@click.option(
    "--table", "tables", multiple=True, callback=_listed, help="Only these tables of PUBLISHED.csv."
)
@click.option("--metric", "metrics", multiple=True, callback=_listed, help="Only these published metrics.")
@click.option(
    "--column",
    "columns",
    multiple=True,
    callback=columns_of,
    metavar="KEY=NAME",
    help="The column NAME of PUBLISHED.csv is medseg's KEY (dataset, model, loss, value, dice, ...).",
)
@click.option(
    "--alias",
    "aliases",
    multiple=True,
    callback=_aliases,
    metavar="COLUMN:THEIRS=OURS",
    help="What is published as THEIRS is our OURS, as model:efficientnetv2=efficientnetv2_s; may be repeated.",
)
@click.option("--percent", is_flag=True, help="The published values are percentages.")
@where_option
@studies_option
@better_option
@level_option
@click.option(
    "--draws",
    type=click.IntRange(100),
    default=2000,
    show_default=True,
    help="Of the bootstrap, for the interval of the order.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the bootstrap.")
@click.option("--all", "everything", is_flag=True, help="List what only one of both has.")
@csv_option
@click.option(
    "--plot",
    "plot_file",
    type=click.Path(path_type=Path),
    help="Also draw ours against the published, to OUT.png, .svg or .pdf.",
)
@format_option
def compare(
    results: tuple[Path, ...],
    published: Path,
    tables: list[str],
    metrics: list[str],
    columns: dict[str, str],
    aliases: dict[tuple[str, str], str],
    percent: bool,
    where: dict[str, list[str]],
    studies: Path,
    better: dict[str, str],
    level: float,
    draws: int,
    seed: int,
    everything: bool,
    csv_file: Path | None,
    plot_file: Path | None,
    fmt: str,
) -> None:
    """Set the means of RESULTS, with their intervals, against the values of PUBLISHED.csv.

    RESULTS are studies' folders or STUDY.yaml, folders of bundles, or CSV tables. PUBLISHED.csv has one row per value
    (columns dataset, model, loss, augment, metric, value, as far as these tell values apart, and perhaps table), or a
    column per metric. A published augmentation is met under every protocol and split that we have, a row for each.

    \b
    medseg study compare studies/breast breast_study_tables_4_to_8.csv --table 8
    medseg study compare results.csv published.csv --column model=network --alias metric:iou=mean_iou
    """
    from medseg.ranking.comparison import compare as set_against
    from medseg.ranking.published import Aliases, read_published
    from medseg.ranking.table import where as keep

    if plot_file:
        from medseg.ranking.comparison_plot import check_format

        check_format(plot_file)
    theirs = read_published(published, columns, tables, list(better), percent)
    theirs = _of_metrics(theirs, metrics)
    # of ours only what is published is read, where all of it is there
    wanted = [aliases.get(("metric", name), name) for name in theirs["metric"].unique()]
    ours = keep(read_tables(results, studies, wanted, {}, better, bare=False), where)
    found = set_against(ours, theirs, Aliases(aliases), better=better, level=level, draws=draws, seed=seed)
    if csv_file:
        from medseg.results import write_csv

        write_csv(found.rows, csv_file)
    if plot_file:
        from medseg.ranking.comparison_plot import plot

        plot(found, plot_file)
    _show_comparison(found, fmt, everything)


def _of_metrics(published: pd.DataFrame, metrics: list[str]) -> pd.DataFrame:
    from medseg.errors import unknown

    for name in metrics:
        if name not in set(published["metric"]):
            raise unknown("published metric", name, published["metric"].unique())
    return published[published["metric"].isin(metrics)].reset_index(drop=True) if metrics else published


def _show_comparison(found: Comparison, fmt: str, everything: bool) -> None:
    from medseg.ranking.agreement import display as order_table
    from medseg.ranking.comparison import COMPARED, NOT_PUBLISHED, NOT_RUN

    if fmt == "json":
        _json({"rows": found.rows, "orders": found.orders, "notes": list(found.words())})
        return
    if fmt == "csv":
        emit(found.rows if everything else found.of(COMPARED), fmt)
        for line in found.words():
            note(line)
        return
    titles = {COMPARED: "published and ours"}
    if everything:
        titles |= {NOT_RUN: "published, not run", NOT_PUBLISHED: "run, not published"}
    parts = [(title, found.display(status)) for status, title in titles.items()]
    parts.append(("order of the cells", order_table(found.orders)))
    _print(parts, found.words(), fmt)


def _print(parts: list[tuple[str, pd.DataFrame]], lines: list[str], fmt: str) -> None:
    """Tables one below the other, then sentences; what is empty is left out."""
    for title, frame in parts:
        if len(frame):
            shown, said = _varied(frame) if fmt == "table" else (frame, "")
            emit(shown, fmt, title + said)
            click.echo("", nl=fmt == "md")
    click.echo("\n".join(f"- {line}" for line in lines) if fmt == "md" else "\n".join(lines))


def _varied(frame: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The table without the keys that are the same in all its rows, and those in words, for its title."""
    from medseg.ranking.protocols import PROTOCOL
    from medseg.ranking.published import FACTORS, TABLE

    keys = [c for c in (TABLE, "of", *FACTORS, PROTOCOL, "metric") if c in frame.columns]
    same = [c for c in keys if len(frame) > 1 and frame[c].nunique() == 1]
    said = ", ".join(f"{c} {frame[c].iloc[0]}" for c in same)
    return frame.drop(columns=same), f" ({said})" if said else ""


def _json(content: dict[str, object]) -> None:
    import json

    from medseg.ranking.findings import plain

    click.echo(json.dumps(plain(content), indent=2, ensure_ascii=False))


@click.command()
@click.argument("results", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RESULTS...")
@click.option(
    "--of",
    "kinds",
    # the names of medseg.ranking.premium.KINDS, which help must not import
    type=click.Choice(["split", "protocol", "both"]),
    default="both",
    show_default=True,
    help="Splits that ignore groups (-ungrouped), or augmenting before splitting (-leaking).",
)
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    callback=_listed,
    help="Metrics, separated by commas, or all.  [default: dice, or accuracy of classes]",
)
@where_option
@studies_option
@better_option
@level_option
@csv_option
@format_option
def premium(
    results: tuple[Path, ...],
    kinds: str,
    metrics: list[str],
    where: dict[str, list[str]],
    studies: Path,
    better: dict[str, str],
    level: float,
    csv_file: Path | None,
    fmt: str,
) -> None:
    """Say how much better runs look under an unsound protocol than their sound twins.

    RESULTS are what 'medseg study compare' takes. Twins are runs of one data set, model, loss and augmentation under a
    split and its -ungrouped form, or with an augmentation that ends in -leaking and in -offline.

    \b
    medseg study premium studies/bhi studies/bhi_tiles --of split --metric accuracy,roc_auc
    """
    from medseg.ranking.premium import KINDS
    from medseg.ranking.premium import premium as find
    from medseg.ranking.table import USUAL, usual_metric
    from medseg.ranking.table import where as keep

    read = [] if metrics == ["all"] else metrics or [USUAL[0]]
    table = keep(read_tables(results, studies, read, {}, better, bare=False), where)
    wanted = [] if metrics == ["all"] else metrics or [usual_metric(table)]
    of = list(KINDS) if kinds == "both" else [kinds]
    found = find(table, of, wanted, better=better, level=level)
    if csv_file:
        from medseg.results import write_csv

        write_csv(found.rows, csv_file)
    _show_premium(found, fmt)


def _show_premium(found: Premium, fmt: str) -> None:
    if fmt == "json":
        _json({"rows": found.rows, "overall": found.overall, "notes": found.words()})
    elif fmt == "csv":
        emit(found.rows, fmt)
        for line in found.words():
            note(line)
    else:
        parts = [("premium", found.display(found.rows)), ("over all twins", found.display(found.overall))]
        _print(parts, found.words(), fmt)
