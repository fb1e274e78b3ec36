"""The studies in scripts/studies: each reads, every name in it exists, every cell can be run."""

from __future__ import annotations

from pathlib import Path

import pytest

from medseg.study.grid import cells, check, counted
from medseg.study.spec import read_study

FOLDER = Path(__file__).resolve().parents[1] / "scripts" / "studies"
RUNS = {
    "loss_study": 3600,
    "breast_segmentation": 360,
    "breast_classification": 100,
    "breast_classification_tilewise": 100,
    "chest_xray_losses": 120,
    "losses_reduced": 72,
    "bhi_reduced": 16,
    "bhi_reduced_tilewise": 16,
    "bhi_protocols_reduced": 2,
    "bhi_weighted_reduced": 2,
    "chest_xray_reduced": 24,
    "small": 12,
}


def test_every_file_is_known() -> None:
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(RUNS)


@pytest.mark.parametrize("name", RUNS)
def test_runs(name: str, tmp_path: Path) -> None:
    study = read_study(FOLDER / f"{name}.yaml")
    assert study.name == name
    found = cells(study)
    assert len(found) == RUNS[name]
    assert len({cell.name for cell in found}) == RUNS[name]
    check(found, tmp_path, study.split)


def test_the_loss_study_is_as_published() -> None:
    study = read_study(FOLDER / "loss_study.yaml")
    found = cells(study)
    assert [len(counted(found, axis)) for axis in ("dataset", "model", "loss", "repeat")] == [6, 12, 10, 5]
    assert study.split == "holdout-ungrouped"
    every = [cell.settings for cell in found]
    settings = {(s.image_size, s.batch_size, s.learning_rate, s.epochs, s.patience, s.seed) for s in every}
    assert settings == {((224, 224), 8, 1e-3, 200, 40, 42)}


def test_the_breast_study_has_the_levels_of_its_tables() -> None:
    found = cells(read_study(FOLDER / "breast_segmentation.yaml"))
    assert set(counted(found, "model")) == {"unet", "resunetplusplus", "deeplabv3"}
    assert set(counted(found, "loss")) == {"bce", "dice", "tversky"}
    assert set(counted(found, "augment")) == {"vanilla", "filter-offline", "geometric-offline", "all-offline"}


def test_the_breast_study_has_the_cells_of_its_table_8(shared_data: Path) -> None:
    from medseg.ranking.published import Aliases, read_published

    found = cells(read_study(FOLDER / "breast_classification.yaml"))
    levels = {axis: set(counted(found, axis)) for axis in ("dataset", "model", "loss", "augment")}
    path = shared_data.parent / "reference" / "breast_study_tables_4_to_8.csv"
    published = read_published(path, tables=["8"])
    for axis, mine in levels.items():
        theirs = {name for level in published[axis] for name in Aliases().ours(axis, level, mine)}
        assert theirs == mine


@pytest.mark.parametrize("name", ["breast_classification", "bhi_reduced"])
def test_the_tile_wise_twins_differ_in_the_split_alone(name: str) -> None:
    one, twin = (read_study(FOLDER / f"{stem}.yaml") for stem in (name, f"{name}_tilewise"))
    assert [(c.choice, c.repeat, c.settings) for c in cells(one)] == [
        (c.choice, c.repeat, c.settings) for c in cells(twin)
    ]
    assert (one.split, twin.split) == ("holdout", "holdout-ungrouped")
