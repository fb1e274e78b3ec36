"""Bundles with weights at random, a network that marks bright pixels, and small DICOM files."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pydicom
import pytest
import torch
from PIL import Image
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from medseg.bundle.choice import Choice
from medseg.bundle.compose import compose
from medseg.bundle.network import Recipe
from medseg.bundle.open import Bundle
from medseg.bundle.settings import Settings
from medseg.data.sample import Label

CT = "1.2.840.10008.5.1.4.1.1.2"


class Bright(torch.nn.Module):
    """Logits by brightness: a pixel is of the lesion where the mean of its channels is above one half."""

    def __init__(self, gain: float = 20.0) -> None:
        super().__init__()
        self.gain = gain
        self.sizes: list[int] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.sizes.append(len(images))
        return self.gain * (images.mean(1, keepdim=True) - 0.5)


def _recipe(size: tuple[int, int] = (32, 32), channels: int = 1, **changes: Any) -> Recipe:
    """The recipe of a network that is given by hand."""
    plain: dict[str, Any] = {
        "model": "unet",
        "model_arguments": {},
        "channels": channels,
        "classes": 1,
        "image_size": size,
        "preprocess": (),
        "preprocess_arguments": {},
        "labels": (Label("lesion"),),
    }
    return Recipe(**{**plain, **changes})


def _composed(folder: Path, preprocess: tuple[str, ...] = (), seed: int = 0) -> Bundle:
    """A bundle for colour images of 32 x 32, with released weights at random."""
    from medseg.models import build

    settings = Settings(image_size=(32, 32), model_arguments={"widths": [4, 8]})
    bundle = compose(
        Choice("kvasir_seg", "unet", "dice", preprocess=preprocess),
        folder,
        settings,
        prepared=folder / "prepared",
    )
    torch.manual_seed(seed)
    network = build("unet", {"widths": [4, 8]}, in_channels=3, out_channels=1)
    torch.save(network.state_dict(), bundle.root / "models" / "model.pt")
    return bundle


def _classifier(
    folder: Path, dataset: str = "phantom_class", loss: str = "cross_entropy", seed: int = 0
) -> Bundle:
    """A bundle that classifies grey images of 32 x 32, with released weights at random that tell images apart."""
    from medseg.bundle.network import build_network, read_recipe

    arguments = {"depths": [1, 1, 1, 1], "widths": [8, 8, 8, 8], "stem": "small"}
    settings = Settings(image_size=(32, 32), pretrained=False, model_arguments=arguments)
    bundle = compose(Choice(dataset, "resnet50", loss), folder, settings, prepared=folder / "prepared")
    torch.manual_seed(seed)
    network = build_network(read_recipe(bundle), None)
    with torch.no_grad():
        network.head.weight *= 100
        network.head.bias -= network(torch.rand(16, 1, 32, 32)).mean(0)
    torch.save(network.state_dict(), bundle.root / "models" / "model.pt")
    return bundle


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle that no test may change."""
    return _composed(tmp_path_factory.mktemp("bundles"))


@pytest.fixture
def bundle(original: Bundle, tmp_path: Path) -> Bundle:
    """A copy of it, to do with as one likes."""
    return Bundle(shutil.copytree(original.root, tmp_path / original.name))


@pytest.fixture(scope="session")
def original_classifier(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle of one class of three that no test may change."""
    return _classifier(tmp_path_factory.mktemp("classifiers"))


@pytest.fixture
def classifier(original_classifier: Bundle, tmp_path: Path) -> Bundle:
    """A copy of it, to do with as one likes."""
    return Bundle(shutil.copytree(original_classifier.root, tmp_path / original_classifier.name))


def _png(path: Path, seed: int = 0, size: tuple[int, int] = (40, 30)) -> Path:
    """A grey image of noise, height and width."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, size).astype(np.uint8)).save(path)
    return path


def _dicom(path: Path, pixels: np.ndarray, **elements: Any) -> Path:
    """A CT slice (or frames) of 16 bits with a place in the patient; elements that are None are left out."""
    found = pydicom.Dataset()
    plain: dict[str, Any] = {
        "SOPClassUID": CT,
        "SOPInstanceUID": generate_uid(),
        "StudyInstanceUID": "1.2.3",
        "SeriesInstanceUID": "1.2.3.4",
        "FrameOfReferenceUID": "1.2.3.5",
        "Modality": "CT",
        "SeriesNumber": 1,
        "InstanceNumber": 1,
        "PatientID": "P",
        "PatientName": "Doe^Jane",
        "ImagePositionPatient": [0, 0, 0],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "PixelSpacing": [0.5, 0.25],
        "SliceThickness": 2,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": pixels.shape[-2],
        "Columns": pixels.shape[-1],
        "NumberOfFrames": len(pixels) if pixels.ndim == 3 else None,
        "BitsAllocated": 16,
        "BitsStored": 12,
        "HighBit": 11,
        "PixelRepresentation": 0,
    }
    for keyword, value in {**plain, **elements}.items():
        if value is not None:
            setattr(found, keyword, value)
    found.PixelData = pixels.astype(np.uint16).tobytes()
    found.file_meta = FileMetaDataset()
    found.file_meta.MediaStorageSOPClassUID = found.SOPClassUID
    found.file_meta.MediaStorageSOPInstanceUID = found.SOPInstanceUID
    found.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    path.parent.mkdir(parents=True, exist_ok=True)
    found.save_as(path, enforce_file_format=True)
    return path


def _series(folder: Path, heights: tuple[float, ...], size: tuple[int, int] = (12, 10)) -> list[Path]:
    """Slices at heights in mm, each of which is filled by its height; files are named in the order given."""
    return [
        _dicom(
            folder / f"{number}.dcm",
            np.full(size, 100 + height),
            ImagePositionPatient=[0, 0, height],
            InstanceNumber=number + 1,
        )
        for number, height in enumerate(heights)
    ]


@pytest.fixture(scope="session")
def files() -> SimpleNamespace:
    """Writers of small files: ``png``, ``dicom`` and ``series``."""
    return SimpleNamespace(png=_png, dicom=_dicom, series=_series)


@pytest.fixture(scope="session")
def parts() -> SimpleNamespace:
    """What a predictor is made of: ``recipe``, the network ``Bright``, ``composed`` and ``classifier`` for bundles."""
    return SimpleNamespace(recipe=_recipe, Bright=Bright, composed=_composed, classifier=_classifier)
