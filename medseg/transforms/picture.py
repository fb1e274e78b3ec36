"""Pixels together with what their numbers mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from medseg.errors import MedsegError

#: ITU-R BT.601 weights of red, green and blue in luma
LUMA = np.array([0.299, 0.587, 0.114])


@dataclass(frozen=True)
class Window:
    """A value-of-interest window of a DICOM file (PS3.3 C.11.2), in the units of the pixels.

    Args:
        center: middle of the window.
        width: of the window; at least 1 for ``LINEAR``.
        explanation: the file's own word for it, such as ``WIDE``.
        function: ``LINEAR``, ``LINEAR_EXACT`` or ``SIGMOID``.
    """

    center: float
    width: float
    explanation: str = ""
    function: str = "LINEAR"


@dataclass(frozen=True, eq=False)  # arrays have no truth value
class Picture:
    """One image on its way from the file to the network: pixels, the range they may take, the file's windows.

    Args:
        values: ``(C, H, W)``, integers exactly as stored (after the modality LUT of a DICOM file), or float32.
        low: the smallest value that the pixels may take; 0 for ordinary files.
        high: the largest, such as 255, 65535, or 4095 of a 12-bit detector.
        inverted: the lowest value means white (MONOCHROME1, PS3.3 C.7.6.3.1.2).
        windows: the windows that the file proposes, in its order; empty where it has none.
        lut: its VOI LUTs (PS3.3 C.11.2.1.1), each as (first input value, entries ``(L,)``, largest output value).
        unitless: the values were mapped to others when they were read, so that a window in their unit does not apply.
    """

    values: np.ndarray
    low: float
    high: float
    inverted: bool = False
    windows: tuple[Window, ...] = ()
    lut: tuple[tuple[float, np.ndarray, float], ...] = ()
    unitless: bool = False

    @classmethod
    def of(cls, values: np.ndarray) -> Picture:
        """A picture whose values may use the full range of their type: 0 to 255, 0 to 65535, or float 0 to 1.

        Raises:
            MedsegError: the type is another one.
        """
        if values.dtype in (np.uint8, np.uint16):
            return cls(values, 0, int(np.iinfo(values.dtype).max))
        if values.dtype == np.float32:
            return cls(values, 0.0, 1.0)
        raise MedsegError(f"pixels of type {values.dtype} need their range to be given")

    def meta(self) -> dict[str, Any]:
        """What the numbers mean, for the meta-data of a ``MetaTensor``: the fields as ``picture_low`` and so on."""
        return {
            "picture_dtype": str(self.values.dtype),
            "picture_low": self.low,
            "picture_high": self.high,
            "picture_inverted": self.inverted,
            "picture_windows": [asdict(window) for window in self.windows],
            "picture_lut": [list(table) for table in self.lut],
            "picture_unitless": self.unitless,
        }

    @classmethod
    def from_meta(cls, values: np.ndarray, meta: Mapping[str, Any]) -> Picture:
        """The picture of pixels and of what :meth:`meta` told of them, or of their type alone.

        Args:
            values: ``(C, H, W)``; of the type that the picture had, or floats that hold its integers exactly.
            meta: may be empty: then integers have their full range, and floats lie in 0..1.

        Raises:
            MedsegError: nothing tells the range, or floats leave 0..1.
        """
        if "picture_low" not in meta:
            values = values.astype(np.float32) if values.dtype.kind == "f" else values
            if values.dtype == np.float32 and not (values.min(initial=0) >= 0 and values.max(initial=0) <= 1):
                seen = f"{values.min():g} to {values.max():g}"
                raise MedsegError(
                    f"float pixels of {seen} leave 0..1; load integers as they are (LoadImaged with dtype: null)"
                )
            return cls.of(values)
        return cls(
            values.astype(meta.get("picture_dtype", values.dtype)),
            meta["picture_low"],
            meta["picture_high"],
            bool(meta.get("picture_inverted", False)),
            tuple(Window(**window) for window in meta.get("picture_windows", ())),
            tuple((first, entries, top) for first, entries, top in meta.get("picture_lut", ())),
            bool(meta.get("picture_unitless", False)),
        )

    def having(self, values: np.ndarray, **changes: Any) -> Picture:
        """The same picture with other pixels, and other fields where given."""
        return replace(self, values=values, **changes)

    def stored(self) -> np.ndarray:
        """The pixels as arrays keep them: ``uint8`` or ``uint16`` of full range, or ``float32`` as they are.

        Integers of another range are stretched to ``uint16``, which keeps every difference of up to 16 bits;
        an inverted picture is turned, so that high means bright.

        Shape:
            ``(C, H, W)`` as the values.
        """
        if self.values.dtype == np.float32:
            return np.float32(self.low + self.high) - self.values if self.inverted else self.values
        if self.values.dtype in (np.uint8, np.uint16):
            top = int(np.iinfo(self.values.dtype).max)
            if (self.low, self.high) == (0, top):
                return top - self.values if self.inverted else self.values
        span = max(self.high - self.low, 1)
        share = (self.values.astype(np.float64) - self.low) / span
        share = 1 - share if self.inverted else share
        return np.rint(share.clip(0, 1) * 65535).astype(np.uint16)
