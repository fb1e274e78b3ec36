"""What a study would do: its runs, what is done of them, and what the others will take."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from medseg.data.index_file import index_path, read_index
from medseg.data.splits_file import Splits, read_splits, split_path
from medseg.errors import MedsegError
from medseg.results import atomic_write
from medseg.study.amounts import duration, size
from medseg.study.cost import START, Costs, Estimate, like
from medseg.study.folder import StudyFolder
from medseg.study.grid import cells as all_cells
from medseg.study.grid import check, counted
from medseg.study.key import code_fingerprint, run_key, split_fingerprint, weights_of
from medseg.study.ledger import Ledger
from medseg.study.probe import LIMIT, ProbeCache
from medseg.study.spec import AXES, Cell, Study
from medseg.study.status import EXPECTED

if TYPE_CHECKING:
    import pandas as pd

#: states of a planned run: those of the ledger, and ``changed`` for one whose settings or data are others now
LEFT = ("waiting", "running", "failed", "changed")


@dataclass(frozen=True)
class Plan:
    """The runs of a study and what they will take.

    Args:
        study: the study.
        cells: its runs, in order.
        states: name of a run -> ``waiting running done failed changed``.
        estimates: name of a run -> what it will take.
        workers: how many run at once.
        device: where.
        arrays: bytes of prepared arrays.
        weights: bytes of weights and checkpoints.
        notes: what the numbers rest on, and what is missing, one sentence each.
    """

    study: Study
    cells: list[Cell]
    states: dict[str, str]
    estimates: dict[str, Estimate] = field(repr=False)
    workers: int
    device: str
    arrays: int
    weights: int
    notes: tuple[str, ...] = ()

    @property
    def left(self) -> list[Cell]:
        """The runs that are still to be done."""
        return [cell for cell in self.cells if self.states[cell.name] in LEFT]

    @property
    def work(self) -> float:
        """Seconds of workers that the runs left will take, at most, as far as that is known."""
        return sum(self.estimates[cell.name].seconds or 0.0 for cell in self.left)

    @property
    def wall(self) -> float:
        """Seconds until all is done, at most: the work shared out, never less than the longest run, and the start."""
        if not self.left:
            return 0.0
        longest = max(self.estimates[cell.name].seconds or 0.0 for cell in self.left)
        return START + max(self.work / self.workers, longest)

    def runs(self) -> pd.DataFrame:
        """One row per run: its keys, state, seconds and what they are from."""
        import pandas as pd

        rows = []
        for cell in self.cells:
            of = self.estimates[cell.name]
            facts = {**cell.choice.facts(), "split": self.study.split, "repeat": cell.repeat}
            rows.append({"run": cell.name, **facts, "state": self.states[cell.name]})
            rows[-1] |= {"seconds": of.seconds, "memory": of.memory or None, "basis": of.basis}
        return pd.DataFrame(rows)

    def axes(self) -> pd.DataFrame:
        """One row per axis: its levels with the runs of each."""
        import pandas as pd

        rows = []
        for axis in AXES:
            levels = counted(self.cells, axis)
            told = ", ".join(f"{level} ({number})" for level, number in levels.items())
            rows.append({"axis": axis, "levels": len(levels), "runs of each": told})
        return pd.DataFrame(rows)

    def models(self) -> pd.DataFrame:
        """One row per model, and one for all: runs, what is left, and what it will take."""
        import pandas as pd

        rows = [
            self._row(m, [c for c in self.cells if c.choice.model == m]) for m in counted(self.cells, "model")
        ]
        return pd.DataFrame([*rows, self._row("all", self.cells)])

    def _row(self, name: str, cells: Sequence[Cell]) -> dict[str, object]:
        left = [cell for cell in cells if self.states[cell.name] in LEFT]
        of = [self.estimates[cell.name] for cell in left or cells]
        known = [e.seconds for e in of if e.seconds is not None]
        work = None if left and len(known) < len(of) else (sum(known) if left else 0.0)
        bases = dict.fromkeys("finished runs" if "finished" in e.basis else e.basis for e in of)
        return {
            "model": name,
            "runs": len(cells),
            "left": len(left),
            "seconds of a run": round(sum(known) / len(known), 1) if known else None,
            "hours left": None if work is None else round(work / 3600, 2),
            "memory": max((e.memory for e in of), default=0) or None,
            "GPU memory": max((e.gpu_memory for e in of), default=0) or None,
            "basis": ", ".join(bases),
        }

    def words(self) -> list[str]:
        """The whole in a few sentences."""
        counts = Counter(self.states.values())
        states = ", ".join(f"{counts[state]} {state}" for state in ("done", *LEFT) if counts[state])
        lines = [f"{len(self.cells)} runs: {states}"]
        if self.left:
            unknown = sum(self.estimates[cell.name].seconds is None for cell in self.left)
            lines += self._costs() if unknown < len(self.left) else ["time: nothing to estimate it from"]
            lines += [
                f"disk: {size(self.arrays)} of prepared arrays, {size(self.weights)} of weights and checkpoints",
                "these are estimates",
            ]
            lines += (
                [f"without {unknown} runs that nothing is known of"] if 0 < unknown < len(self.left) else []
            )
        return [*lines, *self.notes]

    def _costs(self) -> list[str]:
        of = [self.estimates[cell.name] for cell in self.left]
        kind = "GPU" if self.device.startswith("cuda") else "CPU core"
        units = self.work / 3600 * (1 if kind == "GPU" else self.study.threads)
        each = max(e.memory for e in of)
        gpu = max(e.gpu_memory for e in of)
        together = size(each * min(self.workers, len(of)))
        told = (
            f"memory: up to {size(each)} a run, {together} for all workers"
            if each
            else "memory: not measured"
        )
        return [
            f"time: at most {duration(self.wall)} with {self.workers} worker{'s'[: self.workers > 1]} on {self.device}"
            f" ({units:.3g} {kind}-hours); early stopping makes it less",
            told + (f", {size(gpu)} of the GPU a run" if gpu else ""),
        ]


def make_plan(
    study: Study,
    prepared: Path,
    folder: StudyFolder,
    *,
    device: str = "auto",
    workers: int | None = None,
    probing: bool = True,
    keep: bool = True,
    limit: float = LIMIT,
    progress: Callable[[int, int], None] | None = None,
) -> Plan:
    """List the runs of a study, look up what is done, and estimate the rest.

    Args:
        study: the study.
        prepared: folder of indexes and splits.
        folder: the study's; measurements and estimates are kept there, and nothing else is changed.
        device: where runs will go.
        workers: how many at once; as many as the machine takes if not given.
        probing: measure models that no finished run tells of.
        keep: leave the estimates in the folder, for ``medseg study status``.
        limit: seconds for the steps of one model.
        progress: told how many models are measured.

    Raises:
        MedsegError: a run is impossible.
    """
    cells = all_cells(study)
    check(cells, prepared, study.split)
    device, code = chosen_device(device), code_fingerprint()
    ledger = Ledger(folder.ledger)
    states, finished, notes = _look_up(cells, ledger, study.split, prepared, code)
    costs = Costs(prepared, study.split, device, study.threads, code, finished=finished)
    left = [cell for cell in cells if states[cell.name] in LEFT]
    cache = ProbeCache(folder.root / "probe.json")
    costs.measured = cache.read()
    if probing:
        wanted = costs.setups(cell for cell in left if like(cell) not in finished)
        costs.measured |= cache.measured(wanted, device, study.threads, code, limit, progress)
    estimates = {cell.name: costs.estimate(cell) for cell in cells}
    workers = workers or usual_workers(device, study.threads)
    arrays, weights = costs.arrays(cells), costs.weights(cells, study.keep_weights, workers)
    notes += _notes(costs, left, estimates)
    if keep:
        _keep(folder, estimates)
    return Plan(study, cells, states, estimates, workers, device, arrays, weights, tuple(notes))


def _look_up(
    cells: Sequence[Cell], ledger: Ledger, split: str, prepared: Path, code: str
) -> tuple[dict[str, str], dict[tuple[str, ...], list[float]], list[str]]:
    """State of every run, seconds of finished ones by what they are like, and notes."""
    rows = {row.name: row for row in ledger.rows() if row.split == split}
    known, bases = ledger.cells(), _bases(cells, split, prepared)
    states: dict[str, str] = {}
    finished: dict[tuple[str, ...], list[float]] = {}
    older = 0
    for cell in cells:
        row = rows.get(cell.name)
        same = row is not None and row.base == bases.get(cell.name, row.base)
        same = same and row is not None and known[row.key].settings == cell.settings
        states[cell.name] = "waiting" if row is None else row.state if same else "changed"
        if row is not None and states[cell.name] == "done":
            finished.setdefault(like(cell), []).append(row.seconds)
            older += row.code != code
    dropped = len(rows.keys() - states.keys())
    notes = [f"{older} done runs are of another version of the code; see --code"] if older else []
    notes += [f"{dropped} runs in the ledger are no longer of the study"] if dropped else []
    return states, finished, notes


def _bases(cells: Sequence[Cell], split: str, prepared: Path) -> dict[str, str]:
    """The keys of runs less the code, of those data sets whose index and split are made."""
    facts: dict[str, tuple[str, Splits]] = {}
    for dataset in {cell.choice.dataset for cell in cells}:
        files = index_path(dataset, prepared), split_path(dataset, prepared, split)
        if all(file.is_file() for file in files):
            facts[dataset] = read_index(files[0]).fingerprint, read_splits(files[1])
    bases = {}
    for cell in cells:
        if cell.choice.dataset in facts:
            index, splits = facts[cell.choice.dataset]
            bases[cell.name] = run_key(
                cell,
                index_fingerprint=index,
                split_fingerprint=split_fingerprint(splits, cell.repeat),
                weights=weights_of(cell.choice, cell.settings),
                code="",
                split=split,
            )
    return bases


def _keep(folder: StudyFolder, estimates: dict[str, Estimate]) -> None:
    """Keep what is expected of each run, for ``medseg study status``."""
    known = {name: round(of.seconds, 3) for name, of in estimates.items() if of.seconds is not None}
    with contextlib.suppress(OSError), atomic_write(folder.root / EXPECTED) as file:
        json.dump(known, file)


def _notes(costs: Costs, left: Sequence[Cell], estimates: dict[str, Estimate]) -> list[str]:
    """Where numbers of images are from, and which models could not be measured."""
    parts = {cell.choice.dataset: costs.images(cell.choice.dataset, cell.repeat) for cell in left}
    words = {
        "index": "shares of the indexed images, as the split is not made yet",
        "published": "shares of the published number of images, as they are not indexed yet",
    }
    notes = []
    for basis, told in words.items():
        of = [name for name, images in parts.items() if images and images.basis == basis]
        notes += [f"{', '.join(of)}: {told}"] if of else []
    faults: dict[str, str] = {}
    for cell in left:
        if estimates[cell.name].fault:
            faults.setdefault(cell.choice.model, estimates[cell.name].fault)
    return notes + [f"{model}: its probe failed: {fault}" for model, fault in faults.items()]


def chosen_device(device: str) -> str:
    """The device that ``auto`` stands for.

    Raises:
        MedsegError: there is no such kind of device.
    """
    if re.fullmatch(r"cpu|cuda(:\d+)?", device):
        return device
    if device != "auto":
        raise MedsegError(f"unknown device {device!r}: give auto, cpu, cuda or cuda:N")
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def usual_workers(device: str, threads: int, per_gpu: int = 1) -> int:
    """How many runs this machine takes at once: so many per GPU, or as many as it has cores for."""
    if device == "cuda":
        import torch

        return max(1, torch.cuda.device_count() * per_gpu)
    if device != "cpu":
        return per_gpu
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // threads)
