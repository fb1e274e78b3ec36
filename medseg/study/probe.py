"""A short probe: one process per model builds it as a run would, takes a few steps on random images, and is measured.

Run as ``python -m medseg.study.probe`` it reads a setup as JSON and prints what it has measured so far, one JSON
object a line, so that a process that had to be ended still told something.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.results import atomic_write

if TYPE_CHECKING:
    from torch import Tensor

#: measured steps behind one that warms up, of which the median counts
STEPS = 3
#: seconds that the steps of one model may take
LIMIT = 20.0
#: seconds that the process may take besides, for imports and for the step at which the limit was reached
GRACE = 60.0


@dataclass(frozen=True)
class Setup:
    """What the time and memory of a training step depend on.

    Args:
        model: its name.
        loss: name of a loss; losses hardly differ, so one stands for all.
        image_size: height and width in pixels.
        batch_size: images per step.
        channels: of an image.
        classes: channels of the logits.
        frozen_stages: of the backbone.
        model_arguments: the model's own.
        loss_arguments: the loss's own.
    """

    model: str
    loss: str
    image_size: tuple[int, int]
    batch_size: int
    channels: int
    classes: int = 1
    frozen_stages: int = 0
    model_arguments: dict[str, Any] = field(default_factory=dict)
    loss_arguments: dict[str, Any] = field(default_factory=dict)

    def key(self, device: str, threads: int, code: str) -> str:
        """Short hash of all that the measurement depends on; the loss is not part of it."""
        from medseg.data.documents import digest

        own = {name: value for name, value in asdict(self).items() if not name.startswith("loss")}
        return digest([own, device, threads, code])[:16]


@dataclass(frozen=True)
class Measured:
    """What a probe found.

    Args:
        train_seconds: of one training step.
        eval_seconds: of one validation step; None where the training steps used up the time.
        steps: training steps that were measured, the warming one aside.
        memory: most main memory that the process held, in bytes.
        gpu_memory: most memory of the GPU that was given to tensors, in bytes.
        parameters: of the network.
        fault: why there is nothing, or not all; empty if all went well.
    """

    train_seconds: float | None = None
    eval_seconds: float | None = None
    steps: int = 0
    memory: int = 0
    gpu_memory: int = 0
    parameters: int = 0
    fault: str = ""


def probe(setup: Setup, device: str = "cpu", threads: int = 1, limit: float = LIMIT) -> Measured:
    """Measure one setup in a process of its own, which is ended if it takes too long.

    Args:
        setup: what to build.
        device: ``cpu``, ``cuda`` or ``cuda:1``.
        threads: CPU threads.
        limit: seconds for all steps.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    wanted = {"setup": asdict(setup), "device": device, "threads": threads, "limit": limit}
    command = [sys.executable, "-m", "medseg.study.probe"]
    try:
        done = subprocess.run(
            command,
            input=json.dumps(wanted).encode(),
            capture_output=True,
            env=environment,
            timeout=limit + GRACE,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        found = _last(late.stdout or b"")
        return replace(found, fault=f"ended after {limit + GRACE:.0f} s without {_lacking(found)}")
    found = _last(done.stdout)
    if done.returncode == 0:
        return found
    if done.returncode < 0:
        return replace(found, fault=f"its process was ended by signal {-done.returncode}; out of memory?")
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    return replace(found, fault=lines[-1][:300] if lines else f"exit status {done.returncode}")


def _lacking(found: Measured) -> str:
    return "a training step" if found.train_seconds is None else "a validation step"


def _last(output: bytes) -> Measured:
    """The last whole line of what a probe printed."""
    for line in reversed(output.decode(errors="replace").splitlines()):
        try:
            return Measured(**json.loads(line))
        except (ValueError, TypeError):
            continue
    return Measured()


@dataclass
class ProbeCache:
    """What was measured for a study, in ``probe.json`` of its folder.

    Args:
        path: the file.
    """

    path: Path

    def read(self) -> dict[str, Measured]:
        """All that is there; nothing if the file is missing or broken, as it can be measured again."""
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
            return {key: Measured(**value) for key, value in content.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            return {}

    def measured(
        self,
        setups: list[Setup],
        device: str,
        threads: int,
        code: str,
        limit: float = LIMIT,
        progress: Callable[[int, int], None] | None = None,
    ) -> dict[str, Measured]:
        """The measurements of setups by their keys; those that are not there yet are made and kept at once.

        Args:
            setups: what to measure.
            device: where.
            threads: CPU threads.
            code: fingerprint of the code.
            limit: seconds for the steps of one setup.
            progress: told how many of the new ones are done.
        """
        known = self.read()
        missing = {setup.key(device, threads, code): setup for setup in setups}
        wanted = list(missing)
        missing = {key: setup for key, setup in missing.items() if key not in known}
        for done, (key, setup) in enumerate(missing.items()):
            if progress:
                progress(done, len(missing))
            known[key] = probe(setup, device, threads, limit)
            # what cannot be kept is measured again next time
            with contextlib.suppress(OSError), atomic_write(self.path) as file:
                json.dump({key: asdict(value) for key, value in known.items()}, file, indent=1)
        return {key: known[key] for key in wanted}


def measure(
    setup: Setup, device: str, threads: int, limit: float, tell: Callable[[Measured], None]
) -> Measured:
    """Build network, loss and Adam, and time steps on random images, in this process.

    Args:
        setup: what to build.
        device: where.
        threads: CPU threads.
        limit: seconds after which no further step begins.
        tell: given what is known after each step.
    """
    import torch

    torch.set_num_threads(threads)
    place = torch.device(device)
    train, evaluate, parameters = _steps(setup, place)
    began = time.perf_counter()
    found = Measured(parameters=parameters)
    for kind, step in (("train_seconds", train), ("eval_seconds", evaluate)):
        taken: list[float] = []
        first = kind == "train_seconds"
        while len(taken) <= STEPS and ((first and not taken) or time.perf_counter() - began < limit):
            taken.append(_timed(step, place))
            # the first step allocates and chooses kernels; it counts only where there is no other
            changes: dict[str, Any] = {kind: statistics.median(taken[1:] or taken)}
            if first:
                changes["steps"] = len(taken) - 1
            gpu = torch.cuda.max_memory_allocated(place) if place.type == "cuda" else 0
            found = replace(found, **changes, memory=peak_memory(), gpu_memory=gpu)
            tell(found)
    return found


def _steps(setup: Setup, device: Any) -> tuple[Callable[[], None], Callable[[], None], int]:
    """A training step and a validation step as the engine takes them, and the number of parameters."""
    import torch

    from medseg.engine.device import amp_dtype, begin, place
    from medseg.losses import WeightedOutputs
    from medseg.models import build, output_weights
    from medseg.models.transfer import parameter_groups

    begin(device, 0)
    plain = build(
        setup.model,
        setup.model_arguments,
        frozen_stages=setup.frozen_stages,
        in_channels=setup.channels,
        out_channels=setup.classes,
    )
    network = place(plain, device)
    loss = WeightedOutputs(_loss(setup), output_weights(plain))
    optimizer = torch.optim.Adam(parameter_groups(plain, 1e-3), lr=1e-3)
    image = torch.rand(setup.batch_size, setup.channels, *setup.image_size, device=device)
    label = _labels(setup).to(device)
    mixed = torch.autocast(device.type, amp_dtype(), enabled=device.type == "cuda")

    def train() -> None:
        network.train()
        optimizer.zero_grad(set_to_none=True)
        with mixed:
            value = loss(network(image), label)
        value.backward()
        optimizer.step()

    def evaluate() -> None:
        network.eval()
        with torch.no_grad(), mixed:
            network(image)

    return train, evaluate, sum(p.numel() for p in plain.parameters())


def _loss(setup: Setup) -> Any:
    from medseg.losses import LOSSES, build, build_for

    if LOSSES[setup.loss].task == "classification":
        return build_for(setup.loss, setup.loss_arguments, [1] * setup.classes)
    return build(setup.loss, setup.loss_arguments)


def _labels(setup: Setup) -> Tensor:
    """Random labels of the loss's task: masks ``(N, K, H, W)``, or one class of each image ``(N, K)``."""
    import torch

    from medseg.losses import LOSSES

    if LOSSES[setup.loss].task == "classification":
        return torch.eye(setup.classes)[torch.randint(setup.classes, (setup.batch_size,))]
    return (torch.rand(setup.batch_size, setup.classes, *setup.image_size) > 0.5).float()


def _timed(step: Callable[[], None], device: Any) -> float:
    import torch

    began = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def peak_memory() -> int:
    """The most main memory that this process has held, in bytes."""
    try:
        # what getrusage gives begins with the parent's peak
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def main() -> None:
    """Measure the setup on standard input."""
    import warnings

    warnings.simplefilter("ignore")  # of a kernel that is not deterministic, a probe need not tell
    wanted = json.load(sys.stdin)
    given = wanted["setup"]
    setup = Setup(**{**given, "image_size": tuple(given["image_size"])})
    measure(
        setup,
        wanted["device"],
        wanted["threads"],
        wanted["limit"],
        lambda found: print(json.dumps(asdict(found)), flush=True),
    )


if __name__ == "__main__":
    main()
