from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from medseg.errors import MedsegError
from medseg.results import RUN_KEYS
from medseg.study.folder import StudyFolder
from medseg.study.ledger import Ledger
from medseg.study.table import missing, notes, study_table

HEADER = ",".join([*RUN_KEYS, "case", "group", "dice", "reference_px", "predicted_px", "prediction"])


def results(folder: StudyFolder, repeat: int, dice: float, mask: str = "12345678") -> None:
    place = folder.run_folder("discs__unet__dice", repeat, "holdout")
    place.mkdir(parents=True)
    row = f"discs,unet,dice,,vanilla,holdout,{repeat},001,p1,{dice},9,8,{mask}"
    (place / "cases.csv").write_text(f"{HEADER}\n{row}\n")


@pytest.fixture
def made(study_folder: StudyFolder, plan) -> StudyFolder:
    """Four runs: two done, one failed, one waiting; and results of a run that no longer is of the study."""
    ledger = Ledger(study_folder.ledger)
    ledger.enter([*plan(2, code="old"), *plan(4)[2:]])
    for _ in range(2):
        ledger.finish(ledger.claim())
    ledger.fail(ledger.claim(), "the loss became nan")
    for repeat, dice in ((0, 0.1), (1, 0.7), (9, 0.99)):
        results(study_folder, repeat, dice)
    return study_folder


def test_the_table_has_the_cases_of_done_runs_and_no_others(made):
    table = study_table(made.root)
    assert table["dice"].tolist() == [0.1, 0.7]
    assert list(table.columns) == HEADER.split(",")
    assert table.loc[0, ["case", "preprocess", "prediction"]].tolist() == ["001", "", "12345678"]


def test_a_hash_that_looks_like_a_number_stays_text(study_folder, plan):
    Ledger(study_folder.ledger).enter(plan(1))
    ledger = Ledger(study_folder.ledger)
    ledger.finish(ledger.claim())
    results(study_folder, 0, 0.5, mask="00012e45")
    assert study_table(study_folder.root)["prediction"].tolist() == ["00012e45"]


def test_what_is_missing_is_named_with_state_and_reason(made):
    expected = pd.DataFrame(
        {"repeat": [2, 3], "state": ["failed", "waiting"], "reason": ["the loss became nan", ""]}
    )
    found = missing(made.root)
    pd.testing.assert_frame_equal(found[["repeat", "state", "reason"]], expected, check_dtype=False)
    assert list(found.columns) == [*RUN_KEYS, "state", "reason"]


def test_notes_tell_what_a_reader_of_the_table_must_know(made):
    assert notes(made.root) == [
        "1 of 4 runs failed",
        "1 of 4 runs have not run yet",
        "discs__unet__dice/2 failed: the loss became nan",
    ]
    ledger = Ledger(made.ledger)
    ledger.claim()
    assert "1 of 4 runs still run" in notes(made.root)


def test_versions_of_the_code_are_told_apart(made):
    ledger = Ledger(made.ledger)
    ledger.finish(ledger.claim())
    assert notes(made.root)[-1] == "the runs are of 2 versions of the code: 2 of old, 1 of c0"


def test_done_runs_without_results_are_told(made):
    (made.run_folder("discs__unet__dice", 1, "holdout") / "cases.csv").unlink()
    with pytest.raises(
        MedsegError, match="the results of 1 done runs are gone; 'medseg study run' makes them again"
    ):
        study_table(made.root)


def test_a_study_without_results_and_a_folder_without_a_study(study_folder, plan, tmp_path: Path):
    with pytest.raises(MedsegError, match=r"tiny: no study here \(ledger.db is missing\)"):
        study_table(study_folder.root)
    Ledger(study_folder.ledger).enter(plan(1))
    with pytest.raises(MedsegError, match="no run is done; 'medseg study status' says how far it is"):
        study_table(study_folder.root)
