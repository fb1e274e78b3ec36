"""The one exception for mistakes that a user can mend."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MedsegError(Exception):
    """Something the user gave is wrong: the message says what, where, and what to do.

    The command line prints the message alone; any other exception is a defect and keeps its traceback.
    """


def unknown(kind: str, name: object, known: Iterable[str]) -> MedsegError:
    """The error for a name that does not exist, with the nearest names that do.

    >>> print(unknown("model", "unett", ["unet", "emcad"]))
    unknown model 'unett'. Did you mean 'unet'? Known: emcad, unet
    """
    names = sorted(known)
    near = difflib.get_close_matches(str(name), names, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return MedsegError(f"unknown {kind} {name!r}.{hint} Known: {', '.join(names) or 'none'}")
