"""IoU, Dice and Tversky losses: by hand, each parameter moved alone, and as MONAI's."""

from __future__ import annotations

import math

import pytest
import torch
from monai.losses import DiceLoss as MonaiDice
from monai.losses import TverskyLoss as MonaiTversky
from torch import Tensor

from medseg import losses
from medseg.errors import MedsegError

OVERLAP = ("iou", "dice", "tversky")


def logit(*probabilities: float) -> Tensor:
    return torch.tensor(probabilities, dtype=torch.float64).logit().reshape(1, 1, 2, 2)


def mask(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.uint8).reshape(1, 1, 2, 2)


# one image: p y sums to 1.25, p to 2.25, y to 2, so that TP 1.25, FP 1, FN 0.75
LOGITS, TARGET = logit(0.75, 0.25, 0.75, 0.5), mask(1, 0, 0, 1)
# a second, whose mask is empty: TP 0, FP 2, FN 0
LOGITS_2, TARGET_2 = logit(0.5, 0.5, 0.5, 0.5), mask(0, 0, 0, 0)


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("iou", {}, 1 - 2.25 / 4),
        ("iou", {"smooth": 3.0}, 1 - 4.25 / 6),
        ("dice", {}, 1 - 3.5 / 5.25),
        ("dice", {"smooth": 3.0}, 1 - 5.5 / 7.25),
        ("tversky", {}, 1 - 2.25 / (2.25 + 0.3 * 1 + 0.7 * 0.75)),
        ("tversky", {"alpha": 0.7}, 1 - 2.25 / (2.25 + 0.7 * 1 + 0.7 * 0.75)),
        ("tversky", {"beta": 0.3}, 1 - 2.25 / (2.25 + 0.3 * 1 + 0.3 * 0.75)),
        ("tversky", {"alpha": 0.7, "beta": 0.3}, 1 - 2.25 / (2.25 + 0.7 * 1 + 0.3 * 0.75)),
        ("tversky", {"smooth": 3.0}, 1 - 4.25 / (4.25 + 0.3 * 1 + 0.7 * 0.75)),
    ],
)
def test_one_image_by_hand(name: str, arguments: dict[str, float], expected: float) -> None:
    assert losses.build(name, **arguments)(LOGITS, TARGET).item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("name", "image", "batch"),
    [
        ("iou", ((1 - 2.25 / 4) + (1 - 1 / 3)) / 2, 1 - 2.25 / (4.25 + 2 - 1.25 + 1)),
        ("dice", ((1 - 3.5 / 5.25) + (1 - 1 / 3)) / 2, 1 - 3.5 / (4.25 + 2 + 1)),
        (
            "tversky",
            ((1 - 2.25 / 3.075) + (1 - 1 / 1.6)) / 2,
            1 - 2.25 / (2.25 + 0.3 * 3 + 0.7 * 0.75),
        ),
    ],
)
def test_reduction_by_hand(name: str, image: float, batch: float) -> None:
    logits, target = torch.cat((LOGITS, LOGITS_2)), torch.cat((TARGET, TARGET_2))
    assert losses.build(name)(logits, target).item() == pytest.approx(image, abs=1e-12)
    assert losses.build(name, reduction="image")(logits, target).item() == pytest.approx(image, abs=1e-12)
    assert losses.build(name, reduction="batch")(logits, target).item() == pytest.approx(batch, abs=1e-12)


def test_channels_are_averaged_after_a_softmax_by_hand() -> None:
    # two pixels; softmax gives (3/4, 1/4) and (1/2, 1/2)
    logits = torch.tensor([[math.log(3), 0.0], [0.0, 0.0]], dtype=torch.float64).reshape(1, 2, 1, 2)
    target = torch.tensor([[1, 0], [0, 1]]).reshape(1, 2, 1, 2)
    # channel 0: TP 0.75, P 1.25, T 1; channel 1: TP 0.5, P 0.75, T 1
    dice = ((1 - 2.5 / 3.25) + (1 - 2 / 2.75)) / 2
    assert losses.build("dice")(logits, target).item() == pytest.approx(dice, abs=1e-12)
    iou = ((1 - 1.75 / 2.5) + (1 - 1.5 / 2.25)) / 2
    assert losses.build("iou")(logits, target).item() == pytest.approx(iou, abs=1e-12)


def test_tversky_of_equal_prices_is_iou_and_dice() -> None:
    tversky = losses.build("tversky", alpha=1.0, beta=1.0)(LOGITS, TARGET)
    torch.testing.assert_close(tversky, losses.build("iou")(LOGITS, TARGET))
    tversky = losses.build("tversky", alpha=0.5, beta=0.5, smooth=0.5)(LOGITS, TARGET)
    torch.testing.assert_close(tversky, losses.build("dice")(LOGITS, TARGET))


@pytest.mark.parametrize("reduction", ["image", "batch"])
@pytest.mark.parametrize("channels", [1, 3])
def test_equal_to_monai(channels: int, reduction: str) -> None:
    torch.manual_seed(0)
    logits = torch.randn(4, channels, 16, 16) * 3
    target = (torch.randn(4, channels, 16, 16) + (torch.arange(4) - 1.5).view(4, 1, 1, 1) > 0).float()
    if channels > 1:
        target = torch.nn.functional.one_hot(target.argmax(1), channels).movedim(-1, 1).float()
    monai = {
        "sigmoid": channels == 1,
        "softmax": channels > 1,
        "smooth_nr": 1.0,
        "smooth_dr": 1.0,
        "batch": reduction == "batch",
    }
    ours = {"reduction": reduction}
    torch.testing.assert_close(
        losses.build("dice", **ours)(logits, target), MonaiDice(**monai)(logits, target)
    )
    torch.testing.assert_close(
        losses.build("iou", **ours)(logits, target),
        MonaiTversky(alpha=1.0, beta=1.0, **monai)(logits, target),
    )
    torch.testing.assert_close(
        losses.build("tversky", **ours)(logits, target),
        MonaiTversky(alpha=0.3, beta=0.7, **monai)(logits, target),
    )


@pytest.mark.parametrize("reduction", ["image", "batch"])
@pytest.mark.parametrize("name", OVERLAP)
def test_an_empty_prediction_of_an_empty_mask_costs_nothing(name: str, reduction: str) -> None:
    loss = losses.build(name, reduction=reduction)
    empty, full = torch.full((2, 1, 8, 8), -1e4), torch.full((2, 1, 8, 8), 1e4)
    nothing, everything = torch.zeros(2, 1, 8, 8), torch.ones(2, 1, 8, 8)
    assert loss(empty, nothing).item() == 0
    assert loss(full, everything).item() == 0
    assert loss(full, nothing).item() > 0.9
    assert loss(empty, everything).item() > 0.9


@pytest.mark.parametrize("name", OVERLAP)
def test_unusable_arguments(name: str) -> None:
    with pytest.raises(MedsegError, match=f"loss '{name}': smooth must be above 0.*got 0"):
        losses.build(name, smooth=0.0)
    with pytest.raises(MedsegError, match="reduction must be one of image, batch; got 'mean'"):
        losses.build(name, reduction="mean")


@pytest.mark.parametrize("arguments", [{"alpha": -0.1}, {"beta": -0.1}])
def test_negative_prices(arguments: dict[str, float]) -> None:
    with pytest.raises(MedsegError, match="alpha and beta must not be negative"):
        losses.build("tversky", **arguments)
