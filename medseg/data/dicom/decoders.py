"""What pydicom decodes pixels with, whichever release of it there is.

medseg itself needs pydicom 3. MONAI Label 0.8.5 brings pydicom 2.4, under which an exported bundle reads DICOM with
these same modules: its older pixel handlers are given the face of pydicom 3's decoders here.
"""

from __future__ import annotations

import math
from importlib import import_module
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


def get_decoder(syntax: str) -> Any:
    """What decodes a transfer syntax, with pydicom 3's ``is_available`` and ``as_array``.

    Raises:
        NotImplementedError: nothing does.
    """
    try:
        from pydicom.pixels import get_decoder as found
    except ImportError:
        return Handlers(syntax)
    return found(syntax)


def get_frame(stream: BinaryIO, frame: int, frames: int, offsets: tuple[bytes, bytes] | None) -> bytes:
    """The codestream of one frame of encapsulated pixel data (PS3.5 A.4), at whose value the stream stands.

    Args:
        stream: of the file.
        frame: which, from 0.
        frames: how many there are.
        offsets: the extended offset table and its lengths, where the file has them.
    """
    try:
        from pydicom.encaps import get_frame as found
    except ImportError:
        return _codestreams(stream, frames)[frame]
    return found(stream, frame, number_of_frames=frames, extended_offsets=offsets)


def convert_color_space(pixels: np.ndarray, current: str, desired: str) -> np.ndarray:
    """pydicom's conversion between YBR and RGB."""
    return _processing().convert_color_space(pixels, current, desired)


def apply_color_lut(pixels: np.ndarray, dataset: Dataset) -> np.ndarray:
    """pydicom's look-up in a palette."""
    return _processing().apply_color_lut(pixels, dataset)


def _processing() -> Any:
    """The module of pydicom that turns stored values into colours."""
    try:
        return import_module("pydicom.pixels")
    except ImportError:
        return import_module("pydicom.pixel_data_handlers.util")


class Handlers:
    """The pixel handlers of pydicom 2.4 for one transfer syntax.

    Args:
        syntax: its UID.

    Raises:
        NotImplementedError: no handler is for it.
    """

    def __init__(self, syntax: str) -> None:
        from pydicom import config
        from pydicom.uid import UID

        self.syntax = UID(syntax)
        self.handlers = [h for h in config.pixel_data_handlers if h.supports_transfer_syntax(self.syntax)]
        if not self.handlers:
            raise NotImplementedError(f"no handler for {syntax}")

    @property
    def is_available(self) -> bool:
        """Whether what a handler needs is installed."""
        return any(handler.is_available() for handler in self.handlers)

    def as_array(
        self, stream: BinaryIO, index: int, raw: bool = True, **options: Any
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """One frame as stored, and what its colours are.

        Args:
            stream: stands at the value of the pixel data.
            index: of the frame, from 0.
            raw: colours stay as stored; nothing else is done here.
            options: the Image Pixel module, named as by pydicom 3.
        """
        from pydicom.pixel_data_handlers.util import reshape_pixel_array

        handler = next(handler for handler in self.handlers if handler.is_available())
        dataset, among = self._one_frame(stream, index, options)
        pixels = np.array(reshape_pixel_array(dataset, handler.get_pixeldata(dataset)))
        return (
            pixels[index] if among else pixels,
            {"photometric_interpretation": dataset.PhotometricInterpretation},
        )

    def _one_frame(self, stream: BinaryIO, index: int, options: dict[str, Any]) -> tuple[Dataset, bool]:
        """A data set of the wanted frame alone; bit-packed frames may begin within a byte, so all of them."""
        from pydicom.dataset import Dataset, FileMetaDataset
        from pydicom.encaps import encapsulate

        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = self.syntax
        dataset.is_little_endian = self.syntax.is_little_endian
        dataset.is_implicit_VR = self.syntax.is_implicit_VR
        frames = int(options["number_of_frames"])
        among = int(options["bits_allocated"]) == 1 and frames > 1
        for keyword, option in ELEMENTS.items():
            setattr(dataset, keyword, options[option])
        dataset.NumberOfFrames = frames if among else 1
        if self.syntax.is_encapsulated:
            content = encapsulate([_codestreams(stream, frames)[index]])
        else:
            size = _frame_bytes(options)
            stream.seek(0 if among else index * size, 1)
            content = stream.read(math.ceil(size * frames / 8) if among else size)
        setattr(dataset, options["pixel_keyword"], content + b"\0" * (len(content) % 2))
        return dataset, among


#: elements of the Image Pixel module (PS3.3 C.7.6.3) by pydicom 3's names of them
ELEMENTS = {
    "Rows": "rows",
    "Columns": "columns",
    "SamplesPerPixel": "samples_per_pixel",
    "PhotometricInterpretation": "photometric_interpretation",
    "BitsAllocated": "bits_allocated",
    "BitsStored": "bits_stored",
    "PixelRepresentation": "pixel_representation",
    "PlanarConfiguration": "planar_configuration",
}


def _frame_bytes(options: dict[str, Any]) -> int:
    """Bytes of one uncompressed frame; its bits where pixels are single bits."""
    samples = int(options["rows"]) * int(options["columns"]) * int(options["samples_per_pixel"])
    if int(options["bits_allocated"]) == 1:
        return samples if int(options["number_of_frames"]) > 1 else math.ceil(samples / 8)
    size = samples * int(options["bits_allocated"]) // 8
    return size // 3 * 2 if options["photometric_interpretation"] == "YBR_FULL_422" else size


def _codestreams(stream: BinaryIO, frames: int) -> list[bytes]:
    from pydicom.encaps import generate_pixel_data_frame

    return list(generate_pixel_data_frame(stream.read(), frames))
