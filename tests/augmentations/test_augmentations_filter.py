"""Changes of grey levels and colours, by numbers worked out by hand, for every depth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from medseg.augmentations import AUGMENTATIONS, Pipeline, build

WHITE = {np.uint8: 255, np.uint16: 65535, np.float32: 1}
NAMES = [
    "clahe",
    "gaussian_blur",
    "equalize",
    "fancy_pca",
    "brightness",
    "channel_shift",
    "gamma",
    "sharpening",
    "noise",
]


def changed(name: str, image: np.ndarray, seed: int = 0, **arguments: Any) -> np.ndarray:
    (augment,) = build(name, arguments)
    return augment.change(image, augment.draw(np.random.default_rng(seed), image))


def constant(kind: type, share: float, channels: int = 1, size: int = 32) -> np.ndarray:
    return np.full((channels, size, size), share * WHITE[kind]).astype(kind)


@pytest.mark.parametrize("name", NAMES)
def test_any_depth_and_number_of_channels(
    name: str, kind: type, channels: int, picture: Callable[..., np.ndarray]
) -> None:
    image = picture(channels, kind)
    before = image.copy()
    arguments = {"alpha": 30} if name == "fancy_pca" else {}
    result = changed(name, image, **arguments)
    assert result.shape == image.shape and result.dtype == kind
    assert result.min() >= 0 and result.max() <= WHITE[kind]
    assert not np.array_equal(result, image)
    np.testing.assert_array_equal(image, before)
    # deeper pixels change as 8-bit ones do; CLAHE of few pixels per tile and noise least alike
    if kind is not np.uint8 and name != "noise":
        coarse = changed(name, picture(channels), **arguments) / 255
        slack = {"clahe": 0.05, "equalize": 0.02, "sharpening": 0.06, "fancy_pca": 0.06}.get(name, 1.5 / 255)
        assert np.abs(coarse - result / WHITE[kind]).mean() < slack


@pytest.mark.parametrize("name", ["clahe", "gaussian_blur", "equalize", "gamma"])
def test_deep_pixels_keep_their_levels(name: str, picture: Callable[..., np.ndarray]) -> None:
    image = picture(1, np.uint16, (224, 224))
    assert len(np.unique(changed(name, image))) > 5000


@pytest.mark.parametrize("name", NAMES)
def test_the_mask_is_untouched(name: str, picture: Callable[..., np.ndarray], disc: np.ndarray) -> None:
    pipeline = Pipeline(build(name, {"prob": 1}))
    _, mask = pipeline(picture(), disc, np.random.default_rng(0))
    assert mask is disc


def test_brightness_adds_a_share_of_full_scale(kind: type) -> None:
    up = changed("brightness", constant(kind, 0.5), shift=0.2)
    assert up[0, 0, 0] / WHITE[kind] == pytest.approx(0.7, abs=1.5 / 255)
    assert changed("brightness", constant(kind, 0.9), shift=0.2).min() == WHITE[kind]
    assert changed("brightness", constant(kind, 0.1), shift=-0.2).max() == 0


def test_gamma_is_a_power_of_the_share(kind: type) -> None:
    result = changed("gamma", constant(kind, 0.5), exponent=2.0)
    assert result[0, 0, 0] / WHITE[kind] == pytest.approx(0.25, abs=1.5 / 255)
    for end in (0, 1):
        assert (changed("gamma", constant(kind, end), exponent=0.5) == end * WHITE[kind]).all()


def test_sharpening_by_hand(kind: type) -> None:
    image = constant(kind, 0.2, size=5)
    image[0, 2, 2] = 0.25 * WHITE[kind]
    result = changed("sharpening", image, strength=0.5, lightness=1.0)[0] / WHITE[kind]
    # 0.5 of itself and 0.5 of (9 of itself less its eight neighbours)
    assert result[2, 2] == pytest.approx(0.5 * 0.25 + 0.5 * (9 * 0.25 - 8 * 0.2), abs=0.03)
    assert result[2, 1] == pytest.approx(0.5 * 0.2 + 0.5 * (9 * 0.2 - 7 * 0.2 - 0.25), abs=0.03)
    assert result[0, 0] == pytest.approx(0.2, abs=0.01)
    darker = changed("sharpening", image, strength=0.5, lightness=0.5)[0] / WHITE[kind]
    assert darker[0, 0] == pytest.approx(0.2 - 0.5 * 0.5 * 0.2, abs=0.01)


def test_noise_has_its_spread_and_no_other_mean(kind: type) -> None:
    image = constant(kind, 0.5, channels=3, size=64)
    result = changed("noise", image, sigma=0.1) / WHITE[kind]
    assert result.std() == pytest.approx(0.1, rel=0.05)
    assert result.mean() == pytest.approx(0.5, abs=0.005)
    assert np.corrcoef(result[0].ravel(), result[1].ravel())[0, 1] == pytest.approx(0, abs=0.05)
    assert not np.array_equal(changed("noise", image, seed=1), changed("noise", image, seed=2))
    np.testing.assert_array_equal(changed("noise", image, sigma=0), image)


def test_blur_of_a_point_is_the_gaussian(kind: type) -> None:
    image = constant(kind, 0, size=21)
    image[0, 10, 10] = WHITE[kind]
    result = changed("gaussian_blur", image, sigma=1.0)[0] / WHITE[kind]
    # 1 / (2 pi sigma^2), and e^-0.5 and e^-1 of it beside and across; 8 bits have steps of 0.004
    assert result[10, 10] == pytest.approx(0.1592, abs=0.005)
    assert result[10, 11] == pytest.approx(0.1592 * 0.6065, abs=0.005)
    assert result[11, 11] == pytest.approx(0.1592 * 0.3679, abs=0.005)
    assert result.sum() == pytest.approx(1, abs=0.1) and result[10, 14] == 0


def test_fancy_pca_by_hand() -> None:
    # two colours, (0.6, 0.4, 0.2) and (0.8, 0.6, 0.4): one component, (1, 1, 1) / sqrt(3), variance 0.03 n / (n - 1)
    image = np.zeros((3, 2, 500), np.float32)
    image[:] = np.array([0.7, 0.5, 0.3], np.float32)[:, None, None]
    image[:, 0] -= 0.1
    image[:, 1] += 0.1
    (augment,) = build("fancy_pca")
    result = augment.change(image, {"alpha": np.array([2, 0, 0], np.float32)})
    # only the first coordinate of the distance enters, by (1, 1, 1) / sqrt(3) times alpha times variance
    added = 2 * 0.03 * 1000 / 999 * 0.1 / np.sqrt(3)
    difference = result - image
    np.testing.assert_allclose(np.abs(difference), added, rtol=1e-3)
    np.testing.assert_allclose(difference[:, 0], -difference[:, 1], atol=1e-6)


def test_fancy_pca_of_a_constant_image_is_nothing(kind: type, channels: int) -> None:
    image = constant(kind, 0.3, channels)
    np.testing.assert_allclose(changed("fancy_pca", image, alpha=50), image, atol=1e-6)


@pytest.mark.parametrize("before", ["rotation", "gaussian_blur"])
def test_fancy_pca_keeps_the_basis_of_an_unaltered_image_only(
    before: str, picture: Callable[..., np.ndarray], disc: np.ndarray
) -> None:
    image = picture()
    pca, other = (build(name, {"prob": 1})[0] for name in ("fancy_pca", before))
    Pipeline([pca])(image, disc, np.random.default_rng(0), key=8)
    assert list(pca.known) == [8]
    with_key = Pipeline([other, pca])(image, disc, np.random.default_rng(0), key=8)[0]
    without = Pipeline([other, pca])(image, disc, np.random.default_rng(0))[0]
    np.testing.assert_array_equal(with_key, without)
    Pipeline([other, pca])(image, disc, np.random.default_rng(0), key=9)
    assert list(pca.known) == [8]


def test_every_registered_filter_is_tested() -> None:
    singles = [entry for entry in AUGMENTATIONS if not {"members", "batch"} & set(entry.facts)]
    assert sorted(NAMES) == sorted(e.name for e in singles if not e.build()[0].geometric)
