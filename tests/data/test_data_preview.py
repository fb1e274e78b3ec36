"""The contact sheet: a column per transform, the files it is written to."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from medseg.data.index_file import index_path, read_index
from medseg.data.preview import preview
from medseg.errors import MedsegError
from medseg.transforms.steps import build_steps


@pytest.fixture
def index(workspace: Path):
    return read_index(index_path("discs", Path("prepared")))


def test_each_image_stands_beside_every_transform(index, tmp_path):
    steps = build_steps([], {}, (32, 32))
    wide, narrow = tmp_path / "wide.png", tmp_path / "narrow.png"
    shown = preview(index, steps, "all", wide, cases=3)
    assert len(shown) == len(set(shown)) == 3
    assert shown[0] == index.samples[0].case
    assert shown[-1] == index.samples[-1].case
    preview(index, steps, "geometric", narrow, cases=3)
    assert Image.open(wide).size[0] / Image.open(narrow).size[0] == pytest.approx(9 / 5, rel=0.01)
    again = tmp_path / "again.png"
    preview(index, steps, "all", again, cases=3)
    assert again.read_bytes() == wide.read_bytes()
    preview(index, steps, "all", again, cases=3, seed=1)
    assert again.read_bytes() != wide.read_bytes()


def test_the_protocol_of_an_augmentation_changes_nothing(index, tmp_path):
    steps = build_steps([], {}, (32, 32))
    preview(index, steps, "geometric", tmp_path / "online.png", cases=1)
    preview(index, steps, "geometric-leaking", tmp_path / "leaking.png", cases=1)
    assert Image.open(tmp_path / "leaking.png").size == Image.open(tmp_path / "online.png").size


def test_mistakes_are_told_in_one_line(index, tmp_path):
    with pytest.raises(MedsegError, match="normalize_imagenet needs 3 channels, the image has 1"):
        preview(index, build_steps(["normalize_imagenet"], {}, (32, 32)), "all", tmp_path / "a.png")
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(MedsegError, match=r"file/a\.png: cannot be written"):
        preview(index, build_steps([], {}, (32, 32)), "vanilla", tmp_path / "file" / "a.png")


def test_other_formats_are_refused_before_anything_is_drawn(index, tmp_path):
    with pytest.raises(MedsegError, match=r"preview\.jpg: a preview is written as \.png, \.svg, \.pdf"):
        preview(index, build_steps([], {}, (32, 32)), "all", tmp_path / "preview.jpg")
    preview(index, build_steps([], {}, (32, 32)), "vanilla", tmp_path / "one.svg", cases=99)
    assert "<svg" in (tmp_path / "one.svg").read_text(encoding="utf-8")[:500]
