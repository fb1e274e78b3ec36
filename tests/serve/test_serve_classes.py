"""The page of a bundle that classifies: classes and probabilities as JSON and in a browser, and no masks."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from medseg.bundle.open import Bundle
from medseg.data.images import read_picture
from medseg.explain.classes import ClassExplainer
from medseg.predict.predictor import Predictor
from medseg.predict.predictor import Settings as How
from medseg.serve.app import Service, build_app

CLASSES = ["normal", "smooth", "spiculated"]


@pytest.fixture
def client(classifier: Bundle, tmp_path: Path) -> Iterator[TestClient]:
    service = Service(classifier, Predictor.of(classifier, How(device="cpu")), parent=tmp_path)
    app = build_app(service)
    with TestClient(app, base_url="http://localhost:8000", raise_server_exceptions=False) as client:
        yield client


def noise(path: Path, seed: int = 0) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 30)).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def send(client: TestClient, path: Path) -> Any:
    return client.post("/api/predict", files={"file": (path.name, path.read_bytes())})


def test_the_bundle_says_that_it_classifies(client: TestClient):
    told = client.get("/api/bundle").json()
    assert (told["task"], told["multilabel"]) == ("classification", False)
    assert [label["name"] for label in told["labels"]] == CLASSES


def test_classes_are_those_of_predict(client: TestClient, classifier: Bundle, tmp_path: Path):
    path = noise(tmp_path / "a.png", 3)
    told = send(client, path).json()
    assert (told["task"], told["files"], told["notes"]) == (
        "classification",
        ["displayed.png", "cam.png"],
        [],
    )
    (frame,) = told["frames"]
    [wanted] = Predictor.of(classifier, How(device="cpu"))([read_picture(path, 1)])
    assert frame["probabilities"] == pytest.approx(wanted.probabilities.tolist(), abs=1e-6)
    assert frame["predicted"] == [int(wanted.probabilities.argmax()) + 1]
    assert frame["confidence"] == pytest.approx(float(wanted.probabilities.max()), abs=1e-6)
    bits = -(wanted.probabilities * np.log2(wanted.probabilities)).sum()
    assert frame["uncertainty"] == pytest.approx(float(bits), abs=1e-5)
    assert (frame["height"], frame["width"], frame["disagreement"]) == (40, 30, None)
    shown = client.get(f"/api/results/{told['id']}/displayed.png")
    assert (np.asarray(Image.open(io.BytesIO(shown.content))) == np.asarray(Image.open(path))).all()


def test_the_layer_is_what_speaks_for_the_likeliest_class(
    client: TestClient, classifier: Bundle, tmp_path: Path
):
    path = noise(tmp_path / "a.png", 3)
    told = send(client, path).json()
    wanted = ClassExplainer.of(classifier, settings=How(device="cpu"))(read_picture(path, 1))
    (frame,) = told["frames"]
    assert frame["cam"] == {"label": frame["predicted"][0], "reason": wanted.reason}
    grey = client.get(f"/api/results/{told['id']}/cam.png")
    seen = np.asarray(Image.open(io.BytesIO(grey.content)))
    assert seen.max() == 255 and np.abs(seen - 255 * wanted.heat).max() <= 1
    layer = client.get(f"/api/results/{told['id']}/cam.png", params={"coloured": 1})
    assert np.asarray(Image.open(io.BytesIO(layer.content))).shape == (40, 30, 4)


@pytest.mark.parametrize("name", ["mask.png", "overlay.png", "probability.png", "mask.dcm", "other.png"])
def test_there_are_no_masks(client: TestClient, tmp_path: Path, name: str):
    told = send(client, noise(tmp_path / "a.png")).json()
    reply = client.get(f"/api/results/{told['id']}/{name}")
    assert reply.status_code == 404
    assert reply.json() == {"error": f"there is no '{name}' here; this result has displayed.png, cam.png"}


def test_every_slice_has_its_classes_and_a_bad_file_its_reason(client: TestClient, tmp_path: Path):
    values = np.random.default_rng(0).integers(0, 200, (20, 24, 4)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(values, np.diag([-0.5, -0.25, 3, 1])), tmp_path / "v.nii.gz")
    told = send(client, tmp_path / "v.nii.gz").json()
    assert len(told["frames"]) == 4
    assert len({tuple(frame["probabilities"]) for frame in told["frames"]}) == 4
    assert told["frames"][0]["spacing"]["plane"] == "volume"
    (tmp_path / "b.png").write_bytes(b"\x89PNG\r\n\x1a\nno image")
    reply = send(client, tmp_path / "b.png")
    assert (reply.status_code, list(reply.json())) == (422, ["error"])


def test_several_classes_are_cut_at_the_threshold(composed: Callable[..., Bundle], tmp_path: Path):
    bundle = composed(tmp_path / "several", "chest_xray14", "binary_cross_entropy")
    service = Service(bundle, Predictor.of(bundle, How(device="cpu", threshold=0.4)), parent=tmp_path)
    with TestClient(build_app(service), base_url="http://localhost:8000") as client:
        assert client.get("/api/bundle").json()["multilabel"] is True
        (frame,) = send(client, noise(tmp_path / "a.png", 5)).json()["frames"]
    wanted = [k for k, value in enumerate(frame["probabilities"], 1) if value >= 0.4]
    assert 1 < len(wanted) < 14
    assert frame["predicted"] == wanted
