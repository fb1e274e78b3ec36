from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from medseg.data.documents import digest
from medseg.data.index import FaultyFiles, build_index
from medseg.data.index_file import read_index, write_index
from medseg.data.store import refreshed
from medseg.errors import MedsegError


def test_an_index_says_what_it_saw(lesions, own):
    index = build_index("mine", lesions(4, size=16), **own, label="mole")
    assert (index.dataset, index.channels, index.depth, index.groups) == ("mine", 3, "uint8", 1)
    assert [label.name for label in index.labels] == ["mole"]
    first = index.samples[0]
    assert (first.case, first.group, first.image) == ("p0_0", "p0", "images/p0_0.png")
    assert first.masks == ("masks/p0_0.png",)
    assert (first.height, first.width) == (16, 16)
    # one row of four pixels is lesion
    assert first.lesion_fraction == pytest.approx(4 / 256)


def test_all_faults_are_found_at_once(lesions, own, save):
    top = lesions(9)
    (top / "masks/p0_0.png").unlink()
    (top / "images/p0_1.png").write_bytes(b"no image")
    save(top / "masks/p0_2.png", np.full((8, 16), 255, np.uint8))
    save(top / "masks/p0_3.png", np.full((16, 16), 7, np.uint8))
    save(top / "masks/p1_4.png", np.zeros((16, 16), np.uint8))
    save(top / "masks/p9_9.png", np.full((16, 16), 255, np.uint8))
    save(top / "images/p1_5.png", np.zeros((16, 16), np.uint16) + 300)
    Image.open(top / "images/p1_6.png").save(top / "images/p1_6.bmp")
    with pytest.raises(FaultyFiles, match="mine: 8 faulty pairs; mend them") as caught:
        build_index("mine", top, **own)
    reasons = {fault.case: fault.reason for fault in caught.value.faults}
    assert reasons == {
        "p0_0": "the image has no mask",
        "p0_1": "not an image that can be read",
        "p0_2": "mask is 16x8, image is 16x16 (width x height)",
        "p0_3": "unexpected mask values 7, wanted 0 and 255",
        "p1_4": "the mask is empty",
        "p1_5": "pixels are uint16, most images of the set uint8",
        "p1_6": "2 images share this name, as images/p1_6.bmp",
        "p9_9": "the mask has no image",
    }
    assert all(fault.file and fault.cure for fault in caught.value.faults)
    kept = build_index("mine", top, **own, skip_faulty=True)
    assert [sample.case for sample in kept.samples] == ["p1_7", "p2_8"]
    assert len(kept.faults) == 8


def test_each_rule_alone_lets_its_masks_pass(lesions, own, save):
    top = lesions(4)
    save(top / "masks/p0_0.png", np.zeros((16, 16), np.uint8))
    with pytest.raises(FaultyFiles, match="the mask is empty"):
        build_index("mine", top, **own)
    assert build_index("mine", top, **own, allow_empty=True).samples[0].lesion_fraction == 0
    save(top / "masks/p0_0.png", np.full((16, 16), 200, np.uint8))
    with pytest.raises(FaultyFiles, match="unexpected mask values 200"):
        build_index("mine", top, **own, allow_empty=True)
    assert build_index("mine", top, **own, grey_masks=True).samples[0].lesion_fraction == 1


def test_nothing_usable_and_nothing_found(lesions, own, tmp_path):
    top = lesions(1)
    (top / "masks/p0_0.png").unlink()
    with pytest.raises(MedsegError, match="every pair of mine is faulty; the first: the image has no mask"):
        build_index("mine", top, **own, skip_faulty=True)
    (tmp_path / "empty").mkdir()
    with pytest.raises(MedsegError, match="no image of mine found"):
        build_index("mine", tmp_path / "empty", **own)


def test_duplicates_unite_their_groups(lesions, own):
    top = lesions(12)
    shutil.copy(top / "images/p0_0.png", top / "images/p1_4.png")
    Image.open(top / "images/p1_5.png").save(top / "images/p2_8.bmp")  # the same pixels in another file
    (top / "images/p2_8.png").unlink()
    index = build_index("mine", top, **own)
    assert index.duplicates == (("p0_0", "p1_4"), ("p1_5", "p2_8"))
    assert {sample.group for sample in index.samples} == {"p0"}


def test_grey_and_colour_files_of_one_picture_are_duplicates(tmp_path, own, save):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)
    for name, image in (("p1_a", pixels), ("p2_b", np.stack([pixels] * 3, -1))):
        save(tmp_path / f"images/{name}.png", image)
        save(tmp_path / f"masks/{name}.png", np.full((8, 8), 255, np.uint8))
    assert build_index("mine", tmp_path, **own).duplicates == (("p1_a", "p2_b"),)


def test_the_fingerprint_follows_content_and_not_place(lesions, own, tmp_path, save):
    top = lesions(4)
    first = build_index("mine", top, **own)
    moved = shutil.copytree(top, tmp_path / "elsewhere")
    assert build_index("mine", moved, **own).fingerprint == first.fingerprint
    assert replace(first, samples=first.samples[::-1]).fingerprint == first.fingerprint
    assert build_index("mine", top, **{**own, "group": None}).fingerprint != first.fingerprint
    assert build_index("mine", top, **own, channels=1).fingerprint != first.fingerprint
    save(moved / "masks/p0_0.png", np.full((16, 16), 255, np.uint8))
    assert build_index("mine", moved, **own).fingerprint != first.fingerprint


def test_only_categories_change_what_the_fingerprint_of_old_indexes_was(lesions, own, tmp_path):
    index = build_index("mine", lesions(4), **own)
    lines = sorted((s.case, s.group, "", s.content) for s in index.samples)
    assert index.fingerprint == digest([1, "mine", 3, ["lesion"], lines])
    named = replace(index, samples=tuple(replace(s, category="benign") for s in index.samples))
    other = replace(index, samples=tuple(replace(s, category="malignant") for s in index.samples))
    assert len({index.fingerprint, named.fingerprint, other.fingerprint}) == 3
    write_index(named, tmp_path / "named.json")
    assert read_index(tmp_path / "named.json") == named
    # an index that was written before there were categories
    write_index(index, tmp_path / "old.json")
    old = (
        (tmp_path / "old.json")
        .read_text()
        .replace(', "category": null', "")
        .replace(', "mask_value": null', "")
    )
    assert "category" not in old
    (tmp_path / "old.json").write_text(old)
    assert read_index(tmp_path / "old.json") == index


def test_json_has_one_sample_per_line_and_comes_back(lesions, own, tmp_path):
    index = build_index("mine", lesions(4), **own)
    write_index(index, tmp_path / "index.json")
    lines = (tmp_path / "index.json").read_text().splitlines()
    assert sum('"case"' in line for line in lines) == 4
    assert json.loads((tmp_path / "index.json").read_text())["samples"][2]["case"] == "p0_2"
    assert read_index(tmp_path / "index.json") == index


def test_a_broken_or_edited_index_is_refused(lesions, own, tmp_path):
    path = tmp_path / "index.json"
    with pytest.raises(MedsegError, match="no such file; make it again with 'medseg data index'"):
        read_index(path)
    write_index(build_index("mine", lesions(4), **own), path)
    text = path.read_text()
    path.write_text(text[:-20])
    with pytest.raises(MedsegError, match="not readable as JSON"):
        read_index(path)
    path.write_text(text.replace('"group": "p0"', '"group": "p1"', 1))
    with pytest.raises(MedsegError, match="changed by hand"):
        read_index(path)
    path.write_text(text.replace('"depth"', '"deep"'))
    with pytest.raises(MedsegError, match="not a whole index"):
        read_index(path)
    path.write_text(text.replace('"format": 1', '"format": 0'))
    with pytest.raises(MedsegError, match="another version"):
        read_index(path)


def test_an_untouched_folder_is_not_read_again(lesions, own):
    index = build_index("mine", lesions(4), **own)
    assert refreshed(index, None) is index


def test_a_moved_or_touched_folder_keeps_its_index(lesions, own, tmp_path):
    top = lesions(4)
    index = build_index("mine", top, **own)
    moved = top.rename(tmp_path / "moved")
    os.utime(moved / "images/p0_0.png", (1, 1))
    fresh = refreshed(index, moved)
    assert fresh.root == moved
    assert fresh.fingerprint == index.fingerprint
    assert fresh.samples[0].stamps != index.samples[0].stamps
    with pytest.raises(MedsegError, match="no such folder"):
        refreshed(index, None)


def test_changed_new_and_lost_files_are_noticed(lesions, own, save):
    top = lesions(4)
    index = build_index("mine", top, **own)
    save(top / "images/p0_9.png", np.zeros((16, 16, 3), np.uint8))
    with pytest.raises(MedsegError, match=r"1 files came after the index was made, such as images/p0_9.png"):
        refreshed(index, None)
    (top / "images/p0_9.png").unlink()
    save(top / "masks/p0_1.png", np.full((16, 16), 255, np.uint8))
    with pytest.raises(MedsegError, match=r"p0_1.png: it or its mask has changed"):
        refreshed(index, None)
    (top / "images/p0_0.png").unlink()
    with pytest.raises(MedsegError, match=r"images/p0_0.png is gone"):
        refreshed(index, None)


def test_faulty_files_that_were_left_out_are_not_news(lesions, own):
    top = lesions(4)
    (top / "images/p0_1.png").write_bytes(b"no image")
    (top / "images/p0_2.png").unlink()
    index = build_index("mine", top, **own, skip_faulty=True)
    assert len(index.samples) == 2
    assert refreshed(index, None) is index


@pytest.mark.parametrize(
    ("dataset", "arguments", "message"),
    [
        ("kvasirseg", {}, r"unknown data set 'kvasirseg'. Did you mean 'kvasir_seg'"),
        (
            "kvasir_seg",
            {"images": "*", "masks": "{stem}"},
            "has its own layout; choose another name|registered",
        ),
        ("kvasir_seg", {"group": "(?P<group>p)"}, "has its own groups"),
        ("mine", {"images": "*"}, "needs both --images and --masks"),
        ("My__set", {"images": "i/*", "masks": "m/{stem}"}, "single underscores"),
        ("a__b", {"images": "i/*", "masks": "m/{stem}"}, "single underscores"),
        ("mine", {"images": "i/*", "masks": "m/{stem}", "channels": 2}, "channels is 2; images have 1 or 3"),
    ],
)
def test_wrong_names_say_what_to_do(tmp_path, dataset, arguments, message):
    with pytest.raises(MedsegError, match=message):
        build_index(dataset, tmp_path, **arguments)


def test_progress_is_told(lesions, own):
    seen = []
    build_index("mine", lesions(3), **own, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]
