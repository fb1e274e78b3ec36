from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.errors import MedsegError
from medseg.results import (
    COLUMNS,
    FACTS,
    atomic_write,
    case_files,
    collect,
    read_bundles,
    read_cases,
    read_csv,
    read_sets,
    tidy,
    write_csv,
)

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


HEADER = "dataset,case,dice,prediction\n"


def write_files(folder: Path, *texts: str) -> list[Path]:
    files = [folder / f"{number}.csv" for number in range(len(texts))]
    for file, text in zip(files, texts, strict=True):
        file.write_bytes(text.encode())
    return files


def one_by_one(files: list[Path]) -> pd.DataFrame:
    return pd.concat([read_csv(file) for file in files], ignore_index=True)


def test_many_files_are_read_as_one_by_one_to_the_last_bit(tmp_path: Path) -> None:
    draws = np.random.default_rng(1).random((30, 50))
    texts = [
        HEADER + "".join(f"d{i},{j:03d},{value!r},{j:08x}\n" for j, value in enumerate(row.tolist()))
        for i, row in enumerate(draws)
    ]
    files = write_files(tmp_path, *texts)
    table = read_cases(files)
    assert table["dice"].to_numpy().tobytes() == draws.tobytes()
    pd.testing.assert_frame_equal(table, one_by_one(files), check_exact=True)
    assert table["prediction"].iloc[12] == "0000000c" and table["case"].iloc[1] == "001"


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.floats(allow_infinity=False), max_size=4), min_size=1, max_size=4))
def test_any_floats_come_back(tmp_path_factory: pytest.TempPathFactory, rows: list[list[float]]) -> None:
    folder = tmp_path_factory.mktemp("floats")
    texts = [HEADER + "".join(f"d,c,{value!r},a\n" for value in row) for row in rows]
    table = read_cases(write_files(folder, *texts))
    expected = np.array([value for row in rows for value in row])
    np.testing.assert_array_equal(table["dice"].to_numpy(dtype=float), expected)


@pytest.mark.parametrize(
    "texts",
    [
        pytest.param(["dataset,case,dice\na,x,1", "dataset,case,dice\nb,y,2"], id="no line end at the end"),
        pytest.param(
            ["dataset,case,dice\r\na,x,1\r\n", "dataset,case,dice\r\nb,y,2\r\n"], id="line ends of Windows"
        ),
        pytest.param(
            ["dataset,case,dice\na,x,1\n", "dataset,dice\nb,2\n", "dataset,case,dice\nc,z,\n"], id="headers"
        ),
        pytest.param(
            ["dataset,case,dice\na,x,1\n", "dataset,case,dice\n", "dataset,case,dice\nb,y,2\n"], id="no rows"
        ),
        pytest.param(['dataset,case,dice\na,"x\n,",1\n', "dataset,case,dice\nb,y,2\n"], id="quoted"),
        pytest.param(
            ['dataset,case,dice\na,5",1\n', 'dataset,case,dice\nb,7",2\n'], id="quotes that are none"
        ),
        pytest.param(
            ["\ufeffdataset,case,dice\na,x,1\n", "dataset,case,dice\nb,y,2\n"], id="byte order mark"
        ),
        pytest.param(["dataset,case,dice\na,x,1\n", "dataset,case,dice\nb,y,much\n"], id="text for a number"),
        pytest.param(["dataset, case, dice\na, x , 1\n", "dataset, case, dice\n b,NA,nan\n"], id="blanks"),
    ],
)
def test_files_of_any_habit_are_read_as_one_by_one(tmp_path: Path, texts: list[str]) -> None:
    files = write_files(tmp_path, *texts)
    pd.testing.assert_frame_equal(read_cases(files), one_by_one(files), check_dtype=False)


def test_batches_of_a_few_bytes_are_read_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = write_files(tmp_path, *(f"{HEADER}d,{number},{number},a\n" for number in range(9)))
    monkeypatch.setattr("medseg.results.BATCH", 20)
    assert read_cases(files)["dice"].tolist() == list(range(9))


@pytest.mark.parametrize(
    "fault",
    [
        "dataset,case,dice,prediction\nd,c,1,a,more\n",
        "dataset,case,dice,prediction\nd,c,1,a\nd,c,1,a,b\n",
        "",
    ],
)
def test_each_faulty_file_is_named(tmp_path: Path, fault: str) -> None:
    good = f"{HEADER}d,c,1,a\n"
    files = write_files(tmp_path, good, fault, good, fault)
    with pytest.raises(MedsegError, match=r"1\.csv: not a readable CSV table") as error:
        read_cases(files)
    assert "0.csv" not in str(error.value) and "2.csv" not in str(error.value)
    assert ("3.csv" in str(error.value)) is bool(fault)


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(MedsegError, match=r"gone\.csv: no such file"):
        read_cases([tmp_path / "gone.csv"])


@pytest.mark.parametrize("rows", ["a,1,2\nb,3,4", "1,a,2\n4,b,4\n7,c,6"])
def test_a_field_too_many_in_every_row_is_no_index(tmp_path: Path, rows: str) -> None:
    (tmp_path / "t.csv").write_text(f"loss,value\n{rows}\n", encoding="utf-8")
    with pytest.raises(MedsegError, match="more fields than the header"):
        read_csv(tmp_path / "t.csv")


def test_only_some_columns_and_other_names(tmp_path: Path) -> None:
    file = write_files(tmp_path, "image_id,criterion,dice,time\n007,1e3,.5,3\n")[0]
    table = read_csv(file, only={"case", "dice", "iou"}, renamed={"image_id": "case", "absent": "group"})
    assert table.to_dict("records") == [{"case": "007", "dice": 0.5}]
    assert list(read_cases([file], {"time"}).columns) == ["time"]


def test_facts_stay_beside_each_metric(wide: pd.DataFrame) -> None:
    facts = wide.assign(
        reference_px=[4, 5], predicted_px=[0, 9], prediction=["0a", "0b"], truth="x", predicted=["x", "y"]
    )
    long = tidy(facts, BETTER)
    assert tuple(long.columns) == (*COLUMNS, *FACTS)
    assert long["predicted_px"].tolist() == [0, 9, 0, 9]
    assert long["prediction"].tolist() == ["0a", "0b"] * 2


def test_collect_puts_the_metrics_of_a_run_together(wide: pd.DataFrame, tmp_path: Path) -> None:
    for repeat in (0, 1):
        write_csv(wide.assign(repeat=repeat), tmp_path / "b" / "repeats" / str(repeat) / "cases.csv")
    table = collect(tmp_path, BETTER)
    assert table["repeat"].tolist() == [0] * 4 + [1] * 4
    assert table["metric"].tolist() == ["dice", "dice", "hd95", "hd95"] * 2
    assert len(read_bundles(tmp_path, {"dice"}).columns) == 1


def test_metrics_of_whole_test_parts_stand_last(tmp_path: Path, wide: pd.DataFrame) -> None:
    place = tmp_path / "busi__unet__bce" / "repeats" / "0"
    place.mkdir(parents=True)
    write_csv(wide, place / "cases.csv")
    (place / "metrics.csv").write_text(
        "metric,value,low,high\nauc,0.9,0.8,\ndice,0.4,0.3,0.5\nf1,0.7,0.6,0.8\n"
    )
    better = {**BETTER, "auc": "higher"}
    sets = read_sets([place / "cases.csv"], better)
    # the dice is that of the cases, and the direction of f1 is not known
    assert sets[["metric", "better", "value", "low", "case", "group"]].to_numpy().tolist() == [
        ["auc", "higher", 0.9, 0.8, "", ""]
    ]
    assert sets["high"].isna().all() and sets["model"].tolist() == ["unet"]
    long = collect(tmp_path, better)
    assert long["metric"].tolist() == ["dice", "dice", "hd95", "hd95", "auc"]
    assert long["value"].iloc[-1] == 0.9 and long["repeat"].tolist() == [0] * 5


def test_runs_without_such_a_file_have_no_such_rows(tmp_path: Path, wide: pd.DataFrame) -> None:
    write_csv(wide, tmp_path / "cases.csv")
    assert len(read_sets([tmp_path / "cases.csv"], BETTER)) == 0
    (tmp_path / "metrics.csv").write_text("dice\n0.5\n")
    with pytest.raises(
        MedsegError, match="metrics.csv: needs the columns metric, value, low, high; it has dice"
    ):
        read_sets([tmp_path / "cases.csv"], BETTER)
