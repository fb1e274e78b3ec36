"""Times and sizes in words."""

from __future__ import annotations

import math


def duration(seconds: float | None) -> str:
    """A time to the precision that an estimate has.

    >>> duration(40), duration(4000), duration(400_000), duration(None)
    ('40 s', '1 h 7 min', '4 d 15 h', '?')
    """
    if seconds is None or not math.isfinite(seconds):
        return "?"
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 10 or seconds == 0 else f"{seconds:.2g} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"


def size(number: float | None) -> str:
    """Bytes in words.

    >>> size(5_000), size(2_400_000), size(31e9)
    ('5 kB', '2.4 MB', '31 GB')
    """
    if not number:
        return "?"
    for unit, worth in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if number >= worth:
            return f"{number / worth:.{0 if number >= 10 * worth else 1}f} {unit}"
    return f"{number / 1e3:.0f} kB"
