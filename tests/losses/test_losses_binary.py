"""Cross-entropy and the focal losses: by hand, each parameter moved alone, MONAI's, the extremes."""

from __future__ import annotations

import math

import pytest
import torch
from monai.losses import FocalLoss as MonaiFocal
from torch import Tensor

from medseg import losses
from medseg.errors import MedsegError

LN = math.log
# probabilities of the truth: 3/4 (foreground), 3/4, 1/4 (background), 1/2 (foreground)
LOGITS = torch.tensor([0.75, 0.25, 0.75, 0.5], dtype=torch.float64).logit().reshape(1, 1, 2, 2)
TARGET = torch.tensor([1, 0, 0, 1], dtype=torch.uint8).reshape(1, 1, 2, 2)


def value(name: str, **arguments: float) -> float:
    return losses.build(name, **arguments)(LOGITS, TARGET).item()


def focal(foreground: float, background: float, gamma: float) -> float:
    lesion = 0.25**gamma * -LN(0.75) + 0.5**gamma * -LN(0.5)
    rest = 0.25**gamma * -LN(0.75) + 0.75**gamma * -LN(0.25)
    return (foreground * lesion + background * rest) / 4


def test_bce_by_hand() -> None:
    assert value("bce") == pytest.approx(-(2 * LN(0.75) + LN(0.25) + LN(0.5)) / 4, abs=1e-12)


def test_focal_by_hand() -> None:
    assert value("focal") == pytest.approx(focal(0.8, 0.8, 0.2), abs=1e-12)
    assert value("focal", alpha=0.3) == pytest.approx(focal(0.3, 0.3, 0.2), abs=1e-12)
    assert value("focal", gamma=2.0) == pytest.approx(focal(0.8, 0.8, 2.0), abs=1e-12)
    assert value("focal", gamma=0.0, alpha=1.0) == pytest.approx(value("bce"), abs=1e-12)


def test_focal_lin2017_by_hand() -> None:
    assert value("focal_lin2017") == pytest.approx(focal(0.25, 0.75, 2.0), abs=1e-12)
    assert value("focal_lin2017", alpha=0.9) == pytest.approx(focal(0.9, 0.1, 2.0), abs=1e-12)
    assert value("focal_lin2017", gamma=0.5) == pytest.approx(focal(0.25, 0.75, 0.5), abs=1e-12)
    assert value("focal_lin2017", gamma=0.0, alpha=0.5) == pytest.approx(value("bce") / 2, abs=1e-12)


def test_the_two_focal_losses_differ_at_equal_arguments() -> None:
    assert value("focal", alpha=0.25, gamma=2.0) == pytest.approx(focal(0.25, 0.25, 2.0), abs=1e-12)
    assert value("focal", alpha=0.25, gamma=2.0) < 0.9 * value("focal_lin2017", alpha=0.25, gamma=2.0)


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (0.8, 0.2), (0.5, 1.0)])
def test_focal_lin2017_is_monais(alpha: float, gamma: float) -> None:
    torch.manual_seed(0)
    logits, target = torch.randn(4, 1, 16, 16) * 3, (torch.rand(4, 1, 16, 16) > 0.7).float()
    ours = losses.build("focal_lin2017", alpha=alpha, gamma=gamma)(logits, target)
    torch.testing.assert_close(ours, MonaiFocal(alpha=alpha, gamma=gamma)(logits, target))


def by_definition(name: str, probability: Tensor, target: Tensor) -> Tensor:
    lesion, rest = -probability.log(), -(1 - probability).log()
    if name == "focal":
        lesion, rest = 0.8 * (1 - probability) ** 0.2 * lesion, 0.8 * probability**0.2 * rest
    elif name == "focal_lin2017":
        lesion, rest = 0.25 * (1 - probability) ** 2 * lesion, 0.75 * probability**2 * rest
    return (target * lesion + (1 - target) * rest).mean()


@pytest.mark.parametrize("name", ["bce", "focal", "focal_lin2017"])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_equal_to_the_formula_in_probabilities(name: str, channels: int) -> None:
    torch.manual_seed(1)
    logits = torch.randn(2, channels, 6, 6, dtype=torch.float64) * 2
    target = torch.nn.functional.one_hot(torch.randint(0, max(channels, 2), (2, 6, 6)))
    target = target.movedim(-1, 1)[:, -channels:].double()
    probability = logits.sigmoid() if channels == 1 else logits.softmax(1)
    expected = by_definition(name, probability, target)
    torch.testing.assert_close(losses.build(name)(logits, target), expected)


def test_bce_of_two_channels_is_the_cross_entropy() -> None:
    torch.manual_seed(2)
    logits, classes = torch.randn(2, 2, 5, 5), torch.randint(0, 2, (2, 5, 5))
    target = torch.nn.functional.one_hot(classes, 2).movedim(-1, 1)
    expected = torch.nn.functional.cross_entropy(logits, classes)
    torch.testing.assert_close(losses.build("bce")(logits, target), expected)


@pytest.mark.parametrize("gamma", [0.2, 1.0, 2.0])
@pytest.mark.parametrize("logit", [-60.0, -20.0, -5.0, 0.0, 5.0, 20.0, 60.0])
def test_focal_and_its_gradient_stay_right_far_out(logit: float, gamma: float) -> None:
    # of a foreground pixel: L = q^g a with q = 1 - p, a = -log p, and dL/dz = -q^g (g p a + q)
    z = torch.tensor(logit, dtype=torch.float32, requires_grad=True)
    loss = losses.build("focal", alpha=1.0, gamma=gamma)(z.view(1, 1, 1, 1), torch.ones(1, 1, 1, 1))
    loss.backward()
    p, q = 1 / (1 + math.exp(-logit)), 1 / (1 + math.exp(logit))
    a = math.log1p(math.exp(-logit))
    assert loss.item() == pytest.approx(q**gamma * a, rel=1e-4, abs=1e-30)
    assert z.grad is not None
    assert z.grad.item() == pytest.approx(-(q**gamma) * (gamma * p * a + q), rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("name", ["focal", "focal_lin2017"])
def test_focal_at_the_extremes(name: str) -> None:
    # a lesion pixel called background costs its whole logit, the weight being 1
    arguments = {"alpha": 1.0, "gamma": 0.2}
    logits = torch.tensor([-1e4, 1e4]).reshape(1, 1, 1, 2).requires_grad_()
    loss = losses.build(name, **arguments)(logits, torch.ones(1, 1, 1, 2))
    loss.backward()
    assert loss.item() == 5000
    assert logits.grad is not None
    assert logits.grad.flatten().tolist() == [-0.5, 0]


def test_a_target_between_0_and_1_interpolates_the_focal_factor() -> None:
    # p = 3/4, y = 1/2: factor (1/4)^(g/2) (3/4)^(g/2), times the cross-entropy of a half
    logits, target = torch.full((1, 1, 1, 1), LN(3)), torch.full((1, 1, 1, 1), 0.5)
    entropy = -(LN(0.75) + LN(0.25)) / 2
    expected = (0.25 * 0.75) ** 0.1 * entropy
    assert losses.build("focal", alpha=1.0)(logits, target).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("focal", {"alpha": 0.0}, "loss 'focal': alpha must be above 0; got 0.0"),
        ("focal", {"gamma": -1.0}, "loss 'focal': gamma must not be negative; got -1.0"),
        ("focal_lin2017", {"alpha": 1.5}, "loss 'focal_lin2017': alpha must lie between 0 and 1; got 1.5"),
        ("focal_lin2017", {"gamma": -1.0}, "loss 'focal_lin2017': gamma must not be negative; got -1.0"),
    ],
)
def test_unusable_arguments(name: str, arguments: dict[str, float], message: str) -> None:
    with pytest.raises(MedsegError, match=message):
        losses.build(name, **arguments)
