"""The results table of finished MLflow runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medseg.engine.tracking import TEST, connect, sqlite_file
from medseg.errors import MedsegError, unknown
from medseg.metrics import METRICS
from medseg.ranking.table import normalise
from medseg.results import RUN_KEYS

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient


def from_mlflow(uri: str, experiment: str) -> pd.DataFrame:
    """Read the final ``test/<metric>`` values of an experiment's finished runs, keyed by their tags.

    Runs with the same tags (``RUN_KEYS``) are the same experiment run again: the newest finished one counts.

    Args:
        uri: MLflow tracking URI, such as ``sqlite:///mlruns/mlflow.db``.
        experiment: name of the experiment.

    Raises:
        MedsegError: the server does not answer, or has no such experiment, or that has no finished, tested
            run.
    """
    from mlflow import MlflowException

    database = sqlite_file(uri)
    if database is not None and not database.is_file():
        raise MedsegError(f"{uri}: no such database; 'medseg bundle run' writes one")
    try:
        runs = _finished(connect(uri), experiment)
    except MlflowException as error:
        raise MedsegError(
            f"{uri}: cannot read experiment {experiment!r} ({str(error).splitlines()[0]})"
        ) from None
    # newest first, so the first of each key is kept
    newest: dict[tuple[str, ...], Run] = {}
    for run in sorted(runs, key=lambda run: run.info.end_time or 0, reverse=True):
        if any(name.startswith(TEST) for name in run.data.metrics):
            newest.setdefault(tuple(_tag(run, key) for key in RUN_KEYS), run)
    if not newest:
        raise MedsegError(
            f"{uri}: experiment {experiment!r} has no finished run with test metrics ({TEST}dice, ...)"
        )
    return normalise(_rows(newest), source=f"{uri} {experiment}")


def _rows(newest: dict[tuple[str, ...], Run]) -> pd.DataFrame:
    import pandas as pd

    # the tracked names end in the unit: test/hd95_px
    units = {f"{TEST}{e.name}_{e.facts['unit']}": e.name for e in METRICS if e.facts.get("unit")}
    rows = [
        {
            **dict(zip(RUN_KEYS, key, strict=True)),
            "metric": units.get(name, name.removeprefix(TEST)),
            "value": value,
        }
        for key, run in newest.items()
        for name, value in sorted(run.data.metrics.items())
        if name.startswith(TEST)
    ]
    return pd.DataFrame(rows)


def _tag(run: Run, key: str) -> str:
    """A tag as a key of the table; the tracked ``none`` is the table's empty text."""
    value = str(run.data.tags.get(key, ""))
    return "" if value == "none" else value


def _finished(client: MlflowClient, experiment: str) -> list[Run]:
    found = client.get_experiment_by_name(experiment)
    if found is None:
        raise unknown("experiment", experiment, (e.name for e in client.search_experiments()))
    runs: list[Run] = []
    token: str | None = None
    while True:
        page = client.search_runs(
            [found.experiment_id], "attributes.status = 'FINISHED'", max_results=1000, page_token=token
        )
        runs += page
        token = page.token
        if not token:
            return runs
