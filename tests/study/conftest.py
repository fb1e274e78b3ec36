"""What the tests of studies share: small plans, and ledgers filled with them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from medseg.bundle.choice import Choice
from medseg.bundle.settings import Settings
from medseg.study.entry import Entry
from medseg.study.folder import StudyFolder, WorkOptions
from medseg.study.ledger import Ledger
from medseg.study.spec import Cell

Plan = Callable[..., list[Entry]]


@pytest.fixture
def plan() -> Plan:
    """Makes a plan of so many runs, the repeats of one bundle, with keys ``k0``, ``k1``, ..."""

    def make(number: int, code: str = "c0", prefix: str = "k") -> list[Entry]:
        choice = Choice("discs", "unet", "dice")
        cells = [Cell(choice, repeat, Settings(image_size=(32, 32), epochs=4)) for repeat in range(number)]
        return [Entry(f"{prefix}{c.repeat}", f"b{c.repeat}", code, c, "holdout") for c in cells]

    return make


@pytest.fixture
def ledger(tmp_path: Path, plan: Plan) -> Ledger:
    """A ledger of three waiting runs."""
    made = Ledger(tmp_path / "ledger.db")
    made.enter(plan(3))
    return made


@pytest.fixture
def study_folder(tmp_path: Path) -> StudyFolder:
    """A study's folder with options, and no runs yet."""
    folder = StudyFolder(tmp_path / "studies" / "tiny")
    folder.root.mkdir(parents=True)
    folder.write_options(WorkOptions(prepared=str(tmp_path / "prepared"), retries=1))
    return folder
