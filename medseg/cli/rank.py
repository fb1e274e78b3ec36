"""``medseg rank``: the results table in, the rankings and what they are worth out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from medseg.cli.output import emit, format_option
from medseg.cli.tables import (
    check_sources,
    judging_options,
    read_tables,
    read_tracked,
    source_options,
    split_conditions,
)

if TYPE_CHECKING:
    from medseg.ranking.evidence import Evidence
    from medseg.ranking.findings import Findings

#: contests that get a column each at the terminal when nobody says --by
FEW = 8
#: suspicious runs that are named at the terminal
SHOWN = 20


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
@source_options
@click.option(
    "--by",
    help="Column whose levels are the contests, or overall. By default dataset, model and overall in turn.",
)
@click.option(
    "--metric",
    help="Metrics, one contest each; separate by commas.  [default: dice, or accuracy of classes]",
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
@judging_options
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
    metric: str | None,
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
    from medseg.ranking.table import USUAL, usual_metric
    from medseg.ranking.table import where as keep

    check_sources(sources, tracking_uri, columns)
    if output:
        check_format(output)
    # nobody named one: where masks were measured, only that is read
    metrics = [name.strip() for name in metric.split(",")] if metric else [USUAL[0]]
    if tracking_uri:
        table = read_tracked(tracking_uri, experiment, metrics)
    else:
        apart, where = split_conditions(sources, where)
        bare = not sources
        table = read_tables(sources or (bundles,), studies, metrics, columns, better, bare=bare, apart=apart)
    table = keep(table, where)
    metrics = metrics if metric else [usual_metric(table)]

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
