"""Images with classes: folders, tables, what an index says of them, and what is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medseg.data.class_folders import by_folder
from medseg.data.class_table import Table, from_csv
from medseg.data.duplicates import united
from medseg.data.index import FaultyFiles, build_index
from medseg.data.index_file import Index, read_index, write_index
from medseg.data.reading import read_sample
from medseg.data.splits import make_splits
from medseg.data.store import refreshed
from medseg.errors import MedsegError


def noise(seed: int, size: int = 12) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)


@pytest.fixture
def tree(tmp_path: Path, save) -> Path:
    """Three cats, two dogs, one bird, of three animals each named a or b."""
    for i, name in enumerate(("cat/a_1", "cat/a_2", "cat/b_1", "dog/a_3", "dog/sub/b_2", "bird/b_3")):
        save(tmp_path / "tree" / f"{name}.png", noise(i))
    (tmp_path / "tree" / "cat" / "notes.txt").write_text("none")
    return tmp_path / "tree"


@pytest.fixture
def table(tmp_path: Path, save) -> Path:
    """Four scans in a folder and a table of their findings, the last scan without."""
    for i in range(4):
        save(tmp_path / "scans" / "images" / f"s{i}.png", noise(i))
    rows = ["file,finding,patient,set", "s0.png,mass|edema,p0,train", "images/s1.png,edema,p0,train"]
    rows += ["s2,mass,p1,val", "s3.png,,p2,test"]
    (tmp_path / "scans" / "labels.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return tmp_path / "scans"


COLUMNS = Table("labels.csv", "file", ("finding",), "patient", "set")


def test_folders_are_classes_in_natural_order(tree):
    index = build_index("animals", tree, classes="{class}/*")
    assert (index.task, index.multilabel) == ("classification", False)
    assert [label.name for label in index.labels] == ["bird", "cat", "dog"]
    assert [(s.image, s.classes, s.masks) for s in index.samples] == [
        ("bird/b_3.png", ("bird",), ()),
        ("cat/a_1.png", ("cat",), ()),
        ("cat/a_2.png", ("cat",), ()),
        ("cat/b_1.png", ("cat",), ()),
        ("dog/a_3.png", ("dog",), ()),
    ]
    assert [s.group for s in index.samples] == ["b_3", "a_1", "a_2", "b_1", "a_3"]
    assert index.targets().tolist() == [[1, 0, 0], [0, 1, 0], [0, 1, 0], [0, 1, 0], [0, 0, 1]]
    assert index.class_counts() == {"bird": 1, "cat": 3, "dog": 1}
    assert {s.lesion_fraction for s in index.samples} == {0}


def test_folders_below_a_class_and_groups_by_expression(tree):
    index = build_index("animals", tree, classes="{class}/**/*", group=r"(?P<group>[ab])_\d")
    assert [s.image for s in index.samples if s.classes == ("dog",)] == ["dog/a_3.png", "dog/sub/b_2.png"]
    assert index.groups == 2
    picture, mask = read_sample(index, index.samples[0])
    assert picture.values.shape == (3, 12, 12)
    assert (mask.shape, int(mask.sum())) == ((12, 12), 0)


def test_parts_in_the_folders_become_official_ones(tmp_path, save):
    for i, name in enumerate(("train/x/1", "train/y/2", "Test/x/1", "valid/y/4", "Test/y/5")):
        save(tmp_path / "t" / f"{name}.png", noise(i))
    index = build_index("parted", tmp_path / "t", classes="{part}/{class}/*")
    parts = {s.image.split("/")[0]: s.part for s in index.samples}
    assert parts == {"train": "training", "Test": "testing", "valid": "validation"}
    # two files share a stem: those two are named by their paths
    assert sorted(s.case for s in index.samples) == ["2", "4", "5", "Test_x_1", "train_x_1"]
    repeat = make_splits(index, "official").items(0)
    assert [item["label"] for item in repeat["testing"]] == [0, 1]


def test_a_part_of_a_name_may_be_the_class(tmp_path, save):
    for i, name in enumerate(("a_benign", "b_malignant", "c_malignant")):
        save(tmp_path / "t" / f"{name}.png", noise(i))
    assert build_index("n", tmp_path / "t", classes="*_{class}.png").class_counts() == {
        "benign": 1,
        "malignant": 2,
    }


def test_named_folders_leave_the_others_out(tree):
    samples = by_folder("{class}/*", names={"cat": "felis", "dog": "canis"}, exclude="*a_2*")(tree)
    assert [(s.case, s.classes) for s in samples] == [
        ("a_1", ("felis",)),
        ("b_1", ("felis",)),
        ("a_3", ("canis",)),
    ]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"classes": "*/*"}, "pattern of classes '\\*/\\*': needs {class} once"),
        ({"classes": "{class}/{class}"}, "needs {class} once"),
        ({"classes": "../{class}/*"}, "must be relative to the data folder"),
        ({"classes": "{class}/*", "images": "*"}, "--classes says itself which files are images"),
        ({"classes": "{class}/*", "masks": "m/{stem}"}, "without --masks and --label"),
        ({"classes": "{class}/*", "table": COLUMNS}, "from --classes or from --table"),
        ({"classes": "{class}/*", "multilabel": True}, "leave --images and --multilabel out"),
        ({"table": COLUMNS, "group": "(?P<group>x)"}, "give one of the two"),
        ({"classes": "{part}/{class}*"}, "'bird' is no part of a split; train, val, test are"),
        ({"classes": "c{class}t/*"}, "the classes found are a; at least two"),
    ],
)
def test_patterns_that_cannot_be_meant(tree, more, message):
    with pytest.raises(MedsegError, match=message):
        build_index("animals", tree, **more)


def test_a_table_of_several_classes(table):
    index = build_index("scans", table, table=COLUMNS, multilabel=True, channels=1)
    assert [label.name for label in index.labels] == ["edema", "mass"]
    assert [(s.case, s.classes, s.group, s.part) for s in index.samples] == [
        ("s0", ("mass", "edema"), "p0", "training"),
        ("s1", ("edema",), "p0", "training"),
        ("s2", ("mass",), "p1", "validation"),
        ("s3", (), "p2", "testing"),
    ]
    assert index.targets().tolist() == [[1, 1], [1, 0], [0, 1], [0, 0]]
    items = make_splits(index, "official").items(0)
    assert [(item["label"], item["classes"]) for part in items.values() for item in part] == [
        ([1, 1], ["mass", "edema"]),
        ([1, 0], ["edema"]),
        ([0, 1], ["mass"]),
        ([0, 0], []),
    ]


def test_columns_of_zero_and_one(table):
    rows = ["image,edema,mass", "s0,1.0,0.0", "s1,0,1", "s2,yes,no"]
    (table / "hot.csv").write_text("\ufeff" + "\n".join(rows), encoding="utf-8")
    hot = Table("hot.csv", "image", ("mass", "edema"))
    index = build_index("hot", table, table=hot)
    assert [label.name for label in index.labels] == ["mass", "edema"]
    assert [s.classes for s in index.samples] == [("edema",), ("mass",), ("edema",)]
    assert [s.group for s in index.samples] == ["s0", "s1", "s2"]
    (table / "hot.csv").write_text(rows[0] + "\ns0,2,0\n")
    with pytest.raises(
        MedsegError, match="hot.csv, line 2: column edema is '2'; a column of one class holds 0 or 1"
    ):
        build_index("hot", table, table=hot)
    (table / "hot.csv").write_text(rows[0] + "\ns0,1,1\ns1,1,0\ns2,0,0\n")
    with pytest.raises(FaultyFiles, match="needs one class; it has mass, edema") as caught:
        build_index("hot", table, table=hot)
    assert [fault.case for fault in caught.value.faults] == ["s0", "s2"]
    assert "hot: 2 faulty images; mend them" in str(caught.value)
    assert build_index("hot", table, table=hot, multilabel=True).targets().tolist() == [
        [1, 1],
        [0, 1],
        [0, 0],
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,finding\n", "unknown column of .*labels.csv 'file'"),
        ("file,finding,patient,set\n,x,p,\n", "labels.csv, line 2: column file is empty"),
        (
            "file,finding,patient,set\ns0,x,,\n",
            "line 2: column patient is empty; every image needs its group",
        ),
        ("file,finding,patient,set\ns0,x,p,later\n", "line 2: 'later' is no part of a split"),
        (
            "file,finding,patient,set\ns9,x,p,\ns0,y,p,\ns1,z,p,\n",
            "s9: the row of the table has no image .s9.; restore",
        ),
        (
            "file,finding,patient,set\n../up,x,p,\ns0,y,p,\ns1,z,p,\n",
            "../up: the row of the table has no image",
        ),
        ("file,finding,patient,set,file\n", "2 columns are called file"),
        ("file,finding,patient,set\ns0,x,p,\ns0,y,p,\n", "2 images share this name"),
        (
            "file,finding,patient,set\ns0,x|y,p,\ns1,y,p,\n",
            "line 2: column finding names several classes, 'x.y'; if",
        ),
        ("file,finding,patient,set\ns0,x,p,\ns1,x,p,\n", "the classes found are x; at least two"),
    ],
)
def test_tables_with_mistakes(table, text, message, save):
    save(table.parent / "up.png", noise(7))  # beside the data folder, where nothing is read
    (table / "labels.csv").write_text(text)
    with pytest.raises(MedsegError, match=message):
        build_index("scans", table, table=COLUMNS)


def test_a_name_that_two_files_share_must_be_a_path(table, save):
    usual = build_index("scans", table, table=COLUMNS, multilabel=True)
    save(table / "more" / "s0.png", noise(9))
    with pytest.raises(MedsegError, match=r"line 2: s0.png may be images/s0.png or more/s0.png"):
        from_csv(COLUMNS, multilabel=True)(table)
    narrow = build_index("scans", table, table=COLUMNS, multilabel=True, images="images/*")
    assert narrow.samples == usual.samples
    assert refreshed(narrow, None) is narrow
    text = (table / "labels.csv").read_text().replace("s0.png", "more/s0", 1)
    (table / "labels.csv").write_text(text)
    both = build_index("scans", table, table=COLUMNS, multilabel=True)
    assert [s.case for s in both.samples] == ["more_s0", "s1", "s2", "s3"]


def test_the_table_is_named_from_the_data_folder(table, tmp_path):
    assert Table.found(Path("labels.csv"), table, "file", ["finding"]).file == "labels.csv"
    assert Table.found(table / "labels.csv", table, "file", ["finding"]).file == "labels.csv"
    apart = tmp_path / "apart.csv"
    shutil.copy(table / "labels.csv", apart)
    assert Table.found(apart, table, "file", ["finding"]).file == str(apart)
    with pytest.raises(MedsegError, match="gone.csv: no such table"):
        build_index("scans", table, table=Table("gone.csv", "file", ("finding",)))


def test_the_index_comes_back_from_its_file_and_the_folder_is_read_again(table, tmp_path):
    index = build_index("scans", table, table=COLUMNS, multilabel=True)
    write_index(index, tmp_path / "index.json")
    again = read_index(tmp_path / "index.json")
    assert again == index
    assert refreshed(again, None) is again
    moved = table.rename(table.with_name("moved"))
    assert refreshed(again, moved).root == moved


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("s2,mass", "s2,edema", "classes of images/s2.png"),
        ("mass,p1", "mass,p2", "group of images/s2.png"),
        ("p1,val", "p1,test", "part of images/s2.png"),
    ],
)
def test_a_corrected_table_asks_for_a_new_index(table, old, new, what):
    index = build_index("scans", table, table=COLUMNS, multilabel=True)
    text = (table / "labels.csv").read_text()
    (table / "labels.csv").write_text(text.replace(old, new))
    with pytest.raises(MedsegError, match=f"{what} changed since the index was made; run 'medseg data index"):
        refreshed(index, None)


def test_a_file_that_moves_to_another_class_asks_for_a_new_index(tree):
    index = build_index("animals", tree, classes="{class}/*")
    (tree / "cat" / "a_1.png").rename(tree / "dog" / "a_1.png")
    with pytest.raises(MedsegError, match=r"cat/a_1.png is gone since the index was made"):
        refreshed(index, None)


def test_the_same_picture_in_two_classes_is_told_and_one_group(tree):
    shutil.copy(tree / "cat" / "a_1.png", tree / "dog" / "copy.png")
    shutil.copy(tree / "cat" / "b_1.png", tree / "cat" / "twin.png")
    index = build_index("animals", tree, classes="{class}/*")
    assert index.duplicates == (("a_1", "copy"), ("b_1", "twin"))
    assert index.contradictions == (("a_1", "copy"),)
    groups = {s.case: s.group for s in index.samples}
    assert (groups["copy"], groups["twin"]) == ("a_1", "b_1")
    assert refreshed(index, None) is index


def test_blank_images_are_no_duplicates_of_each_other(tree, save):
    for name in ("cat/blank1", "dog/blank2", "dog/blank3"):
        save(tree / f"{name}.png", np.full((12, 12, 3), 255, np.uint8))
    index = build_index("animals", tree, classes="{class}/*")
    assert index.duplicates == ()
    assert {s.group for s in index.samples} >= {"blank1", "blank2", "blank3"}


def test_united_groups_have_the_first_name():
    groups = {"a": "p10", "b": "p9", "c": "p1", "d": "p2"}
    assert united(groups, [("a", "b")]) == {"a": "p9", "b": "p9", "c": "p1", "d": "p2"}
    assert united(groups, [("a", "b"), ("b", "c")]) == {"a": "p1", "b": "p1", "c": "p1", "d": "p2"}


def test_a_broken_file_is_a_fault_and_the_rest_stays(tree):
    (tree / "cat" / "a_1.png").write_bytes(b"no picture")
    with pytest.raises(FaultyFiles, match="animals: 1 faulty image;"):
        build_index("animals", tree, classes="{class}/*")
    index = build_index("animals", tree, classes="{class}/*", skip_faulty=True)
    assert [fault.case for fault in index.faults] == ["a_1"]
    assert len(index.samples) == 4


def test_the_fingerprint_knows_the_classes(tree):
    index = build_index("animals", tree, classes="{class}/*")
    first, *rest = index.samples
    other = replace(index, samples=(replace(first, classes=("dog",)), *rest))
    turned = replace(index, labels=index.labels[::-1])
    prints = {i.fingerprint for i in (index, other, turned, replace(index, multilabel=True))}
    assert len(prints) == 4


def test_an_index_of_masks_says_nothing_of_classes(lesions, own, tmp_path):
    index: Index = build_index("mine", lesions(4), **own)
    write_index(index, tmp_path / "index.json")
    document = json.loads((tmp_path / "index.json").read_text())
    assert "classes" not in document["samples"][0]
    # as written before there were classes
    for name in ("task", "multilabel"):
        del document[name]
    for name in ("classes", "table", "multilabel"):
        del document["rules"][name]
    (tmp_path / "old.json").write_text(json.dumps(document))
    assert read_index(tmp_path / "old.json") == index
