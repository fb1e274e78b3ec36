"""What a Ray task takes of a cluster, and what it does on a node."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path

from medseg.errors import MedsegError
from medseg.study.folder import StudyFolder
from medseg.study.launch import LaunchOptions
from medseg.study.process import this_process
from medseg.study.worker import speak_to, work


@dataclass(frozen=True)
class Share:
    """What of a node one task takes: ``cpus`` whole ones, and ``gpus``, often a fraction of one."""

    cpus: int
    gpus: float = 0.0

    def fit(self, resources: dict[str, float]) -> int:
        """How many tasks these resources carry at once."""
        number = int(resources.get("CPU", 0) // self.cpus)
        return min(number, int(resources.get("GPU", 0) / self.gpus + 1e-3)) if self.gpus else number


def share_of(options: LaunchOptions, threads: int, resources: dict[str, float]) -> Share:
    """What one task takes of a cluster: ``threads`` CPUs, and its part of a GPU where there are any.

    Args:
        options: ``device`` and ``per_gpu`` count.
        threads: CPU threads of a run.
        resources: what the whole cluster has, as Ray tells it.

    Raises:
        MedsegError: a device is asked for that Ray does not have, or that only Ray can choose.
    """
    if options.device not in ("auto", "cpu", "cuda"):
        raise MedsegError(f"device {options.device!r}: Ray chooses the GPU itself; give auto, cpu or cuda")
    if options.per_gpu < 1:
        raise MedsegError(f"per_gpu is {options.per_gpu}; give 1 or more")
    gpus = resources.get("GPU", 0)
    if options.device == "cuda" and not gpus:
        raise MedsegError("device 'cuda': the Ray cluster has no GPU; give auto or cpu")
    if options.device == "cpu" or not gpus:
        return Share(threads)
    # Ray counts in ten-thousandths: three thirds must not be more than one
    return Share(threads, int(1e4 / options.per_gpu) / 1e4)


def run_one(root: str, key: str, on_gpu: bool, code: str) -> str:
    """Run one run in a worker process of Ray, if nobody else has it.

    Args:
        root: folder of the study, absolute.
        key: of the run.
        on_gpu: whether Ray lent a GPU.
        code: version of the code that the command has.

    Returns:
        What this node lacks for the study; empty if nothing.
    """
    folder = StudyFolder(Path(root))
    lacking = lacks(folder, code)
    if lacking:
        return lacking
    speak_to(folder.logs / f"{this_process().name}.log")
    work(folder.root, device=lent_gpu() if on_gpu else "cpu", only=key, limit=1)
    return ""


def lacks(folder: StudyFolder, code: str) -> str:
    """What this machine lacks for a study, in one line; empty if nothing."""
    from medseg.study.key import code_fingerprint

    host = socket.gethostname()
    if not folder.options_file.is_file():
        return (
            f"{folder.root} is not there on {host}: a study's folder must be on a disk that all nodes share"
        )
    prepared = Path(folder.read_options().prepared)
    if not prepared.is_dir():
        return f"{prepared} is not there on {host}: prepared data must be on a disk that all nodes share"
    own = code_fingerprint()
    if own != code:
        return f"medseg on {host} is another version (code {own}, not {code}); install the same on every node"
    return ""


def lent_gpu() -> str:
    """The GPU that Ray lent to this task, as torch counts them in this process."""
    import ray

    lent = str(ray.get_gpu_ids()[0])
    seen = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return f"cuda:{seen.index(lent) if lent in seen else lent}"
