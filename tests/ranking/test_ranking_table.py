from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from medseg.errors import MedsegError
from medseg.metrics import BETTER, METRICS
from medseg.metrics.classification import CLASS_METRICS
from medseg.ranking.table import load, normalise, unread, where

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


FACTS = WIDE.replace("hd95\n", "hd95,reference_px,predicted_px,prediction\n").replace(
    "12.5\n", "12.5,9,8,00000012\n"
)


def test_facts_of_the_masks_survive(tmp_path: Path) -> None:
    table = load([write(tmp_path, FACTS.replace("0.25,3\n", "0.25,3,,nothing,\n"))])
    assert table["prediction"].tolist() == ["00000012", ""] * 2
    assert (
        table["reference_px"].tolist()[0] == 9 and table["predicted_px"].isna().tolist() == [False, True] * 2
    )
    pd.testing.assert_frame_equal(normalise(table), table)
    more = write(tmp_path, PUBLISHED, "more.csv")
    both = load([tmp_path / "table.csv", more])
    assert both["reference_px"].isna().tolist() == [False, True] * 2 + [True] * 2
    assert both["prediction"].tolist()[-1] == ""


def test_only_the_metrics_that_are_wanted_if_they_are_all_there(tmp_path: Path) -> None:
    path = write(tmp_path, WIDE)
    assert set(load([path], metrics=["dice"])["metric"]) == {"dice"}
    assert set(load([path], metrics=["dice", "blur"])["metric"]) == {"dice", "hd95"}


def test_columns_are_mapped_before_they_are_read(tmp_path: Path) -> None:
    path = write(tmp_path, "criterion,image_id,score,kind\n1e3,007,.5,dice\n")
    said: list[str] = []
    columns = {"loss": "criterion", "case": "image_id", "value": "score"}
    table = load([path], columns={**columns, "metric": "kind"}, say=said.append)
    assert table.to_dict("records") == [{"loss": "1e3", "case": "007", "metric": "dice", "value": 0.5}]
    assert said == []
    with pytest.raises(MedsegError, match="none 'metric'"):
        load([path], columns=columns)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"los": "criterion"}, "unknown column 'los'. Did you mean 'loss'"),
        ({"loss": "criterium"}, r"table.csv: unknown column 'criterium'. Did you mean 'criterion'"),
        ({"case": "criterion"}, "two columns are called case"),
    ],
)
def test_columns_that_cannot_be_mapped(tmp_path: Path, columns: dict, words: str) -> None:
    path = write(tmp_path, "criterion,case,metric,value\nx,1,dice,.5\n")
    with pytest.raises(MedsegError, match=words):
        load([path], columns=columns)


def test_columns_that_are_not_read_are_told(tmp_path: Path) -> None:
    said: list[str] = []
    path = write(tmp_path, "loss,seed,metric,value\nx,1,dice,.5\n")
    load([path], say=said.append)
    assert said == [f"{path}: columns not read: seed (--column KEY=NAME reads one as a key)"]
    assert unread(pd.DataFrame(columns=["loss", "dice", "blur", "seconds"])) == ["blur", "seconds"]
    assert unread(pd.DataFrame(columns=["loss", "dice", "blur"]), {"blur": "lower"}) == []


def test_the_directions_that_need_no_torch_are_the_registered_ones() -> None:
    rooms = (METRICS, CLASS_METRICS)
    assert {one.name: one.facts["better"] for room in rooms for one in room} == BETTER


def test_reading_and_ranking_import_no_torch(tmp_path: Path) -> None:
    path = write(
        tmp_path, WIDE.replace("busi,unet,bce,,vanilla,holdout,0,002", "busi,unet,iou,,vanilla,holdout,0,001")
    )
    code = (
        "import sys; from pathlib import Path; from medseg.ranking import rank; from medseg.ranking.table import load;"
        f"rank(load([Path({str(path)!r})], metrics=['dice'])); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
