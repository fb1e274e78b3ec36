"""``python -m monai.bundle run`` gives what ``medseg bundle run`` gives, from any folder, and masks of images."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from medseg.bundle.open import Bundle
from medseg.data.images import read_image
from medseg.data.prepared import prepare
from medseg.engine import workflow
from medseg.engine.workflow import Options
from medseg.models import MODELS
from medseg.transforms.resize import resize_image

TIMES = ["epoch_seconds", "time"]
#: several of MONAI's commands in one process, to import torch once
COMMANDS = """
import json, runpy, sys
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["monai.bundle", "run", *arguments]
    runpy.run_module("monai.bundle", run_name="__main__")
"""


def monai(cwd: Path, *runs: list[str]) -> None:
    """Run bundles by MONAI's own command line."""
    import json

    single = [sys.executable, "-m", "monai.bundle", "run", *runs[0]]
    command = single if len(runs) == 1 else [sys.executable, "-c", COMMANDS, json.dumps(runs)]
    done = subprocess.run(command, cwd=cwd, env=dict(os.environ), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]


def files(bundle: Bundle, *configs: str) -> str:
    return str([str(bundle.config(name)) for name in configs])


def draw_images(folder: Path, source: Path) -> None:
    """Images of the bundle's size, and others: lying, upright, in colour, with alpha, JPEG."""
    folder.mkdir()
    for path in sorted((source / "images").iterdir())[:4]:
        shutil.copy(path, folder)
    disc = Image.open(source / "images" / "p00_0.png")
    disc.resize((50, 28)).save(folder / "lying.png")
    disc.resize((20, 70)).convert("RGB").save(folder / "upright.jpg")
    disc.convert("RGBA").save(folder / "alpha.png")


@pytest.fixture(scope="module")
def trained(original: Bundle, project: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The bundle trained and evaluated by medseg."""
    bundle = Bundle(shutil.copytree(original.root, tmp_path_factory.mktemp("medseg") / original.name))
    workflow.run(
        bundle, Options(prepared=project / "prepared", tracking_uri="", progress=False, device="cpu")
    )
    return bundle


@pytest.fixture(scope="module")
def by_monai(
    trained: Bundle, original: Bundle, project: Path, tmp_path_factory: pytest.TempPathFactory
) -> Bundle:
    """A second copy, trained, evaluated and used on a folder of images by MONAI, standing in another bundle's folder."""
    bundle = Bundle(shutil.copytree(original.root, tmp_path_factory.mktemp("monai") / original.name))
    draw_images(bundle.root.parent / "images", project / "source")
    common = ["--dataset_dir", str(project / "source"), "--prepared_dir", str(project / "prepared")]
    common += ["--tracking_uri", "", "--device", "$torch.device('cpu')", "--progress", "False"]
    monai(trained.root, ["--config_file", str(bundle.config("train")), *common])
    evaluate = ["--config_file", files(bundle, "train", "evaluate"), *common]
    images = ["--dataset_dir", str(bundle.root.parent / "images"), "--device", "$torch.device('cpu')"]
    monai(trained.root, evaluate, ["--config_file", str(bundle.config("inference")), *images])
    return bundle


def test_curves_are_the_same(trained: Bundle, by_monai: Bundle) -> None:
    ours, theirs = (
        pd.read_csv(b.run_folder(0) / "curves.csv").drop(columns=TIMES) for b in (trained, by_monai)
    )
    assert ours["epoch"].tolist() == list(range(1, 9))
    pd.testing.assert_frame_equal(ours, theirs, check_exact=True)


def test_cases_and_weights_are_the_same(trained: Bundle, by_monai: Bundle) -> None:
    ours, theirs = (b.run_folder(0) / "cases.csv" for b in (trained, by_monai))
    assert ours.read_text(encoding="utf-8") == theirs.read_text(encoding="utf-8")
    first, second = (
        torch.load(b.root / "models" / "model.pt", weights_only=True) for b in (trained, by_monai)
    )
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_nothing_is_written_elsewhere(trained: Bundle, by_monai: Bundle) -> None:
    assert sorted(p.name for p in by_monai.root.parent.iterdir()) == [by_monai.name, "images"]
    assert sorted(p.name for p in by_monai.root.iterdir()) == sorted(
        ["LICENSE", "configs", "docs", "models", "repeats", "predictions"]
    )
    assert not (trained.root / "predictions").exists()


def masks(bundle: Bundle) -> dict[str, np.ndarray]:
    return {p.name: np.asarray(Image.open(p)) for p in sorted((bundle.root / "predictions").iterdir())}


def test_a_mask_for_every_image_of_its_own_size(by_monai: Bundle) -> None:
    found = masks(by_monai)
    images = sorted((by_monai.root.parent / "images").iterdir())
    assert sorted(found) == sorted(f"{p.stem}_mask.png" for p in images)
    for path in images:
        mask = found[f"{path.stem}_mask.png"]
        assert mask.shape == Image.open(path).size[::-1]
        assert mask.dtype == np.uint8
        assert set(np.unique(mask)) <= {0, 255}


def predict(bundle: Bundle, image: torch.Tensor) -> np.ndarray:
    """The network's mask (H, W) of an image (C, H, W) as medseg's arrays hold it."""
    network = MODELS.build("unet", bundle.read("train")["model_arguments"], in_channels=1, out_channels=1)
    network.load_state_dict(torch.load(bundle.root / "models" / "model.pt", weights_only=True))
    with torch.no_grad():
        return (network.eval()(image[None].float() / 255)[0, 0] >= 0).numpy()


def test_masks_are_those_of_medsegs_own_arrays(by_monai: Bundle, project: Path) -> None:
    samples = prepare("discs", None, project / "prepared", image_size=(32, 32), channels=1)
    found = masks(by_monai)
    compared = 0
    for number, case in enumerate(samples.cases):
        name = f"{Path(case).stem}_mask.png"
        if name in found:
            expected = predict(by_monai, torch.from_numpy(np.array(samples.images[number])))
            assert 0 < expected.sum() < expected.size
            assert not np.array_equal(expected, expected.T)
            np.testing.assert_array_equal(found[name] == 255, expected)
            compared += 1
    assert compared == 4


@pytest.mark.parametrize("name", ["lying.png", "upright.jpg"])
def test_masks_of_other_sizes_lie_where_medseg_sees_the_lesion(by_monai: Bundle, name: str) -> None:
    path = by_monai.root.parent / "images" / name
    image = read_image(path, 1)
    expected = predict(by_monai, torch.from_numpy(resize_image(image, (32, 32)).copy()))
    expected = np.asarray(Image.fromarray(expected).resize(image.shape[:0:-1], Image.Resampling.NEAREST))
    assert (expected == (masks(by_monai)[f"{path.stem}_mask.png"] == 255)).mean() > 0.93
