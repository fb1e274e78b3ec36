from __future__ import annotations

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.pixels import apply_windowing

from medseg import transforms
from medseg.errors import MedsegError
from medseg.transforms.picture import Picture, Window
from medseg.transforms.window import apply_lut, apply_own_window, apply_window, check_window

FUNCTIONS = ["LINEAR", "LINEAR_EXACT", "SIGMOID"]


def twelve_bits(**fields) -> Picture:
    """Hounsfield units of a 12-bit scanner, in 16 signed bits."""
    values = np.array([[[-1024, -1, 0, 39, 40, 41, 3071]]], np.int16)
    return Picture(values, -1024, 3071, **fields)


def test_linear_has_the_end_points_of_the_standard():
    # PS3.3 C.11.2.1.2.1, note 3: c=2048 and w=4096 is identity of 12 bits
    window = Window(2048, 4096)
    assert apply_window(np.array([-5, 0, 4095, 9000]), window).tolist() == [0, 0, 1, 1]
    assert apply_window(np.array([1, 2047]), window) == pytest.approx([1 / 4095, 2047 / 4095], abs=1e-15)
    # c=2, w=4 rises from 0 (shown as 0) to 3 (shown as 1)
    assert apply_window(np.arange(-1, 5), Window(2, 4)) == pytest.approx([0, 0, 1 / 3, 2 / 3, 1, 1])


def test_a_width_of_one_is_a_threshold():
    # PS3.3 C.11.2.1.2.1, note 3: c=100, w=1 is 0 below 100 and full from 100 on
    assert apply_window(np.array([99, 99.5, 99.6, 100]), Window(100, 1)).tolist() == [0, 0, 1, 1]


def test_linear_exact_is_half_at_its_centre():
    values = np.array([-1, 0, 1, 2, 3, 4, 5])
    expected = [0, 0, 0.25, 0.5, 0.75, 1, 1]
    assert apply_window(values, Window(2, 4, function="LINEAR_EXACT")).tolist() == expected
    narrow = Window(2, 0.5, function="LINEAR_EXACT")
    assert apply_window(np.array([1.75, 1.875, 2.25]), narrow).tolist() == [0, 0.25, 1]


def test_sigmoid_never_overflows():
    values = np.array([-1e9, 40, 140, 1e9])
    shown = apply_window(values, Window(40, 400, function="SIGMOID"))
    assert shown == pytest.approx([0, 0.5, 1 / (1 + np.exp(-1)), 1], abs=1e-12)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(("center", "width"), [(40, 400), (-600.5, 1500.25), (2048, 4096), (1, 2)])
def test_windows_agree_with_pydicom(function, center, width):
    values = np.arange(-1024, 3072, dtype=np.int16)
    dataset = Dataset()
    dataset.WindowCenter, dataset.WindowWidth, dataset.VOILUTFunction = center, width, function
    dataset.PhotometricInterpretation, dataset.BitsStored, dataset.PixelRepresentation = "MONOCHROME2", 12, 1
    # pydicom spreads the result over the range of the 12 signed bits
    with np.errstate(over="ignore"):
        theirs = (apply_windowing(values, dataset) + 2048) / 4095
    assert apply_window(values, Window(center, width, function=function)) == pytest.approx(theirs, abs=1e-9)


@pytest.mark.parametrize(
    ("function", "width", "reason"),
    [
        ("LINEAR", 0.5, r"\(0028,1051\) Window Width must be at least 1 for the function LINEAR; it is 0.5"),
        ("LINEAR", float("nan"), r"Window Width must be at least 1"),
        ("LINEAR_EXACT", 0, r"Window Width must be above 0 for the function LINEAR_EXACT; it is 0"),
        ("SIGMOID", -3, r"Window Width must be above 0 for the function SIGMOID"),
        ("SIGMOID", float("inf"), r"Window Width must be above 0"),
        ("LINER", 3, r"unknown VOI LUT Function \(0028,1056\) 'LINER'. Did you mean 'LINEAR'"),
    ],
)
def test_windows_against_the_standard_are_refused(function, width, reason):
    with pytest.raises(MedsegError, match=reason):
        apply_window(np.zeros(1), Window(0, width, function=function))


def test_a_centre_that_is_no_number_is_refused():
    with pytest.raises(MedsegError, match=r"\(0028,1050\) Window Center must be a finite number; it is nan"):
        check_window(Window(float("nan"), 3))


def test_a_lut_holds_its_ends():
    values = np.array([-9, 10, 11, 12, 13], np.int16)
    shown = apply_lut(values, 10, np.array([0, 100, 255], np.uint16), 255)
    assert shown == pytest.approx([0, 0, 100 / 255, 1, 1])
    with pytest.raises(MedsegError, match=r"\(0028,3010\) VOI LUT Sequence has 0 entries"):
        apply_lut(values, 10, np.array([]), 255)


def test_the_given_window_goes_before_the_files():
    picture = twelve_bits(windows=(Window(0, 2000),))
    done = transforms.build("window", center=40.5, width=3)(picture)
    assert done.values.tolist() == [[[0, 0, 0, 0, 128, 255, 255]]]
    assert done.values.dtype == np.uint8
    assert (done.low, done.high, done.inverted, done.windows, done.lut) == (0, 255, False, (), ())


def test_the_function_is_that_of_the_given_window():
    linear = transforms.build("window", center=40, width=2000)(twelve_bits()).values[0, 0]
    sigmoid = transforms.build("window", center=40, width=2000, function="SIGMOID")(twelve_bits()).values[
        0, 0
    ]
    assert (linear[-1], sigmoid[-1]) == (255, 254)  # 1 / (1 + exp(-6.062)) is 0.9977
    assert sigmoid[4] == 128  # 127.5 to the even level


def test_the_index_counts_luts_first_then_windows():
    picture = twelve_bits(
        lut=((0, np.array([0, 10], np.uint16), 10),),
        windows=(Window(0.5, 1), Window(40.5, 1)),
    )
    shown = [transforms.build("window", index=k)(picture).values[0, 0].tolist() for k in range(3)]
    assert shown[0] == [0, 0, 0, 255, 255, 255, 255]
    assert shown[1] == [0, 0, 0, 255, 255, 255, 255]
    assert shown[2] == [0, 0, 0, 0, 0, 255, 255]
    with pytest.raises(MedsegError, match="index 3: the file proposes 1 VOI LUTs and 2 windows; .* 0 to 2"):
        transforms.build("window", index=3)(picture)


def test_a_file_without_window_gets_the_full_range_or_percentiles():
    full = transforms.build("window")(twelve_bits()).values[0, 0]
    assert full.tolist() == [0, 64, 64, 66, 66, 66, 255]
    values = np.arange(101, dtype=np.uint16)[None, None] + 1000
    picture = Picture(values, 0, 4095)
    cut = apply_own_window(picture, default="percentiles")[0, 0]
    assert cut[[0, 1, 50, 99, 100]] == pytest.approx([0, 0, 0.5, 1, 1])
    constant = Picture(np.full((1, 2, 2), 7, np.uint16), 0, 4095)
    assert not transforms.build("window", default="percentiles")(constant).values.any()


def test_the_file_is_turned_after_its_window():
    # MONOCHROME1: width 4 about 2 rises from 0 to 3, and then high is dark
    picture = Picture(np.array([[[0, 1, 2, 3]]], np.uint16), 0, 4095, inverted=True, windows=(Window(2, 4),))
    done = transforms.build("window")(picture)
    assert done.values.tolist() == [[[255, 170, 85, 0]]]
    assert not done.inverted


@pytest.mark.parametrize(("to", "type_", "top"), [("uint16", np.uint16, 65535), ("float", np.float32, 1)])
def test_the_result_can_be_deeper(to, type_, top):
    values = np.arange(4096, dtype=np.uint16)[None]
    done = transforms.build("window", center=2048, width=4096, to=to)(Picture(values[None], 0, 4095))
    assert done.values.dtype == type_
    assert (done.low, done.high) == (0, top)
    assert done.values.max() == top
    assert len(np.unique(done.values)) == 4096
    assert done.values[0, 0] / top == pytest.approx(np.arange(4096) / 4095, abs=1e-5)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"center": 3}, "window: give both center and width or none; got 3 and None"),
        ({"center": 3, "width": 0.5}, "Window Width must be at least 1"),
        ({"center": "bone", "width": 9}, "window: center must be a number; it is 'bone'"),
        ({"default": "ful"}, "unknown default of window 'ful'. Did you mean 'full'"),
        ({"to": "uint9"}, "unknown output type of window 'uint9'"),
        ({"function": "sigmoid"}, "unknown VOI LUT Function"),
        ({"to": ["uint8"]}, "unknown output type of window"),
        ({"function": ["LINEAR"]}, "unknown VOI LUT Function"),
        ({"index": -1}, "window: index must be a whole number from 0 on; it is -1"),
    ],
)
def test_wrong_arguments_are_named(arguments, reason):
    with pytest.raises(MedsegError, match=reason):
        transforms.build("window", arguments)
