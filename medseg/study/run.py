"""Running a study: checked, prepared and entered into its ledger once, then given to an engine."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from filelock import FileLock

from medseg.data.index import Progress
from medseg.errors import MedsegError, unknown
from medseg.results import atomic_write
from medseg.study.folder import StudyFolder, WorkOptions
from medseg.study.grid import cells, check
from medseg.study.launch import ENGINES, LaunchOptions, launch
from medseg.study.ledger import Entry, Ledger, Row
from medseg.study.prepare import Facts, prepare_all, told
from medseg.study.spec import Cell, Study

log = logging.getLogger(__name__)

#: what may become of results of another version of the code
CODE = ("", "keep", "rerun")


@dataclass(frozen=True)
class RunOptions:
    """Where a study finds its data and leaves its traces, and where it runs; nothing here changes a number.

    Args:
        studies: folder of studies; this one's is ``<studies>/<name>``.
        prepared: folder of indexes, splits and arrays.
        data: folders of images by data set, where they are not where the index says.
        tracking_uri: MLflow store or server; empty for none.
        engine: ``local``, ``ray`` or ``slurm``.
        launch: how many workers, and where.
        retry_failed: give failed runs their attempts back.
        code: ``keep`` results of another version of the code, or ``rerun`` them; empty to stop and ask.
        quiet: say only what went wrong.
    """

    studies: Path = Path("studies")
    prepared: Path = Path("prepared")
    data: Mapping[str, Path] = field(default_factory=dict)
    tracking_uri: str = "sqlite:///mlruns/mlflow.db"
    engine: str = "local"
    launch: LaunchOptions = field(default_factory=LaunchOptions)
    retry_failed: bool = False
    code: str = ""
    quiet: bool = False


def run_study(study: Study, options: RunOptions) -> StudyFolder:
    """Run what is left to do of a study.

    Args:
        study: the study.
        options: data, tracking, engine.

    Returns:
        The study's folder; ``medseg.study.table`` reads its results, its ledger says what became of each run.

    Raises:
        MedsegError: an impossible cell, a data set that cannot be prepared, or results of another version of the
            code and no word on them; all before the first run.
    """
    from medseg.study.watch import Watch

    if options.engine not in ENGINES:
        raise unknown("engine", options.engine, ENGINES)
    for name in options.data:
        if name not in study.axes["dataset"]:
            raise unknown("data set of the study", name, study.axes["dataset"])
    planned = cells(study)
    check(planned, options.prepared, study.split)
    folder = StudyFolder((options.studies / study.name).resolve())
    facts = prepare_all(planned, study.split, options.prepared, options.data, _progress(options.quiet))
    try:
        ledger = enter(folder, study, planned, facts, options)
    except OSError as error:
        raise MedsegError(told(error)) from error
    make_experiment(folder.read_options())
    with Watch(ledger, quiet=options.quiet) as watch:
        launch(
            options.engine, folder, replace(options.launch, threads=study.threads, quiet=options.quiet), watch
        )
    return folder


def enter(
    folder: StudyFolder,
    study: Study,
    planned: Sequence[Cell],
    facts: Mapping[str, Facts],
    options: RunOptions,
) -> Ledger:
    """Write the study's plan and options where workers find them; two commands at once do so in turn.

    Raises:
        MedsegError: results of another version of the code and no word on them, or a run that is no longer
            planned goes on.
    """
    ledger = Ledger(folder.ledger)
    work = WorkOptions(
        prepared=str(options.prepared.resolve()),
        data={name: str(path.resolve()) for name, path in options.data.items()},
        tracking_uri=absolute_uri(options.tracking_uri),
        experiment=study.name,
        threads=study.threads,
        retries=study.retries,
        keep_weights=study.keep_weights,
    )
    folder.root.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.lock):
        entries = entries_of(study, planned, facts, folder, ledger, options.code)
        ledger.take_back(lambda row: _epochs(folder, row), retries=study.retries)
        changes = ledger.enter(entries, lambda entry: _has_results(folder, entry))
        if options.retry_failed:
            ledger.retry_failed()
        folder.write_options(work)
        with atomic_write(folder.study_file) as file:
            file.write(study.text)
    if changes["superseded"] and not options.quiet:
        log.warning(
            "%d runs in %s are of other settings, data or code than the study has now, or no longer in it. Their"
            " results stay, and count again when they are.",
            changes["superseded"],
            folder.root,
        )
    return ledger


def _epochs(folder: StudyFolder, row: Row) -> int:
    from medseg.study.worker import epochs

    return epochs(folder, row)


def entries_of(
    study: Study,
    planned: Sequence[Cell],
    facts: Mapping[str, Facts],
    folder: StudyFolder,
    ledger: Ledger,
    code: str = "",
) -> list[Entry]:
    """The runs with their keys; those whose results of other code are kept have the keys of these.

    Raises:
        MedsegError: runs are done by another version of the code, and ``code`` does not say what becomes of them.
    """
    from medseg.study.attempt import has_results
    from medseg.study.key import code_fingerprint

    if code not in CODE:
        raise unknown("choice of code", code, CODE[1:])
    now = code_fingerprint()
    entries = [_entry(cell, study.split, facts[cell.choice.dataset], now) for cell in planned]
    bases = {entry.base: place for place, entry in enumerate(entries)}
    older = [row for row in ledger.rows(state="done") if row.code != now and row.base in bases]
    older = [row for row in older if has_results(_place(folder, row), row.key)]
    if older and not code:
        raise MedsegError(_other_code(study, older, now))
    for row in older if code == "keep" else ():
        entries[bases[row.base]] = replace(entries[bases[row.base]], key=row.key, code=row.code)
    return entries


def _has_results(folder: StudyFolder, entry: Entry) -> bool:
    from medseg.study.attempt import has_results

    return has_results(folder.run_folder(entry.cell.choice.name, entry.cell.repeat, entry.split), entry.key)


def _entry(cell: Cell, split: str, facts: Facts, code: str) -> Entry:
    from medseg.study.key import run_key, split_fingerprint, weights_of

    parts = {
        "index_fingerprint": facts.index,
        "split_fingerprint": split_fingerprint(facts.splits, cell.repeat),
        "weights": weights_of(cell.choice, cell.settings),
        "split": split,
    }
    return Entry(run_key(cell, code=code, **parts), run_key(cell, code="", **parts), code, cell, split)


def _place(folder: StudyFolder, row: Row) -> Path:
    return folder.run_folder(row.name.rpartition("/")[0], row.repeat, row.split)


def _other_code(study: Study, older: Sequence[Row], now: str) -> str:
    versions = ", ".join(sorted({row.code for row in older}))
    return (
        f"{study.name}: {len(older)} done runs are of another version of medseg's code ({versions}; now it is {now}):"
        " --code keep leaves them as they are, --code rerun runs them again"
    )


def absolute_uri(uri: str) -> str:
    """A tracking URI that means the same in every folder.

    >>> absolute_uri("http://localhost:5000"), absolute_uri("")
    ('http://localhost:5000', '')
    """
    from medseg.engine.tracking import sqlite_file

    database = sqlite_file(uri)
    return f"sqlite:///{database.resolve()}" if database is not None else uri


def make_experiment(options: WorkOptions) -> None:
    """Make schema and experiment before workers start, who would get in each other's way; a warning if it fails."""
    from medseg.engine import tracking

    if not options.tracking_uri:
        return
    try:
        client = tracking.connect(options.tracking_uri)
        tracking.experiment_id(client, options.tracking_uri, options.experiment)
    except Exception as error:  # whatever a store or the network throws must not keep a study from running
        reason = " ".join(str(error).split())[:120]
        log.warning(
            "MLflow at %s cannot be reached (%s). The study runs; 'medseg bundle sync --bundles' on its bundles"
            " sends the results later.",
            options.tracking_uri,
            reason,
        )


def _progress(quiet: bool) -> Callable[[str], Progress | None]:
    from medseg.engine.progress import FileCount

    return lambda title: FileCount(title, not quiet)
