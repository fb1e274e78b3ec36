"""One real MONAI Label server on a tiny exported bundle, which the tests here share."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import nibabel
import numpy as np
import pytest
import torch
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from medseg.bundle.choice import Choice
from medseg.bundle.compose import compose
from medseg.bundle.network import build_network, read_recipe
from medseg.bundle.open import Bundle
from medseg.bundle.settings import Settings
from medseg.data.index import build_index
from medseg.data.index_file import index_path, write_index
from medseg.export._network import trained as trained_network
from medseg.export.monailabel import write_app
from medseg.losses import build as build_loss
from medseg.predict.predictor import Predictor

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
ENVIRONMENT = CACHE / "medseg" / "monailabel-0.8.5"
PYTHON = ENVIRONMENT / "bin" / "python"
#: seconds that a server may take to answer, and a training to end
PATIENCE = 180


def disc(size: tuple[int, int], row: float, column: float, radius: float) -> np.ndarray:
    y, x = np.mgrid[: size[0], : size[1]]
    return (y / size[0] - row) ** 2 + (x / size[1] - column) ** 2 < radius**2


def grey_disc(number: int, size: tuple[int, int] = (48, 40)) -> tuple[np.ndarray, np.ndarray]:
    """A noisy bright disc and its mask, off the middle, so that an image on its side is another image."""
    draw = np.random.default_rng(number)
    mask = disc(size, draw.uniform(0.2, 0.45), draw.uniform(0.55, 0.8), draw.uniform(0.12, 0.2))
    return np.clip(draw.normal(60 + 110 * mask, 15), 0, 255).astype(np.uint8), mask


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle of discs whose tiny network has learnt to find them."""
    folder = tmp_path_factory.mktemp("discs")
    for name in ("images", "masks"):
        (folder / "source" / name).mkdir(parents=True)
    pairs = [grey_disc(number, (32, 32)) for number in range(16)]
    for number, (image, mask) in enumerate(pairs):
        Image.fromarray(image).save(folder / "source" / "images" / f"p{number:02d}_1.png")
        Image.fromarray((mask * 255).astype(np.uint8)).save(
            folder / "source" / "masks" / f"p{number:02d}_1.png"
        )
    rules = {
        "images": "images/*.png",
        "masks": "masks/{stem}.png",
        "group": "(?P<group>p[0-9]+)_",
        "channels": 1,
    }
    index = build_index("discs", folder / "source", **rules)
    write_index(index, index_path("discs", folder / "prepared"))
    settings = Settings(image_size=(32, 32), model_arguments={"widths": [4, 8], "dropout": 0.3})
    bundle = compose(
        Choice("discs", "unet", "dice_bce"), folder / "bundles", settings, prepared=folder / "prepared"
    )
    torch.manual_seed(0)
    network = build_network(read_recipe(bundle), None).train()
    images = torch.from_numpy(np.stack([i for i, _ in pairs])[:, None]).float() / 255
    masks = torch.from_numpy(np.stack([m for _, m in pairs])[:, None]).float()
    optimizer, loss = torch.optim.Adam(network.parameters(), lr=2e-2), build_loss("dice_bce")
    for _ in range(40):
        optimizer.zero_grad()
        loss(network(images), masks).backward()
        optimizer.step()
    (bundle.root / "models").mkdir(exist_ok=True)
    torch.save(network.state_dict(), bundle.root / "models" / "model.pt")
    return bundle


@pytest.fixture(scope="session")
def predictor(trained: Bundle) -> Predictor:
    """What the server's answers are compared with: the bundle as it was trained, in this Python."""
    return Predictor.of(trained)


@pytest.fixture(scope="session")
def app(trained: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The exported app; the export's own check is tested in its room."""
    out = tmp_path_factory.mktemp("exported") / "the app"
    write_app(trained, *trained_network(trained), out)
    return out


def write_dicom(path: Path, grey: np.ndarray) -> None:
    """An ultrasound file of 10 bits, MONOCHROME1, with a window; ``grey`` is what it shows, 0 to 255."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = (
        ExplicitVRLittleEndian,
        "1.2.840.10008.5.1.4.1.1.6.1",
    )
    meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset = Dataset()
    dataset.file_meta = meta
    dataset.SOPClassUID, dataset.SOPInstanceUID = (
        meta.MediaStorageSOPClassUID,
        meta.MediaStorageSOPInstanceUID,
    )
    dataset.Modality, dataset.PhotometricInterpretation = "US", "MONOCHROME1"
    dataset.Rows, dataset.Columns = grey.shape
    dataset.SamplesPerPixel, dataset.PixelRepresentation = 1, 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 10, 9
    dataset.WindowCenter, dataset.WindowWidth = 512, 900
    dataset.PixelData = (1023 - grey.astype(np.uint16) * 4).tobytes()
    dataset.save_as(path, enforce_file_format=True)


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of each kind that a server is given, and one that is none."""
    folder = tmp_path_factory.mktemp("studies") / "all images"
    folder.mkdir()
    grey = grey_disc(100)[0]
    Image.fromarray(grey).save(folder / "grey.png")
    Image.fromarray(grey).save(folder / "LOUD.PNG")
    Image.fromarray(grey).save(folder / "lossy.jpg", quality=95)
    colour = Image.fromarray(np.stack([grey, grey - grey // 8, grey], -1))
    colour.save(folder / "colour.png")
    colour.quantize(64).save(folder / "palette.png")
    Image.fromarray(grey.astype(np.uint16) * 250).save(folder / "deep.png")
    write_dicom(folder / "ultrasound.dcm", grey)
    slices = np.stack([grey_disc(200 + k, (36, 30))[0] for k in range(3)])
    # stored head down and left to right, so that axes have to be turned
    affine = np.diag([-0.5, 0.5, -2.0, 1]) + np.array(
        [[0, 0, 0, 7], [0, 0, 0, -3], [0, 0, 0, 11], [0, 0, 0, 0]]
    )
    nibabel.save(nibabel.Nifti1Image(slices.transpose(2, 1, 0)[:, ::-1], affine), folder / "volume.nii.gz")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno image")
    for number in range(6):
        Image.fromarray(grey_disc(300 + number)[0]).save(folder / f"new{number}.png")
    return folder


@dataclass
class Server:
    """A running server."""

    address: str
    model: str
    bundle: Path
    images: Path
    log: Path
    client: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=PATIENCE))

    def __call__(self, method: str, path: str, **more: Any) -> httpx.Response:
        return self.client.request(method, f"{self.address}{path}", **more)

    def infer(self, image: str, **params: Any) -> httpx.Response:
        return self("POST", f"/infer/{self.model}", params={"image": image, "output": "image", **params})

    def put_label(self, image: str, path: Path, tag: str = "final") -> None:
        with path.open("rb") as file:
            answer = self(
                "PUT",
                "/datastore/label",
                params={"image": image, "tag": tag},
                files={"label": (path.name, file)},
            )
        assert answer.status_code == 200, answer.text

    def train(self, **request: Any) -> dict[str, Any]:
        """Train in the background as a viewer asks for it, and wait for its end."""
        answer = self("POST", f"/train/{self.model}", json={"device": "cpu", **request})
        assert answer.status_code == 200, answer.text
        for _ in range(PATIENCE * 4):
            task = self("GET", "/train/").json()
            if task["status"] not in ("SUBMITTED", "RUNNING"):
                return task
            time.sleep(0.25)
        raise AssertionError(f"training did not end: {task}")


@pytest.fixture(scope="session")
def stock() -> Path:
    """The Python of a stock MONAI Label, without medseg."""
    if not PYTHON.is_file():
        pytest.skip(f"no MONAI Label at {ENVIRONMENT}; scripts/monailabel --prepare makes it")
    return PYTHON


@pytest.fixture(scope="session")
def server(
    stock: Path, app: Path, images: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """The server of the bundle that segments."""
    with serving(app, images, tmp_path_factory.mktemp("log") / "server.log") as running:
        yield running


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle of three classes whose weights are at random, so far apart that images get different ones."""
    folder = tmp_path_factory.mktemp("classes")
    arguments = {"depths": [1, 1, 1, 1], "widths": [8, 8, 8, 8], "stem": "small"}
    settings = Settings(image_size=(32, 32), pretrained=False, model_arguments=arguments)
    choice = Choice("phantom_class", "resnet50", "binary_cross_entropy")
    bundle = compose(choice, folder / "bundles", settings, prepared=folder / "prepared")
    torch.manual_seed(0)
    network = build_network(read_recipe(bundle), None)
    discs = np.stack([grey_disc(number, (32, 32))[0] for number in range(8)])[:, None] / 255
    with torch.no_grad():
        network.head.weight *= 40
        network.head.bias -= network(torch.from_numpy(discs).float()).mean(0)
    torch.save(network.state_dict(), bundle.root / "models" / "model.pt")
    return bundle


@pytest.fixture(scope="session")
def class_app(classifier: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its exported app."""
    out = tmp_path_factory.mktemp("exported") / "classes"
    write_app(classifier, *trained_network(classifier), out)
    return out


@pytest.fixture(scope="session")
def class_server(
    stock: Path, class_app: Path, images: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """The server of the bundle that classifies."""
    with serving(class_app, images, tmp_path_factory.mktemp("log") / "server.log") as running:
        yield running


@contextmanager
def serving(app: Path, images: Path, log: Path) -> Iterator[Server]:
    """A server as ``scripts/monailabel`` starts it, on a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["bash", str(ROOT / "scripts" / "monailabel"), "--port", str(port), str(app), str(images)]
    # scoring after each request would keep these two cores busy with what no test looks at
    environment = {**os.environ, "MONAI_LABEL_AUTO_UPDATE_SCORING": "false", "PYTHONPATH": ""}
    with log.open("w") as out:
        process = subprocess.Popen(
            command,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=log.parent,
            start_new_session=True,
        )
    bundle = next((app / "model").iterdir())
    running = Server(f"http://127.0.0.1:{port}", bundle.name, bundle, images, log)
    try:
        for _ in range(PATIENCE * 4):
            if process.poll() is not None:
                raise AssertionError(f"the server ended:\n{log.read_text()[-3000:]}")
            try:
                running("GET", "/info/")
                break
            except httpx.TransportError:
                time.sleep(0.25)
        yield running
    finally:
        process.terminate()
        process.wait(30)
