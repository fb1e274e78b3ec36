from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medseg.errors import MedsegError
from medseg.results import COLUMNS, atomic_write, case_files, collect, read_csv, tidy, write_csv

BETTER = {"dice": "higher", "hd95": "lower"}


@pytest.fixture
def wide() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "dataset": "busi", "model": "unet", "loss": "bce", "preprocess": "", "augment": "vanilla",
            "split": "holdout", "repeat": 0, "case": ["p", "q"], "group": ["1", "2"],
            "dice": [0.5, 0.25], "hd95": [3.0, 9.0], "pixels": [10, 20],
        }
    )  # fmt: skip


def test_words_that_look_like_nothing_stay_words_and_numbers_may_be_missing(tmp_path: Path) -> None:
    (tmp_path / "cases.csv").write_text(
        "case, group, preprocess, dice\n001, NA, , 0.5\nnan, null, , \n1e3, 2, ,nan\n"
    )
    back = read_csv(tmp_path / "cases.csv")
    assert back["case"].tolist() == ["001", "nan", "1e3"]
    assert back["group"].tolist() == ["NA", "null", "2"]
    assert back["preprocess"].tolist() == ["", "", ""]
    assert back["dice"].dtype == float
    assert back["dice"].isna().tolist() == [False, True, True]


def test_numbers_come_back_to_the_last_bit(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random(1000).tolist()
    write_csv(pd.DataFrame({"dice": values}), tmp_path / "cases.csv")
    assert read_csv(tmp_path / "cases.csv")["dice"].tolist() == values


def test_atomic_write_replaces_the_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.txt"
    with atomic_write(path) as file:
        file.write("old")
    with atomic_write(path) as file:
        file.write("new")
        file.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


def test_atomic_write_leaves_the_old_file_when_interrupted(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_write(path) as file:
        file.write("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_atomic_write_of_bytes(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "file.bin", "wb") as file:
        file.write(b"\x00\xff")
    assert (tmp_path / "file.bin").read_bytes() == b"\x00\xff"


def test_csv_comes_back_as_it_was(wide: pd.DataFrame, tmp_path: Path) -> None:
    write_csv(wide, tmp_path / "cases.csv")
    back = read_csv(tmp_path / "cases.csv")
    assert back["preprocess"].tolist() == ["", ""]
    assert back["dice"].tolist() == [0.5, 0.25]
    assert back["case"].tolist() == ["p", "q"]


@pytest.mark.parametrize(("text", "words"), [(None, "no such file"), ("", "not a readable CSV")])
def test_a_table_that_cannot_be_read(tmp_path: Path, text: str | None, words: str) -> None:
    path = tmp_path / "table.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(MedsegError, match=words):
        read_csv(path)


def test_tidy_has_one_row_per_measurement(wide: pd.DataFrame) -> None:
    long = tidy(wide, BETTER)
    assert tuple(long.columns) == COLUMNS
    assert long[["case", "metric", "better", "value"]].to_numpy().tolist() == [
        ["p", "dice", "higher", 0.5],
        ["q", "dice", "higher", 0.25],
        ["p", "hd95", "lower", 3.0],
        ["q", "hd95", "lower", 9.0],
    ]


def test_collect_reads_the_finished_repeats_in_name_order(wide: pd.DataFrame, tmp_path: Path) -> None:
    for name in ("busi__unet__iou", "busi__unet__bce"):
        frame = wide.assign(loss=name.split("__")[2])
        write_csv(frame, tmp_path / name / "repeats" / "0" / "cases.csv")
    (tmp_path / "busi__unet__dice" / "repeats" / "0").mkdir(parents=True)
    assert len(case_files(tmp_path)) == 2
    table = collect(tmp_path, BETTER)
    assert table["loss"].tolist() == ["bce"] * 4 + ["iou"] * 4


def test_collect_without_a_finished_run(tmp_path: Path) -> None:
    with pytest.raises(MedsegError, match="no finished run"):
        collect(tmp_path, BETTER)
