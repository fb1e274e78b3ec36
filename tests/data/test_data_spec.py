from __future__ import annotations

from pathlib import Path

import pytest

from medseg.data.spec import DatasetSpec, Label, Sample, joined, natural_key, paired
from medseg.errors import MedsegError


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def spec(*layout: str) -> DatasetSpec:
    return DatasetSpec(
        "Toy", 3, (Label("lesion"),), lambda folder: [], layout, homepage="https://toy.example"
    )


def test_natural_order_counts_numbers():
    assert sorted(["f10", "f9", "f1 (2)", "a", "10"], key=natural_key) == ["10", "a", "f1 (2)", "f9", "f10"]


def test_pairs_by_stem_whatever_the_endings(tmp_path):
    touch(
        tmp_path, "images/b.jpg", "images/a10.PNG", "images/a9.bmp", "images/notes.txt", "images/.hidden.png"
    )
    touch(tmp_path, "masks/b.png", "masks/a9.tif", "masks/a10.gif")
    assert paired("images/*", "masks/{stem}.*")(tmp_path) == [
        Sample("a9", "images/a9.bmp", ("masks/a9.tif",), "a9"),
        Sample("a10", "images/a10.PNG", ("masks/a10.gif",), "a10"),
        Sample("b", "images/b.jpg", ("masks/b.png",), "b"),
    ]


def test_several_masks_beside_the_images(tmp_path):
    touch(
        tmp_path, "x/l (1).png", "x/l (1)_mask.png", "x/l (1)_mask_1.png", "x/l (10).png", "x/l (10)_mask.png"
    )
    assert paired("x/*", "x/{stem}_mask*")(tmp_path) == [
        Sample("l (1)", "x/l (1).png", ("x/l (1)_mask.png", "x/l (1)_mask_1.png"), "l (1)"),
        Sample("l (10)", "x/l (10).png", ("x/l (10)_mask.png",), "l (10)"),
    ]


def test_masks_of_another_ending_beside_the_images(tmp_path):
    touch(tmp_path, "x/a.jpg", "x/a.png", "x/b.jpg", "x/b.png")
    samples = paired("x/*", "x/{stem}.png")(tmp_path)
    assert [(s.image, s.masks) for s in samples] == [("x/a.jpg", ("x/a.png",)), ("x/b.jpg", ("x/b.png",))]


def test_a_stem_that_ends_like_a_mask_finds_its_mask(tmp_path):
    touch(tmp_path, "i/a_mask.png", "m/a_mask_mask.png")
    assert paired("i/*", "m/{stem}_mask*")(tmp_path)[0].masks == ("m/a_mask_mask.png",)


def test_missing_and_orphaned_files_are_kept_for_the_index(tmp_path):
    touch(tmp_path, "images/a.png", "masks/b.png")
    assert paired("images/*", "masks/{stem}.*")(tmp_path) == [
        Sample("a", "images/a.png", (), "a"),
        Sample("b", "", ("masks/b.png",), "b"),
    ]


def test_star_stays_in_one_folder_and_question_mark_is_one_character(tmp_path):
    touch(tmp_path, "s1/i/a.png", "s1/m/a_1.png", "s1/m/a_12.png")
    assert paired("*/i/*", "*/m/{stem}_?.png")(tmp_path)[0].masks == ("s1/m/a_1.png",)
    assert paired("**/i/*", "**/m/{stem}_*.png")(tmp_path)[0].masks == ("s1/m/a_1.png", "s1/m/a_12.png")


def test_excluded_files_are_no_images(tmp_path):
    touch(tmp_path, "i/a.jpg", "i/a_superpixels.png", "m/a.png")
    found = paired("i/*", "m/{stem}.*", exclude="*_superpixels.*")(tmp_path)
    assert [s.image for s in found] == ["i/a.jpg"]


def test_group_by_expression_or_function(tmp_path):
    touch(tmp_path, "i/p7_1.png", "m/p7_1.png")
    assert paired("i/*", "m/{stem}.*", group=r"(?P<group>p\d)_")(tmp_path)[0].group == "p7"
    assert paired("i/*", "m/{stem}.*", group=str.upper)(tmp_path)[0].group == "P7_1"
    with pytest.raises(MedsegError, match=r"i/p7_1.png: the group pattern .* does not match"):
        paired("i/*", "m/{stem}.*", group="(?P<group>q)")(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"masks": "m/*.png"}, "needs {stem} once"),
        ({"masks": "m/{stem}/{stem}.png"}, "needs {stem} once"),
        ({"images": "/abs/*"}, "must be relative"),
        ({"images": "../*"}, "must be relative"),
        ({"group": "(p"}, "no regular expression"),
        ({"group": r"(p\d)"}, "name the group's part"),
    ],
)
def test_wrong_patterns_say_so(arguments, message):
    with pytest.raises(MedsegError, match=message):
        paired(**{"images": "i/*", "masks": "m/{stem}.*", **arguments})


def test_parts_are_joined_in_order(tmp_path):
    touch(tmp_path, "t/a.png", "tm/a.png", "v/b.png", "vm/b.png")
    index = joined(
        paired("t/*", "tm/{stem}.*", part="training"),
        paired("v/*", "vm/{stem}.*", part="validation"),
        paired("none/*", "nonem/{stem}.*", part="testing"),
    )
    assert [(s.case, s.part) for s in index(tmp_path)] == [("a", "training"), ("b", "validation")]


@pytest.mark.parametrize("given", ["", "Toy-1", "Toy-1/images", "Toy-1/deep/labels", "Toy-1/deep"])
def test_the_top_folder_is_found_from_near_it(tmp_path, given):
    (tmp_path / "Toy-1/images").mkdir(parents=True)
    (tmp_path / "Toy-1/deep/labels").mkdir(parents=True)
    assert spec("images", "deep/labels").locate(tmp_path / given) == tmp_path / "Toy-1"


def test_a_top_folder_that_is_absent_or_twice_there(tmp_path):
    with pytest.raises(MedsegError, match=r"no such folder; get Toy from https://toy.example"):
        spec("images").locate(tmp_path / "typo")
    with pytest.raises(MedsegError, match="no folder here or below holds images/, masks/"):
        spec("images", "masks").locate(tmp_path)
    for name in ("a", "b"):
        (tmp_path / name / "images").mkdir(parents=True)
    with pytest.raises(MedsegError, match="holds Toy several times"):
        spec("images").locate(tmp_path)
