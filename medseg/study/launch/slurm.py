"""The Slurm engine: an array of jobs through submitit, each of which is a local engine on its node."""

from __future__ import annotations

import logging
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.errors import MedsegError, unknown
from medseg.study.folder import StudyFolder
from medseg.study.launch import LaunchOptions
from medseg.study.ledger import Ledger

if TYPE_CHECKING:
    from submitit import Job
    from submitit.helpers import DelayedSubmission

    from medseg.study.launch.local import Crew

#: minutes of a job where no time is given; a run that is cut off goes on in the next job
TIME = 12 * 60
#: how often a job may run into its time limit and be queued again
TIMEOUTS = 100
#: seconds before the time limit at which Slurm warns a job, which then gives its runs back
WARNING = 120
#: jobs in an array where no number is given
MOST = 256
#: seconds between two looks at the ledger
LOOK = 1.0
#: seconds between two questions to Slurm
ASK = 60.0
#: what submitit knows besides Slurm itself: in processes of this machine, or in this process
CLUSTERS = ("slurm", "local", "debug")
#: Slurm's forms of a time: minutes, minutes:seconds, hours:minutes:seconds, and days before hours
TIMES = re.compile(r"(?:(\d+)-(\d+)(?::(\d+))?(?::(\d+))?|(\d+)|(\d+):(\d+)|(\d+):(\d+):(\d+))")


def launch(folder: StudyFolder, options: LaunchOptions, watch: Callable[[], None]) -> None:
    """Submit jobs that run a study until nothing is left to claim.

    A job that is preempted or runs out of time gives its runs back and is queued again; another job may go on
    with them at once. This returns when the jobs are submitted, or, with ``wait``, when none of them is left.

    Raises:
        MedsegError: submitit or Slurm is missing, an option is none, Slurm refuses, or jobs ended that left runs.
    """
    if not _left(Ledger(folder.ledger)):
        return
    jobs = submit(folder, options)
    if not options.wait:
        if not options.quiet:
            print(told(folder, jobs), file=sys.stderr)
        return
    _wait(folder, jobs, watch)


def _wait(folder: StudyFolder, jobs: Sequence[Job[int]], watch: Callable[[], None]) -> None:
    """Wait until no run is left; or no job, which only Slurm's accounting knows, and is asked now and then."""
    ledger, asked = Ledger(folder.ledger), time.monotonic()
    while left := _left(ledger):
        watch()
        time.sleep(LOOK)
        if all(job.paths.result_pickle.exists() for job in jobs) or time.monotonic() - asked > ASK:
            asked = time.monotonic()
            left = _left(ledger)
            if left and all(job.done() for job in jobs):
                raise MedsegError(
                    f"{folder.name}: the Slurm jobs ended and {left} runs are left; see {_logs(folder)}, then start"
                    " the study again"
                )
    watch()


def _left(ledger: Ledger) -> int:
    counts = ledger.counts()
    return counts["waiting"] + counts["running"]


def told(folder: StudyFolder, jobs: Sequence[Job[int]]) -> str:
    """What was submitted and how to follow it, in one line."""
    number = f"{len(jobs)} workers" if len(jobs) > 1 else "1 worker"
    return (
        f"submitted Slurm job {jobs[0].job_id.partition('_')[0]} with {number}; 'medseg study status {folder.root}'"
        f" says how it goes, logs are in {_logs(folder)}"
    )


def submit(folder: StudyFolder, options: LaunchOptions) -> list[Job[int]]:
    """Submit the jobs of a study: one array of ``workers``, no more than waiting runs need.

    Raises:
        MedsegError: as in ``launch``.
    """
    made, runs = executor(folder, options), runs_of(options)
    waiting = Ledger(folder.ledger).counts()["waiting"]
    number = min(options.workers or MOST, max(1, -(-waiting // runs)))
    worker = Worker(folder.root, options.device, runs)
    try:
        with made.batch():
            jobs = [made.submit(worker) for _ in range(number)]
    except Exception as error:  # whatever sbatch says
        reason = " ".join(str(error).split())[-300:]
        raise MedsegError(f"Slurm refused the jobs ({reason})") from error
    return jobs


def executor(folder: StudyFolder, options: LaunchOptions) -> Any:
    """submitit's executor with a study's options.

    Raises:
        MedsegError: submitit or Slurm is missing, or an option is none.
    """
    try:
        import submitit
    except ImportError:
        raise MedsegError("the engine slurm needs submitit: pip install 'medseg[slurm]'") from None
    cluster = options.slurm.get("cluster", "slurm")
    if cluster not in CLUSTERS:
        raise unknown("cluster", cluster, CLUSTERS)
    if cluster == "slurm" and not (shutil.which("sbatch") and shutil.which("srun")):
        raise MedsegError(
            "the engine slurm needs Slurm's commands sbatch and srun on this machine, which are not there: start the"
            " study on a login node, or use --engine local"
        )
    logging.getLogger("submitit").setLevel(logging.ERROR)
    made = submitit.AutoExecutor(_logs(folder), cluster, slurm_max_num_timeout=TIMEOUTS)
    made.update_parameters(**parameters(folder, options))
    return made


def parameters(folder: StudyFolder, options: LaunchOptions) -> dict[str, Any]:
    """The options as submitit calls them; what it does not know goes to sbatch as it is.

    Raises:
        MedsegError: an option is none.
    """
    from submitit import SlurmExecutor

    gpus = _gpus(options)
    minutes = minutes_of(options.time) if options.time else TIME
    values: dict[str, Any] = {
        "name": f"medseg-{folder.name}",
        "timeout_min": minutes,
        "cpus_per_task": options.cpus or options.threads * runs_of(options),
        "gpus_per_node": gpus or None,
        "slurm_partition": options.partition or None,
        "slurm_account": options.account or None,
        "slurm_mem": options.mem or None,
        # the warning must come within the job's life
        "slurm_signal_delay_s": min(WARNING, 30 * minutes),
    }
    plain: dict[str, Any] = {"requeue": True}
    known = SlurmExecutor._valid_parameters() - {"additional_parameters"}
    for name, value in options.slurm.items():
        key = name.strip().lstrip("-").replace("-", "_")
        if key == "cluster":
            continue
        if key in ("time", "job_name"):
            raise MedsegError(f"--slurm {name}: use --time for the time; a job is named after its study")
        if key in known:
            values[f"slurm_{key}"] = _typed(key, value)
        else:
            plain[key.replace("_", "-")] = True if value in ("", "true") else value
    if "no-requeue" in plain:
        del plain["requeue"]
    return {**values, "slurm_additional_parameters": plain}


def _typed(key: str, value: str) -> Any:
    """A value as submitit wants it: numbers, truth values, and lists of shell lines."""
    if key in ("setup", "teardown", "srun_args"):
        return [value]
    if value in ("true", "false"):
        return value == "true"
    return int(value) if re.fullmatch(r"\d+", value) else value


def minutes_of(text: str) -> int:
    """A time as Slurm writes it, in minutes, rounded up.

    >>> minutes_of("90"), minutes_of("12:00:00"), minutes_of("1-12"), minutes_of("30:30")
    (90, 720, 2160, 31)

    Raises:
        MedsegError: it is none of Slurm's forms, or no time at all.
    """
    found = TIMES.fullmatch(text.strip())
    if not found:
        raise MedsegError(
            f"time {text!r}: give minutes, hours:minutes:seconds or days-hours, such as 12:00:00"
        )
    part = [int(piece or 0) for piece in found.groups()]
    days, hours = part[0], part[1] + part[7]
    minutes, seconds = part[2] + part[4] + part[5] + part[8], part[3] + part[6] + part[9]
    total = (days * 24 + hours) * 60 + minutes + (seconds > 0) * -(-seconds // 60)
    if not total:
        raise MedsegError(f"time {text!r} is no time; give a minute or more")
    return total


def _gpus(options: LaunchOptions) -> int:
    if options.gpus is None:
        return 0 if options.device == "cpu" else 1
    if options.gpus and options.device == "cpu":
        raise MedsegError(f"device is cpu and gpus is {options.gpus}; leave one of them out")
    return options.gpus


def runs_of(options: LaunchOptions) -> int:
    """How many runs one job has at once: ``per_gpu`` on each of its GPUs, or what its CPUs carry."""
    gpus = _gpus(options)
    return gpus * options.per_gpu if gpus else max(1, (options.cpus or 0) // options.threads)


def _logs(folder: StudyFolder) -> Path:
    return folder.logs / "slurm"


class Worker:
    """What a job runs: the local engine on its node, until nothing is left to claim.

    Args:
        root: folder of the study, on a disk that all nodes share.
        device: where runs train.
        runs: how many at once.
    """

    def __init__(self, root: Path, device: str, runs: int) -> None:
        self.root = root
        self.device = device
        self.runs = runs
        self._crew: Crew | None = None

    def __call__(self) -> int:
        """Work until nothing is claimable; returns how many runs are done in the whole study by then."""
        from medseg.study.launch.local import Crew

        folder = StudyFolder(self.root)
        if not folder.options_file.is_file():
            raise MedsegError(
                f"{self.root} is not there on {os.uname().nodename}: it must be on a disk that all nodes share"
            )
        self._crew = Crew(folder, LaunchOptions(workers=self.runs, device=self.device))
        # without the crew's own signals: submitit has them
        with self._crew.ended():
            self._crew.run(lambda: None)
        return Ledger(folder.ledger).counts()["done"]

    def checkpoint(self) -> DelayedSubmission:
        """End the workers, which give their runs back, on preemption or timeout; returns the same job again.

        This comes first: once a job is queued again, Slurm leaves its processes no time.
        """
        from submitit.helpers import DelayedSubmission

        if self._crew is not None:
            with self._crew.ended():
                pass
        return DelayedSubmission(Worker(self.root, self.device, self.runs))
