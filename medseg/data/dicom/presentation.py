"""A ``Picture`` as grey levels for the eye: VOI LUT or window, then inversion (PS3.4 N.2.1)."""

from __future__ import annotations

import numpy as np

from medseg.errors import MedsegError
from medseg.transforms.picture import Picture, Window
from medseg.transforms.window import apply_own_window, apply_window

#: bits of a result -> its type
DEPTHS = {8: np.uint8, 16: np.uint16}


def present(
    picture: Picture,
    window: Window | None = None,
    index: int = 0,
    default: str = "full",
    bits: int = 8,
) -> np.ndarray:
    """Show a picture as its file proposes, rounded to the nearest level, so that high means bright.

    A colour picture has no windows; its full range keeps it as it is.

    Args:
        picture: after the modality LUT, as ``read_picture`` gives it.
        window: another than the file's.
        index: which of the file's proposals, from 0: its VOI LUTs come first, then its windows.
        default: what a file without proposal gets: ``full``, the range that its bits allow, or ``percentiles``,
            from the 1st to the 99th percentile of its pixels.
        bits: of the result, 8 or 16.

    Shape:
        ``(C, H, W)``, ``uint8`` or ``uint16``.

    Raises:
        MedsegError: there is no such proposal, the width of the window is not allowed (PS3.3 C.11.2.1.2.1), or
            ``default`` or ``bits`` is another value.
    """
    if bits not in DEPTHS or default not in ("full", "percentiles"):
        raise MedsegError(f"bits must be 8 or 16, default full or percentiles; got {bits} and {default!r}")
    share = apply_window(picture.values, window) if window else apply_own_window(picture, index, default)
    share = 1 - share if picture.inverted else share
    return np.rint(share * (2**bits - 1)).astype(DEPTHS[bits])
