"""A real MONAI Label server, and MONAI Label's own bundle app, on an exported classifier."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pytest import approx

from medseg.bundle.open import Bundle
from medseg.data.images import read_picture
from medseg.predict.predictor import Predictor

CLASSES = ["normal", "smooth", "spiculated"]


@pytest.fixture(scope="module")
def expected(classifier: Bundle, images: Path) -> dict[str, np.ndarray]:
    """What ``medseg predict`` gives for some of the images."""
    predictor = Predictor.of(classifier)
    names = ("grey.png", "colour.png", "deep.png", "ultrasound.dcm", *(f"new{k}.png" for k in range(6)))
    pictures = [read_picture(images / name, 1) for name in names]
    return {
        name.partition(".")[0]: one.probabilities
        for name, one in zip(names, predictor(pictures), strict=True)
    }


def scores(answer: dict[str, Any]) -> list[float]:
    assert [(one["idx"], one["label"]) for one in answer["prediction"]] == list(enumerate(CLASSES))
    return [one["score"] for one in answer["prediction"]]


def test_a_stock_server_answers_with_classes(class_server: Any, expected: dict[str, np.ndarray]) -> None:
    assert class_server.model == "phantom_class__resnet50__binary_cross_entropy__classification"
    info_names_the_classes_and_no_training(class_server)
    predicted = {
        classes_are_those_of_predict(class_server, name, wanted) for name, wanted in expected.items()
    }
    assert len(predicted) > 1
    an_uploaded_file_is_classified(class_server, expected["ultrasound"])
    what_cannot_be_classified_says_why(class_server)


def info_names_the_classes_and_no_training(server: Any) -> None:
    info = server("GET", "/info/").json()
    assert info["models"][server.model]["type"] == "classification"
    assert info["models"][server.model]["labels"] == {name: k for k, name in enumerate(CLASSES)}
    assert info["trainers"] == {} and info["scoring"] == {}
    assert set(info["strategies"]) == {"random", "first"}


def classes_are_those_of_predict(server: Any, name: str, wanted: np.ndarray) -> str:
    answer = server.infer(name, output="json")
    assert answer.status_code == 200, answer.text
    assert scores(answer.json()) == approx(wanted.tolist(), abs=1e-5)
    assert answer.json()["predicted"] == [CLASSES[wanted.argmax()]]
    return str(answer.json()["predicted"][0])


def an_uploaded_file_is_classified(server: Any, wanted: np.ndarray) -> None:
    path = server.images / "ultrasound.dcm"
    with path.open(
        "rb"
    ) as file:  # without "output", as of viewers: there is no file to send beside the answer
        answer = server("POST", f"/infer/{server.model}", files={"file": (path.name, file)})
    assert scores(answer.json()) == approx(wanted.tolist(), abs=1e-5)


def what_cannot_be_classified_says_why(server: Any) -> None:
    answer = server.infer("volume", output="json")
    assert answer.status_code == 422 and "3 slices or frames" in answer.text
    answer = server.infer("broken", output="json")
    assert answer.status_code == 422 and "broken.png" in answer.text


STOCK = """
import json, sys
sys.path.insert(0, sys.argv[1])
import main
app = main.MyApp(sys.argv[1], sys.argv[3], {"models": sys.argv[2], "zoo_source": "ngc", "sam2": "false"})
answer = app.infer({"model": sys.argv[2], "image": "grey", "device": "cpu"})
print("ANSWER", json.dumps({"file": answer["file"], "prediction": answer["params"]["prediction"]}))
"""


def test_monai_labels_own_bundle_app_serves_the_classifier(
    stock: Path, class_app: Path, images: Path, expected: dict[str, np.ndarray], tmp_path: Path
) -> None:
    sample = stock.parents[1] / "monailabel" / "sample-apps" / "monaibundle"
    shutil.copytree(sample, tmp_path / "app", ignore=shutil.ignore_patterns("model", "logs"))
    name = next((class_app / "model").iterdir()).name
    shutil.copytree(class_app / "model" / name, tmp_path / "app" / "model" / name)
    (tmp_path / "studies").mkdir()
    shutil.copy(images / "grey.png", tmp_path / "studies")
    done = subprocess.run(
        [stock, "-c", STOCK, tmp_path / "app", name, tmp_path / "studies"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answer = json.loads(done.stdout.split("ANSWER ")[1])
    assert answer["file"] is None
    assert scores(answer) == approx(expected["grey"].tolist(), abs=1e-5)
