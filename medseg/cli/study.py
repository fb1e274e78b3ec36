"""``medseg study``: run a grid of experiments, plan it, and see how it stands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from medseg.cli.comparison import compare, premium
from medseg.cli.options import device_option, prepared_option
from medseg.cli.output import emit, format_option

if TYPE_CHECKING:
    from medseg.study.folder import StudyFolder
    from medseg.study.plan import Plan
    from medseg.study.status import Status

Command = Callable[..., Any]

studies_option: Callable[[Command], Command] = click.option(
    "--studies",
    type=click.Path(path_type=Path),
    default=Path("studies"),
    show_default=True,
    help="Folder of studies; each has its own by its name.",
)
workers_option: Callable[[Command], Command] = click.option(
    "--workers", type=click.IntRange(1), help="Runs at once.  [default: what the machine takes]"
)


def _pairs(ctx: click.Context, option: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    """Parse ``KEY=VALUE`` options."""
    pairs: dict[str, str] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not (key and equals and value):
            raise click.BadParameter(f"{text!r} is not {option.metavar}")
        if key in pairs:
            raise click.BadParameter(f"{key} is given twice")
        pairs[key] = value
    return pairs


def launch_options(command: Command) -> Command:
    """Where and how the workers of a study run."""
    options: list[Callable[[Command], Command]] = [
        click.option(
            "--engine",
            # the names of medseg.study.launch.ENGINES, which help must not import
            type=click.Choice(["local", "ray", "slurm"]),
            default="local",
            show_default=True,
            help="Processes on this machine, a Ray cluster, or Slurm jobs; the numbers are the same.",
        ),
        workers_option,
        device_option,
        click.option(
            "--per-gpu",
            type=click.IntRange(1),
            default=1,
            show_default=True,
            help="Runs that share one GPU.",
        ),
        click.option(
            "--address", default="", help="Ray: an existing cluster.  [default: one on this machine]"
        ),
        click.option("--partition", default="", help="Slurm: partition."),
        click.option("--account", default="", help="Slurm: account."),
        click.option(
            "--time", default="", help="Slurm: at most so long for a job, as 12:00:00; it is requeued."
        ),
        click.option("--mem", default="", help="Slurm: memory of a job, as 16G."),
        click.option("--gpus", type=click.IntRange(0), help="Slurm: GPUs of a job."),
        click.option(
            "--cpus", type=click.IntRange(1), help="Slurm: CPUs of a job.  [default: the study's threads]"
        ),
        click.option("--wait", is_flag=True, help="Slurm: return only when nothing is left."),
        click.option(
            "--slurm",
            multiple=True,
            callback=_pairs,
            metavar="KEY=VALUE",
            help="Slurm: a further option of sbatch; may be repeated.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@click.group()
def study() -> None:
    """Run a grid of experiments that survives anything, plan it, see how it stands, and compare what it says."""


study.add_command(compare)
study.add_command(premium)


@study.command()
@click.argument("file", type=click.Path(path_type=Path), metavar="STUDY.yaml")
@click.option(
    "--data",
    multiple=True,
    callback=_pairs,
    metavar="NAME=DIR",
    help="Folder of a data set that is not yet indexed; may be repeated.",
)
@prepared_option
@studies_option
@click.option(
    "--tracking-uri",
    default="sqlite:///mlruns/mlflow.db",
    show_default=True,
    help="MLflow store or server; '' for none.",
)
@launch_options
@click.option("--retry-failed", is_flag=True, help="Give failed runs all their attempts back.")
@click.option(
    "--code",
    type=click.Choice(["keep", "rerun"]),
    help="What becomes of done runs of another version of medseg's code; without, such a study does not start.",
)
@click.option("--dry-run", is_flag=True, help="Check everything, say what would be done, and do nothing.")
@click.option("--quiet", is_flag=True, help="No progress.")
@click.pass_context
def run(
    ctx: click.Context,
    file: Path,
    data: dict[str, str],
    prepared: Path,
    studies: Path,
    tracking_uri: str,
    engine: str,
    retry_failed: bool,
    code: str | None,
    dry_run: bool,
    quiet: bool,
    **launching: Any,
) -> None:
    """Run every experiment of STUDY.yaml that is not done yet; the same command again goes on.

    Exit status 1 says that a run failed or is left; Slurm jobs without --wait are only submitted.

    \b
    medseg study run scripts/studies/small.yaml
    medseg study run losses.yaml --data kvasir_seg=Kvasir-SEG --engine ray --address auto
    """
    from medseg.study.spec import read_study

    read = read_study(file)
    _check_engine(engine, launching)
    if dry_run:
        made = _planned(
            file, prepared, studies, launching["device"], launching["workers"], probe=False, keep=False
        )
        _tell(made, "table")
        return
    from medseg.study.launch import LaunchOptions
    from medseg.study.run import RunOptions, run_study

    options = RunOptions(
        studies=studies,
        prepared=prepared,
        data={name: Path(folder) for name, folder in data.items()},
        tracking_uri=tracking_uri,
        engine=engine,
        launch=LaunchOptions(**launching),
        retry_failed=retry_failed,
        code=code or "",
        quiet=quiet,
    )
    try:
        run_study(read, options)
    except (KeyboardInterrupt, SystemExit):
        click.echo("stopped; the same command goes on", err=True)
        raise
    now = _status(file, studies)
    click.echo("\n".join(now.words()))
    for failure in now.failures():
        click.echo(f"failed: {failure}", err=True)
    click.echo(f"rank: medseg rank {now.folder.root}")
    submitted = engine == "slurm" and not launching["wait"]
    ctx.exit(1 if now.of("failed") or not (now.over or submitted) else 0)


def _check_engine(engine: str, given: dict[str, Any]) -> None:
    """Raise if an option is given that the engine does not have."""
    ray, slurm = ("address",), ("partition", "account", "time", "mem", "gpus", "cpus", "wait", "slurm")
    for of, names in (("ray", ray), ("slurm", slurm)):
        wrong = [f"--{name}" for name in names if given[name] not in (None, "", False, {})]
        if wrong and engine != of:
            raise click.UsageError(f"{', '.join(wrong)}: for --engine {of}, not {engine}")


@study.command()
@click.argument("file", type=click.Path(path_type=Path), metavar="STUDY.yaml")
@prepared_option
@studies_option
@workers_option
@device_option
@click.option("--probe/--no-probe", default=True, show_default=True, help="Measure each model for a moment.")
@click.option(
    "--limit",
    type=click.FloatRange(0, min_open=True),
    default=20.0,
    show_default=True,
    help="Seconds after which the probe of one model takes no further step.",
)
@click.option("--runs", is_flag=True, help="List every run instead of a summary.")
@format_option
def plan(
    file: Path,
    prepared: Path,
    studies: Path,
    workers: int | None,
    device: str,
    probe: bool,
    limit: float,
    runs: bool,
    fmt: str,
) -> None:
    """Say what STUDY.yaml would run, what is done, and estimate time, memory, disk and GPU-hours.

    Times are those of finished runs where there are some. For other models a probe builds each one in a process
    of its own and takes a few training steps on random images; its results are kept in the study's folder.

    \b
    medseg study plan losses.yaml
    medseg study plan losses.yaml --runs --no-probe --format csv
    """
    made = _planned(file, prepared, studies, device, workers, probe=probe, limit=limit)
    if runs:
        emit(made.runs(), fmt, f"Runs of {made.study.name}")
    else:
        _tell(made, fmt)


def _planned(
    file: Path,
    prepared: Path,
    studies: Path,
    device: str,
    workers: int | None,
    *,
    probe: bool,
    keep: bool = True,
    limit: float = 20.0,
) -> Plan:
    from medseg.cli.progress import progress_bar
    from medseg.study.folder import StudyFolder
    from medseg.study.plan import make_plan
    from medseg.study.spec import read_study

    read = read_study(file)
    with progress_bar(f"measuring the models of {read.name}") as progress:
        return make_plan(
            read,
            prepared,
            StudyFolder(studies / read.name),
            device=device,
            workers=workers,
            probing=probe,
            keep=keep,
            limit=limit,
            progress=progress,
        )


def _tell(made: Plan, fmt: str) -> None:
    """Print a plan: tables and sentences for people, the table of models alone for machines."""
    models = made.models()
    if fmt in ("csv", "json"):
        emit(models, fmt)
        return
    from medseg.study.amounts import size

    emit(made.axes(), fmt, f"Axes of {made.study.name}")
    for column in ("memory", "GPU memory"):
        models[column] = [size(number) if number == number and number else "" for number in models[column]]
    if not made.device.startswith("cuda"):
        models = models.drop(columns="GPU memory")
    if fmt == "md":
        click.echo("")
    emit(models, fmt, "What is left of it, by model")
    click.echo(("\n" if fmt == "md" else "") + "\n".join(made.words()))


@study.command()
@click.argument("target", type=click.Path(path_type=Path), metavar="STUDY.yaml|FOLDER")
@studies_option
@click.option(
    "--by",
    type=click.Choice(["dataset", "model", "loss", "preprocess", "augment", "repeat"]),
    default="model",
    show_default=True,
    help="Count runs by this.",
)
@click.option("--watch", is_flag=True, help="Show it again and again until nothing is left to do.")
@click.option(
    "--every",
    type=click.FloatRange(0.1),
    default=5.0,
    show_default=True,
    help="Seconds between two looks of --watch.",
)
@format_option
@click.pass_context
def status(
    ctx: click.Context, target: Path, studies: Path, by: str, watch: bool, every: float, fmt: str
) -> None:
    """Say how a study stands: what is done, running, failed and waiting, the time left, and why runs failed.

    It only reads, also while the study runs and on other machines that see its folder. Exit status 1 says that a
    run failed. csv and json have one row per run.
    """
    now = _status(target, studies)
    while watch and not now.over:
        import time

        click.clear()
        _show(now, by, fmt)
        time.sleep(every)
        now = _status(target, studies)
    _show(now, by, fmt)
    ctx.exit(1 if now.of("failed") else 0)


def _status(target: Path, studies: Path) -> Status:
    from medseg.study.status import read_status

    return read_status(_folder(target, studies))


def _folder(target: Path, studies: Path) -> StudyFolder:
    """The folder of a study that is named by its file, its folder, or its name alone."""
    from medseg.study.folder import StudyFolder
    from medseg.study.spec import read_study

    if target.is_dir():
        return StudyFolder(target)
    if target.suffix not in (".yaml", ".yml") and (studies / target).is_dir():
        return StudyFolder(studies / target)
    return StudyFolder(studies / read_study(target, names=False).name)


def _show(now: Status, by: str, fmt: str) -> None:
    if fmt in ("csv", "json"):
        emit(now.runs(), fmt)
        return
    emit(now.by(by), fmt, f"Runs of {now.folder.name}")
    lines = now.words()
    lines += [f"running: {line}" for line in now.running()]
    lines += [f"failed: {line}" for line in now.failures()]
    click.echo(("\n" if fmt == "md" else "") + "\n".join(lines))
