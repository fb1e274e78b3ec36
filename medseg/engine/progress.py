"""Shows how a run goes: a live bar on a terminal, a line now and then in a file."""

from __future__ import annotations

import time

from ignite.engine import Events
from monai.engines import Trainer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from medseg.engine.monitor import MONITORED
from medseg.engine.record import RunRecord

#: seconds between two lines where there is no terminal
LINE_EVERY = 10.0


class ProgressBar:
    """A bar over all steps with the loss, the monitored metric and its best value, on standard error.

    The loss of single steps is shown on the CPU only: reading it from a GPU would make every step wait.

    Args:
        record: the run's record.
        shown: False for silence.
    """

    def __init__(self, record: RunRecord, shown: bool = True) -> None:
        self.record = record
        self.shown = shown and record.active
        self._console = Console(stderr=True)
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._spoke = 0.0

    def attach(self, engine: Trainer) -> None:
        """Act on every step and epoch, and close the bar however training ends."""
        if self.shown:
            engine.add_event_handler(Events.STARTED, self._start)
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._epoch)
            engine.add_event_handler(Events.COMPLETED, self._stop)
            engine.add_event_handler(Events.EXCEPTION_RAISED, self._fail)
            if self._console.is_terminal:
                engine.add_event_handler(Events.ITERATION_COMPLETED, self._step)

    def _start(self, engine: Trainer) -> None:
        if not self._console.is_terminal:
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[values]}"),
            TimeRemainingColumn(),
        )
        self._bar = Progress(*columns, console=self._console, refresh_per_second=4)
        total = engine.state.max_epochs * engine.state.epoch_length
        self._task = self._bar.add_task(
            self.record.name, total=total, completed=engine.state.iteration, values=""
        )
        self._bar.start()

    def _step(self, engine: Trainer) -> None:
        if self._bar is None:
            return
        self._bar.update(self._task, completed=engine.state.iteration)
        if engine.state.device.type == "cpu":
            loss = float(engine.state.output["loss"])
            self._bar.update(self._task, values=f"{self._epochs(engine)} loss {loss:.4f}{self._monitored()}")

    def _epoch(self, engine: Trainer) -> None:
        text = f"{self._epochs(engine)} loss {engine.state.metrics['train_loss']:.4f}{self._monitored()}"
        if self._bar is not None:
            self._bar.update(self._task, completed=engine.state.iteration, values=text)
        elif time.monotonic() - self._spoke >= LINE_EVERY or engine.state.epoch == engine.state.max_epochs:
            self._spoke = time.monotonic()
            self._console.print(f"{self.record.name}: {text}", highlight=False, soft_wrap=True)

    def _epochs(self, engine: Trainer) -> str:
        return f"epoch {engine.state.epoch}/{engine.state.max_epochs}"

    def _monitored(self) -> str:
        if not self.record.curves:
            return ""
        name = self.record.monitor
        values = [row[f"val_{name}"] for row in self.record.curves]
        return f" {MONITORED.get(name, name)} {values[-1]:.4f} best {max(values):.4f}"

    def _stop(self, engine: Trainer) -> None:
        if self._bar is not None:
            self._bar.stop()

    def _fail(self, engine: Trainer, error: Exception) -> None:
        self._stop(engine)
        raise error


class FileCount:
    """Shows how many images have been read while a data set is indexed or decoded; silent where there is no terminal.

    Args:
        title: what stands before the bar.
        shown: False for silence.
    """

    def __init__(self, title: str, shown: bool = True) -> None:
        self.title = title
        self._console = Console(stderr=True)
        self._shown = shown and self._console.is_terminal
        self._bar: Progress | None = None

    def __call__(self, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` images are read; the bar goes when all are."""
        if not self._shown:
            return
        if self._bar is None:
            self._bar = Progress(console=self._console, transient=True)
            self._bar.add_task(self.title)
            self._bar.start()
        self._bar.update(self._bar.task_ids[0], completed=done, total=total)
        if done >= total:
            self._bar.stop()
            self._bar = None
