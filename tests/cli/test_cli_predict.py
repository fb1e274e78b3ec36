"""``medseg predict`` at the command line."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

from medseg.bundle.choice import Choice
from medseg.bundle.compose import compose
from medseg.bundle.open import Bundle
from medseg.bundle.settings import Settings
from medseg.cli import main


def medseg(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["predict", *map(str, arguments)])


def table(out: Path) -> list[dict[str, str]]:
    with (out / "predictions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    from medseg.models import build

    settings = Settings(image_size=(32, 32), model_arguments={"widths": [4, 8]})
    found = compose(Choice("kvasir_seg", "unet", "dice"), tmp_path / "bundles", settings, prepared=tmp_path)
    torch.manual_seed(0)
    network = build("unet", {"widths": [4, 8]}, in_channels=3, out_channels=1)
    for folder in (found.root / "models", found.root / "repeats" / "0", found.root / "repeats" / "1"):
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(network.state_dict(), folder / "model.pt")
    (found.root / "repeats" / "0" / "cases.csv").write_text("case\n")
    return found


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 30 + number, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def test_a_folder_is_predicted_and_counted(bundle: Bundle, images: Path, tmp_path: Path):
    out = tmp_path / "out"
    result = medseg(bundle.name, images, "-o", out, "--bundles", tmp_path / "bundles", "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert result.stdout == f"3 image(s) predicted, 0 failed: {out / 'predictions.csv'}\n"
    assert sorted(path.name for path in out.iterdir()) == [
        "masks",
        "overlays",
        "predict.json",
        "predictions.csv",
    ]


def test_failures_are_listed_and_the_command_exits_with_1(bundle: Bundle, images: Path, tmp_path: Path):
    (images / "bad.png").write_text("no image")
    result = medseg(bundle.root, images, "-o", tmp_path / "out", "--device", "cpu", "--no-overlay")
    assert result.exit_code == 1
    assert "not an image that can be read; replace it" in result.stdout
    assert "3 image(s) predicted, 1 failed" in result.stdout
    assert not (tmp_path / "out" / "overlays").exists()


def test_options_reach_the_prediction(bundle: Bundle, images: Path, tmp_path: Path):
    options = ("--flips", "--ensemble", "--threshold", "0.4", "--min-area", "3", "--probabilities")
    windows = (
        "--sliding-window",
        "--overlap",
        "0.5",
        "--scale",
        "1.5",
        "--batch-size",
        "2",
        "--device",
        "cpu",
    )
    out = tmp_path / "out"
    result = medseg(bundle.root, images / "0.png", "-o", out, *options, *windows)
    assert result.exit_code == 0, result.output
    import json

    run = json.loads((out / "predict.json").read_text())["run"]
    expected = {
        "flips": True,
        "repeats": ["0"],
        "threshold": 0.4,
        "min_area": 3,
        "probabilities": True,
        "sliding_window": True,
        "overlap": 0.5,
        "scale": 1.5,
    }
    assert expected.items() <= run.items()
    assert table(out)[0]["disagreement"] != ""
    with np.load(out / "probabilities" / "0.npz") as arrays:
        assert arrays["probabilities"].shape == (1, 1, 40, 30)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--repeat", "5"), "no weights at repeats/5/model.pt; it has the repeats 0"),
        (("--device", "tpu7"), "unknown device 'tpu7'"),
        (("--ensemble", "--repeat", "0"), "give only one of --repeat and --ensemble"),
    ],
)
def test_mistakes_are_one_line(bundle: Bundle, images: Path, tmp_path: Path, arguments, words):
    result = medseg(bundle.root, images, "-o", tmp_path / "out", *arguments)
    assert result.exit_code == 2
    assert words in result.stderr
    assert not (tmp_path / "out").exists()


def test_an_unknown_bundle_is_told_with_the_nearest(bundle: Bundle, images: Path, tmp_path: Path):
    result = medseg("kvasir_seg__unet__dise", images, "-o", tmp_path / "o", "--bundles", tmp_path / "bundles")
    assert result.exit_code == 2
    assert "Did you mean 'kvasir_seg__unet__dice'?" in result.stderr


def test_an_untrained_bundle_is_told(bundle: Bundle, images: Path, tmp_path: Path):
    (bundle.root / "models" / "model.pt").unlink()
    result = medseg(bundle.root, images, "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert "no weights at models/model.pt" in result.stderr


def test_ctrl_c_keeps_what_is_done_and_the_same_command_goes_on(bundle: Bundle, images: Path, tmp_path: Path):
    for number in range(3, 6000):
        os.link(images / f"{number % 3}.png", images / f"{number}.png")
    out = tmp_path / "out"
    words = ["predict", str(bundle.root), str(images), "-o", str(out), "--device", "cpu", "--no-overlay"]
    process = subprocess.Popen(
        [sys.executable, "-c", "from medseg.cli import main; main()", *words],
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 180
    while not (out / "predictions.csv").exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "stopped; the same command goes on" in told
    done = len(table(out))
    assert 0 < done < 6000
    for number in range(done, 6000):
        (images / f"{number}.png").unlink()
    before = {path: path.stat().st_mtime_ns for path in (out / "masks").iterdir() if int(path.stem) < done}
    assert CliRunner().invoke(main, words).exit_code == 0
    assert len(before) == done
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in before.items())
