"""Probabilities and masks at the picture's own size: whole, flipped, in windows, by one network or several."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from medseg.errors import MedsegError
from medseg.predict.predictor import Predictor, Settings, foreground, without_small
from medseg.transforms.picture import Picture


def picture(size: tuple[int, int] = (32, 32), seed: int = 0, channels: int = 1) -> Picture:
    return Picture.of(np.random.default_rng(seed).integers(0, 256, (channels, *size)).astype(np.uint8))


def chance(found: Picture, gain: float = 20.0) -> np.ndarray:
    """What the bright network says of each pixel of a grey picture of its own size."""
    return 1 / (1 + np.exp(-gain * (found.values[0] / 255 - 0.5)))


class Left(torch.nn.Module):
    """Marks the left half of whatever it sees."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = torch.full((len(images), 1, *images.shape[2:]), -8.0)
        logits[..., : images.shape[3] // 2] = 8.0
        return logits


def test_a_prediction_has_the_size_of_its_picture(parts):
    predictor = Predictor(parts.recipe(), [parts.Bright()])
    pictures = [picture((32, 32)), picture((45, 20), 1), picture((7, 90), 2)]
    found = predictor(pictures)
    for one, prediction in zip(pictures, found, strict=True):
        size = one.values.shape[1:]
        assert prediction.mask.shape == prediction.probabilities.shape[1:] == size
        assert (prediction.probabilities.dtype, prediction.mask.dtype) == (np.float32, np.uint8)
        assert prediction.members.shape == (0, *size)
    assert np.abs(found[0].probabilities[0] - chance(pictures[0])).max() < 1e-5
    assert (found[0].mask == (pictures[0].values[0] >= 128)).all()


def test_no_picture_gives_no_prediction(parts):
    assert Predictor(parts.recipe(), [parts.Bright()])([]) == []


def test_the_threshold_is_of_the_lesion(parts):
    flat = Picture.of(np.full((1, 32, 32), 0.5, np.float32))
    areas = [
        Predictor(parts.recipe(), [parts.Bright()], Settings(threshold=t))([flat])[0].mask.sum()
        for t in (0.4, 0.5, 0.51)
    ]
    assert areas == [1024, 1024, 0]


def test_several_labels_take_the_most_probable_above_the_threshold(parts):
    class Three(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            logits = torch.zeros(len(images), 3, *images.shape[2:])
            logits[:, 1, 0], logits[:, 2, 1], logits[:, 1:, 2] = 3.0, 3.0, 0.5
            return logits

    predictor = Predictor(parts.recipe(classes=3), [Three()])
    found = predictor([picture()])[0]
    assert found.probabilities.shape == (2, 32, 32)
    assert found.probabilities[0, 0, 0] == pytest.approx(np.exp(3) / (np.exp(3) + 2))
    assert [int(found.mask[row, 0]) for row in (0, 1, 2, 3)] == [1, 2, 0, 0]


def test_one_channel_is_by_the_sigmoid_and_several_by_the_softmax_less_the_background():
    assert foreground(torch.zeros(2, 1, 3, 3)).unique().tolist() == [0.5]
    assert foreground(torch.zeros(2, 4, 3, 3)).shape == (2, 3, 3, 3)
    assert foreground(torch.zeros(2, 4, 3, 3)).unique().tolist() == [0.25]


def test_flips_are_turned_back_and_averaged(parts):
    found = Predictor(parts.recipe(), [parts.Bright()], Settings(flips=True))([picture((40, 24))])[0]
    alone = Predictor(parts.recipe(), [parts.Bright()])([picture((40, 24))])[0]
    assert found.members.shape == (4, 40, 24)
    assert np.abs(found.probabilities - alone.probabilities).max() < 0.02
    halves = Predictor(parts.recipe(), [Left()], Settings(flips=True))([picture()])[0]
    # left, mirrored right, left upside down, mirrored right upside down
    assert [int(member[0, 0]) for member in halves.members] == [1, 0, 1, 0]
    assert np.abs(halves.probabilities - 0.5).max() < 1e-6


def test_networks_are_averaged_by_their_probabilities(parts):
    networks = [parts.Bright(20), parts.Bright(2)]
    one = picture()
    found = Predictor(parts.recipe(), networks)([one])[0]
    assert np.abs(found.probabilities[0] - (chance(one, 20) + chance(one, 2)) / 2).max() < 1e-5
    assert found.members.shape == (2, 32, 32)


def test_repeats_of_a_bundle_are_an_ensemble(bundle, parts, tmp_path):
    for number, seed in enumerate((3, 4)):
        other = parts.composed(tmp_path / f"seed{seed}", seed=seed)
        folder = bundle.root / "repeats" / str(number)
        folder.mkdir(parents=True)
        (other.root / "models" / "model.pt").rename(folder / "model.pt")
    one = picture((50, 41), channels=3)
    alone = [Predictor.of(bundle, repeats=[name])([one])[0].probabilities for name in "01"]
    both = Predictor.of(bundle, repeats=["0", "1"])([one])[0].probabilities
    assert np.abs(alone[0] - alone[1]).max() > 1e-3
    assert both == pytest.approx((alone[0] + alone[1]) / 2, abs=1e-6)
    with pytest.raises(MedsegError, match="no weights at repeats/7/model.pt"):
        Predictor.of(bundle, repeats=["7"])


def test_batches_are_of_the_size_asked_for_and_change_nothing(parts):
    pictures = [picture((32, 32), seed) for seed in range(5)]
    network = parts.Bright()
    found = Predictor(parts.recipe(), [network], Settings(batch_size=2))(pictures)
    assert network.sizes == [2, 2, 1]
    for one, prediction in zip(pictures, found, strict=True):
        assert np.abs(prediction.probabilities[0] - chance(one)).max() < 1e-5


class Small(torch.nn.Module):
    """Has memory for two images at once."""

    def __init__(self, most: int = 2) -> None:
        super().__init__()
        self.most, self.sizes = most, []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.sizes.append(len(images))
        if len(images) > self.most:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return images.mean(1, keepdim=True) * 20 - 10


def test_a_batch_that_does_not_fit_the_gpu_is_halved(parts):
    pictures = [picture((32, 32), seed) for seed in range(7)]
    network = Small()
    found = Predictor(parts.recipe(), [network], Settings(batch_size=8))(pictures)
    assert network.sizes == [7, 3, 1, 1, 1, 1, 1, 1, 1]
    for one, prediction in zip(pictures, found, strict=True):
        assert np.abs(prediction.probabilities[0] - chance(one)).max() < 1e-5
    with pytest.raises(MedsegError, match="too little memory for one image of"):
        Predictor(parts.recipe(), [Small(0)])(pictures)


def test_values_that_are_not_finite_are_no_empty_mask(parts):
    class Broken(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.mean(1, keepdim=True) * float("nan")

    with pytest.raises(MedsegError, match="values that are not finite"):
        Predictor(parts.recipe(), [Broken()])([picture()])


@pytest.mark.parametrize("size", [(32, 32), (100, 70), (20, 90), (9, 11)])
@pytest.mark.parametrize("flips", [False, True])
def test_windows_see_every_pixel_at_its_own_resolution(parts, size, flips):
    settings = Settings(sliding_window=True, flips=flips)
    network = parts.Bright()
    one = picture(size)
    found = Predictor(parts.recipe(), [network], settings)([one])[0]
    assert np.abs(found.probabilities[0] - chance(one)).max() < 1e-4
    assert (found.mask == (one.values[0] >= 128)).all()
    assert max(network.sizes) <= 8


def test_more_overlap_makes_more_windows(parts):
    counts = []
    for overlap in (0.0, 0.5, 0.75):
        network = parts.Bright()
        Predictor(parts.recipe(), [network], Settings(sliding_window=True, overlap=overlap))(
            [picture((128, 128))]
        )
        counts.append(sum(network.sizes))
    # windows of 32 that start every 32, 16 and 8 pixels of 128
    assert counts == [4**2, 7**2, 13**2]


def test_windows_can_be_cut_from_a_scaled_image(parts):
    network = parts.Bright()
    smooth = np.zeros((1, 128, 96), np.uint8)
    smooth[:, 32:80, 16:64] = 255
    settings = Settings(sliding_window=True, scale=0.25, overlap=0.0)
    found = Predictor(parts.recipe(), [network], settings)([Picture.of(smooth)])[0]
    # 32 x 24 pixels are one window
    assert network.sizes == [1]
    assert found.mask.shape == (128, 96)
    assert (found.mask != (smooth[0] > 0)).mean() < 0.03


def test_windows_pass_through_the_steps_and_the_normalisation(parts):
    recipe = parts.recipe(
        preprocess=("window", "normalize_signed"),
        preprocess_arguments={"window": {"center": 100, "width": 50}},
    )

    class Signed(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            assert images.min() >= -1
            return images * 20

    one = picture((64, 50))
    found = Predictor(recipe, [Signed()], Settings(sliding_window=True))([one])[0]
    assert (found.mask == (one.values[0] >= 100)).mean() > 0.99


def test_small_lesions_can_be_left_out():
    mask = np.array([[1, 1, 0, 2], [0, 0, 0, 0], [1, 0, 2, 2], [0, 1, 0, 2]], np.uint8)
    assert without_small(mask, 1) is mask
    assert (
        without_small(mask, 2) == np.where(mask * [[0, 0, 0, 1], [0] * 4, [0] * 4, [0] * 4], 0, mask)
    ).all()
    assert without_small(mask, 3).tolist() == [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 2, 2], [0, 0, 0, 2]]


def test_small_lesions_are_counted_at_the_size_of_the_picture(parts):
    dots = np.zeros((1, 64, 64), np.uint8)
    dots[:, 4:6, 4:6] = dots[:, 20:30, 20:30] = 255
    settings = Settings(sliding_window=True, min_area=5)
    mask = Predictor(parts.recipe(), [parts.Bright()], settings)([Picture.of(dots)])[0].mask
    assert mask.sum() == 100


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"threshold": 0.0}, "threshold must be above 0"),
        ({"overlap": 1.0}, "overlap must be at least 0 and below 1"),
        ({"scale": 0.0}, "scale must be above 0"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"min_area": -1}, "min_area at least 0"),
    ],
)
def test_settings_are_checked(changes, words):
    with pytest.raises(MedsegError, match=words):
        Settings(**changes)


MEMORY = """
import numpy as np, torch
from medseg.bundle.network import Recipe
from medseg.data.sample import Label
from medseg.predict.predictor import Predictor, Settings
from medseg.transforms.picture import Picture

class Bright(torch.nn.Module):
    def forward(self, images):
        return images.mean(1, keepdim=True) * 20 - 10

recipe = Recipe("unet", {}, 1, 1, (256, 256), (), {}, (Label("lesion"),))
predictor = Predictor(recipe, [Bright()], Settings(device="cpu", sliding_window=True, flips=True, overlap=0.0))
peaks = []
for side in (256, 768, 1536):
    predictor([Picture.of(np.zeros((1, side, side), np.uint16))])
    # not ru_maxrss, which begins with that of the process that started this one
    line = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    peaks.append(int(line.split()[1]) * 1024)
print((peaks[2] - peaks[1]) / (1536**2 - 768**2))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells a process's peak")
def test_memory_of_windows_grows_with_the_image_alone():
    """Of each further pixel a few numbers are held, whatever the number of windows, flips and networks."""
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    per_pixel = float(done.stdout)
    # image (2 bytes), float input (4), flipped (4), probabilities, weights and sums (4 each), masks of 4 members
    assert 8 < per_pixel < 64


def test_the_bench_of_large_images_measures_a_prediction():
    bench = runpy.run_path(str(Path(__file__).resolve().parents[2] / "scripts" / "bench" / "predict.py"))
    for mode in bench["MODES"]:
        found = bench["measured"](mode, 32, [4, 8], (70, 90))
        assert found["seconds"] > 0
        assert found["bytes"] > 1e8
