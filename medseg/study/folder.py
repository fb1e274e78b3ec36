"""The folder of a study: its file, its ledger, its bundles, and all that a worker must know."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from medseg.errors import MedsegError
from medseg.results import atomic_write


@dataclass(frozen=True)
class WorkOptions:
    """What a worker needs besides the ledger, the same for every run of a study.

    Args:
        prepared: absolute folder of indexes, splits and arrays.
        data: folder of images by data set, where it is not the one that the index says.
        tracking_uri: MLflow store or server; empty for none.
        experiment: MLflow experiment, the study's name.
        threads: CPU threads of a run.
        retries: how often a failed run is tried again.
        keep_weights: ``all``, ``best`` or ``none``.
    """

    prepared: str
    data: dict[str, str] = field(default_factory=dict)
    tracking_uri: str = ""
    experiment: str = "medseg"
    threads: int = 1
    retries: int = 2
    keep_weights: str = "all"


@dataclass(frozen=True)
class StudyFolder:
    """The folder of a study, ``studies/<name>/``; every path of a study is told here."""

    root: Path

    @property
    def name(self) -> str:
        """The study's name."""
        return self.root.name

    @property
    def study_file(self) -> Path:
        """The study file as it was run last."""
        return self.root / "study.yaml"

    @property
    def options_file(self) -> Path:
        """What a worker must know (``WorkOptions``)."""
        return self.root / "options.json"

    @property
    def ledger(self) -> Path:
        """The database of runs and claims."""
        return self.root / "ledger.db"

    @property
    def bundles(self) -> Path:
        """The bundles, as ``medseg bundle`` knows them."""
        return self.root / "bundles"

    @property
    def logs(self) -> Path:
        """What each worker said: ``<host>-<pid>.log``."""
        return self.root / "logs"

    @property
    def superseded(self) -> Path:
        """Bundles and repeats of settings, data or code that are no longer the study's."""
        return self.root / "superseded"

    @property
    def lock(self) -> Path:
        """Held while a plan is entered, so that two commands do so one after the other."""
        return self.root / ".lock"

    def run_folder(self, bundle: str, repeat: int, split: str) -> Path:
        """The folder of one run."""
        from medseg.bundle.open import run_folder

        return Path(run_folder(str(self.bundles / bundle), repeat, split))

    def read_options(self) -> WorkOptions:
        """The options of the workers.

        Raises:
            MedsegError: the folder holds no study, or the file is broken.
        """
        cure = "start the study with 'medseg study run'"
        try:
            content: dict[str, Any] = json.loads(self.options_file.read_text(encoding="utf-8"))
            return WorkOptions(**content)
        except FileNotFoundError:
            raise MedsegError(
                f"{self.root}: no study here ({self.options_file.name} is missing); {cure}"
            ) from None
        except (OSError, ValueError, TypeError) as error:
            raise MedsegError(f"{self.options_file}: not readable ({error}); {cure}") from None

    def write_options(self, options: WorkOptions) -> None:
        """Write the options of the workers, atomically."""
        with atomic_write(self.options_file) as file:
            json.dump(asdict(options), file, indent=2)
            file.write("\n")
