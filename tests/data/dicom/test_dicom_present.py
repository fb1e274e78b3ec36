from __future__ import annotations

import numpy as np
import pytest

from medseg.data.dicom import present, read_picture
from medseg.errors import MedsegError
from medseg.transforms.picture import Picture, Window


def picture(*values, **fields):
    return Picture(np.array([[values]], np.int16), **{"low": -2048, "high": 2047, **fields})


def test_linear_window_has_the_end_points_of_the_standard():
    # PS3.3 C.11.2.1.2.1, note 4: for centre 2048 and width 4096, 0 is the first and 4095 the last value
    wide = picture(0, 1, 2047, 2048, 4094, 4095, low=0, high=4095, windows=(Window(2048, 4096),))
    assert present(wide, bits=16).ravel().tolist() == [0, 16, 32759, 32776, 65519, 65535]
    # for centre 0 and width 100, black is <= -50 and white > 49
    narrow = picture(-51, -50, -49, 49, 50, windows=(Window(0, 100),))
    assert present(narrow).ravel().tolist() == [0, 0, 3, 255, 255]


def test_a_width_of_one_is_a_threshold():
    assert present(picture(-1, 0, 1, windows=(Window(0, 1),))).ravel().tolist() == [0, 255, 255]


def test_linear_exact_and_sigmoid():
    exact = picture(-50, 0, 50, windows=(Window(0, 100, function="LINEAR_EXACT"),))
    assert present(exact).ravel().tolist() == [0, 128, 255]
    # 255 / (1 + exp(4 * 25 / 100)) = 68.6
    sigmoid = picture(-25, 0, 25, windows=(Window(0, 100, function="SIGMOID"),))
    assert present(sigmoid).ravel().tolist() == [69, 128, 186]


@pytest.mark.parametrize(
    ("width", "function", "least"),
    [
        (0.5, "LINEAR", "at least 1"),
        (0, "LINEAR", "at least 1"),
        (0, "LINEAR_EXACT", "above 0"),
        (-1, "SIGMOID", "above 0"),
    ],
)
def test_a_width_that_is_not_allowed_is_named(make, width, function, least):
    path = make(np.zeros((1, 2), np.uint16), WindowCenter=1, WindowWidth=width, VOILUTFunction=function)
    read = read_picture(path, 1)
    with pytest.raises(
        MedsegError, match=rf"\(0028,1051\) Window Width must be {least} for the function {function}"
    ):
        present(read)


def test_inversion_comes_after_the_window():
    # the window makes 10 black and 20 white; inverted before it, both would be cut to one level
    window = Window(15.5, 11)
    assert present(picture(10, 20, windows=(window,), inverted=True)).ravel().tolist() == [255, 0]
    assert present(picture(10, 20, windows=(window,))).ravel().tolist() == [0, 255]


def test_the_first_proposal_is_taken_and_tables_count_before_windows():
    table = (0.0, np.array([7, 9], np.uint16), 10.0)
    both = picture(0, 1, windows=(Window(0, 1), Window(100, 3)), lut=(table,))
    # 0.7 and 0.9 of 255
    assert present(both).ravel().tolist() == [178, 230]
    assert present(both, index=1).ravel().tolist() == [255, 255]
    assert present(both, index=2).ravel().tolist() == [0, 0]
    with pytest.raises(MedsegError, match="window index 3: the file proposes 1 VOI LUTs and 2 windows"):
        present(both, index=3)


def test_a_window_given_replaces_those_of_the_file():
    assert present(picture(0, 1, windows=(Window(0, 1),)), Window(1, 1)).ravel().tolist() == [0, 255]


def test_without_window_the_whole_range_of_the_bits_is_shown():
    assert present(picture(-2048, 0, 2047)).ravel().tolist() == [0, 128, 255]
    colour = Picture(np.arange(256, dtype=np.uint8).reshape(1, 16, 16), 0, 255)
    assert np.array_equal(present(colour), colour.values)


def test_without_window_percentiles_can_be_shown():
    values = np.arange(101, dtype=np.int16).reshape(1, 1, 101)
    shown = present(Picture(values, 0, 4095), default="percentiles").ravel()
    # from 1 to 99: (50 - 1) / 98 is a half
    assert shown[[0, 1, 50, 99, 100]].tolist() == [0, 0, 128, 255, 255]


@pytest.mark.parametrize("wrong", [{"bits": 12}, {"default": "all"}])
def test_other_depths_and_defaults_are_refused(wrong):
    with pytest.raises(MedsegError, match="bits must be 8 or 16, default full or percentiles"):
        present(picture(0), **wrong)
