"""A bundle on files: maps at their own size, regions, bad files, and what an empty map says."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from medseg.bundle.network import read_recipe
from medseg.bundle.open import Bundle
from medseg.errors import MedsegError
from medseg.explain.cases import explain_all
from medseg.explain.explainer import Explainer, Explanation, Question
from medseg.explain.regions import Region
from medseg.predict.predictor import Predictor
from medseg.transforms.picture import Picture

SIZE = 40


def discs(*places: tuple[int, int], size: int = SIZE) -> np.ndarray:
    """Bright discs of a radius of 6, 7, ... pixels on dark ground, ``(H, W)`` uint8."""
    y, x = np.mgrid[:size, : size + 8]
    draw = np.random.default_rng(5)
    image = draw.normal(60, 15, y.shape)
    for number, (row, column) in enumerate(places):
        image[(y - row) ** 2 + (x - column) ** 2 < (6 + number) ** 2] += 110
    return np.clip(image, 0, 255).astype(np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A disc, no disc, a sub-folder, a file that is cut off and one that is no image."""
    root = tmp_path / "images"
    (root / "more").mkdir(parents=True)
    Image.fromarray(discs((12, 14))).save(root / "disc.png")
    Image.fromarray(discs()).save(root / "none.png")
    Image.fromarray(discs((25, 30))).save(root / "more" / "disc.png")
    (root / "cut.png").write_bytes((root / "disc.png").read_bytes()[:300])
    (root / "notes.txt").write_text("no image")
    return root


@pytest.fixture
def question() -> Question:
    return Question("hirescam", "decoder.1")


def test_maps_overlays_and_table_of_a_folder(
    learnt: Bundle, folder: Path, question: Question, tmp_path: Path
) -> None:
    out, seen = tmp_path / "out", []
    rows = explain_all(Explainer.of(learnt, question), [folder], out, lambda *done: seen.append(done))
    assert [(Path(str(row["file"])).name, row["outcome"]) for row in rows] == [
        ("cut.png", "failed"),
        ("disc.png", "explained"),
        ("none.png", "empty"),
        ("disc.png", "explained"),
    ]
    assert seen == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]
    with (out / "explanations.csv").open() as file:
        table = list(csv.DictReader(file))
    assert tuple(table[0]) == Explainer.columns
    assert [row["map"] for row in table] == ["", "disc.npy", "none.npy", "more/disc.npy"]
    assert {(row["method"], row["layer"], row["label"], row["region"]) for row in table} == {
        ("hirescam", "decoder.1", table[0]["label"], "predicted")
    }
    assert "no lesion is predicted" in table[2]["reason"] and "cut.png" in table[0]["reason"]
    for name in ("disc", "none", "more/disc"):
        heat = np.load(out / "maps" / f"{name}.npy")
        assert heat.shape == (SIZE, SIZE + 8) and heat.dtype == np.float32
        assert heat.max() == (0 if name == "none" else 1) and heat.min() >= 0
        assert Image.open(out / "overlays" / f"{name}.png").size == (SIZE + 8, SIZE)
    for row in (table[1], table[3]):
        assert float(row["energy_in_mask"]) > 0.5 and float(row["largest_activation"]) > 0


def test_heat_lies_where_the_disc_is(learnt: Bundle, question: Question) -> None:
    explainer = Explainer.of(learnt, question)
    for row, column in ((12, 14), (25, 30)):
        answer = explainer(Picture.of(discs((row, column))[None]))
        weights = answer.heat / answer.heat.sum()
        y, x = np.mgrid[:SIZE, : SIZE + 8]
        assert abs((weights * y).sum() - row) < 4 and abs((weights * x).sum() - column) < 4
        inside = answer.heat[answer.predicted].sum() / answer.heat.sum()
        assert answer.energy == pytest.approx(inside, rel=1e-5)


def test_lesions_are_explained_one_by_one(learnt: Bundle) -> None:
    picture = Picture.of(discs((10, 10), (28, 36))[None])
    centres = []
    for number in (1, 2):
        question = Question("layercam", "decoder.1", Region("lesion", number))
        heat = Explainer.of(learnt, question)(picture).heat
        row, column = np.unravel_index(heat.argmax(), heat.shape)
        centres.append((row, column))
    assert np.hypot(centres[0][0] - 28, centres[0][1] - 36) < 8  # the larger one
    assert np.hypot(centres[1][0] - 10, centres[1][1] - 10) < 8
    third = Explainer.of(learnt, Question("layercam", "", Region("lesion", 3)))(picture)
    assert third.reason == "there is no lesion 3: 2 predicted" and not third.heat.any()


def test_region_of_a_mask_file_is_what_is_explained(learnt: Bundle, tmp_path: Path) -> None:
    mask = np.zeros((SIZE, SIZE + 8), np.uint8)
    mask[20:, :20] = 255
    path = tmp_path / "mask.png"
    Image.fromarray(mask).save(path)
    question = Question("hirescam", "decoder.1", Region.parse(f"mask:{path}"))
    answer = Explainer.of(learnt, question)(Picture.of(discs((28, 10), (10, 36))[None]))
    assert answer.heat[18:, :24].sum() > 0.95 * answer.heat.sum() > 0


def test_region_smaller_than_a_pixel_of_the_network_is_told(learnt: Bundle, tmp_path: Path) -> None:
    mask = np.zeros((4 * SIZE, 4 * SIZE), np.uint8)
    mask[0, 0] = 255
    Image.fromarray(mask).save(tmp_path / "dot.png")
    explainer = Explainer.of(learnt, Question(region=Region.parse(f"mask:{tmp_path / 'dot.png'}")))
    answer = explainer(Picture.of(np.zeros((1, 4 * SIZE, 4 * SIZE), np.uint8)))
    assert "too small" in answer.reason and not answer.heat.any()


def test_map_without_positive_evidence_is_told(learnt: Bundle) -> None:
    explainer = Explainer.of(learnt, Question("layercam", region=Region("whole")))
    for parameter in explainer.network.parameters():
        torch.nn.init.zeros_(parameter)
    answer = explainer(Picture.of(discs((12, 14))[None]))
    assert answer.reason.startswith("no positive evidence") and answer.largest == 0 and answer.energy is None


def test_padding_is_no_part_of_the_whole_image(learnt: Bundle, tmp_path: Path) -> None:
    """Resized with the aspect kept, a wide picture has padding above and below, which no region holds."""
    bundle = Bundle(shutil.copytree(learnt.root, tmp_path / learnt.name))
    text = bundle.config("inference").read_text()
    changed = text.replace("preprocess: []", "preprocess: [resize_pad]")
    assert changed != text
    bundle.config("inference").write_text(changed)
    explainer = Explainer.of(bundle, Question("gradcam", region=Region("whole")))
    scores: list[torch.Tensor] = []
    explainer.method.compute_map = lambda images, score: scores.append(score.region) or torch.ones(1, 1, 8, 8)
    answer = explainer(Picture.of(np.zeros((1, 20, 40), np.uint8)))
    assert scores[0].sum(1).tolist() == [0] * 8 + [32] * 16 + [0] * 8
    assert answer.heat.shape == (20, 40)


def test_frames_of_a_file_have_maps_of_their_own(learnt: Bundle, question: Question, tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    volume = np.stack([discs((12, 14))[:, :SIZE], discs((25, 22))[:, :SIZE]], -1).astype(np.int16)
    nibabel.Nifti1Image(volume, np.eye(4)).to_filename(tmp_path / "v.nii.gz")
    rows = explain_all(Explainer.of(learnt, question), [tmp_path / "v.nii.gz"], tmp_path / "out")
    assert [(row["frame"], row["map"]) for row in rows] == [(0, "v_0000.npy"), (1, "v_0001.npy")]
    assert [row["outcome"] for row in rows] == ["explained"] * 2
    assert all((tmp_path / "out" / "overlays" / f"v_000{frame}.png").is_file() for frame in (0, 1))


def test_a_failure_of_any_kind_is_a_row(
    learnt: Bundle, folder: Path, question: Question, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as torch's own error where the computer has too little memory."""

    def fail(self: Explainer, picture: Picture, name: str = "") -> Explanation:
        raise RuntimeError("not enough memory: you tried to allocate 9 bytes")

    monkeypatch.setattr(Explainer, "__call__", fail)
    rows = explain_all(Explainer.of(learnt, question), [folder / "disc.png"], tmp_path / "out")
    assert [(row["outcome"], row["reason"]) for row in rows] == [
        ("failed", "RuntimeError: not enough memory: you tried to allocate 9 bytes")
    ]


def test_table_is_written_when_the_work_is_broken_off(
    learnt: Bundle, folder: Path, question: Question, tmp_path: Path
) -> None:
    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        explain_all(Explainer.of(learnt, question), [folder], tmp_path / "out", stop)
    with (tmp_path / "out" / "explanations.csv").open() as file:
        assert [row["outcome"] for row in csv.DictReader(file)] == ["failed", "explained"]


def test_default_layer_is_the_models_own(learnt: Bundle) -> None:
    explainer = Explainer.of(learnt)
    assert explainer.layer is not None and explainer.layer.name == "bottom"
    assert Explainer.of(learnt, Question("occlusion", arguments={"size": 8})).layer is None


@pytest.mark.parametrize(
    ("question", "words"),
    [
        (Question("gradcam", "botom"), "unknown layer 'botom'. Did you mean 'bottom'"),
        (Question("gradcam", label="cyst"), "unknown label 'cyst'"),
        (Question("gradcam", label="2"), "unknown label '2'"),
        (Question("gradkam"), "unknown method 'gradkam'"),
        (Question("occlusion", "bottom"), "method 'occlusion' looks at no layer"),
        (Question("gradcam", arguments={"size": 3}), "it takes network, layer"),
    ],
)
def test_question_that_cannot_be_asked_is_refused(learnt: Bundle, question: Question, words: str) -> None:
    with pytest.raises(MedsegError, match=words):
        Explainer.of(learnt, question)


def test_channel_of_a_label_is_behind_the_background(learnt: Bundle) -> None:
    """Two labels have three channels, of which the first is the background."""
    from dataclasses import replace

    from medseg.data.sample import Label
    from medseg.models import build

    one = read_recipe(learnt)
    recipe = replace(one, classes=3, labels=(Label("cyst"), Label("tumour")))
    network = build(recipe.model, recipe.model_arguments, in_channels=1, out_channels=3).eval()
    predictor = Predictor(recipe, [network])
    for label, number in (("", 1), ("cyst", 1), ("tumour", 2), ("2", 2)):
        explainer = Explainer(predictor, Question(label=label, region=Region("whole")))
        assert (explainer.label, explainer.channel) == (number, number)
    assert Explainer.of(learnt).channel == 0


def test_real_ultrasound_has_a_map_of_its_own_size(learnt: Bundle, shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "original" / "busi" / "Dataset_BUSI_with_GT" / "benign"
    path = source / "benign (1).png"
    question = Question("gradcampp", region=Region("whole"))
    rows = explain_all(Explainer.of(learnt, question), [path], tmp_path)
    assert [row["outcome"] for row in rows] == ["explained"]
    heat = np.load(tmp_path / "maps" / "benign (1).npy")
    assert heat.shape == Image.open(path).size[::-1] and heat.max() == 1 and heat.std() > 0


def test_real_dicom_has_a_map_of_its_own_size(learnt: Bundle, shared_data: Path, tmp_path: Path) -> None:
    path = shared_data / "dicom" / "cxr-10bit-monochrome1.dcm"
    question = Question("gradcampp", region=Region("whole"))
    rows = explain_all(Explainer.of(learnt, question), [path], tmp_path)
    if "decode" in str(rows[0]["reason"]):
        pytest.skip("no decoder of this transfer syntax here")
    assert [row["outcome"] for row in rows] == ["explained"]
    with Image.open(tmp_path / "overlays" / "cxr-10bit-monochrome1.png") as drawn:
        assert drawn.mode == "RGB" and not drawn.info
        assert np.load(tmp_path / "maps" / "cxr-10bit-monochrome1.npy").shape == drawn.size[::-1]
