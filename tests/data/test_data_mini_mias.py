from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medseg.data.datasets.mini_mias import draw_circles
from medseg.data.faults import FileFault
from medseg.data.index import FaultyFiles, build_index, read_sample
from medseg.data.store import refreshed
from medseg.errors import MedsegError

SIZE = 64
LINES = """\
mdb001 G CIRC B 30 50 3
mdb002 G CIRC B 10 10 2
mdb002 G CIRC M 50 20 4
mdb003 D NORM
mdb004 D NORM

mdb059 F CIRC B
mdb216 D CALC M *NOTE 3*
mdb217 G NORM
"""


@pytest.fixture
def mias(tmp_path):
    """The files of the database as far as the lines above name them, in grey of 8 bits."""
    (tmp_path / "Info.txt").write_text("MAMMOGRAPHIC IMAGE ANALYSIS SOCIETY\n\n" + LINES)
    for i, case in enumerate(("mdb001", "mdb002", "mdb003", "mdb004", "mdb059", "mdb216", "mdb217")):
        pixels = np.random.default_rng(i).integers(0, 256, (SIZE, SIZE), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{case}.pgm")
    return tmp_path


def test_the_database_is_read(mias):
    index = build_index("mini_mias", mias)
    assert (index.channels, index.depth, index.faults) == (1, "uint8", ())
    # mdb059 and mdb216 have an abnormality, but no circle
    assert [(s.case, s.group, s.category) for s in index.samples] == [
        ("mdb001", "patient_001", "benign"),
        ("mdb002", "patient_001", "malignant"),
        ("mdb003", "patient_002", "normal"),
        ("mdb004", "patient_002", "normal"),
        ("mdb217", "patient_109", "normal"),
    ]
    assert [s.masks for s in index.samples][:2] == [("Info.txt#mdb001",), ("Info.txt#mdb002",)]
    assert [s.lesion_fraction == 0 for s in index.samples] == [False, False, True, True, True]
    picture, mask = read_sample(index, index.samples[0])
    assert np.array_equal(picture.values[0], np.asarray(Image.open(mias / "mdb001.pgm")))
    assert mask.sum() == 29


def test_circles_count_from_the_left_and_from_the_bottom(mias):
    mask = draw_circles(mias / "Info.txt", "mdb001", (SIZE, SIZE))
    # y = 50 from the bottom is row 63 - 50 = 13; a disc of radius 3 has 29 pixels
    assert np.argwhere(mask).mean(0).tolist() == [13, 30]
    assert (mask.shape, mask.dtype, int(mask.sum())) == ((SIZE, SIZE), np.uint8, 29)
    assert (np.argwhere(mask).min(0).tolist(), np.argwhere(mask).max(0).tolist()) == ([10, 27], [16, 33])
    # a lower image has the circle as far from its bottom
    assert np.argwhere(draw_circles(mias / "Info.txt", "mdb001", (55, SIZE))).mean(0).tolist() == [4, 30]


def test_several_circles_of_one_image_are_united(mias):
    # 13 pixels of radius 2, 49 of radius 4
    assert int(draw_circles(mias / "Info.txt", "mdb002", (SIZE, SIZE)).sum()) == 13 + 49
    assert not draw_circles(mias / "Info.txt", "mdb003", (SIZE, SIZE)).any()


def test_images_may_lie_in_a_folder_of_their_own(mias):
    (mias / "all-mias").mkdir()
    for path in mias.glob("*.pgm"):
        path.rename(mias / "all-mias" / path.name)
    assert build_index("mini_mias", mias).samples[0].image == "all-mias/mdb001.pgm"


def test_faults_are_reported(mias):
    (mias / "mdb001.pgm").unlink()
    text = (mias / "Info.txt").read_text()
    (mias / "Info.txt").write_text(text.replace("50 20 4", "50 200 4"))
    with pytest.raises(FaultyFiles) as caught:
        build_index("mini_mias", mias)
    assert [(fault.case, fault.file, fault.reason) for fault in caught.value.faults] == [
        ("mdb001", "mdb001.pgm", "no such file"),
        ("mdb002", "Info.txt", "mdb002: the circle 50 200 4 lies outside the image"),
    ]
    with pytest.raises(FileFault, match="Info.txt: does not list mdb300"):
        draw_circles(mias / "Info.txt", "mdb300", (SIZE, SIZE))
    (mias / "Info.txt").write_text("nothing")
    with pytest.raises(MedsegError, match="lists no image such as 'mdb001 G CIRC B 535 425 197'"):
        build_index("mini_mias", mias)


def test_a_changed_list_is_noticed(mias: Path):
    index = build_index("mini_mias", mias)
    assert refreshed(index, None) is index
    (mias / "Info.txt").write_text(LINES.replace("30 50 3", "30 50 5"))
    with pytest.raises(MedsegError, match=r"mdb001.pgm: it or its mask has changed"):
        refreshed(index, None)
