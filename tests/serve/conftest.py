"""A bundle whose predictions are known by hand, behind the page's addresses."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from starlette.testclient import TestClient

from medseg.bundle.choice import Choice
from medseg.bundle.compose import compose
from medseg.bundle.network import Recipe, build_network, read_recipe
from medseg.bundle.open import Bundle
from medseg.bundle.settings import Settings
from medseg.data.index import build_index
from medseg.data.index_file import index_path, write_index
from medseg.data.sample import Label
from medseg.predict.prediction import Prediction
from medseg.serve.app import Service, build_app
from medseg.serve.shelf import Shelf
from medseg.serve.upload import Limits
from medseg.transforms.picture import Picture

LABELS = (Label("pale"), Label("bright"))


@pytest.fixture(scope="session")
def served_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle of discs; its weights are random, of a bias with which half of a ramp is lesion."""
    folder = tmp_path_factory.mktemp("served")
    for name in ("images", "masks"):
        (folder / "source" / name).mkdir(parents=True)
    pixels = np.zeros((32, 32), np.uint8)
    pixels[4:12, 4:12] = 255
    for number in range(12):
        for name in ("images", "masks"):
            # images differ, or they would be duplicates
            other = np.maximum(pixels, number) if name == "images" else pixels
            Image.fromarray(other).save(folder / "source" / name / f"p{number}_0.png")
    rules = {
        "images": "images/*.png",
        "masks": "masks/{stem}.png",
        "group": "(?P<group>p[0-9]+)_",
        "channels": 1,
    }
    index = build_index("discs", folder / "source", **rules)
    write_index(index, index_path("discs", folder / "prepared"))
    settings = Settings(image_size=(32, 32), model_arguments={"widths": [4, 8]})
    bundle = compose(
        Choice("discs", "unet", "dice_bce"), folder / "bundles", settings, prepared=folder / "prepared"
    )
    torch.manual_seed(0)
    network = build_network(read_recipe(bundle), None)
    ramp = torch.linspace(0, 1, 32).expand(1, 1, 32, 32)
    with torch.no_grad():
        *_, bias = network.parameters()
        bias -= network(ramp).median()
    (bundle.root / "models").mkdir(exist_ok=True)
    torch.save(network.state_dict(), bundle.root / "models" / "model.pt")
    return bundle


def _classifier(folder: Path, dataset: str, loss: str) -> Bundle:
    arguments = {"depths": [1, 1, 1, 1], "widths": [8, 8, 8, 8], "stem": "small"}
    settings = Settings(image_size=(32, 32), pretrained=False, model_arguments=arguments)
    bundle = compose(Choice(dataset, "resnet50", loss), folder, settings, prepared=folder / "prepared")
    torch.manual_seed(0)
    network = build_network(read_recipe(bundle), None)
    with torch.no_grad():
        network.head.weight *= 100
        network.head.bias -= network(torch.rand(16, 1, 32, 32)).mean(0)
    torch.save(network.state_dict(), bundle.root / "models" / "model.pt")
    return bundle


@pytest.fixture(scope="session")
def composed() -> Callable[..., Bundle]:
    """Composes a bundle that classifies, of a data set and a loss, with weights at random."""
    return _classifier


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """One of three classes of one image each."""
    return _classifier(tmp_path_factory.mktemp("classifier"), "phantom_class", "cross_entropy")


class Bright:
    """Predicts by the pixels alone: ``pale`` from 100 on with 60 %, ``bright`` from 200 on with 90 %."""

    def __init__(self, recipe: Recipe, labels: tuple[Label, ...] = LABELS) -> None:
        self.recipe = dataclasses.replace(recipe, labels=labels)
        self.settings = SimpleNamespace(threshold=0.5)
        self.networks = [None]
        self.calls = 0
        self.before: Callable[[], None] = lambda: None

    def __call__(self, pictures: Sequence[Picture]) -> list[Prediction]:
        self.calls += 1
        self.before()
        return [self._one(picture.values[0]) for picture in pictures]

    def _one(self, values: np.ndarray) -> Prediction:
        pale, bright = (values >= 100) & (values < 200), values >= 200
        if len(self.recipe.labels) == 1:
            pale, bright = pale | bright, np.zeros_like(pale)
        probabilities = np.stack([pale * 0.6, bright * 0.9])[: len(self.recipe.labels)]
        mask = (pale * 1 + bright * 2).astype(np.uint8)
        return Prediction(probabilities.astype(np.float32), mask, np.empty((0, *mask.shape), np.uint8))


class Served:
    """An application in this process: its client, its parts, and its folder of temporary files."""

    def __init__(self, bundle: Bundle, folder: Path, labels: tuple[Label, ...], **limits: Any) -> None:
        self.predictor = Bright(read_recipe(bundle), labels)
        self.folder = folder
        self.clock = 0.0
        shelf = Shelf(clock=lambda: self.clock)
        self.service = Service(bundle, self.predictor, Limits(**limits), shelf, folder)  # type: ignore[arg-type]
        self.client = TestClient(
            build_app(self.service), base_url="http://localhost:8000", raise_server_exceptions=False
        )

    def post(self, content: bytes, name: str = "name.png", **headers: str) -> Any:
        """Send a file."""
        sent = {key.replace("_", "-"): value for key, value in headers.items()}
        return self.client.post("/api/predict", files={"file": (name, content)}, headers=sent)

    def left(self) -> list[str]:
        """What lies in the folder, beside the running server's own folder and lock."""
        own = (self.service.workplace.root, self.service.workplace.root / "lock")
        return sorted(path.name for path in self.folder.rglob("*") if path not in own)


@pytest.fixture
def serve(served_bundle: Bundle, tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """Starts applications; each is ended after the test."""
    opened: list[Served] = []

    def start(labels: tuple[Label, ...] = LABELS, **limits: Any) -> Served:
        folder = tmp_path / f"temporary{len(opened)}"
        folder.mkdir()
        one = Served(served_bundle, folder, labels, **limits)
        one.client.__enter__()
        opened.append(one)
        return one

    yield start
    for one in opened:
        one.client.__exit__(None, None, None)
        assert list(one.folder.iterdir()) == []


@pytest.fixture
def served(serve: Callable[..., Served]) -> Served:
    """One application of two labels with usual limits."""
    return serve()


def draw_squares() -> np.ndarray:
    """A picture ``(20, 30)``: 12 pixels of 150, then twice 8 of 255 that touch at a corner, then 4 apart."""
    pixels = np.zeros((20, 30), np.uint8)
    pixels[1:4, 1:5] = 150
    pixels[5:7, 10:14] = pixels[7:9, 14:18] = 255
    pixels[15:17, 20:22] = 255
    return pixels


def png(pixels: np.ndarray) -> bytes:
    """Pixels as PNG."""
    import io

    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def make_png() -> Callable[..., bytes]:
    """Makes the PNG file of pixels, or of ``squares``."""
    return lambda pixels=None: png(draw_squares() if pixels is None else pixels)


@pytest.fixture
def squares() -> np.ndarray:
    """The picture of which labels and areas are known by hand."""
    return draw_squares()
