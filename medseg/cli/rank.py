"""``medseg rank``: the results table in, the ranking out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from medseg.cli.output import emit, format_option

if TYPE_CHECKING:
    import pandas as pd


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


@click.command()
@click.argument("tables", nargs=-1, type=click.Path(path_type=Path), metavar="[TABLE.csv]...")
@click.option(
    "--bundles",
    type=click.Path(path_type=Path),
    default="bundles",
    show_default=True,
    help="Folder of bundles whose finished runs are ranked when no table is given.",
)
@click.option("--tracking-uri", help="Rank the finished runs of this MLflow server or database instead.")
@click.option("--experiment", default="medseg", show_default=True, help="MLflow experiment to read.")
@click.option("--of", "of", default="loss", show_default=True, help="Column whose levels compete.")
@click.option("--by", default="dataset", show_default=True, help="Column whose levels are the contests.")
@click.option(
    "--metric", default="dice", show_default=True, help="Metrics, one contest each; separate by commas."
)
@click.option(
    "--where",
    multiple=True,
    callback=_pairs,
    metavar="COLUMN=LEVEL[,LEVEL...]",
    help="Rank only these rows; may be repeated.",
)
@click.option(
    "--better",
    multiple=True,
    callback=_directions,
    metavar="METRIC=higher|lower",
    help="Direction of a metric that neither the table nor medseg knows.",
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Also write the table to OUT.csv or OUT.md."
)
@click.option(
    "--plot", "plot_file", type=click.Path(path_type=Path), help="Also draw it, to OUT.png, .svg or .pdf."
)
@format_option
def rank(
    tables: tuple[Path, ...],
    bundles: Path,
    tracking_uri: str | None,
    experiment: str,
    of: str,
    by: str,
    metric: str,
    where: dict[str, list[str]],
    better: dict[str, str],
    output: Path | None,
    plot_file: Path | None,
    fmt: str,
) -> None:
    """Rank losses, models or augmentations from a results table.

    Reads tidy CSV tables (columns dataset, model, loss, ..., metric, value) or per-case ones (a column per
    metric); without a TABLE, the finished runs below --bundles. 3-2-1 points go to the first three of each
    contest.

    \b
    medseg rank results.csv --of model --by dataset --metric dice,iou
    medseg rank --where dataset=kvasir_seg,busi_benign --plot losses.png
    """
    from medseg.ranking import rank as make
    from medseg.ranking.table import where as keep

    if tables and tracking_uri:
        raise click.UsageError("give either tables or --tracking-uri, not both")
    table = keep(_read(tables, bundles, tracking_uri, experiment, better), where)
    ranking = make(table, of, by, [name.strip() for name in metric.split(",")], better)
    if output:
        ranking.write(output)
    if plot_file:
        from medseg.ranking.plots import plot

        plot(ranking, plot_file)
    emit(ranking.display() if fmt in ("table", "md") else ranking.table, fmt)
    if fmt == "table":
        click.echo("\n".join(ranking.notes))
    for hole in ranking.holes():
        click.echo(f"missing: {hole}", err=True)


def _read(
    tables: tuple[Path, ...], bundles: Path, uri: str | None, experiment: str, better: dict[str, str]
) -> pd.DataFrame:
    from medseg.ranking.table import load, normalise

    if tables:
        return load(tables, better)
    if uri:
        from medseg.ranking.tracking import from_mlflow

        return from_mlflow(uri, experiment)
    from medseg.metrics import METRICS
    from medseg.results import collect

    known = {**better, **{entry.name: entry.facts["better"] for entry in METRICS}}
    return normalise(collect(bundles, known), source=str(bundles))
