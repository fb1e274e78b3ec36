from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from medseg.errors import MedsegError
from medseg.ranking.table import load, normalise, where

PUBLISHED = "dataset,model,metric,value\nisic2017,fcn,dice,.8477\nisic2017,unet,dice,.8295\n"
WIDE = (
    "dataset,model,loss,preprocess,augment,split,repeat,case,group,dice,hd95\n"
    "busi,unet,bce,,vanilla,holdout,0,001,p1,0.5,12.5\n"
    "busi,unet,bce,,vanilla,holdout,0,002,p2,0.25,3\n"
)


def write(folder: Path, text: str, name: str = "table.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_values_without_a_leading_zero(tmp_path: Path) -> None:
    table = load([write(tmp_path, PUBLISHED)])
    assert table["value"].tolist() == [0.8477, 0.8295]
    assert list(table.columns) == ["dataset", "model", "metric", "value"]


def test_wide_cases_become_tidy_with_the_registered_directions(tmp_path: Path) -> None:
    table = load([write(tmp_path, WIDE)])
    assert table["metric"].tolist() == ["dice", "dice", "hd95", "hd95"]
    assert table["value"].tolist() == [0.5, 0.25, 12.5, 3.0]
    assert table["better"].tolist() == ["higher", "higher", "lower", "lower"]
    assert table["repeat"].tolist() == ["0"] * 4
    assert table["preprocess"].tolist() == [""] * 4


def test_a_wide_column_of_an_unknown_metric_needs_a_direction(tmp_path: Path) -> None:
    path = write(tmp_path, "dataset,loss,roughness\na,x,1\na,y,2\n")
    with pytest.raises(MedsegError, match=r"neither the columns .* nor one named after a metric.*roughness"):
        load([path])
    assert load([path], {"roughness": "lower"})["better"].tolist() == ["lower", "lower"]


def test_keys_become_text() -> None:
    frame = pd.DataFrame({"loss": ["x", None], "repeat": [1.0, None], "metric": "dice", "value": [1, 2]})
    table = normalise(frame)
    assert table["repeat"].tolist() == ["1", ""]
    assert table["loss"].tolist() == ["x", ""]


def test_columns_that_are_no_keys_are_not_read() -> None:
    frame = pd.DataFrame({"loss": ["x"], "colour": ["red"], "metric": ["dice"], "value": [1.0]})
    assert list(normalise(frame).columns) == ["loss", "metric", "value"]


def test_normalising_twice_changes_nothing(tmp_path: Path) -> None:
    once = load([write(tmp_path, WIDE)])
    pd.testing.assert_frame_equal(normalise(once), once)


def test_several_tables_are_put_together(tmp_path: Path) -> None:
    more = write(tmp_path, "dataset,model,repeat,metric,value\nbusi,fcn,2,dice,.5\n", "more.csv")
    table = load([write(tmp_path, PUBLISHED), more])
    assert table["repeat"].tolist() == ["", "", "2"]
    assert table["value"].tolist() == [0.8477, 0.8295, 0.5]


def test_the_same_measurement_in_two_tables(tmp_path: Path) -> None:
    paths = [write(tmp_path, PUBLISHED, name) for name in ("one.csv", "two.csv")]
    with pytest.raises(
        MedsegError, match=r"2 measurement\(s\) given twice, first: dataset=isic2017 model=fcn"
    ):
        load(paths)


def test_the_same_measurement_twice_names_it_and_the_columns_that_were_not_read(tmp_path: Path) -> None:
    path = write(tmp_path, "loss,seed,metric,value\nx,1,dice,.5\nx,2,dice,.6\n")
    with pytest.raises(MedsegError, match=r"table.csv.*loss=x metric=dice.*repeat.*not read: seed"):
        load([path])


def test_text_for_a_value_names_its_row(tmp_path: Path) -> None:
    path = write(tmp_path, "loss,metric,value\nx,dice,.5\ny,dice,0.8a\nz,dice,high\n")
    with pytest.raises(
        MedsegError, match=r"row 3: value '0.8a' is not a number \(loss=y metric=dice\); 1 more"
    ):
        load([path])


def test_text_in_a_wide_table_names_its_row(tmp_path: Path) -> None:
    with pytest.raises(MedsegError, match=r"row 3: value 'far'.*metric=hd95"):
        load([write(tmp_path, WIDE.replace("0.25,3", "0.25,far"))])


def test_an_empty_value_is_kept_as_a_hole(tmp_path: Path) -> None:
    table = load([write(tmp_path, "loss,metric,value\nx,dice,\ny,dice,nan\nz,dice,.5\n")])
    assert table["value"].isna().tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("text", "words"),
    [("loss,value\nx,1\n", "none 'metric'"), ("loss,metric,value\n", "no rows"), ("", "not a readable CSV")],
)
def test_what_is_no_results_table(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(MedsegError, match=words):
        load([write(tmp_path, text)])


def test_where_keeps_the_named_levels(tmp_path: Path) -> None:
    table = load([write(tmp_path, PUBLISHED)])
    assert where(table, {})["model"].tolist() == ["fcn", "unet"]
    assert where(table, {"model": ["unet"]})["value"].tolist() == [0.8295]
    assert len(where(table, {"model": ["unet", "fcn"], "dataset": ["isic2017"]})) == 2


@pytest.mark.parametrize(
    ("conditions", "words"),
    [
        ({"modl": ["unet"]}, "column 'modl'. Did you mean 'model'"),
        ({"model": ["unt"]}, "Did you mean 'unet'"),
    ],
)
def test_where_knows_columns_and_levels(tmp_path: Path, conditions: dict, words: str) -> None:
    with pytest.raises(MedsegError, match=words):
        where(load([write(tmp_path, PUBLISHED)]), conditions)
