"""Answers in memory, for a while: what the page shows and offers for download is never on disk."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from medseg.serve.guard import Refused


@dataclass(frozen=True)
class Frame:
    """One picture and what was predicted on it, as PNG files in memory.

    Args:
        displayed: as for the eye.
        mask: grey levels that are the numbers of labels, 0 the background; none of a picture that is classified.
        probabilities: one for each label, 0 to 255 for 0 to 1; likewise.
        cam: what speaks for the class of a picture that is classified, 0 to 255; else nothing.
    """

    displayed: bytes = field(repr=False)
    mask: bytes = field(default=b"", repr=False)
    probabilities: tuple[bytes, ...] = field(default=(), repr=False)
    cam: bytes = field(default=b"", repr=False)


@dataclass(frozen=True)
class Answer:
    """A prediction as it is told.

    Args:
        facts: sizes and measures, ready for JSON.
        frames: pictures in order.
        files: masks to download by name, such as ``mask.dcm``.
    """

    facts: Mapping[str, Any] = field(repr=False)
    frames: tuple[Frame, ...]
    files: Mapping[str, bytes] = field(repr=False)

    @property
    def bytes(self) -> int:
        """Of memory that its pictures and files take."""
        pictures = (part for f in self.frames for part in (f.displayed, f.mask, f.cam, *f.probabilities))
        return sum(map(len, pictures)) + sum(map(len, self.files.values()))


class Shelf:
    """Answers by number, of which those not asked for give way.

    Args:
        most: answers that are kept at once.
        most_bytes: that they may take together; the newest is kept in any case.
        seconds: that an answer is kept after it was last asked for.
        clock: of seconds.
    """

    def __init__(
        self,
        most: int = 8,
        most_bytes: int = 1 << 29,
        seconds: float = 1800,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.most, self.most_bytes, self.seconds, self.clock = most, most_bytes, seconds, clock
        self._answers: OrderedDict[str, tuple[float, Answer]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._answers)

    def put(self, answer: Answer) -> str:
        """Keep an answer; its number cannot be guessed."""
        number = secrets.token_urlsafe(16)
        with self._lock:
            self._answers[number] = self.clock(), answer
            while len(self._answers) > 1 and (
                len(self._answers) > self.most or self._bytes() > self.most_bytes
            ):
                self._answers.popitem(last=False)
        return number

    def get(self, number: str) -> Answer:
        """The answer of a number, kept from now on for another while.

        Raises:
            Refused: there is none (any more).
        """
        self.sweep()
        with self._lock:
            if number not in self._answers:
                raise Refused(404, "this result is no longer kept; send the file again")
            answer = self._answers.pop(number)[1]
            self._answers[number] = self.clock(), answer
            return answer

    def remove(self, number: str) -> None:
        """Forget an answer."""
        with self._lock:
            self._answers.pop(number, None)

    def sweep(self) -> None:
        """Forget what was not asked for in time."""
        with self._lock:
            late = self.clock() - self.seconds
            for number in [number for number, (asked, _) in self._answers.items() if asked < late]:
                del self._answers[number]

    def _bytes(self) -> int:
        return sum(answer.bytes for _, answer in self._answers.values())
