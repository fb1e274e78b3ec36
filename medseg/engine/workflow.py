"""Runs a bundle through MONAI: train, evaluate, and keep the best repeat as the bundle's model."""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock

from medseg.bundle.open import Bundle
from medseg.bundle.settings import CLASS_KNOBS, SHARED_KNOBS
from medseg.bundle.verify import check_activation, references, walk
from medseg.engine.record import best_value, now, read_run
from medseg.errors import MedsegError, unknown
from medseg.models import check_pretrained
from medseg.results import atomic_write

log = logging.getLogger(__name__)

#: what a run cannot change of its bundle: names that mark leaks, and what prediction must repeat
FIXED = ("augment_name", "preprocess", "preprocess_arguments", *CLASS_KNOBS)
#: an evaluation or a resumed run loads its own weights, and needs neither hub nor file for those that it began with
TRAINED = {"pretrained": False}


@dataclass(frozen=True)
class Options:
    """Where a run finds its data and leaves its traces, and what it changes in the bundle's config.

    Args:
        data: folder of images in the data set's layout; None for where the index says.
        prepared: folder of indexes, splits and arrays.
        tracking_uri: MLflow store; empty for none.
        experiment: MLflow experiment.
        split: name of the split.
        repeat: which repeat of the split, from 0.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:1``.
        overrides: config key -> value, such as ``train::trainer::max_epochs`` -> 5.
        progress: show a bar.
    """

    data: Path | None = None
    prepared: Path = Path("prepared")
    tracking_uri: str = "sqlite:///mlruns/mlflow.db"
    experiment: str = "medseg"
    split: str = "holdout"
    repeat: int = 0
    device: str = "auto"
    overrides: dict[str, Any] = field(default_factory=dict)
    progress: bool = True

    def as_config(self, bundle: Bundle) -> dict[str, Any]:
        """The options as overrides of the bundle's config, the user's own last."""
        config: dict[str, Any] = {
            "bundle_root": str(bundle.root),
            "dataset_dir": str(self.data) if self.data else None,
            "prepared_dir": str(self.prepared),
            "tracking_uri": self.tracking_uri,
            "experiment": self.experiment,
            "split": self.split,
            "repeat": self.repeat,
            "progress": self.progress,
        }
        if self.device != "auto":
            config["device"] = f"$torch.device({self.device!r})"
        return {**config, **self.overrides}


def run(bundle: Bundle, options: Options, *, resume: bool = False, overwrite: bool = False) -> Path:
    """Train one repeat, evaluate it on the test part, and keep the bundle's best weights.

    Args:
        bundle: the bundle.
        options: data, tracking, device and overrides.
        resume: go on with an unfinished run; a finished one is left as it is.
        overwrite: throw away what there is of this repeat.

    Returns:
        The repeat's folder, with ``model.pt``, ``curves.csv``, ``cases.csv`` and ``cases.png``.

    Raises:
        MedsegError: a mistake in data, config or options, or there already is a run.
    """
    folder = bundle.run_folder(options.repeat, options.split)
    check_overrides(bundle, options.overrides)
    check_device(options.device)
    if overwrite and folder.exists():
        shutil.rmtree(folder)
    before = read_run(folder)
    done = (folder / "cases.csv").is_file()
    if done and not resume:
        raise MedsegError(f"{folder} is done; --overwrite trains it again, --repeat K another repeat")
    if before and not done and not resume:
        state = (
            f"a run that failed ({before['error']})"
            if before.get("status") == "failed"
            else "an unfinished run"
        )
        raise MedsegError(f"{folder} holds {state}; --resume goes on with it, --overwrite starts anew")
    if before.get("overrides", options.overrides) != options.overrides:
        raise MedsegError(
            f"{folder} was begun with other --set values ({_show(before['overrides'])}); use the same"
        )
    if done:
        return folder
    trained = best_value(before) is not None and (folder / "model.pt").is_file()
    if not trained:
        _remember(folder, before, options.overrides)
        # a checkpoint has all weights: those that the run began with need not be there any more
        going_on = TRAINED if resume and (folder / "resume.pt").is_file() else {}
        _guarded(bundle, folder, ("train",), {**options.as_config(bundle), **going_on, "resume": resume})
    _guarded(bundle, folder, ("train", "evaluate"), {**options.as_config(bundle), **TRAINED})
    return folder


def evaluate(bundle: Bundle, options: Options) -> Path:
    """Evaluate a trained repeat on the test part (again), with the overrides that it was trained with.

    Raises:
        MedsegError: the repeat is not trained, or a mistake in data, config or options.
    """
    folder = bundle.run_folder(options.repeat, options.split)
    check_overrides(bundle, options.overrides)
    check_device(options.device)
    if not (folder / "model.pt").is_file():
        raise MedsegError(
            f"{folder}: not trained yet (no model.pt); run 'medseg bundle run {bundle.name}' first"
        )
    trained_with = read_run(folder).get("overrides", {})
    config = {**options.as_config(bundle), **trained_with, **options.overrides, **TRAINED}
    _guarded(bundle, folder, ("train", "evaluate"), config)
    return folder


def _guarded(bundle: Bundle, folder: Path, configs: tuple[str, ...], overrides: dict[str, Any]) -> None:
    """Run configs; a failure is written to the record, and told in one line where it is the user's to mend."""
    try:
        _run_configs(bundle, configs, overrides)
    except Exception as error:
        _note_failure(folder, error)
        told = explain(error, bundle, configs)
        if told is None:
            raise
        raise told from error


def _run_configs(bundle: Bundle, configs: tuple[str, ...], overrides: dict[str, Any]) -> None:
    from monai.bundle import ConfigWorkflow

    # what these would say of a failure is said once, by the command line
    for name in ("monai.bundle.workflows", "ignite"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    paths = [str(bundle.config(name)) for name in configs]
    workflow = ConfigWorkflow(config_file=paths, workflow_type="train", logging_file=False, **overrides)
    workflow.initialize()
    workflow.run()
    workflow.finalize()


def _remember(folder: Path, before: dict[str, Any], overrides: dict[str, Any]) -> None:
    kept = {key: value for key, value in before.items() if key not in ("error", "ended")}
    with atomic_write(folder / "run.json") as file:
        json.dump({**kept, "status": "running", "overrides": overrides}, file, indent=2)


def _note_failure(folder: Path, error: Exception) -> None:
    """Keep the reason with the run; of a run that had not begun, keep nothing; one that is done stays done."""
    from medseg.bundle.verify import root_cause

    if (folder / "cases.csv").is_file():
        return
    content = read_run(folder)
    if "facts" in content:
        told = {**content, "status": "failed", "error": root_cause(error), "ended": now()}
        with atomic_write(folder / "run.json") as file:
            json.dump(told, file, indent=2)
    elif content:
        (folder / "run.json").unlink()
        with contextlib.suppress(OSError):  # other files are not ours to remove
            folder.rmdir()


def explain(error: BaseException, bundle: Bundle, configs: tuple[str, ...]) -> MedsegError | None:
    """The error for people, if some link of its chain is a mistake in input or config; else None.

    MONAI wraps what a component raises; the innermost reason is what helps, with the config's file and key.
    """
    from medseg.bundle.verify import root_cause

    chain = [error]
    while chain[-1].__cause__ is not None:
        chain.append(chain[-1].__cause__)
    for link in chain:
        if isinstance(link, MedsegError):
            return link
    text = str(chain[0])
    if (
        "Failed to instantiate" in text
        or "Failed to evaluate" in text
        or "Cannot locate" in text
        or "not defined" in text
    ):
        file, key = _where(bundle, configs, text)
        return MedsegError(
            f"{file}{f', key {key}' if key else ''}: {' '.join(text.split())[:300]} ({root_cause(error)})"
        )
    return None


def _where(bundle: Bundle, configs: tuple[str, ...], text: str) -> tuple[str, str | None]:
    """The config file and key whose value is named in an error's text."""
    for name in reversed(configs):
        for key, value in walk(bundle.read(name)):
            target = value.get("_target_") if isinstance(value, dict) else None
            quoted = isinstance(value, str) and (
                f'"{value}"' in text or any(f"@{r}`" in text for r in references(value))
            )
            if quoted or (isinstance(target, str) and f"'{target}'" in text):
                return f"{bundle.name}/configs/{name}.yaml", key
    return f"{bundle.name}/configs", None


def check_overrides(bundle: Bundle, overrides: dict[str, Any]) -> None:
    """Raise if a key to override is not in the bundle's training config, or makes it another experiment."""
    known = {key for name in ("train", "evaluate") for key, _ in walk(bundle.read(name)) if key}
    for key in overrides:
        if key not in known:
            raise unknown(f"config key in {bundle.name}/configs/train.yaml", key, _nearest(key, known))
    train = bundle.read("train")
    for key in FIXED:
        if key in overrides and overrides[key] != train.get(key):
            raise MedsegError(
                f"{key} of {bundle.name} is {train.get(key)!r}: its metadata, its model and inference.yaml go by that;"
                " compose another bundle for another one (medseg bundle create)"
            )
    if "loss_name" in overrides:
        check_activation(overrides["loss_name"], train)
    if {"pretrained", "pretrained_data"} & overrides.keys():
        # what the bundle's own weights were trained on says nothing of others
        start = {**train, "pretrained_data": "", **overrides}
        check_pretrained(start["model_name"], start["pretrained"], start["pretrained_data"] or "")


def _nearest(key: str, known: set[str]) -> list[str]:
    """The few known keys that look like the one asked for, so that the message stays short."""
    import difflib

    return difflib.get_close_matches(key, known, n=5, cutoff=0.3) or sorted(k for k in known if "::" not in k)


def check_device(device: str) -> None:
    """Raise if a device is asked for that this machine does not have."""
    import torch

    if device == "auto":
        return
    try:
        kind = torch.device(device)
    except RuntimeError:
        raise MedsegError(f"unknown device {device!r}: give auto, cpu, cuda or cuda:N") from None
    if kind.type == "cuda" and (kind.index or 0) >= torch.cuda.device_count():
        raise MedsegError(
            f"device {device!r} is not here: this machine has {torch.cuda.device_count()} CUDA GPU(s)"
        )


def release(root: str) -> None:
    """Copy the repeat with the best validation metric to ``models/model.pt``, and say in ``model.json`` which it was.

    Values of different metrics cannot be compared: of repeats that were run with another ``monitor`` those count whose
    metric most repeats have, of equally many that of the first.

    Args:
        root: the bundle's folder.
    """
    bundle = Bundle(Path(root))
    with releasing(bundle.root):
        runs = {name: read_run(bundle.root / "repeats" / name) for name in bundle.finished()}
        found = {name: best_value(run) for name, run in runs.items() if _fits(bundle, run)}
        known = {name: value for name, value in found.items() if value is not None}
        if not known:
            return
        usual = Counter(monitor for monitor, _ in known.values()).most_common(1)[0][0]
        best = max((name for name in known if known[name][0] == usual), key=lambda name: known[name][1])
        weights, released = bundle.root / "repeats" / best / "model.pt", bundle.root / "models" / "model.pt"
        if weights.is_file():
            with atomic_write(released, "wb") as file:
                file.write(weights.read_bytes())
        elif (
            released.is_file()
        ):  # the best one's weights were removed; what is there stays with what is said of it
            return
        keys = ("facts", "monitor", f"best_val_{usual}", "best_epoch", "test", "weights", "tags")
        kept = {key: runs[best].get(key) for key in keys} | {"monitor": usual}
        with atomic_write(bundle.root / "models" / "model.json") as file:
            json.dump({"repeat": best, **kept}, file, indent=2)


def releasing(root: Path) -> FileLock:
    """The lock under which one process at a time chooses a bundle's best repeat."""
    (root / "models").mkdir(exist_ok=True)
    return FileLock(root / "models" / ".lock")


def _fits(bundle: Bundle, run: dict[str, Any]) -> bool:
    """Whether a run kept the knobs that inference goes by; another one's weights would be used wrongly."""
    train, changed = bundle.read("train"), dict(run.get("overrides", {}))
    if isinstance(changed.get("image_size"), int):
        changed["image_size"] = [changed["image_size"]] * 2
    return all(changed[key] == train.get(key) for key in SHARED_KNOBS if key in changed)


def _show(values: dict[str, Any]) -> str:
    return ", ".join(f"{k}={v}" for k, v in values.items()) or "none"
