"""``medseg report``: the results table in, one page with figures and tables out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from medseg.cli.options import prepared_option
from medseg.cli.tables import (
    check_sources,
    is_csv,
    judging_options,
    read_tables,
    read_tracked,
    source_options,
    split_conditions,
)

if TYPE_CHECKING:
    from medseg.report.source import Source


@click.command()
@source_options
@click.option(
    "-o",
    "--output",
    "out",
    type=click.Path(path_type=Path, file_okay=False),
    default="report",
    show_default=True,
    help="Folder of report.html, figures/ and tables/.",
)
@prepared_option
@click.option("--metric", help="Metric that ranks and judges.  [default: dice, or accuracy of classes]")
@click.option(
    "--rope",
    type=click.FloatRange(0),
    help="Differences up to this count as none.  [default: 0.01, or 1 px]",
)
@judging_options
@click.option("--title", default="", help="Of the page.")
@click.option(
    "--cases",
    type=click.IntRange(0),
    default=3,
    show_default=True,
    help="Cases shown of each data set, and worst cases of each contestant.",
)
@click.option("--no-images", is_flag=True, help="Leave out figures that show images of cases.")
@click.option(
    "--device", default="auto", show_default=True, help="Where networks run for the images of cases."
)
def report(
    sources: tuple[Path, ...],
    out: Path,
    bundles: Path,
    studies: Path,
    tracking_uri: str | None,
    experiment: str,
    prepared: Path,
    of: str,
    metric: str | None,
    where: dict[str, list[str]],
    columns: dict[str, str],
    better: dict[str, str],
    rope: float | None,
    level: float,
    draws: int,
    seed: int,
    fixed_datasets: bool,
    title: str,
    cases: int,
    no_images: bool,
    device: str,
) -> None:
    """Write one page that says which is best, whether that is real, and shows why.

    A SOURCE is what 'medseg rank' takes: a study's folder or STUDY.yaml, a folder of bundles, or a CSV table. Of a
    study or of bundles the page also has learning curves, cost, and images of cases, and of classifiers confusion
    matrices, ROC curves and reliability; of a table what it holds. The page needs no network and no other file.

    \b
    medseg report studies/losses_small -o report
    medseg report results.csv --of model --title "Nine models"
    """
    from medseg.engine.workflow import check_device
    from medseg.report.report import Options, write_report

    check_sources(sources, tracking_uri, columns)
    check_device(device)
    rest = where
    if tracking_uri:
        source = _tracked_source(tracking_uri, experiment, metric)
    else:
        apart, rest = split_conditions(sources, where)
        source = _source(sources, bundles, studies, prepared, columns, better, apart)
    options = Options(
        of=of,
        metric=metric or "",
        better=better,
        rope=rope,
        level=level,
        draws=draws,
        seed=seed,
        fixed_datasets=fixed_datasets,
        title=title,
        cases=cases,
        images=not no_images,
        device=device,
        command=_command(where),
    )
    page = write_report(
        source.where(rest), out, options, say=lambda text: click.echo(f"{text} ...", err=True)
    )
    click.echo(str(page))


def _tracked_source(uri: str, experiment: str, metric: str | None) -> Source:
    from medseg.report.source import Source
    from medseg.report.task import BESIDE

    # one metric that a task has tells which the others are; a table of another has what it has
    task = next((names for names in BESIDE.values() if metric in names), BESIDE["segmentation"])
    return Source(read_tracked(uri, experiment, list(dict.fromkeys([metric or task[0], *task]))), experiment)


def _source(
    sources: tuple[Path, ...],
    bundles: Path,
    studies: Path,
    prepared: Path,
    columns: dict[str, str],
    better: dict[str, str],
    apart: dict[str, list[str]],
) -> Source:
    """One study or one folder of bundles with all that lies there; of anything else the table."""
    from medseg.report.source import Source, from_bundles, from_study
    from medseg.study.folder import StudyFolder

    if not sources:
        return from_bundles(bundles, prepared, better)
    if len(sources) == 1 and not is_csv(sources[0]):
        source = sources[0]
        if not source.is_dir():
            from medseg.study.spec import read_study

            source = studies / read_study(source, names=False).name
        if StudyFolder(source).ledger.is_file() or not source.is_dir():
            return from_study(source, better)
        return from_bundles(source, prepared, better)
    table = read_tables(sources, studies, [], columns, better, bare=False, apart=apart)
    return Source(table, ", ".join(source.stem for source in sources))


def _command(where: dict[str, list[str]]) -> str:
    """The command as it was given, without the folders of this machine."""
    import shlex

    from medseg.report.runs import without_paths

    context = click.get_current_context()
    words, conditions = ["medseg", "report"], [f"{key}={','.join(levels)}" for key, levels in where.items()]
    for parameter in context.command.params:
        name, value = parameter.name or "", context.params[parameter.name or ""]
        given = context.get_parameter_source(name) == click.core.ParameterSource.COMMANDLINE
        if name == "sources":
            words += [without_paths(str(source)) for source in value]
        elif name == "where":
            words += [word for condition in conditions for word in ("--where", condition)]
        elif given and name in (
            "of",
            "metric",
            "rope",
            "level",
            "draws",
            "seed",
            "cases",
            "title",
            "experiment",
        ):
            words += [parameter.opts[-1], str(value)]
        elif given and name in ("fixed_datasets", "no_images"):
            words.append(parameter.opts[-1])
        elif given and name in ("better", "columns"):
            words += [word for key, level in value.items() for word in (parameter.opts[0], f"{key}={level}")]
    return shlex.join(words)
