"""Small DICOM files, made where a test wants them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

Maker = Callable[..., Path]


def dataset_of(values: np.ndarray, **elements: Any) -> Dataset:
    """A data set whose pixels are ``(H, W)``, ``(N, H, W)`` or ``(H, W, 3)``, with other elements as given."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["medseg"])
    colour = values.ndim == 3 and values.shape[-1] == 3
    if values.ndim == 3 and not colour:
        ds.NumberOfFrames = len(values)
    ds.Modality = "OT"
    ds.Rows, ds.Columns = values.shape[-3:-1] if colour else values.shape[-2:]
    ds.SamplesPerPixel = 3 if colour else 1
    ds.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        ds.PlanarConfiguration = 0
    ds.PixelRepresentation = int(values.dtype.kind == "i")
    ds.BitsAllocated = ds.BitsStored = 8 * values.dtype.itemsize
    ds.HighBit = ds.BitsStored - 1
    content = values.astype(values.dtype.newbyteorder("<")).tobytes()
    ds.PixelData = content + b"\0" * (len(content) % 2)
    ds["PixelData"].VR = "OW" if values.dtype.itemsize > 1 else "OB"
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    return ds


@pytest.fixture
def build() -> Callable[..., Dataset]:
    """``dataset_of`` itself, for tests that change the data set before it is written."""
    return dataset_of


@pytest.fixture
def make(tmp_path: Path) -> Maker:
    """Write a DICOM file with the pixels and elements given, by default ``a.dcm``."""

    def write(values: np.ndarray, name: str = "a.dcm", **elements: Any) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        dataset_of(values, **elements).save_as(path, enforce_file_format=True)
        return path

    return write
