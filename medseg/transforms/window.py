"""Value-of-interest windows and look-up tables of DICOM, and the step that applies them."""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite

import numpy as np

from medseg.errors import MedsegError, unknown
from medseg.transforms import TRANSFORMS
from medseg.transforms._checks import real, whole
from medseg.transforms.picture import Picture, Window

#: type of the result and the value that means white
OUTPUTS: dict[str, tuple[type, float]] = {
    "uint8": (np.uint8, 255),
    "uint16": (np.uint16, 65535),
    "float": (np.float32, 1.0),
}
DEFAULTS = ("full", "percentiles")


def _linear(values: np.ndarray, center: float, width: float) -> np.ndarray:
    if width == 1:
        return (values > center - 0.5).astype(np.float64)
    return ((values - (center - 0.5)) / (width - 1) + 0.5).clip(0, 1)


def _linear_exact(values: np.ndarray, center: float, width: float) -> np.ndarray:
    return ((values - center) / width + 0.5).clip(0, 1)


def _sigmoid(values: np.ndarray, center: float, width: float) -> np.ndarray:
    # beyond +-700 exp overflows, and 0 or 1 is reached long before
    return 1 / (1 + np.exp((-4 * (values - center) / width).clip(-700, 700)))


#: PS3.3 C.11.2.1.2.1, C.11.2.1.3.2 and C.11.2.1.3.1
FUNCTIONS: dict[str, Callable[[np.ndarray, float, float], np.ndarray]] = {
    "LINEAR": _linear,
    "LINEAR_EXACT": _linear_exact,
    "SIGMOID": _sigmoid,
}


def check_window(window: Window) -> None:
    """Refuse a window that the standard does not allow.

    Raises:
        MedsegError: the width is below 1 (``LINEAR``, PS3.3 C.11.2.1.2.1) or not above 0 (the others), a number
            is not finite, or the function is unknown.
    """
    if window.function not in FUNCTIONS:
        raise unknown("VOI LUT Function (0028,1056)", window.function, FUNCTIONS)
    if not isfinite(window.center):
        raise MedsegError(f"the (0028,1050) Window Center must be a finite number; it is {window.center}")
    least = "at least 1" if window.function == "LINEAR" else "above 0"
    allowed = window.width >= 1 if window.function == "LINEAR" else window.width > 0
    if not (allowed and isfinite(window.width)):
        raise MedsegError(
            f"the (0028,1051) Window Width must be {least} for the function {window.function}; it is {window.width}"
        )


def apply_window(values: np.ndarray, window: Window) -> np.ndarray:
    r"""Map values by a window with centre :math:`c` and width :math:`w` to a share of white.

    ``LINEAR`` (PS3.3 C.11.2.1.2.1) is 0 for :math:`x \le c - 0.5 - (w - 1) / 2`, 1 for
    :math:`x > c - 0.5 + (w - 1) / 2`, and :math:`(x - (c - 0.5)) / (w - 1) + 0.5` between; a width of 1 makes it a
    threshold. ``LINEAR_EXACT`` (C.11.2.1.3.2) is the same with :math:`c` and :math:`w` in place of
    :math:`c - 0.5` and :math:`w - 1`. ``SIGMOID`` (C.11.2.1.3.1) is :math:`1 / (1 + \exp(-4 (x - c) / w))`.

    Args:
        values: after the modality LUT, of any type.
        window: in the units of the values.

    Shape:
        any; float64 in 0..1 of the same shape.

    Raises:
        MedsegError: the window is not allowed.
    """
    check_window(window)
    return FUNCTIONS[window.function](values.astype(np.float64), window.center, window.width)


def apply_lut(values: np.ndarray, first: float, entries: np.ndarray, top: float) -> np.ndarray:
    """Map values by a VOI LUT (PS3.3 C.11.2.1.1) to a share of white.

    Values before the first entry take the first, values behind the last take the last.

    Args:
        values: after the modality LUT; fractions are rounded.
        first: the value that the first entry stands for.
        entries: the table, ``(L,)``.
        top: the entry that means white.

    Shape:
        any; float64 in 0..1 of the same shape.

    Raises:
        MedsegError: the table is empty, or ``top`` is not above 0.
    """
    if len(entries) == 0 or not top > 0:
        raise MedsegError(
            f"the (0028,3010) VOI LUT Sequence has {len(entries)} entries up to {top}; it needs some"
        )
    places = np.rint(values.astype(np.float64) - first).clip(0, len(entries) - 1).astype(np.intp)
    return (np.asarray(entries, dtype=np.float64) / top).clip(0, 1)[places]


def _by_default(picture: Picture, default: str) -> np.ndarray:
    low, high = picture.low, picture.high
    if default == "percentiles":
        low, high = np.percentile(picture.values, (1, 99))
    return ((picture.values.astype(np.float64) - low) / ((high - low) or 1)).clip(0, 1)


def apply_own_window(picture: Picture, index: int = 0, default: str = "full") -> np.ndarray:
    """Map the values of a picture by what its own file proposes to a share of white, before any inversion.

    Args:
        picture: after the modality LUT.
        index: which of the file's proposals, from 0: its VOI LUTs come first, then its windows.
        default: what a file without proposal gets: ``full``, from ``low`` to ``high`` of the picture, or
            ``percentiles``, from the 1st to the 99th percentile of its pixels.

    Shape:
        ``(C, H, W)``, float64 in 0..1.

    Raises:
        MedsegError: the file proposes something, but nothing of that index, or its window is not allowed.
    """
    count = len(picture.lut) + len(picture.windows)
    if not count:
        return _by_default(picture, default)
    if not 0 <= index < count:
        raise MedsegError(
            f"window index {index}: the file proposes {len(picture.lut)} VOI LUTs and "
            f"{len(picture.windows)} windows; give an index from 0 to {count - 1}"
        )
    if index < len(picture.lut):
        return apply_lut(picture.values, *picture.lut[index])
    return apply_window(picture.values, picture.windows[index - len(picture.lut)])


@TRANSFORMS.register("window", version=1)
class WindowStep:
    """Window the values (DICOM PS3.3 C.11.2): those given, or what the file itself proposes.

    An inverted picture (MONOCHROME1) is turned after the window, so that high means bright in the result.

    Args:
        center: middle of the window, in the units of the pixels; empty, as the width, for the file's own.
        width: of the window.
        function: ``LINEAR``, ``LINEAR_EXACT`` or ``SIGMOID``, for the window given here.
        index: which of the file's proposals, from 0: its VOI LUTs come first, then its windows.
        default: for a file that proposes nothing: ``full``, the range that its pixels may take, or
            ``percentiles``, from the 1st to the 99th percentile of its pixels.
        to: the result: ``uint8``, ``uint16`` (both rounded to the nearest level) or ``float`` in 0..1.

    Shape:
        ``(C, H, W)`` to the same.

    Raises:
        MedsegError: only one of centre and width is given, the window is not allowed, or a word is unknown; or the
            picture has no unit, as NIfTI volumes of fractions.
    """

    def __init__(
        self,
        center: float | None = None,
        width: float | None = None,
        function: str = "LINEAR",
        index: int = 0,
        default: str = "full",
        to: str = "uint8",
    ) -> None:
        if (center is None) != (width is None):
            raise MedsegError(f"window: give both center and width or none; got {center} and {width}")
        if default not in DEFAULTS:
            raise unknown("default of window", default, DEFAULTS)
        if to not in tuple(OUTPUTS):  # what a config holds may not be hashable
            raise unknown("output type of window", to, OUTPUTS)
        if function not in tuple(FUNCTIONS):
            raise unknown("VOI LUT Function (0028,1056)", function, FUNCTIONS)
        self.window = None
        if center is not None and width is not None:
            middle, extent = real("window", "center", center), real("window", "width", width)
            self.window = Window(middle, extent, function=function)
            check_window(self.window)
        self.index = whole("window", "index", index, least=0)
        self.default, self.to = default, to

    def __call__(self, picture: Picture) -> Picture:
        if self.window is not None:
            if picture.unitless:
                raise MedsegError(
                    "window: fractions in the file were mapped to 16 bits, and center and width do not apply to "
                    "these; save it with whole numbers, or leave center and width out"
                )
            share = apply_window(picture.values, self.window)
        else:
            share = apply_own_window(picture, self.index, self.default)
        share = 1 - share if picture.inverted else share
        kind, top = OUTPUTS[self.to]
        scaled = share if self.to == "float" else np.rint(share * top)
        shown = {"low": 0, "high": top, "inverted": False, "windows": (), "lut": (), "unitless": False}
        return picture.having(scaled.astype(kind), **shown)
