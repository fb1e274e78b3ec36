"""The registered data sets of classes, drawn in their own layouts, and as they lie in the real folders."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from medseg.data.datasets import DATASETS, bhi
from medseg.data.datasets.phantom_class import PER_PATIENT, class_image
from medseg.data.index import FaultyFiles, build_index
from medseg.data.splits import make_splits
from medseg.errors import MedsegError

TILES = [("10253", 0, "x1_y51"), ("10253", 1, "x51_y51"), ("9036", 0, "x1_y1"), ("9036", 0, "x101_y1")]


def noise(seed: int, height: int = 50, width: int = 50, colours: int = 3) -> np.ndarray:
    shape = (height, width, colours) if colours > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def tiles(tmp_path: Path, save) -> Path:
    """Four tiles of two patients in the folder that the archive holds, the last one cut by the slide's edge."""
    top = tmp_path / "download" / "IDC_regular_ps50_idx5"
    for i, (patient, kind, place) in enumerate(TILES):
        pixels = noise(i, height=13 if i == 3 else 50)
        save(top / patient / str(kind) / f"{patient}_idx5_{place}_class{kind}.png", pixels)
    return top


def test_tiles_tell_patient_and_class_by_their_names(tiles):
    index = build_index("bhi", tiles.parent)
    assert index.root == tiles.resolve()
    assert [(s.case, s.group, s.classes) for s in index.samples] == [
        ("9036_idx5_x1_y1_class0", "9036", ("no IDC",)),
        ("9036_idx5_x101_y1_class0", "9036", ("no IDC",)),
        ("10253_idx5_x1_y51_class0", "10253", ("no IDC",)),
        ("10253_idx5_x51_y51_class1", "10253", ("IDC",)),
    ]
    assert [s.height for s in index.samples] == [50, 13, 50, 50]
    assert build_index("bhi", tiles).fingerprint == index.fingerprint


def test_tiles_in_one_folder_are_the_same_set(tiles, tmp_path):
    (tmp_path / "flat").mkdir()
    for file in tiles.rglob("*.png"):
        (tmp_path / "flat" / file.name).write_bytes(file.read_bytes())
    flat = build_index("bhi", tmp_path / "flat")
    assert flat.fingerprint == build_index("bhi", tiles).fingerprint
    assert flat.samples[0].image == "9036_idx5_x1_y1_class0.png"


@pytest.mark.parametrize(
    ("to", "reason"),
    [
        ("9036/1/9036_idx5_x1_y1_class0.png", "the name says class 0, the folder 1"),
        ("10253/0/9036_idx5_x1_y1_class0.png", "the name says patient 9036, the folder 10253"),
        ("9036/0/9036_class0.png", "the name is not like 10253_idx5_x1001_y1001_class0.png"),
    ],
)
def test_a_tile_in_the_wrong_folder_is_a_fault(tiles, to, reason):
    (tiles / to).parent.mkdir(exist_ok=True)
    (tiles / "9036/0/9036_idx5_x1_y1_class0.png").rename(tiles / to)
    with pytest.raises(FaultyFiles, match=reason):
        build_index("bhi", tiles)
    index = build_index("bhi", tiles, skip_faulty=True)
    assert ([fault.file for fault in index.faults], len(index.samples)) == ([to], 3)


def test_bhi_is_not_found_elsewhere(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(MedsegError, match="Breast Histopathology Images not found"):
        build_index("bhi", tmp_path / "empty")


def test_chest_xrays_are_grouped_by_the_patient_where_all_names_tell_it(tmp_path, save):
    for i, name in enumerate(
        ("pneumonia/00000013_000", "pneumonia/00000013_004", "no_findings/00000013_001")
    ):
        save(tmp_path / "cx" / f"{name}.png", noise(i, colours=1))
    index = build_index("chest_xray", tmp_path)
    assert [label.name for label in index.labels] == ["no finding", "pneumonia"]
    assert [(s.case, s.group, s.classes) for s in index.samples] == [
        ("00000013_001", "00000013", ("no finding",)),
        ("00000013_000", "00000013", ("pneumonia",)),
        ("00000013_004", "00000013", ("pneumonia",)),
    ]
    save(tmp_path / "cx/pneumonia/person1.png", noise(9, colours=1))
    assert build_index("chest_xray", tmp_path).groups == 4


HEAD = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],"
)
ROWS = [
    "00000001_000.png,Cardiomegaly|Emphysema,0,1,58,M,PA,2682,2749,0.143,0.143,",
    "00000001_001.png,No Finding,1,1,58,M,PA,2894,2729,0.143,0.143,",
    "00000002_000.png,Pleural_Thickening,0,2,81,M,AP,2500,2048,0.168,0.168,",
    "00000003_000.png,Hernia,0,3,81,F,PA,2582,2991,0.143,0.143,",
]


@pytest.fixture
def nih(tmp_path: Path, save) -> Path:
    """Three of four images of the table, in two of the archive's folders, with the lists of the official parts."""
    top = tmp_path / "nih"
    for i, name in enumerate(
        ("001/images/00000001_000", "001/images/00000001_001", "002/images/00000002_000")
    ):
        save(top / f"images_{name}.png", noise(i, colours=1))
    (top / "Data_Entry_2017_v2020.csv").write_text("\n".join([HEAD, *ROWS]) + "\n")
    (top / "train_val_list.txt").write_text("00000001_000.png\n00000001_001.png\n")
    (top / "test_list.txt").write_text("00000002_000.png\n00000003_000.png")
    return top


def test_the_table_of_nih_has_several_findings_of_an_image_and_the_patient(nih):
    index = build_index("chest_xray14", nih.parent)
    assert (index.multilabel, len(index.labels), index.expected) == (True, 14, 112120)
    assert [(s.image, s.classes, s.group, s.part) for s in index.samples] == [
        ("images_001/images/00000001_000.png", ("cardiomegaly", "emphysema"), "1", "training"),
        ("images_001/images/00000001_001.png", (), "1", "training"),
        ("images_002/images/00000002_000.png", ("pleural thickening",), "2", "testing"),
    ]
    assert not index.faults
    assert index.targets().sum() == 3


def test_an_unknown_finding_is_a_fault(nih):
    table = nih / "Data_Entry_2017_v2020.csv"
    table.write_text(table.read_text().replace("|Emphysema", "|Emphisema"))
    with pytest.raises(FaultyFiles, match="class 'Emphisema' is none of atelectasis, "):
        build_index("chest_xray14", nih)


def test_an_image_in_both_lists_is_refused(nih):
    (nih / "test_list.txt").write_text("00000001_000.png")
    with pytest.raises(MedsegError, match=r"test_list.txt: 00000001_000.png is also in train_val_list.txt"):
        build_index("chest_xray14", nih)


def test_without_lists_there_are_no_official_parts(nih):
    for name in ("train_val_list.txt", "test_list.txt"):
        (nih / name).unlink()
    assert {s.part for s in build_index("chest_xray14", nih).samples} == {None}


def test_busi_classes_leave_the_masks_alone(tmp_path, save):
    for i, kind in enumerate(("benign", "malignant", "normal")):
        save(tmp_path / kind / f"{kind} (1).png", noise(i))
        save(tmp_path / kind / f"{kind} (1)_mask.png", np.zeros((50, 50), np.uint8))
    index = build_index("busi_class", tmp_path)
    assert [(s.case, s.classes) for s in index.samples] == [
        (f"{kind} (1)", (kind,)) for kind in ("benign", "malignant", "normal")
    ]
    assert index.targets().tolist() == [[0, 1, 0], [0, 0, 1], [1, 0, 0]]


def test_the_drawn_classes_are_the_same_each_time(tmp_path):
    index = build_index("phantom_class", tmp_path / "a")
    assert (len(index.samples), index.groups) == (180, 30)
    assert min(index.class_counts().values()) > 40
    assert index.fingerprint == build_index("phantom_class", tmp_path / "b").fingerprint
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "mine.txt").touch()
    with pytest.raises(MedsegError, match="not empty, so the phantom is not drawn there"):
        build_index("phantom_class", tmp_path / "c")


def test_who_knows_the_patient_of_the_phantom_knows_much_of_the_class():
    drawn = [class_image(i, 64, 42) for i in range(180)]
    coarse = np.array([image.reshape(8, 8, 8, 8).mean((1, 3)).ravel() for image, _ in drawn])
    classes, patients = np.array([kind for _, kind in drawn]), np.arange(180) // PER_PATIENT
    apart = ((coarse[:, None] - coarse[None]) ** 2).sum(-1)
    np.fill_diagonal(apart, np.inf)
    with_patient = (classes[apart.argmin(1)] == classes).mean()
    apart[patients[:, None] == patients] = np.inf
    without = (classes[apart.argmin(1)] == classes).mean()
    assert with_patient > 0.7
    assert without < 0.5


@pytest.mark.parametrize("count, size", [(0, 64), (10, 8)])
def test_a_phantom_of_nothing_is_refused(count, size):
    with pytest.raises(MedsegError, match="at least 1 image of 16 pixels"):
        DATASETS.build("phantom_class", {"count": count, "size": size})


@pytest.mark.parametrize(
    ("name", "folder", "counts", "groups"),
    [
        ("chest_xray", "resized320", {"no finding": 104, "pneumonia": 104}, 173),
        ("busi_class", "resized224/busi", {"normal": 107, "benign": 350, "malignant": 168}, 625),
    ],
)
def test_the_real_folders(shared_data, name, folder, counts, groups):
    index = build_index(name, shared_data / folder)
    assert (index.class_counts(), index.groups, index.faults) == (counts, groups, ())


def test_the_real_tiles(shared_data, tmp_path):
    top = shared_data / "original/bhi/IDC_regular_ps50_idx5"
    listed = bhi.index(top)
    assert len({sample.group for sample in listed}) == 120
    assert Counter(sample.classes for sample in listed) == {("no IDC",): 2899, ("IDC",): 1128}
    for patient in sorted(folder.name for folder in top.iterdir())[:24]:
        (tmp_path / patient).symlink_to(top / patient)
    index = build_index("bhi", tmp_path)
    assert (index.groups, index.faults, index.duplicates) == (24, (), ())
    split = make_splits(index, repeats=1).items(0)
    share = [sum(item["label"] for item in items) / len(items) for items in split.values()]
    assert share == pytest.approx([index.class_counts()["IDC"] / len(index.samples)] * 3, abs=0.02)


def test_the_set_of_classes_of_the_page_works(tmp_path, save, monkeypatch):
    page = Path(__file__).parents[2] / "docs/extending/add_a_dataset.md"
    code = next(
        c for c in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL) if "my_classes" in c
    )
    monkeypatch.setattr(DATASETS, "_entries", {entry.name: entry for entry in DATASETS})
    exec(compile(code, str(page), "exec", dont_inherit=True), {})
    for i, kind in enumerate(("benign", "malignant")):
        save(tmp_path / kind / f"p{i}_1.png", noise(i))
    index = build_index("my_classes", tmp_path)
    assert [(s.group, s.classes) for s in index.samples] == [("p0", ("benign",)), ("p1", ("malignant",))]
