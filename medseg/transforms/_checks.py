"""Arguments of steps, checked at the door: configs are written by hand."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from numbers import Integral, Real
from typing import Any

from medseg.errors import MedsegError


def real(step: str, argument: str, value: Any, above: float | None = None) -> float:
    """A finite number, larger than ``above`` where that is given.

    Raises:
        MedsegError: it is not.
    """
    good = isinstance(value, Real) and not isinstance(value, bool) and isfinite(value)
    if not good or (above is not None and value <= above):
        wanted = "a number" if above is None else f"a number above {above}"
        raise MedsegError(f"{step}: {argument} must be {wanted}; it is {value!r}")
    return float(value)


def whole(step: str, argument: str, value: Any, least: int) -> int:
    """A whole number of at least ``least``.

    Raises:
        MedsegError: it is not.
    """
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise MedsegError(f"{step}: {argument} must be a whole number from {least} on; it is {value!r}")
    return int(value)


def whole_pair(step: str, argument: str, value: Any, least: int = 1) -> tuple[int, int]:
    """Two whole numbers of at least ``least``: rows and columns.

    Raises:
        MedsegError: they are not.
    """
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        raise MedsegError(f"{step}: {argument} must be two whole numbers (rows, columns); it is {value!r}")
    return whole(step, argument, value[0], least), whole(step, argument, value[1], least)
