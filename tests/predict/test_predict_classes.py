"""Classes of images: probabilities by hand, agreement with evaluation and with MONAI, tables, and what is refused."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel
import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from medseg.bundle.network import Recipe, read_recipe
from medseg.bundle.open import Bundle
from medseg.data.images import read_picture
from medseg.data.index import build_index
from medseg.data.index_file import index_path, write_index
from medseg.data.sample import Label
from medseg.errors import MedsegError
from medseg.predict.certainty import answer_names, certainty, entropy
from medseg.predict.predict import Options, predict
from medseg.predict.prediction import ClassPrediction
from medseg.predict.predictor import Predictor
from medseg.predict.settings import Settings
from medseg.predict.sheet import captioned
from medseg.transforms.picture import Picture

CPU = Settings(device="cpu")
CLASSES = (Label("normal"), Label("benign"), Label("malignant"))
LOGITS = (0.5, -1.0, 2.0)


class Fixed(torch.nn.Module):
    """The same logits for every image, plus the brightness of its left column in the first class."""

    def __init__(self, logits: tuple[float, ...] = LOGITS) -> None:
        super().__init__()
        self.logits = torch.tensor(logits)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        left = images[:, 0, :, 0].mean(1, keepdim=True)
        return self.logits + torch.nn.functional.pad(left, (0, 2))


def recipe(**changes: Any) -> Recipe:
    plain: dict[str, Any] = {
        "model": "resnet50",
        "model_arguments": {},
        "channels": 1,
        "classes": 3,
        "image_size": (32, 32),
        "preprocess": (),
        "preprocess_arguments": {},
        "labels": CLASSES,
        "task": "classification",
        "activation": "softmax",
    }
    return Recipe(**{**plain, **changes})


def black(count: int = 1) -> list[Picture]:
    return [Picture.of(np.zeros((1, 20 + k, 30), np.uint8)) for k in range(count)]


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


@pytest.mark.parametrize("activation", ["softmax", "sigmoid", "one_vs_rest"])
def test_probabilities_are_those_of_the_activation(activation: str):
    """By their formulas with Python's own mathematics."""
    powers = [math.exp(value) for value in LOGITS]
    alone = [sigmoid(value) for value in LOGITS]
    wanted = {
        "softmax": [value / sum(powers) for value in powers],
        "sigmoid": alone,
        "one_vs_rest": [value / sum(alone) for value in alone],
    }[activation]
    predictor = Predictor(recipe(activation=activation), [Fixed()], CPU)
    found = predictor(black(11))
    assert [one.probabilities.shape for one in found] == [(3,)] * 11
    assert found[0].probabilities.dtype == np.float32
    assert found[0].members.shape == (0, 3)
    for one in found:
        assert one.probabilities == pytest.approx(wanted, abs=1e-6)


def test_flips_and_networks_are_averaged_as_probabilities():
    picture = np.zeros((1, 32, 32), np.uint8)
    picture[:, :, 0] = 255  # the left column, which two of the four flips bring to the right
    networks = [Fixed((0, 0, 0)), Fixed((3, 0, 0))]
    predictor = Predictor(recipe(), networks, replace(CPU, flips=True))
    [found] = predictor([Picture.of(picture)])
    first = [math.exp(value) / (math.exp(value) + 2) for value in (1, 0, 1, 0, 4, 3, 4, 3)]
    assert found.members.shape == (8, 3)
    assert sorted(found.members[:, 0]) == pytest.approx(sorted(first), abs=1e-6)
    assert found.probabilities[0] == pytest.approx(sum(first) / 8, abs=1e-6)
    assert found.probabilities.sum() == pytest.approx(1, abs=1e-6)


def test_nothing_in_nothing_out_and_values_that_are_not_finite():
    assert Predictor(recipe(), [Fixed()], CPU)([]) == []
    with pytest.raises(MedsegError, match="not finite; check the image and the bundle's weights"):
        Predictor(recipe(), [Fixed((math.nan, 0, 0))], CPU)(black())


@pytest.mark.parametrize(
    "name, value", [("sliding_window", True), ("overlap", 0.5), ("scale", 2.0), ("min_area", 3)]
)
def test_settings_of_masks_are_refused(name: str, value: Any):
    with pytest.raises(
        MedsegError, match=f"--{name.replace('_', '-')} is for masks, and this bundle classifies"
    ):
        Predictor(recipe(), [Fixed()], replace(CPU, **{name: value}))


def test_a_threshold_is_for_several_classes_alone():
    with pytest.raises(MedsegError, match=r"threshold=0\.3 has no meaning where each image has one class"):
        Predictor(recipe(), [Fixed()], replace(CPU, threshold=0.3))
    several = recipe(multilabel=True, activation="sigmoid")
    [found] = Predictor(several, [Fixed()], replace(CPU, threshold=0.3))(black())
    assert answer_names(found, several) == "normal|malignant"
    assert answer_names(found, several, 0.7) == "malignant"
    assert answer_names(found, several, 0.99) == ""
    assert answer_names(found, recipe()) == "malignant"


def test_certainty_by_hand():
    one = ClassPrediction(np.array([0.5, 0.25, 0.25], np.float32), np.empty((0, 3), np.float32))
    assert certainty(one, recipe()) == {"confidence": 0.5, "uncertainty": 1.5, "disagreement": None}
    members = np.array([[1, 0, 0], [0, 0.5, 0.5]], np.float32)  # entropies 0 and 1
    two = ClassPrediction(members.mean(0), members)
    assert certainty(two, recipe()) == {"confidence": 0.5, "uncertainty": 1.5, "disagreement": 1.0}
    same = ClassPrediction(members[1], members[[1, 1]])
    assert certainty(same, recipe()) == {"confidence": 0.5, "uncertainty": 1.0, "disagreement": 0.0}


def test_certainty_of_several_classes_by_hand():
    several = recipe(multilabel=True, activation="sigmoid")
    found = ClassPrediction(np.array([0.5, 1, 0.25], np.float32), np.empty((0, 3), np.float32))
    bits = -(0.25 * math.log2(0.25) + 0.75 * math.log2(0.75))
    said = certainty(found, several, 0.6)  # only the second: the first is told to be absent, with 0.5
    assert said["confidence"] == 0.5
    assert said["uncertainty"] == pytest.approx((1 + 0 + bits) / 3)
    found = ClassPrediction(np.array([0.4, 0.9, 0.1], np.float32), np.empty((0, 3), np.float32))
    assert certainty(found, several, 0.3)["confidence"] == pytest.approx(0.4)
    assert certainty(found, several, 0.5)["confidence"] == pytest.approx(0.6)


def test_entropy_of_the_sure_is_zero_and_of_the_even_its_largest():
    assert entropy(np.array([[0, 1, 0], [1 / 3] * 3]), False) == pytest.approx([0, math.log2(3)])
    assert entropy(np.array([[0, 1, 0], [0.5] * 3]), True) == pytest.approx([0, 1])


def test_the_table_has_a_row_per_image(classifier: Bundle, tmp_path: Path, files: SimpleNamespace):
    for number in range(3):
        files.png(tmp_path / "in" / f"{number}.png", number, (40 + number, 30))
    (tmp_path / "in" / "bad.png").write_bytes(b"no image")
    out = tmp_path / "out"
    rows = predict(classifier, [tmp_path / "in"], out, CPU)
    assert {path.name for path in out.iterdir()} == {"predictions.csv", "predict.json"}
    with (out / "predictions.csv").open() as file:
        table = list(csv.DictReader(file))
    assert list(table[0]) == [
        *("file", "frame", "outcome", "reason", "predicted", "confidence", "uncertainty", "disagreement"),
        *("p_normal", "p_smooth", "p_spiculated"),
    ]
    assert [row["outcome"] for row in table] == ["predicted"] * 3 + ["failed"]
    assert "bad.png" in table[3]["file"] and table[3]["reason"]
    for row in table[:3]:
        chances = {name: float(row[f"p_{name}"]) for name in ("normal", "smooth", "spiculated")}
        assert sum(chances.values()) == pytest.approx(1, abs=2e-6)
        assert row["predicted"] == max(chances, key=lambda name: chances[name])
        assert float(row["confidence"]) == max(chances.values())
        assert row["disagreement"] == ""
    assert len({row["p_normal"] for row in table[:3]}) == 3
    run = json.loads((out / "predict.json").read_text())["run"]
    assert not {"masks", "probabilities", "min_area", "scale"} & set(run)
    assert [row["file"] for row in rows] == [row["file"] for row in table]


def test_the_same_command_goes_on(classifier: Bundle, tmp_path: Path, files: SimpleNamespace, monkeypatch):
    for number in range(2):
        files.png(tmp_path / "in" / f"{number}.png", number)
    first = predict(classifier, [tmp_path / "in"], tmp_path / "out", CPU)
    asked: list[int] = []
    call = Predictor.__call__
    monkeypatch.setattr(
        Predictor, "__call__", lambda self, pictures: asked.append(len(pictures)) or call(self, pictures)
    )
    files.png(tmp_path / "in" / "2.png", 2)
    again = predict(classifier, [tmp_path / "in"], tmp_path / "out", CPU)
    assert sum(asked) == 1
    assert again[:2] == first
    assert len(again) == 3
    with pytest.raises(MedsegError, match="flips false, now true"):
        predict(classifier, [tmp_path / "in"], tmp_path / "out", replace(CPU, flips=True))


def test_repeats_are_averaged(classifier: Bundle, tmp_path: Path, files: SimpleNamespace, parts):
    other = parts.classifier(tmp_path / "other", seed=1)
    for repeat, source in (("0", classifier), ("1", other)):
        folder = classifier.root / "repeats" / repeat
        folder.mkdir(parents=True)
        (folder / "model.pt").write_bytes((source.root / "models" / "model.pt").read_bytes())
    path = files.png(tmp_path / "in" / "a.png", 3)
    names = [f"p_{name}" for name in ("normal", "smooth", "spiculated")]
    found = {
        key: predict(classifier, [path], tmp_path / f"out{'-'.join(key)}", CPU, key)[0]
        for key in (("0",), ("1",), ("0", "1"))
    }
    alone = np.array([[found[(key,)][name] for name in names] for key in "01"])
    both = [found["0", "1"][name] for name in names]
    assert np.abs(alone[0] - alone[1]).max() > 0.01
    assert both == pytest.approx(alone.mean(0), abs=2e-6)
    bits = [-(row * np.log2(row)).sum() for row in (*alone, alone.mean(0))]
    assert found["0", "1"]["disagreement"] == pytest.approx(bits[2] - (bits[0] + bits[1]) / 2, abs=1e-4)


def test_several_classes_are_joined_and_cut_at_the_threshold(tmp_path: Path, files: SimpleNamespace, parts):
    bundle = parts.classifier(tmp_path, "chest_xray14", "binary_cross_entropy")
    assert read_recipe(bundle).multilabel
    path = files.png(tmp_path / "in" / "a.png", 5)
    [row] = predict(bundle, [path], tmp_path / "out", replace(CPU, threshold=0.4))
    chances = {key[2:]: value for key, value in row.items() if key.startswith("p_")}
    assert len(chances) == 14
    wanted = [name for name, value in chances.items() if value >= 0.4]
    assert 1 < len(wanted) < 14
    assert row["predicted"] == "|".join(wanted)


def test_slices_and_frames_have_rows_of_their_own(classifier: Bundle, tmp_path: Path, files: SimpleNamespace):
    values = np.random.default_rng(0).integers(0, 200, (20, 24, 5)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(values, np.diag([-1, -1, 3, 1])), tmp_path / "v.nii.gz")
    frames = np.random.default_rng(1).integers(0, 4000, (3, 24, 20))
    files.dicom(tmp_path / "m.dcm", frames)
    files.series(tmp_path / "ct", (0, 2, 4))
    inputs = [tmp_path / "v.nii.gz", tmp_path / "m.dcm", tmp_path / "ct"]
    rows = predict(classifier, inputs, tmp_path / "out", CPU, options=Options(overlays=True))
    assert [row["frame"] for row in rows] == [*range(5), *range(3), *range(3)]
    assert all(row["outcome"] == "predicted" for row in rows), rows
    assert [Path(row["file"]).name for row in rows[8:]] == ["0.dcm", "1.dcm", "2.dcm"]
    sheets = sorted(path.name for path in (tmp_path / "out" / "overlays").iterdir())
    assert sheets == ["ct.png", "m.png", "v.png"]


@pytest.mark.parametrize(
    "options, words",
    [
        (Options(masks="png"), "masks='png': this bundle classifies whole images"),
        (Options(probabilities=True), "probabilities of classes are columns of predictions.csv"),
    ],
)
def test_outputs_of_masks_are_refused_before_anything_is_written(
    classifier: Bundle, tmp_path: Path, files: SimpleNamespace, options: Options, words: str
):
    path = files.png(tmp_path / "in" / "a.png")
    with pytest.raises(MedsegError, match=words):
        predict(classifier, [path], tmp_path / "out", CPU, options=options)
    assert not (tmp_path / "out").exists()


def test_captions_are_drawn_below_the_picture():
    shown = np.full((50, 40, 3), 128, np.uint8)
    drawn = captioned(shown, "malignant  0.93")
    assert drawn.shape[1] == 224 and drawn.shape[0] > 280  # enlarged in proportion, and a band
    assert (drawn[:280] == 128).all()
    assert drawn[280:].max() > 200 and drawn[280:].min() == 0
    long = captioned(shown, " | ".join(["pleural thickening"] * 4))
    assert long[280:, :3].max() == 0 == long[280:, -3:].max()  # whole names, in smaller letters
    assert long[280:].max() > 100
    large = np.zeros((1000, 2000, 3), np.uint8)
    assert captioned(large, "x", 320).shape == (160 + 20, 320, 3)


def test_the_command_tells_how_many_of_each_class(classifier: Bundle, tmp_path: Path, files: SimpleNamespace):
    from medseg.cli.predict import predict as command

    for number in range(3):
        files.png(tmp_path / "in" / f"{number}.png", number)
    arguments = [str(classifier.root), str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--device", "cpu"]
    found = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert found.exit_code == 0, found.output
    assert "3 image(s) predicted, 0 failed" in found.output
    counts = pd.read_csv(tmp_path / "out" / "predictions.csv")["predicted"].value_counts()
    for name, count in counts.items():
        assert any(name in line and str(count) in line for line in found.output.splitlines())


def _centre(bundle: Bundle, images: list[Path]) -> None:
    """Shift the released logits so that each class is told of some of the images."""
    weights = bundle.root / "models" / "model.pt"
    predictor = Predictor.of(bundle, CPU)
    [network] = predictor.networks
    with torch.inference_mode():
        ready = [predictor.prepared(read_picture(path, 1)) for path in images[::6]]
        network.head.bias -= network(torch.stack(ready)).median(0).values
    torch.save(network.state_dict(), weights)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory, parts: SimpleNamespace) -> tuple[Bundle, Path]:
    """A bundle whose repeat 0 has weights at random, evaluated on the drawn set, and the folder of its images."""
    from medseg.engine.workflow import Options as RunOptions
    from medseg.engine.workflow import evaluate

    folder = tmp_path_factory.mktemp("evaluated")
    index = build_index("phantom_class", folder / "images")
    write_index(index, index_path("phantom_class", folder / "prepared"))
    bundle = parts.classifier(folder)
    run = bundle.root / "repeats" / "0"
    run.mkdir(parents=True)
    _centre(bundle, sorted((folder / "images").rglob("*.png")))
    (run / "model.pt").write_bytes((bundle.root / "models" / "model.pt").read_bytes())
    evaluate(bundle, RunOptions(prepared=folder / "prepared", tracking_uri="", device="cpu", progress=False))
    return bundle, folder / "images"


def test_predictions_are_those_of_evaluation(evaluated: tuple[Bundle, Path], tmp_path: Path):
    bundle, images = evaluated
    cases = pd.read_csv(bundle.root / "repeats" / "0" / "cases.csv")
    assert len(cases) > 20 and cases["predicted"].nunique() > 1
    files = {path.stem: path for path in images.rglob("*.png")}
    rows = predict(bundle, [files[case] for case in cases["case"]], tmp_path / "out", CPU, ["0"])
    table = pd.DataFrame(rows)
    columns = ["p_normal", "p_smooth", "p_spiculated"]
    assert (table["predicted"] == cases["predicted"]).all()
    assert np.abs(table[columns].to_numpy() - cases[columns].to_numpy()).max() < 2e-6


def test_predictions_are_those_of_monai(evaluated: tuple[Bundle, Path], tmp_path: Path):
    """MONAI's own run of ``inference.yaml``, whose table is by its ClassificationSaver."""
    from monai.bundle import ConfigWorkflow

    bundle, images = evaluated
    few = sorted(images.rglob("*.png"))[::20]
    for path in few:
        picture = Image.open(path)
        picture.save(tmp_path / path.name)
    workflow = ConfigWorkflow(
        config_file=str(bundle.config("inference")),
        workflow_type="infer",
        logging_file=False,
        bundle_root=str(bundle.root),
        dataset_dir=str(tmp_path),
        output_dir=str(tmp_path / "monai"),
        device="$torch.device('cpu')",
    )
    workflow.initialize()
    workflow.run()
    with (tmp_path / "monai" / "predictions.csv").open() as file:
        theirs = {Path(row[0]).name: [float(value) for value in row[1:]] for row in csv.reader(file)}
    rows = predict(bundle, [tmp_path / path.name for path in few], tmp_path / "out", CPU)
    assert len(rows) == len(few) == len(theirs) == 9
    for row in rows:
        ours = [row["p_normal"], row["p_smooth"], row["p_spiculated"]]
        assert ours == pytest.approx(theirs[Path(row["file"]).name], abs=2e-6)
