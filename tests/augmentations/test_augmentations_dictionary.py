"""The MONAI dictionary transform."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose

from medseg.augmentations import Augmentd, Pipeline, build_augments
from medseg.errors import MedsegError


@pytest.fixture
def sample(picture: Callable[..., np.ndarray], disc: np.ndarray) -> dict[str, Any]:
    affine = torch.diag(torch.tensor([0.5, 0.5, 1.0, 1.0], dtype=torch.float64))
    meta = {"filename_or_obj": "case.png", "patient": 7}
    return {
        "image": MetaTensor(np.array(picture(3, np.float32)), affine=affine, meta=meta),
        "label": MetaTensor(np.array(disc), meta={"filename_or_obj": "mask.png"}),
        "case": "a",
    }


def test_meta_data_stay(sample: dict[str, Any]) -> None:
    result = Augmentd(names="rotation-noise", prob=1).set_random_state(0)(sample)
    for key, name in (("image", "case.png"), ("label", "mask.png")):
        assert isinstance(result[key], MetaTensor)
        assert result[key].meta["filename_or_obj"] == name
        assert result[key].affine.equal(sample[key].affine)
        assert result[key].shape == sample[key].shape and result[key].dtype == sample[key].dtype
        assert not result[key].equal(sample[key])
    assert result["image"].meta["patient"] == 7 and result["case"] == "a"
    assert set(result["label"].unique().tolist()) == {0, 1}


def test_the_same_kind_comes_out(picture: Callable[..., np.ndarray], disc: np.ndarray, kind: type) -> None:
    arrays = {"image": picture(1, kind), "label": disc}
    result = Augmentd(names="all", prob=1).set_random_state(1)(arrays)
    tensors = {key: torch.from_numpy(np.array(array)) for key, array in arrays.items()}
    other = Augmentd(names="all", prob=1).set_random_state(1)(tensors)
    for key, array in arrays.items():
        assert type(result[key]) is np.ndarray and result[key].dtype == array.dtype
        assert type(other[key]) is torch.Tensor and other[key].dtype == tensors[key].dtype
        np.testing.assert_array_equal(other[key].numpy(), result[key])


def test_filters_leave_masks_of_any_type(picture: Callable[..., np.ndarray], disc: np.ndarray) -> None:
    for dtype in (np.float32, np.int64, bool):
        given = {"image": picture(), "label": disc.astype(dtype)}
        result = Augmentd(names="filter", prob=1).set_random_state(0)(given)
        assert result["label"].dtype == dtype
        np.testing.assert_array_equal(result["label"], given["label"])


def test_several_masks_move_alike(picture: Callable[..., np.ndarray], disc: np.ndarray) -> None:
    given = {"image": picture(), "lesion": disc, "skin": np.concatenate([1 - disc, disc]).astype(np.float32)}
    transform = Augmentd(("image", "lesion", "skin"), names="elastic-rotation", prob=1).set_random_state(0)
    result = transform(given)
    np.testing.assert_array_equal(result["skin"][1], result["lesion"][0])
    assert result["skin"].shape == (2, 64, 50) and result["skin"].dtype == np.float32


def test_missing_masks(picture: Callable[..., np.ndarray]) -> None:
    given = {"image": picture()}
    assert Augmentd(names="noise", prob=1, allow_missing_keys=True)(given)["image"].shape == (3, 64, 50)
    with pytest.raises(KeyError, match="label"):
        Augmentd(names="noise", prob=1)(given)


def test_random_states_and_compose(sample: dict[str, Any]) -> None:
    def drawn(seed: int) -> torch.Tensor:
        transform = Compose([Augmentd(names="rotation-noise", prob=1)]).set_random_state(seed)
        return torch.stack([transform(sample)["image"] for _ in range(2)])

    first = drawn(3)
    assert first.equal(drawn(3)) and not first.equal(drawn(4)) and not first[0].equal(first[1])


def test_a_named_sample_depends_on_seed_and_name_alone(
    picture: Callable[..., np.ndarray], disc: np.ndarray
) -> None:
    given = {"image": picture(), "label": disc, "number": (3, 11)}
    one, other = (Augmentd(names="all", prob=0.5, seed=5, sample_key="number") for _ in range(2))
    other.set_random_state(9)
    other(given)
    result = one(given)
    np.testing.assert_array_equal(result["image"], other(given)["image"])
    rng = np.random.default_rng((5, 3, 11))
    expected = Pipeline(build_augments("all", prob=0.5))(picture(), disc, rng)
    np.testing.assert_array_equal(result["image"], expected[0])
    np.testing.assert_array_equal(result["label"], expected[1])


@pytest.mark.parametrize(
    ("arguments", "changes", "message"),
    [
        ({"names": "rotatoin"}, {}, "unknown augmentation 'rotatoin'"),
        ({"seed": 3}, {}, "seed and sample_key belong together"),
        ({"seed": 3, "sample_key": "number"}, {}, "has no 'number'"),
        ({}, {"image": np.full((1, 4, 4), 3.0)}, "'image' holds floats from 0 to 3; scale them to 0..1"),
        ({}, {"image": np.full((1, 4, 4), np.nan)}, "'image' holds floats"),
        ({}, {"label": np.full((1, 64, 50), 0.5)}, "'label' is no mask"),
        ({}, {"label": np.zeros((1, 9, 50))}, r"'label' has the shape \(1, 9, 50\), its image \(3, 64, 50\)"),
        ({}, {"label": np.zeros((64, 50))}, r"\(K, H, W\) is needed"),
        ({"keys": ("picture", "label"), "allow_missing_keys": True}, {}, "no image 'picture'"),
    ],
)
def test_wrong_use_is_named(
    arguments: dict[str, Any],
    changes: dict[str, Any],
    message: str,
    picture: Callable[..., np.ndarray],
    disc: np.ndarray,
) -> None:
    with pytest.raises(MedsegError, match=message):
        Augmentd(**arguments)({"image": picture(), "label": disc, **changes})
