"""The mistake that lies in one file."""

from __future__ import annotations

from pathlib import Path

from medseg.errors import MedsegError


class FileFault(MedsegError):
    """What is wrong with one file.

    Args:
        path: the file.
        reason: what was seen.
        cure: what to do.
    """

    def __init__(self, path: Path, reason: str, cure: str) -> None:
        super().__init__(f"{path}: {reason}; {cure}")
        self.path, self.reason, self.cure = path, reason, cure
