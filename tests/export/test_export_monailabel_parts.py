"""The parts that a labelling server runs: slices and their places, pairs to train on, weights that are kept."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
import torch
from ignite.engine import Engine
from PIL import Image
from pydicom.data import get_testdata_file

from medseg.data.nifti import read_slice
from medseg.errors import MedsegError
from medseg.export.labelling.inference import SlicesInferer
from medseg.export.labelling.keeping import KeepBest
from medseg.export.labelling.labels import read_label
from medseg.export.labelling.network import with_dropout
from medseg.export.labelling.outlines import outlined
from medseg.export.labelling.pairs import Pairs, batches
from medseg.export.labelling.slices import Place, read_slices
from medseg.export.labelling.transforms import Masksd, Probabilitiesd, ReadSlicesd


class Validator:
    """An evaluator whose scores are written down beforehand."""

    def __init__(self, scores: list[float], images: int = 3) -> None:
        self.scores, self.data_loader = list(scores), SimpleNamespace(dataset=[None] * images)
        self.state = SimpleNamespace(metrics={})

    def run(self, epoch: int) -> None:
        self.state.metrics["val_dice"] = self.scores.pop(0)


def trained_with(scores: list[float], folder: Path, images: int = 3, epochs: int = 3) -> float | None:
    """The weight that a training leaves behind, in which epoch ``k`` makes it ``k``; nothing where none was saved."""
    network = torch.nn.Linear(1, 1, bias=False)

    def step(engine: Engine, batch: int) -> None:
        with torch.no_grad():
            network.weight.fill_(float(engine.state.epoch))

    trainer, weights = Engine(step), folder / "model.pt"
    KeepBest(network, Validator(scores, images), "val_dice", str(weights), str(folder / "r.json")).attach(
        trainer
    )
    trainer.run([0], max_epochs=epochs)
    return float(torch.load(weights)["weight"]) if weights.exists() else None


@pytest.mark.parametrize(
    ("scores", "kept"),
    [([0.5, 0.6, 0.7, 0.65], 2.0), ([0.5, 0.6, 0.6, 0.1], 1.0), ([0.8, 0.1, 0.8, 0.79], None)],
)
def test_only_better_weights_are_kept(scores: list[float], kept: float | None, tmp_path: Path) -> None:
    assert trained_with(scores, tmp_path) == kept
    record = json.loads((tmp_path / "r.json").read_text())
    assert record["kept_epoch"] == (kept or 0)
    assert record["val_dice_before"] == scores[0]
    assert record["val_dice_by_epoch"] == scores[1:]
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".new"]


def test_without_validation_the_last_epoch_is_kept(tmp_path: Path) -> None:
    assert trained_with([], tmp_path, images=0) == 3.0


def test_weights_that_are_not_finite_are_never_kept(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_text("served")
    network = torch.nn.Linear(1, 1)
    trainer = Engine(lambda engine, batch: network.weight.data.fill_(float("nan")) and None)
    KeepBest(
        network, Validator([], 0), "val_dice", str(tmp_path / "model.pt"), str(tmp_path / "r.json")
    ).attach(trainer)
    with pytest.raises(MedsegError, match="weights that are not finite; train with a lower learning_rate"):
        trainer.run([0], max_epochs=1)
    assert (tmp_path / "model.pt").read_text() == "served"
    assert not (tmp_path / "r.json").exists()


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    values = np.arange(4 * 5 * 3, dtype=np.int16).reshape(4, 5, 3)
    nibabel.save(nibabel.Nifti1Image(values, np.diag([2.0, -3, 4, 1])), tmp_path / "v.nii.gz")
    return tmp_path / "v.nii.gz"


def test_a_volume_comes_back_in_its_own_grid(volume: Path) -> None:
    pictures, place = read_slices(volume, 1)
    assert (len(pictures), place.shape, place.ending) == (3, (4, 5, 3), ".nii.gz")
    np.testing.assert_array_equal(pictures[1].values, read_slice(volume, 1).values)
    masks = np.stack([picture.values[0] for picture in pictures]).astype(np.uint8)
    np.testing.assert_array_equal(place.laid(masks), np.asarray(nibabel.load(volume).dataobj))


def test_one_slice_of_a_volume_is_a_plane(volume: Path) -> None:
    [picture], place = read_slices(f"{volume}#2", 1)
    assert (place.kind, place.shape) == ("plane", picture.values.shape[:0:-1])
    np.testing.assert_array_equal(picture.values, read_slice(volume, 2).values)


def test_a_folder_without_dicom_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(MedsegError, match="holds no DICOM file"):
        read_slices(tmp_path, 1)


def test_several_classes_are_one_hot_labels_and_argmax_masks(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((8, 6), np.uint8)).save(tmp_path / "image.png")
    label = np.zeros((8, 6), np.uint8)
    label[:2], label[4:6] = 1, 2
    Image.fromarray(label).save(tmp_path / "label.png")
    data = [{"image": str(tmp_path / "image.png"), "label": str(tmp_path / "label.png")}]
    one = Pairs(data, 1, 3, [], {}, (8, 6))[0]
    np.testing.assert_array_equal(one["label"].argmax(0), label)
    np.testing.assert_array_equal(one["label"].sum(0), np.ones((8, 6)))
    read = ReadSlicesd("image", 1, [], {}, (8, 6))({"image": str(tmp_path / "image.png")})
    logits = torch.from_numpy(np.eye(3, dtype=np.float32)[label].transpose(2, 0, 1) * 9)[None]
    soft = Probabilitiesd("pred")({**read, "pred": logits})
    assert soft["pred"].shape == (1, 2, 8, 6)
    np.testing.assert_array_equal(Masksd("pred", "image", [], {}, (8, 6))(soft)["pred"].numpy().T, label)
    with_background = Probabilitiesd("pred", background=True)({"pred": logits})["pred"]
    np.testing.assert_allclose(with_background.sum(0), np.ones((8, 6)), rtol=1e-6)


def test_the_ending_that_a_request_names_is_kept(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((8, 6), np.uint8)).save(tmp_path / "image.jpg")
    read = ReadSlicesd("image", 1, [], {}, (8, 6))({"image": str(tmp_path / "image.jpg")})
    mask = Masksd("pred", "image", [], {}, (8, 6))
    soft = {**read, "pred": torch.zeros(1, 1, 8, 6)}
    assert mask(soft)["result_extension"] == ".png"
    assert mask({**soft, "result_extension": ".nrrd"})["result_extension"] == ".nrrd"
    with pytest.raises(MedsegError, match="values that are not finite"):
        mask({**soft, "pred": torch.full((1, 1, 8, 6), torch.nan)})


def test_an_array_instead_of_a_file_is_refused() -> None:
    with pytest.raises(MedsegError, match="'image' is no path of a file"):
        ReadSlicesd("image", 1, [], {}, (8, 6))({"image": np.zeros((8, 6))})


def test_the_working_directory_is_not_taken_for_an_unknown_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = get_testdata_file("CT_small.dcm", download=False)
    shutil.copy(path, tmp_path)
    monkeypatch.chdir(tmp_path)
    assert len(read_slices(".", 1)[0]) == 1
    with pytest.raises(MedsegError, match="there is no image of this name"):
        ReadSlicesd("image", 1, [], {}, (8, 6))({"image": ""})


def test_one_bad_pair_is_left_out_and_all_bad_are_an_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name, size in (("image", (8, 6)), ("good", (8, 6)), ("small", (4, 6))):
        Image.fromarray(np.zeros(size, np.uint8)).save(tmp_path / f"{name}.png")
    good, small = (
        {"image": str(tmp_path / "image.png"), "label": str(tmp_path / f"{name}.png")}
        for name in ("good", "small")
    )
    assert len(Pairs([small, good], 1, 1, [], {}, (8, 6))) == 1
    assert "left out of training" in caplog.text
    assert "small.png" in caplog.text
    with pytest.raises(MedsegError, match=r"none of 1 labelled images.*small\.png"):
        Pairs([small], 1, 1, [], {}, (8, 6))
    assert len(Pairs(None, 1, 1, [], {}, (8, 6))) == 0


@pytest.mark.parametrize(("count", "sizes"), [(1, [2]), (2, [2]), (4, [3]), (5, [2, 3]), (7, [3, 3])])
def test_no_batch_to_train_on_holds_a_single_image(count: int, sizes: list[int], tmp_path: Path) -> None:
    for name in ("image", "label"):
        Image.fromarray(np.zeros((8, 6), np.uint8)).save(tmp_path / f"{name}.png")
    one = {"image": str(tmp_path / "image.png"), "label": str(tmp_path / "label.png")}
    pairs = Pairs([one] * count, 1, 1, [], {}, (8, 6))
    assert sorted(len(batch["image"]) for batch in batches(pairs, 3, shuffle=True)) == sizes
    assert sum(len(batch["image"]) for batch in batches(pairs, 3)) == count


def test_training_without_labels_says_so() -> None:
    with pytest.raises(MedsegError, match="no image has a final label yet"):
        batches(Pairs([], 1, 1, [], {}, (8, 6)), 4, shuffle=True)


def test_image_and_label_are_mirrored_together(tmp_path: Path) -> None:
    half = np.zeros((8, 6), np.uint8)
    half[:, :3] = 255
    for name in ("image", "label"):
        Image.fromarray(half).save(tmp_path / f"{name}.png")
    one = {"image": str(tmp_path / "image.png"), "label": str(tmp_path / "label.png")}
    pairs = Pairs([one], 1, 1, [], {}, (8, 6), mirror=True)
    torch.manual_seed(0)
    seen = [pairs[0] for _ in range(20)]
    sides = {bool(sample["label"][0, 0, 0]) for sample in seen}
    assert sides == {True, False}
    for sample in seen:
        np.testing.assert_array_equal(sample["image"].numpy(), sample["label"].numpy())


def test_slices_pass_the_network_a_few_at_once() -> None:
    seen = []

    def network(images: torch.Tensor) -> torch.Tensor:
        seen.append(len(images))
        return images[:, :1] * 2

    inputs = torch.arange(5 * 3 * 2 * 2.0).reshape(1, 5, 3, 2, 2)
    answer = SlicesInferer(batch_size=2)(inputs, network)
    assert seen == [2, 2, 1]
    np.testing.assert_array_equal(answer, inputs[:, :, :1] * 2)


def test_only_dropout_draws_for_uncertainty(reference: torch.nn.Module) -> None:
    network = torch.jit.script(reference)
    image = torch.rand(1, 3, 32, 32)
    statistics = {name: value.clone() for name, value in network.state_dict().items()}
    assert with_dropout(network)
    with torch.no_grad():
        assert not torch.equal(network(image), network(image))
    assert all(torch.equal(value, statistics[name]) for name, value in network.state_dict().items())
    plain = torch.nn.Sequential(torch.nn.Conv2d(3, 1, 1), torch.nn.BatchNorm2d(1))
    assert not with_dropout(plain)


def test_outlines_are_x_before_y_and_close_at_the_edge() -> None:
    mask = np.zeros((20, 30), np.uint8)
    mask[2:8, 20:30] = 1
    mask[10:20, 0:5] = 2
    [annotation] = outlined(mask, ["one", "two", "three"])
    one, two = annotation["annotation"]["elements"]
    assert (one["label"], two["label"]) == ("one", "two")
    corners = np.array(one["contours"][0])
    assert corners[:, 0].min() in (19, 20)
    assert corners[:, 0].max() in (29, 30)
    assert corners[:, 1].min() in (1, 2)
    assert corners[:, 1].max() in (7, 8)
    assert outlined(np.zeros((4, 4), np.uint8), ["one"]) == []


@pytest.mark.parametrize("affine", [np.eye(4), np.diag([-1.0, -1, 1, 1]), np.diag([2.0, -3, 4, 1])])
def test_a_label_of_a_picture_is_taken_on_its_grid_and_one_of_nifti_by_its_affine(
    affine: np.ndarray, tmp_path: Path
) -> None:
    mask = np.zeros((3, 8, 6), np.uint8)
    mask[0, 1:3, 4:] = mask[2, 5:, :2] = 1
    stack = Place(tmp_path / "frames.dcm", "stack", (6, 8, 3), affine)
    nibabel.save(nibabel.Nifti1Image(stack.laid(mask), affine), tmp_path / "label.nii.gz")
    np.testing.assert_array_equal(read_label(tmp_path / "label.nii.gz", 1, stack.path), mask)
    nibabel.save(nibabel.Nifti1Image(mask[0].T, affine), tmp_path / "flat.nii.gz")
    np.testing.assert_array_equal(read_label(tmp_path / "flat.nii.gz", 1, Path("image.png")), mask[:1])
    nibabel.save(nibabel.Nifti1Image(np.zeros((6, 8, 3), np.uint8), affine), tmp_path / "image.nii.gz")
    _, place = read_slices(tmp_path / "image.nii.gz", 1)
    nibabel.save(nibabel.Nifti1Image(place.laid(mask), affine), tmp_path / "label.nii.gz")
    np.testing.assert_array_equal(read_label(tmp_path / "label.nii.gz", 1, place.path), mask)
    with pytest.raises(MedsegError, match="is no NIfTI file, as its image is"):
        read_label(tmp_path / "label.png", 1, place.path)
