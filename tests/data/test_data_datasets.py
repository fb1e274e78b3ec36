from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from medseg.data.datasets import DATASETS
from medseg.data.datasets.cvc_clinicdb import SEQUENCE_ENDS, sequence
from medseg.data.index import build_index
from medseg.data.splits import make_splits
from medseg.errors import MedsegError

#: name -> images with their masks, in the official layout
OFFICIAL = {
    "kvasir_seg": [("images/cju0.jpg", ["masks/cju0.jpg"]), ("images/cju1.jpg", ["masks/cju1.jpg"])],
    "cvc_clinicdb": [
        ("Original/1.tif", ["Ground Truth/1.tif"]),
        ("Original/26.tif", ["Ground Truth/26.tif"]),
        ("Original/25.tif", ["Ground Truth/25.tif"]),
    ],
    "isic2017": [
        (
            f"ISIC-2017_{folder}_Data/ISIC_{i}.jpg",
            [f"ISIC-2017_{folder}_Part1_GroundTruth/ISIC_{i}_segmentation.png"],
        )
        for i, folder in enumerate(("Training", "Validation", "Test_v2"))
    ],
    "foot_ulcer": [
        (f"{folder}/images/{i}.png", [f"{folder}/labels/{i}.png"])
        for i, folder in enumerate(("train", "validation"))
    ],
    "busi_benign": [
        ("benign/benign (1).png", ["benign/benign (1)_mask.png"]),
        ("benign/benign (4).png", ["benign/benign (4)_mask.png", "benign/benign (4)_mask_1.png"]),
    ],
    "busi_malignant": [("malignant/malignant (1).png", ["malignant/malignant (1)_mask.png"])],
    "busi_lesions": [
        (f"{kind}/{kind} (1).png", [f"{kind}/{kind} (1)_mask.png"]) for kind in ("benign", "malignant")
    ],
    "busi": [
        (f"{kind}/{kind} (1).png", [f"{kind}/{kind} (1)_mask.png"])
        for kind in ("benign", "malignant", "normal")
    ],
}
#: sets whose layout takes more than a few files, with a test file of their own
APART = {"phantom", "mini_mias", "cbis_ddsm", "cbis_ddsm_mass"}
#: sets of classes, see test_data_class_sets.py
CLASSES = {"bhi", "busi_class", "chest_xray", "chest_xray14", "phantom_class"}
#: files that lie in the official folders and are no samples
BESIDE = {
    "isic2017": [
        "ISIC-2017_Training_Data/ISIC_0_superpixels.png",
        "ISIC-2017_Training_Data/ISIC_0_extra.csv",
    ],
    "foot_ulcer": ["test/images/9.png"],
    "busi_benign": ["normal/normal (1).png", "normal/normal (1)_mask.png", "malignant/malignant (1).png"],
}


def draw_official(top: Path, name: str) -> Path:
    rng = np.random.default_rng(0)
    for image, masks in OFFICIAL[name]:
        files = [(image, rng.integers(0, 256, (32, 32, 3), dtype=np.uint8))]
        files += [
            (mask, np.kron(np.eye(2)[:: 1 - 2 * i], np.full((16, 16), 255)).astype(np.uint8))
            for i, mask in enumerate(masks)
        ]
        for file, pixels in files:
            (top / file).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(top / file)
    for file in BESIDE.get(name, []):
        (top / file).parent.mkdir(parents=True, exist_ok=True)
        (top / file).touch()
    return top


@pytest.mark.parametrize("name", OFFICIAL)
def test_the_official_layout_is_read(tmp_path, name):
    index = build_index(name, draw_official(tmp_path / "download" / "Official Name", name).parent)
    assert sorted((s.image, list(s.masks)) for s in index.samples) == sorted(OFFICIAL[name])
    assert not index.faults


def test_every_set_is_tested_and_described():
    assert {*OFFICIAL, *APART} == set(DATASETS.names("segmentation"))
    assert set(DATASETS.names("classification")) == CLASSES
    for entry in DATASETS:
        spec = entry.build()
        assert spec.title and spec.licence and spec.citation and spec.notes
        assert spec.expected > 0 or entry.name == "chest_xray"  # a choice of any size
        assert spec.task == entry.task
        assert spec.channels in (1, 3)
        assert re.match("https?://", spec.homepage) or entry.name.startswith("phantom")
        assert re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)*", entry.name)
        for label in spec.labels:
            assert label.code is None or (
                label.code[0].isdigit() and label.code[1] == "SCT" and label.code[2]
            )


def test_official_parts(tmp_path):
    parts = [s.part for s in build_index("isic2017", draw_official(tmp_path / "i", "isic2017")).samples]
    assert parts == ["training", "validation", "testing"]
    parts = [s.part for s in build_index("foot_ulcer", draw_official(tmp_path / "f", "foot_ulcer")).samples]
    assert parts == ["training", "validation"]


def test_busi_masks_are_united(tmp_path):
    index = build_index("busi_benign", draw_official(tmp_path, "busi_benign"))
    # the second mask of (4) marks the other half
    assert [s.lesion_fraction for s in index.samples] == [0.5, 1.0]


def test_busi_has_three_categories_and_two_of_them_are_lesions(tmp_path):
    top = draw_official(tmp_path, "busi")
    Image.new("L", (32, 32)).save(top / "normal/normal (1)_mask.png")
    shutil.copy(top / "benign/benign (1).png", top / "malignant/malignant (1).png")
    index = build_index("busi", top)
    assert [(s.case, s.category, s.lesion_fraction > 0) for s in index.samples] == [
        ("benign (1)", "benign", True),
        ("malignant (1)", "malignant", True),
        ("normal (1)", "normal", False),
    ]
    # one picture in two categories is still one group
    assert [s.group for s in index.samples] == ["benign (1)", "benign (1)", "normal (1)"]
    assert [s.category for s in build_index("busi_lesions", top).samples] == ["benign", "malignant"]
    assert [s.category for s in build_index("busi_benign", top).samples] == [None]


def test_cvc_frames_know_their_video(tmp_path):
    index = build_index("cvc_clinicdb", draw_official(tmp_path, "cvc_clinicdb"))
    assert {s.case: s.group for s in index.samples} == {
        "1": "sequence_01",
        "25": "sequence_01",
        "26": "sequence_02",
    }
    assert len(SEQUENCE_ENDS) == 29
    assert {sequence(str(i)) for i in range(1, 613)} == {f"sequence_{i:02d}" for i in range(1, 30)}
    assert (sequence("591"), sequence("592"), sequence("612")) == (
        "sequence_28",
        "sequence_29",
        "sequence_29",
    )
    for wrong in ("0", "613", "frame1", "-3"):
        with pytest.raises(MedsegError, match="no frame number from 1 to 612"):
            sequence(wrong)


def phantom(folder: Path, **arguments: int) -> tuple[np.ndarray, np.ndarray]:
    DATASETS.build("phantom", **arguments).draw(folder)
    names = sorted(path.name for path in (folder / "images").iterdir())
    stacks = (
        np.stack([np.asarray(Image.open(folder / kind / n)) for n in names]) for kind in ("images", "masks")
    )
    return tuple(stacks)


def test_the_phantom_is_drawn_alike_each_time_and_otherwise_with_another_seed(tmp_path):
    first = phantom(tmp_path / "a", count=4, size=32)
    again = phantom(tmp_path / "b", count=4, size=32)
    other = phantom(tmp_path / "c", count=4, size=32, seed=1)
    assert all(np.array_equal(*pair) for pair in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])
    # fewer images are the first of more
    assert np.array_equal(phantom(tmp_path / "d", count=2, size=32)[0], first[0][:2])


def dice(predicted: np.ndarray, masks: np.ndarray) -> float:
    both, sum_ = (predicted & masks).sum((1, 2)), predicted.sum((1, 2)) + masks.sum((1, 2))
    return float(np.where(sum_ == 0, 1, 2 * both / np.maximum(sum_, 1)).mean())


def test_a_threshold_does_not_solve_the_phantom(tmp_path):
    images, masks = phantom(tmp_path / "p")
    assert (images.shape, images.dtype) == ((120, 96, 96), np.uint8)
    assert set(np.unique(masks)) == {0, 255}
    found = masks > 127
    shares = found.mean((1, 2))
    assert (shares == 0).sum() == 8
    assert shares.max() > 10 * shares[shares > 0].min()
    for blur in (0, 2, 4):
        smooth = np.stack(
            [np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(blur))) for image in images]
        )
        # the best threshold of all for this very set still does badly
        assert max(dice(smooth < t, found) for t in range(40, 220, 6)) < 0.5


def test_the_phantom_takes_no_foreign_folder_and_finishes_a_half_drawn_one(tmp_path):
    (tmp_path / "holiday.txt").touch()
    with pytest.raises(MedsegError, match="not empty, so the phantom is not drawn there"):
        build_index("phantom", tmp_path)
    half = tmp_path / "half"
    (half / "drawing").mkdir(parents=True)
    (half / "drawing/stale.png").touch()
    index = build_index("phantom", half)
    assert (len(index.samples), index.groups, index.channels) == (120, 30, 1)
    assert index.samples[0].group == "patient000"


def test_the_phantom_needs_room():
    with pytest.raises(MedsegError, match="count is 0"):
        DATASETS.build("phantom", count=0)


@pytest.mark.parametrize(
    ("name", "folder", "images", "groups", "empty"),
    [
        ("busi_malignant", "resized224/busi", 168, 168, 0),
        ("busi", "resized224/busi", 625, 625, 107),
        ("busi_lesions", "original/busi", 18, 18, 0),
        ("cvc_clinicdb", "resized224/cvc-clinicdb", 503, 24, 0),
        ("foot_ulcer", "resized224/foot-ulcer", 1010, 985, 24),
        ("cvc_clinicdb", "original/cvc-clinicdb-tif", 3, 3, 0),
        ("busi_benign", "original/busi", 12, 12, 0),
        ("isic2017", "original/isic-2017", 16, 16, 0),
    ],
)
def test_real_sets(shared_data, name, folder, images, groups, empty):
    index = build_index(name, shared_data / folder)
    assert (len(index.samples), index.groups) == (images, groups)
    assert sum(s.lesion_fraction == 0 for s in index.samples) == empty
    if name == "foot_ulcer":
        assert len(index.duplicates) == 24
        # seven duplicates lie in both official parts
        assert len(make_splits(index, "official", repeats=1).left_out) == 7
