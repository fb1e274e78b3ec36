from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from medseg.errors import MedsegError
from medseg.ranking.published import Aliases, read_published


def write(folder: Path, text: str) -> Path:
    path = folder / "published.csv"
    path.write_text(text, encoding="utf-8")
    return path


TIDY = """table,dataset,model,loss,augmentation,metric,value
4,busi,unet,dice,vanilla,iou,0.76
4,busi,unet,dice,vanilla,dice,0.72
5,busi,unet,dice,vanilla,dice,0.716
"""


def test_the_breast_study(shared_data: Path) -> None:
    path = shared_data.parent / "reference" / "breast_study_tables_4_to_8.csv"
    found = read_published(path)
    assert list(found.columns) == ["table", "dataset", "model", "loss", "augment", "metric", "value"]
    assert found["table"].value_counts().to_dict() == {"5": 48, "7": 48, "4": 18, "6": 18, "8": 20}
    eight = read_published(path, tables=["8"])
    assert set(eight["dataset"]) == {"bhi"} and set(eight["metric"]) == {"accuracy"} and len(eight) == 20


def test_a_table_without_tables_and_losses(shared_data: Path) -> None:
    found = read_published(shared_data.parent / "reference" / "benchmark_2022_dice.csv")
    assert list(found.columns) == ["table", "dataset", "model", "metric", "value"]
    assert set(found["table"]) == {""} and len(found) == 54
    assert found["value"].iloc[0] == 0.8477


def test_the_same_cell_in_two_tables_is_two_values_and_in_one_table_a_mistake(tmp_path: Path) -> None:
    assert read_published(write(tmp_path, TIDY))["value"].tolist() == [0.76, 0.72, 0.716]
    with pytest.raises(
        MedsegError, match=r"1 value\(s\) given twice, first: table=4 dataset=busi .* metric=dice"
    ):
        read_published(write(tmp_path, TIDY.replace("5,busi", "4,busi")))


def test_a_column_per_metric_and_columns_of_other_names(tmp_path: Path) -> None:
    path = write(tmp_path, "network,criterion,data,DSC,iou\nunet,dice,busi,72.5,60\nunet,bce,busi,71,\n")
    columns = {"loss": "criterion", "dice": "DSC"}
    found = read_published(path, columns, percent=True)
    assert found.to_dict("list") == {
        "table": [""] * 3,
        "dataset": ["busi"] * 3,
        "model": ["unet"] * 3,
        "loss": ["dice", "bce", "dice"],
        "metric": ["dice", "dice", "iou"],
        "value": [0.725, 0.71, 0.6],
    }


@pytest.mark.parametrize(
    ("text", "arguments", "words"),
    [
        (TIDY, {"tables": ["6"]}, "unknown table '6'. Known: 4, 5"),
        (TIDY, {"columns": {"model": "modell"}}, "unknown column 'modell'. Did you mean 'model'"),
        (TIDY.replace("0.716", "n.s."), {}, "row 4: value 'n.s.' is not a number"),
        ("dataset,value\nbusi,1\n", {}, "none 'metric'"),
        ("dataset,model,score\nbusi,unet,1\n", {}, "one named after a metric; it has dataset, model, score"),
        ("paper,metric,value\nx,dice,1\n", {}, "nothing says what was measured"),
        ("dataset,metric,value\nbusi,dice,\n", {}, "no value is published there"),
    ],
)
def test_mistakes(tmp_path: Path, text: str, arguments: dict, words: str) -> None:
    with pytest.raises(MedsegError) as error:
        read_published(write(tmp_path, text), **arguments)
    assert words in str(error.value) and "published.csv" in str(error.value)


def test_a_wrong_value_of_a_wide_table_is_named_by_its_row(tmp_path: Path) -> None:
    path = write(tmp_path, "dataset,dice,iou\na,1,1\nb,1,?\n")
    with pytest.raises(MedsegError, match="row 3: value '\\?'"):
        read_published(path)


def test_aliases() -> None:
    aliases = Aliases({("model", "eff"): "efficientnetv2_s", ("metric", "iou"): "mean_iou"})
    assert aliases.ours("model", "eff", {"efficientnetv2_s"}) == ("efficientnetv2_s",)
    assert aliases.ours("model", "eff", {"eff"}) == ()
    assert aliases.ours("metric", "iou", {"iou", "mean_iou"}) == ("mean_iou",)
    # known ones count only where the published name is none of ours
    assert aliases.ours("model", "efficientnetv2", {"efficientnetv2_s"}) == ("efficientnetv2_s",)
    assert aliases.ours("model", "efficientnetv2", {"efficientnetv2", "efficientnetv2_s"}) == (
        "efficientnetv2",
    )
    assert aliases.ours("dataset", "busi", {"busi_lesions"}) == ("busi_lesions",)
    assert aliases.ours("model", "unet", {"vgg19"}) == ()


def test_aliases_of_nothing_published() -> None:
    published = pd.DataFrame({"table": [""], "model": ["unet"], "metric": ["dice"], "value": [0.5]})
    Aliases({("model", "unet"): "x"}).check(published)
    with pytest.raises(MedsegError, match="unknown published model 'unett'. Did you mean 'unet'"):
        Aliases({("model", "unett"): "x"}).check(published)
    with pytest.raises(MedsegError, match="unknown column of an alias 'loss'"):
        Aliases({("loss", "dice"): "x"}).check(published)
