"""The results table of finished MLflow runs."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlparse
from urllib.request import url2pathname

from medseg.engine.tracking import TEST, UNITS, connect, sqlite_file
from medseg.errors import MedsegError, unknown
from medseg.metrics import BETTER
from medseg.ranking.table import normalise, together
from medseg.results import RUN_KEYS, read_cases

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

CASES = "cases.csv"
#: downloads at once
THREADS = 8


def from_mlflow(
    uri: str,
    experiment: str,
    metrics: Collection[str] = (),
    say: Callable[[str], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Read the test metrics of an experiment's finished runs: of every case if each run keeps its ``cases.csv``.

    Where one of them has none that can be read, the table holds the runs' means, ``test/<metric>``, keyed by their
    tags. Runs with the same tags (``RUN_KEYS``) are the same experiment run again: the newest finished one counts.

    Args:
        uri: MLflow tracking URI, such as ``sqlite:///mlruns/mlflow.db``.
        experiment: name of the experiment.
        metrics: read only these of the cases, if they are all there.
        say: is told, in one sentence, why there are means only.
        progress: is told how many files of how many are there.

    Raises:
        MedsegError: the server does not answer, or has no such experiment, or that has no finished, tested
            run.
    """
    from mlflow import MlflowException

    database = sqlite_file(uri)
    if database is not None and not database.is_file():
        raise MedsegError(f"{uri}: no such database; 'medseg bundle run' writes one")
    if Path(uri).is_file():
        raise MedsegError(f"{uri}: a database is named as sqlite:///{uri}")
    try:
        client = connect(uri)
        runs = _finished(client, experiment)
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
    source = f"{uri} {experiment}"
    with tempfile.TemporaryDirectory() as folder:
        try:
            files = _case_files(client, list(newest.values()), Path(folder), progress)
            return _with_sets(normalise(read_cases(files), source, metrics=metrics), newest, metrics)
        except MedsegError as error:
            if say:
                say(f"{source}: ranked by the means of runs, without their cases: {error}")
    return normalise(_rows(newest), source=source)


def _with_sets(
    cases: pd.DataFrame, newest: Mapping[tuple[str, ...], Run], metrics: Collection[str]
) -> pd.DataFrame:
    """The cases, and the tracked metrics that have no value for a case, such as an area under a curve."""
    present = set(cases["metric"])
    if metrics and set(metrics) <= present:
        return cases
    rows = _rows(newest)
    rows = rows[rows["metric"].isin(set(BETTER) - present)]
    if not len(rows):
        return cases
    table = together([cases, normalise(rows)])
    wanted = metrics and set(metrics) <= set(table["metric"])
    return table[table["metric"].isin(list(metrics))].reset_index(drop=True) if wanted else table


def _case_files(
    client: MlflowClient, runs: Sequence[Run], folder: Path, progress: Callable[[int, int], None] | None
) -> list[Path]:
    """Every run's table of cases: where it lies, or downloaded into a folder.

    Raises:
        MedsegError: a run has none.
    """
    files, done = [], 0
    with ThreadPoolExecutor(THREADS) as pool:
        for file in pool.map(lambda run: _case_file(client, run, folder), runs):
            files.append(file)
            done += 1
            if progress:
                progress(done, len(runs))
    lacking = [run.info.run_name for run, file in zip(runs, files, strict=True) if file is None]
    if lacking:
        raise MedsegError(f"{len(lacking)} of {len(runs)} runs have no {CASES}, first: {lacking[0]}")
    return [file for file in files if file is not None]


def _case_file(client: MlflowClient, run: Run, folder: Path) -> Path | None:
    place = urlparse(run.info.artifact_uri)
    if place.scheme in ("", "file"):
        file = Path(url2pathname(place.path)) / CASES
        return file if file.is_file() else None
    home = folder / run.info.run_id
    home.mkdir()
    try:
        return Path(client.download_artifacts(run.info.run_id, CASES, str(home)))
    except Exception:  # whatever the store's own library raises: the run's means are left
        return None


def _rows(newest: Mapping[tuple[str, ...], Run]) -> pd.DataFrame:
    import pandas as pd

    # the tracked names end in the unit: test/hd95_px
    units = {f"{TEST}{name}_{unit}": name for name, unit in UNITS.items()}
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
