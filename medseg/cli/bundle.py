"""``medseg bundle``: create, list, verify, run, evaluate and sync bundles."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from medseg.cli.exchange import export_, folder_option, import_, inspect
from medseg.cli.options import device_option, prepared_option
from medseg.cli.output import emit, format_option
from medseg.errors import MedsegError

if TYPE_CHECKING:
    import pandas as pd

    from medseg.bundle.open import Bundle
    from medseg.engine.workflow import Options

Command = Callable[..., Any]

uri_option: Callable[[Command], Command] = click.option(
    "--tracking-uri",
    default="sqlite:///mlruns/mlflow.db",
    show_default=True,
    help="MLflow store or server; '' for none.",
)


protocol_option: Callable[[Command], Command] = click.option(
    "--protocol",
    # the names of medseg.augmentations.protocol.PROTOCOLS, which help must not import
    type=click.Choice(["online", "split-then-augment", "augment-then-split"]),
    default="online",
    show_default=True,
    help="When images are augmented; the last one leaks copies of test images into training.",
)


def run_options(command: Command) -> Command:
    """The options that ``run`` and ``evaluate`` share."""
    options = [
        click.argument("name"),
        click.option(
            "--data",
            type=click.Path(path_type=Path),
            help="Folder of images in the data set's official layout.",
        ),
        click.option(
            "--repeat", type=click.IntRange(0), default=0, show_default=True, help="Repeat of the split."
        ),
        click.option("--split", default="holdout", show_default=True, help="Name of the split."),
        click.option(
            "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Override a key of the config."
        ),
        device_option,
        click.option("--experiment", default="medseg", show_default=True, help="MLflow experiment."),
        click.option("--quiet", is_flag=True, help="No progress bar."),
        uri_option,
        prepared_option,
        folder_option,
        format_option,
    ]
    for option in reversed(options):
        command = option(command)
    return command


@click.group()
def bundle() -> None:
    """Create, verify, train and evaluate MONAI bundles."""


bundle.add_command(export_)
bundle.add_command(import_)
bundle.add_command(inspect)


@bundle.command()
@click.argument("names", nargs=-1, required=True)
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="A setting such as epochs=50.")
@protocol_option
@prepared_option
@folder_option
def create(
    names: tuple[str, ...], settings: tuple[str, ...], protocol: str, prepared: Path, bundles: Path
) -> None:
    """Compose the bundle of each NAME, dataset__model__loss[__augment[__preprocess]].

    Several augmentations or preprocessing steps are joined by '-', as in rotation-noise and window-clahe.
    """
    from medseg.bundle.choice import Choice
    from medseg.bundle.compose import compose
    from medseg.bundle.settings import settings_from

    chosen = settings_from(parse_settings(settings))
    for name in names:
        click.echo(compose(Choice.parse(name).under(protocol), bundles, chosen, prepared=prepared).root)


@bundle.command("list")
@folder_option
@format_option
def list_(bundles: Path, fmt: str) -> None:
    """List the bundles of a folder: finished repeats, and what chose their weights as the mean of the test parts."""
    import pandas as pd

    from medseg.bundle.open import bundles_in

    emit(pd.DataFrame([_row(b) for b in bundles_in(bundles)], columns=_COLUMNS), fmt, f"Bundles in {bundles}")


_COLUMNS = [
    *("bundle", "dataset", "model", "loss", "augment", "preprocess"),
    *("repeats", "metric", "test", "fault"),
]


def _row(found: Bundle) -> dict[str, object]:
    from medseg.engine.record import read_run

    try:
        facts = found.metadata.get("medseg", {})
    except MedsegError as error:  # one broken bundle must not hide the others
        return {"bundle": found.name, "fault": str(error)}
    runs = [read_run(found.root / "repeats" / name) for name in found.finished()]
    # what chose the weights, of the test cases
    metrics = {str(run.get("monitor", "dice")) for run in runs}
    metric = metrics.pop() if len(metrics) == 1 else ""
    known = [value for run in runs if (value := run.get("test", {}).get(metric)) is not None]
    mean = sum(known) / len(known) if known else None
    repeats = ",".join(found.finished())
    return {"bundle": found.name, **facts, "repeats": repeats, "metric": metric, "test": mean}


@bundle.command()
@click.argument("names", nargs=-1)
@click.option("--no-execute", is_flag=True, help="Read only: evaluate no expression and build no network.")
@folder_option
@format_option
@click.pass_context
def verify(ctx: click.Context, names: tuple[str, ...], no_execute: bool, bundles: Path, fmt: str) -> None:
    """Check bundles (all of the folder without NAMES) offline; exit 1 if a fault is found."""
    import pandas as pd

    from medseg.bundle.open import bundles_in, find
    from medseg.bundle.verify import verify as faults_of

    chosen = [find(n, bundles) for n in names] or bundles_in(bundles)
    if not chosen:
        raise MedsegError(f"{bundles}: no bundle here; make one with 'medseg bundle create'")
    rows = [
        {"bundle": b.name, "file": f.file, "key": f.key, "fault": f.reason}
        for b in chosen
        for f in faults_of(b, execute=not no_execute)
    ]
    if rows or fmt != "table":
        emit(pd.DataFrame(rows, columns=["bundle", "file", "key", "fault"]), fmt)
    else:
        click.echo(f"{len(chosen)} bundle(s) sound")
    ctx.exit(1 if rows else 0)


@bundle.command()
@run_options
@click.option("--resume", is_flag=True, help="Go on with an unfinished run.")
@click.option("--overwrite", is_flag=True, help="Throw away what there is of this repeat.")
@protocol_option
def run(
    name: str, bundles: Path, fmt: str, resume: bool, overwrite: bool, protocol: str, **options: Any
) -> None:
    """Train bundle NAME (composed first if missing), evaluate it on the test part, track it in MLflow."""
    from medseg.bundle.open import bundles_in
    from medseg.engine import workflow

    before = [bundle.root.resolve() for bundle in bundles_in(bundles)]
    name = _under(name, protocol)
    found = _find_or_create(name, bundles, options["prepared"], parse_settings(options["settings"]))
    try:
        folder = workflow.run(found, _options(**options), resume=resume, overwrite=overwrite)
    except MedsegError:
        # a bundle that was composed for a run that never began would keep the settings of the mistaken command
        if found.root.parent == bundles.resolve() and found.root not in before and not _was_begun(found):
            shutil.rmtree(found.root)
        raise
    _report(folder, fmt, options["tracking_uri"])


@bundle.command()
@run_options
def evaluate(name: str, bundles: Path, fmt: str, **options: Any) -> None:
    """Evaluate a trained repeat of bundle NAME on the test part again."""
    from medseg.bundle.open import find
    from medseg.engine import workflow

    folder = workflow.evaluate(find(name, bundles), _options(**options))
    _report(folder, fmt, options["tracking_uri"])


@bundle.command()
@uri_option
@folder_option
@format_option
@click.pass_context
def sync(ctx: click.Context, tracking_uri: str, bundles: Path, fmt: str) -> None:
    """Send to MLflow what it has not had yet of all runs; exit 1 if a run could not be sent."""
    import pandas as pd

    from medseg.engine.tracking import sync as send_all

    rows = send_all(bundles, tracking_uri)
    emit(pd.DataFrame(rows, columns=["run", "result"]), fmt, f"Runs in {bundles}")
    ctx.exit(1 if any(row["result"].startswith("failed") for row in rows) else 0)


def parse_settings(settings: tuple[str, ...]) -> dict[str, Any]:
    """``KEY=VALUE`` texts as a mapping; values are read as YAML, so 5 is a number and [1, 2] a list."""
    import yaml

    parsed = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key:
            raise MedsegError(f"--set {setting}: write KEY=VALUE, such as train::trainer::max_epochs=5")
        try:
            parsed[key.strip().replace("#", "::")] = _number(yaml.safe_load(value))
        except yaml.YAMLError:
            raise MedsegError(f"--set {setting}: {value!r} is no YAML value") from None
    return parsed


def _number(value: Any) -> Any:
    """YAML 1.1 reads 1e-3 as text; people mean a number."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _under(name: str, protocol: str) -> str:
    """A bundle's name under a protocol; online is what a name says by itself."""
    from medseg.bundle.choice import Choice

    if protocol == "online":
        return name
    folder = Path(name)
    return str(folder.parent / Choice.parse(folder.name).under(protocol).name)


def _was_begun(found: Bundle) -> bool:
    """Whether some repeat of a bundle has a record."""
    return any(found.root.glob("repeats/*/run.json"))


def _find_or_create(name: str, bundles: Path, prepared: Path, overrides: dict[str, Any]) -> Bundle:
    """The bundle of a name; one that is missing is composed with those overrides that are settings."""
    from medseg.bundle.choice import Choice
    from medseg.bundle.compose import compose
    from medseg.bundle.open import find, is_bundle
    from medseg.bundle.settings import setting_names, settings_from

    if is_bundle(bundles / name) or is_bundle(Path(name)) or "__" not in name:
        return find(name, bundles)
    settings = settings_from({k: v for k, v in overrides.items() if k in setting_names()})
    return compose(Choice.parse(name), bundles, settings, prepared=prepared)


def _options(settings: tuple[str, ...], quiet: bool, **options: Any) -> Options:
    from medseg.engine.workflow import Options

    return Options(overrides=parse_settings(settings), progress=not quiet, **options)


def _report(folder: Path, fmt: str, tracking_uri: str) -> None:
    """Print the test metrics of a run, and where to look next."""
    emit(summary(folder), fmt, f"{folder.parents[1].name}, repeat {folder.name}, test part")
    if fmt == "table":
        click.echo(f"weights, curves, cases and picture: {folder}")
        if tracking_uri:
            click.echo(f"compare runs: mlflow ui --backend-store-uri {tracking_uri}")


def summary(folder: Path) -> pd.DataFrame:
    """Mean, spread and extremes of every metric over the cases of a run; of a classifier values with intervals."""
    import pandas as pd

    from medseg.metrics import BETTER, METRICS
    from medseg.results import read_csv

    cases = read_csv(folder / "cases.csv")
    if (folder / "metrics.csv").is_file():
        table = read_csv(folder / "metrics.csv")
        table.insert(1, "better", table["metric"].map(BETTER))
        return table.assign(cases=len(cases), groups=cases["group"].nunique())
    rows = [
        {
            "metric": name,
            "unit": METRICS[name].facts["unit"],
            "better": METRICS[name].facts["better"],
            "mean": cases[name].mean(),
            "sd": cases[name].std(ddof=1),
            "min": cases[name].min(),
            "max": cases[name].max(),
            "cases": len(cases),
        }
        for name in METRICS.names()
        if name in cases
    ]
    return pd.DataFrame(rows)
