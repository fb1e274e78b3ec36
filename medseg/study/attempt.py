"""One attempt at a run: its bundle and folder made fit, the run itself, and its weights kept or not."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from medseg.data.documents import digest
from medseg.results import atomic_write
from medseg.study.entry import Claim
from medseg.study.folder import StudyFolder, WorkOptions

if TYPE_CHECKING:
    from medseg.bundle.open import Bundle

#: what says of a bundle or of a repeat which settings or which run it is of
MARKER = "study.json"


def attempt(folder: StudyFolder, options: WorkOptions, claim: Claim, device: str = "auto") -> Path:
    """Run what was claimed, or what is left of it to do.

    Args:
        folder: the study's.
        options: the study's.
        claim: held by the caller, so that nobody else touches the run's folder.
        device: where to train.

    Returns:
        The run's folder, with ``cases.csv``.

    Raises:
        Exception: whatever ends a training.
    """
    from medseg.engine import workflow

    place = folder.run_folder(claim.cell.choice.name, claim.cell.repeat, claim.split)
    bundle = fit_bundle(folder, claim, Path(options.prepared))
    fit_repeat(folder, place, claim.key)
    done = (place / "cases.csv").is_file()
    run_options = workflow.Options(
        data=Path(options.data[claim.cell.choice.dataset])
        if claim.cell.choice.dataset in options.data
        else None,
        prepared=Path(options.prepared),
        tracking_uri=options.tracking_uri,
        experiment=options.experiment,
        split=claim.split,
        repeat=claim.cell.repeat,
        device=device,
        progress=False,
    )
    with _same_path():
        workflow.run(bundle, run_options, resume=True)
    if done:
        _catch_up(bundle, place, options.tracking_uri)
    keep_weights(bundle, options.keep_weights)
    return place


@contextlib.contextmanager
def _same_path() -> Iterator[None]:
    """Leave ``sys.path`` as it was: MONAI puts every bundle that it runs there."""
    before = list(sys.path)
    try:
        yield
    finally:
        sys.path[:] = before


def fit_bundle(folder: StudyFolder, claim: Claim, prepared: Path) -> Bundle:
    """The bundle of a run, composed if it is missing; one of other settings is moved away first, never deleted.

    One that was moved away comes back, with its repeats, when the study has its settings again. Workers that want
    the same bundle at once wait for one another.
    """
    from medseg.bundle.open import Bundle, is_bundle

    choice, settings = claim.cell.choice, claim.cell.settings
    root = folder.bundles / choice.name
    wanted = {"settings": digest([asdict(choice), asdict(settings)]), "code": claim.code}
    folder.bundles.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.bundles / ".lock"):
        found = _read(root / MARKER)
        if is_bundle(root) and found == wanted:
            return Bundle(root.resolve())
        for stale in folder.bundles.glob(
            f".{choice.name}.*"
        ):  # of a worker that was killed: the lock is ours now
            shutil.rmtree(stale, ignore_errors=True)
        if root.exists() and found.get("settings") != wanted["settings"]:
            root.rename(free_name(folder.superseded, root.name))
        if not root.exists():
            found = _bring_back(folder, root, wanted["settings"])
        if not is_bundle(root) or found != wanted:
            _compose(folder, claim, root, prepared)
            _write(root / MARKER, wanted)
    return Bundle(root.resolve())


def _bring_back(folder: StudyFolder, root: Path, settings: str) -> dict[str, Any]:
    """Put the bundle of these settings that was moved away back in its place; its marker, if there is one."""
    for old in folder.superseded.glob(f"{root.name}-*"):
        found = _read(old / MARKER)
        if found.get("settings") == settings:
            old.rename(root)
            return found
    return {}


def _compose(folder: StudyFolder, claim: Claim, root: Path, prepared: Path) -> None:
    """Compose a bundle; where it is already there, only its configs, and the older ones are kept."""
    from medseg.bundle.compose import compose

    if root.exists():
        _recompose(folder, claim, root, prepared)
    else:
        compose(claim.cell.choice, folder.bundles, claim.cell.settings, prepared=prepared)


def _recompose(folder: StudyFolder, claim: Claim, root: Path, prepared: Path) -> None:
    """Put the configs of the code as it is now in place of older ones, which are kept; repeats stay."""
    from medseg.bundle.compose import compose

    fresh = folder.bundles / f".{root.name}.fresh"
    compose(claim.cell.choice, fresh, claim.cell.settings, prepared=prepared)
    if (root / "configs").exists():
        old = free_name(folder.superseded, root.name)
        old.mkdir(parents=True)
        (root / "configs").rename(old / "configs")
    (fresh / root.name / "configs").rename(root / "configs")
    shutil.rmtree(fresh)


def fit_repeat(folder: StudyFolder, place: Path, key: str) -> None:
    """Make a repeat's folder this run's: one of another key is moved away, half-written files are removed.

    If the run's own folder was moved away once, it comes back.
    """
    if _read(place / MARKER).get("key") != key:
        folder.bundles.mkdir(parents=True, exist_ok=True)
        with FileLock(
            folder.bundles / ".lock"
        ):  # others may move other repeats of the bundle at the same time
            _exchange(folder, place, key)
    for stale in place.glob(".*"):  # of a worker that was killed: the claim is ours now
        if stale.is_file():
            stale.unlink(missing_ok=True)
    if not (place / MARKER).is_file():
        _write(place / MARKER, {"key": key})


def _exchange(folder: StudyFolder, place: Path, key: str) -> None:
    """Move a repeat of another run away, and this run's own one back if it was moved away once."""
    bundle = place.parents[1].name
    if place.exists():
        old = free_name(folder.superseded, bundle) / place.parent.name / place.name
        old.parent.mkdir(parents=True)
        place.rename(old)
    for moved in folder.superseded.glob(f"{bundle}-*"):
        old = moved / place.parent.name / place.name
        if _read(old / MARKER).get("key") == key:
            place.parent.mkdir(parents=True, exist_ok=True)
            old.rename(place)
            with contextlib.suppress(OSError):  # whatever else is there stays
                old.parent.rmdir()
                moved.rmdir()
            return


def has_results(place: Path, key: str) -> bool:
    """Whether a repeat's folder holds the results of the run with that key."""
    return (place / "cases.csv").is_file() and _read(place / MARKER).get("key") == key


def epochs_of(place: Path) -> int:
    """How many epochs of a run are on disk."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        last = (place / "curves.csv").read_text(encoding="utf-8").splitlines()[1:][-1]
        return int(float(last.split(",")[0]))
    return 0


def free_name(folder: Path, name: str) -> Path:
    """The first of ``<name>-1``, ``<name>-2``, ... that is not there; its folder is made."""
    folder.mkdir(parents=True, exist_ok=True)
    number = 1
    while (folder / f"{name}-{number}").exists():
        number += 1
    return folder / f"{name}-{number}"


def _catch_up(bundle: Bundle, place: Path, tracking_uri: str) -> None:
    """Do what a worker had not done that was killed just after it wrote the results."""
    from medseg.engine import tracking, workflow

    workflow.release(str(bundle.root))
    if tracking_uri:
        try:
            tracking.send(place, tracking_uri)
        except Exception as error:  # a store that is away costs a line, not a run
            print(f"MLflow cannot be reached ({' '.join(str(error).split())[:120]})", file=sys.stderr)


def keep_weights(bundle: Bundle, which: str) -> None:
    """Remove the weights of finished repeats that are not to be kept.

    Args:
        bundle: the bundle.
        which: ``all`` stay; only those of the ``best`` repeat; ``none``.
    """
    if which == "all":
        return
    from medseg.engine.workflow import releasing

    with releasing(bundle.root):
        best = _read(bundle.root / "models" / "model.json").get("repeat")
        for name in bundle.finished():
            if which == "none" or name != best:
                (bundle.root / "repeats" / name / "model.pt").unlink(missing_ok=True)
        if which == "none":
            (bundle.root / "models" / "model.pt").unlink(missing_ok=True)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _write(path: Path, content: dict[str, Any]) -> None:
    with atomic_write(path) as file:
        json.dump(content, file)
        file.write("\n")
