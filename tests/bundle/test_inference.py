"""Prediction through ``inference.yaml``: the pixels of training in, a mask of the input's own size and place out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from medseg.bundle.choice import Choice
from medseg.bundle.compose import compose
from medseg.bundle.open import Bundle
from medseg.bundle.settings import Settings
from medseg.data.images import read_picture
from medseg.data.reader import images_in
from medseg.engine.device import prepare_batch
from medseg.errors import MedsegError
from medseg.transforms.steps import build_steps

SETTINGS = Settings(image_size=(32, 32), model_arguments={"widths": [4, 8]})
CPU = torch.device("cpu")


def with_weights(bundle: Bundle, bias: float) -> torch.nn.Module:
    """The network of a bundle with weights that mark the brighter half of an image; also saved as its model."""
    from medseg.models import build

    torch.manual_seed(0)
    config = bundle.read("train")
    network = build("unet", config["model_arguments"], in_channels=config["channels"], out_channels=1).eval()
    torch.save(network.state_dict(), bundle.root / "models" / "model.pt")
    return network


def predict(bundle: Bundle, images: Path, out: Path) -> None:
    from monai.bundle import ConfigWorkflow

    workflow = ConfigWorkflow(
        config_file=str(bundle.config("inference")),
        workflow_type="infer",
        logging_file=False,
        bundle_root=str(bundle.root),
        dataset_dir=str(images),
        output_dir=str(out),
        device="$torch.device('cpu')",
    )
    workflow.initialize()
    workflow.run()


def by_hand(bundle: Bundle, network: torch.nn.Module, file: Path) -> np.ndarray:
    """What training sees of a file, through the network, and back to the file's own size."""
    config = bundle.read("train")
    steps = build_steps(config["preprocess"], config["preprocess_arguments"], config["image_size"])
    picture = read_picture(file, config["channels"])
    size = picture.values.shape[1:]
    image = torch.from_numpy(steps.apply(picture)[0].stored().copy())[None]
    batch = {"image": image, "label": torch.zeros(1)}
    with torch.no_grad():
        chance = torch.sigmoid(network(prepare_batch(batch, CPU, normalization=steps.normalization)[0]))
    return steps.restore(chance[0].numpy(), size)[0] >= 0.5


@pytest.mark.parametrize(
    ("preprocess", "arguments"),
    [
        ((), {}),
        (("clahe", "resize_pad"), {"clahe": {"clip_limit": 2.0}}),
        (("resize_crop", "normalize_zscore"), {}),
        (("window", "median", "resize", "normalize_signed"), {"window": {"center": 100, "width": 120}}),
    ],
)
@pytest.mark.parametrize("size", [(45, 30), (32, 32), (17, 64)])
def test_a_prediction_is_what_training_would_have_seen(
    preprocess, arguments, size, project: Path, tmp_path: Path
) -> None:
    choice = Choice("discs", "unet", "dice", preprocess=preprocess)
    settings = replace(SETTINGS, preprocess_arguments=arguments)
    bundle = compose(choice, tmp_path, settings, prepared=project / "prepared")
    network = with_weights(bundle, 0.0)
    pixels = np.random.default_rng(5).integers(0, 256, size).astype(np.uint8)
    (tmp_path / "in").mkdir()
    Image.fromarray(pixels).save(tmp_path / "in" / "case.png")
    predict(bundle, tmp_path / "in", tmp_path / "out")
    expected = by_hand(bundle, network, tmp_path / "in" / "case.png")
    found = np.asarray(Image.open(tmp_path / "out" / "case_mask.png")) > 0
    assert found.shape == size
    assert 0 < expected.mean() < 1
    # a probability of one half, to rounding, may fall on either side
    assert (found != expected).mean() < 0.002


def test_each_slice_of_a_volume_and_each_dicom_file_has_a_mask_of_its_own(
    project: Path, tmp_path: Path
) -> None:
    nib = pytest.importorskip("nibabel")
    bundle = compose(Choice("discs", "unet", "dice"), tmp_path, SETTINGS, prepared=project / "prepared")
    network = with_weights(bundle, 0.0)
    folder = tmp_path / "in"
    folder.mkdir()
    values = np.random.default_rng(1).integers(0, 256, (40, 24, 3)).astype(np.uint8)
    nib.save(nib.Nifti1Image(values, np.diag([1.0, 1.0, 3.0, 1.0])), folder / "p1.nii.gz")
    from pydicom.data import get_testdata_file

    for uid in ("1.2.840.1", "1.2.840.2"):
        (folder / uid).write_bytes(Path(str(get_testdata_file("CT_small.dcm"))).read_bytes())
    (folder / "README.txt").write_text("no image")
    predict(bundle, folder, tmp_path / "out")
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    slices = [f"p1_z00{k}" for k in range(3)]
    assert names == sorted(f"{case}_mask.png" for case in (*slices, "1.2.840.1", "1.2.840.2"))
    for k, case in enumerate(slices):
        found = np.asarray(Image.open(tmp_path / "out" / f"{case}_mask.png")) > 0
        expected = by_hand(bundle, network, folder / f"p1.nii.gz#{k}")
        assert found.shape == expected.shape
        assert (found != expected).mean() < 0.002


def test_a_folder_without_images_is_told(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(MedsegError, match=r"no image by the pattern '\*'"):
        images_in(tmp_path)


def test_dicom_is_windowed_before_the_network_sees_it(
    shared_data: Path, project: Path, tmp_path: Path
) -> None:
    source = next((shared_data / "dicom" / "ct-series").iterdir())
    choice = Choice("discs", "unet", "dice", preprocess=("window", "resize"))
    bundle = compose(choice, tmp_path, SETTINGS, prepared=project / "prepared")
    network = with_weights(bundle, 0.0)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "slice.dcm").write_bytes(source.read_bytes())
    predict(bundle, tmp_path / "in", tmp_path / "out")
    expected = by_hand(bundle, network, tmp_path / "in" / "slice.dcm")
    found = np.asarray(Image.open(tmp_path / "out" / "slice_mask.png")) > 0
    assert found.shape == expected.shape == (512, 512)
    assert (found != expected).mean() < 0.002
