"""Engines: where the workers of a study run. Each starts ``medseg.study.worker.work`` and decides nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module

from medseg.errors import unknown
from medseg.study.folder import StudyFolder

#: name -> module with ``launch(folder, options, watch)``
ENGINES = {
    "local": "medseg.study.launch.local",
    "ray": "medseg.study.launch.ray",
    "slurm": "medseg.study.launch.slurm",
}


@dataclass(frozen=True)
class LaunchOptions:
    """Where and how many workers run; nothing here changes a number.

    Args:
        workers: how many at once; None for as many as the machine or cluster takes.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:1``.
        per_gpu: runs that share one GPU.
        threads: CPU threads of one run, from the study.
        quiet: say only what went wrong.
        address: of a Ray cluster; empty for one on this machine.
        partition: Slurm's.
        account: Slurm's.
        time: at most so long for one Slurm job, such as ``12:00:00`` or minutes.
        mem: memory of one Slurm job, such as ``16G``.
        gpus: GPUs of one Slurm job; None for one where ``device`` is not ``cpu``.
        cpus: CPUs of one Slurm job; None for ``threads``.
        wait: return from a Slurm submission only when nothing is left.
        slurm: further options of sbatch by name.
    """

    workers: int | None = None
    device: str = "auto"
    per_gpu: int = 1
    threads: int = 1
    quiet: bool = False
    address: str = ""
    partition: str = ""
    account: str = ""
    time: str = ""
    mem: str = ""
    gpus: int | None = None
    cpus: int | None = None
    wait: bool = False
    slurm: dict[str, str] = field(default_factory=dict)


def launch(engine: str, folder: StudyFolder, options: LaunchOptions, watch: Callable[[], None]) -> None:
    """Run a study's workers until nothing is left to claim or to wait for.

    Args:
        engine: one of ``ENGINES``.
        folder: the study's, with its ledger filled.
        options: how many workers, and where.
        watch: called every second or so while runs go on, to show progress.

    Raises:
        MedsegError: the engine is unknown, or what it needs is missing.
    """
    if engine not in ENGINES:
        raise unknown("engine", engine, ENGINES)
    import_module(ENGINES[engine]).launch(folder, options, watch)
