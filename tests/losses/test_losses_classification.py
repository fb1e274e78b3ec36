"""Losses of classification: numbers by hand, each parameter alone, and what other libraries say of the same thing."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from medseg.errors import MedsegError
from medseg.losses import LOSSES, build, build_for
from medseg.losses.weighted_cross_entropy import class_weights

# probabilities 1/2, 1/4, 1/4 and 1/8, 3/8, 1/2, as softmax and as sigmoids
PROBABILITIES = torch.tensor([[0.5, 0.25, 0.25], [0.125, 0.375, 0.5]], dtype=torch.float64)
SOFTMAX = PROBABILITIES.log()
SIGMOID = PROBABILITIES.logit()
HARD = torch.tensor([[1, 0, 0], [0, 1, 0]], dtype=torch.uint8)
SOFT = torch.tensor([[0.75, 0.25, 0.0], [0.0, 0.5, 0.5]], dtype=torch.float64)
COUNTS = (6, 3, 1)
log = math.log


def value(name: str, logits: Tensor, target: Tensor, **arguments: Any) -> float:
    return build_for(name, arguments, COUNTS)(logits, target).item()


def batch(classes: int = 4, count: int = 16, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits and classes by chance, each class there."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(count, classes, generator=generator, dtype=torch.float64)
    return logits, torch.arange(count) % classes


# by hand


def test_cross_entropy_by_hand() -> None:
    assert value("cross_entropy", SOFTMAX, HARD) == pytest.approx(-(log(1 / 2) + log(3 / 8)) / 2)
    soft = -(0.75 * log(1 / 2) + 0.25 * log(1 / 4) + 0.5 * log(3 / 8) + 0.5 * log(1 / 2)) / 2
    assert value("cross_entropy", SOFTMAX, SOFT) == pytest.approx(soft)
    assert value("cross_entropy", SOFTMAX + 7, HARD) == pytest.approx(value("cross_entropy", SOFTMAX, HARD))


def test_binary_cross_entropy_by_hand() -> None:
    first = log(1 / 2) + log(3 / 4) + log(3 / 4)
    second = log(7 / 8) + log(3 / 8) + log(1 / 2)
    assert value("binary_cross_entropy", SIGMOID, HARD) == pytest.approx(-(first + second) / 6)
    several = torch.tensor([[1, 1, 0], [0, 0, 0]])
    findings = log(1 / 2) + log(1 / 4) + log(3 / 4) + log(7 / 8) + log(5 / 8) + log(1 / 2)
    assert value("binary_cross_entropy", SIGMOID, several) == pytest.approx(-findings / 6)
    soft = torch.tensor([[0.25, 0.0, 0.0]])
    mixed = 0.25 * log(1 / 2) + 0.75 * log(1 / 2) + 2 * log(3 / 4)
    assert value("binary_cross_entropy", SIGMOID[:1], soft) == pytest.approx(-mixed / 3)


def test_weighted_cross_entropy_by_hand() -> None:
    # 10 training images in 3 classes: 10 / (3 * 6), 10 / (3 * 3), 10 / (3 * 1)
    weights = (5 / 9, 10 / 9, 10 / 3)
    assert class_weights(COUNTS) == pytest.approx(weights)
    hard = -(weights[0] * log(1 / 2) + weights[1] * log(3 / 8)) / 2
    assert value("weighted_cross_entropy", SOFTMAX, HARD) == pytest.approx(hard)
    soft = weights[0] * 0.75 * log(1 / 2) + weights[1] * 0.25 * log(1 / 4)
    soft += weights[1] * 0.5 * log(3 / 8) + weights[2] * 0.5 * log(1 / 2)
    assert value("weighted_cross_entropy", SOFTMAX, SOFT) == pytest.approx(-soft / 2)


def test_smoothed_cross_entropy_by_hand() -> None:
    # 0.1 of each label over 3 classes: 0.9 + 1/30 for the true one, 1/30 for the others
    true, other = 0.9 + 1 / 30, 1 / 30
    first = true * log(1 / 2) + other * 2 * log(1 / 4)
    second = true * log(3 / 8) + other * (log(1 / 8) + log(1 / 2))
    assert value("smoothed_cross_entropy", SOFTMAX, HARD) == pytest.approx(-(first + second) / 2)


def test_focal_cross_entropy_by_hand() -> None:
    hard = -(0.5**2 * log(1 / 2) + 0.625**2 * log(3 / 8)) / 2
    assert value("focal_cross_entropy", SOFTMAX, HARD) == pytest.approx(hard)
    first = 0.75 * 0.5**2 * log(1 / 2) + 0.25 * 0.75**2 * log(1 / 4)
    second = 0.5 * 0.625**2 * log(3 / 8) + 0.5 * 0.5**2 * log(1 / 2)
    assert value("focal_cross_entropy", SOFTMAX, SOFT) == pytest.approx(-(first + second) / 2)


def test_binary_focal_cross_entropy_by_hand() -> None:
    present, absent = 0.25 * 0.5**2 * log(1 / 2), 0.75 * 2 * 0.25**2 * log(3 / 4)
    target = HARD[:1]
    assert value("binary_focal_cross_entropy", SIGMOID[:1], target) == pytest.approx(-(present + absent) / 3)


# each parameter alone


@pytest.mark.parametrize("smoothing", [0.0, 0.3, 0.6])
def test_smoothing_moves_the_label_alone(smoothing: float) -> None:
    logits, classes = batch()
    target = F.one_hot(classes, 4)
    expected = value("cross_entropy", logits, (1 - smoothing) * target.double() + smoothing / 4)
    assert value("smoothed_cross_entropy", logits, target, smoothing=smoothing) == pytest.approx(expected)


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0])
def test_power_moves_the_weights_alone_and_they_average_one(power: float) -> None:
    weights = np.array(class_weights(COUNTS, power))
    np.testing.assert_allclose(weights / weights[0], (6 / np.array(COUNTS)) ** power)
    assert np.average(weights, weights=COUNTS) == pytest.approx(1)
    logits, classes = batch(3)
    target = F.one_hot(classes, 3)
    per_image = -logits.log_softmax(1)[range(16), classes]
    expected = (torch.from_numpy(weights)[classes] * per_image).mean().item()
    assert value("weighted_cross_entropy", logits, target, power=power) == pytest.approx(expected)
    if power == 0:
        assert expected == pytest.approx(value("cross_entropy", logits, target))


def test_weights_do_not_depend_on_the_rest_of_the_batch() -> None:
    logits, classes = batch(3)
    target = F.one_hot(classes, 3)
    alone = [value("weighted_cross_entropy", logits[i : i + 1], target[i : i + 1]) for i in range(16)]
    assert np.mean(alone) == pytest.approx(value("weighted_cross_entropy", logits, target))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 5.0])
def test_gamma_is_the_power_of_the_missing_probability(gamma: float) -> None:
    logits, classes = batch()
    target = F.one_hot(classes, 4)
    p = logits.softmax(1)[range(16), classes]
    expected = -((1 - p) ** gamma * p.log()).mean().item()
    assert value("focal_cross_entropy", logits, target, gamma=gamma) == pytest.approx(expected)
    if gamma == 0:
        assert expected == pytest.approx(value("cross_entropy", logits, target))
        half = {"gamma": 0.0, "alpha": 0.5}
        binary = value("binary_cross_entropy", logits, target) / 2
        assert value("binary_focal_cross_entropy", logits, target, **half) == pytest.approx(binary)


def test_alpha_weighs_each_class_of_the_focal_loss() -> None:
    logits, classes = batch(3)
    target = F.one_hot(classes, 3)
    alone = []
    for k in range(3):
        alpha = [0.0, 0.0, 0.0]
        alpha[k] = 2.0
        alone.append(value("focal_cross_entropy", logits, target, alpha=alpha))
        p = logits.softmax(1)[classes == k, k]
        assert alone[k] == pytest.approx(-2 * ((1 - p) ** 2 * p.log()).sum().item() / 16)
    assert sum(alone) / 2 == pytest.approx(value("focal_cross_entropy", logits, target))


# which equals which


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float32, torch.float64])
def test_sparse_equals_categorical_for_hard_labels(dtype: torch.dtype) -> None:
    logits, classes = batch()
    target = F.one_hot(classes, 4).to(dtype)
    results = []
    for name in ("cross_entropy", "sparse_cross_entropy"):
        leaf = logits.clone().requires_grad_()
        loss = build(name)(leaf, target)
        (gradient,) = torch.autograd.grad(loss, leaf)
        results.append((loss, gradient))
    torch.testing.assert_close(results[0], results[1], rtol=1e-12, atol=1e-15)


def test_two_opposite_logits_make_binary_and_categorical_equal() -> None:
    z, classes = batch(1)[0], torch.arange(16) % 2
    target = F.one_hot(classes, 2)
    binary = value("binary_cross_entropy", torch.cat([z, -z], 1), target)
    # both say the same probabilities: softmax of (z, 0) is sigmoid of z
    assert value("cross_entropy", torch.cat([z, 0 * z], 1), target) == pytest.approx(binary)
    # Keras' binary form of a softmax of two classes: the same again
    p = torch.cat([z, 0 * z], 1).softmax(1)
    assert F.binary_cross_entropy(p, target.double()).item() == pytest.approx(binary)


def test_of_three_classes_binary_and_categorical_differ() -> None:
    logits, classes = batch(3)
    target = F.one_hot(classes, 3)
    assert abs(value("binary_cross_entropy", logits, target) - value("cross_entropy", logits, target)) > 0.1


def test_balanced_classes_need_no_weights() -> None:
    logits, classes = batch()
    target = F.one_hot(classes, 4)
    loss = build_for("weighted_cross_entropy", {}, [9, 9, 9, 9])
    assert loss(logits, target).item() == pytest.approx(value("cross_entropy", logits, target))


# other libraries


def test_cross_entropy_and_scikit_learn_agree() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    logits, classes = batch()
    expected = metrics.log_loss(classes, logits.softmax(1), labels=range(4))
    assert value("cross_entropy", logits, F.one_hot(classes, 4)) == pytest.approx(expected)


def test_weights_are_scikit_learns_balanced_ones() -> None:
    class_weight = pytest.importorskip("sklearn.utils.class_weight")
    metrics = pytest.importorskip("sklearn.metrics")
    labels = np.repeat(range(3), COUNTS)
    weights = class_weight.compute_class_weight("balanced", classes=np.arange(3), y=labels)
    np.testing.assert_allclose(class_weights(COUNTS), weights)
    logits, classes = batch(3)
    # scikit-learn divides by the weights of the images, ours by their number
    total = metrics.log_loss(
        classes, logits.softmax(1), labels=range(3), sample_weight=weights[classes], normalize=False
    )
    assert value("weighted_cross_entropy", logits, F.one_hot(classes, 3)) == pytest.approx(total / 16)


def test_binary_focal_cross_entropy_and_torchvision_agree() -> None:
    ops = pytest.importorskip("torchvision.ops")
    logits, classes = batch()
    target = F.one_hot(classes, 4).double()
    for alpha, gamma in ((0.25, 2.0), (0.7, 2.0), (0.25, 1.0), (0.0, 2.0), (1.0, 2.0)):
        expected = ops.sigmoid_focal_loss(logits, target, alpha=alpha, gamma=gamma, reduction="mean")
        ours = value("binary_focal_cross_entropy", logits, target, alpha=alpha, gamma=gamma)
        assert ours == pytest.approx(expected.item())


def test_torch_with_probabilities_and_with_indices_divides_differently() -> None:
    """Why the mean is said to be plain: torch itself has both."""
    logits, classes = batch(3)
    classes = classes.clamp(max=1)
    target = F.one_hot(classes, 3)
    weights = torch.tensor(class_weights(COUNTS), dtype=torch.float64)
    by_index = F.cross_entropy(logits, classes, weight=weights).item()
    plain = value("weighted_cross_entropy", logits, target)
    assert by_index * weights[classes].sum().item() / 16 == pytest.approx(plain)
    assert abs(by_index - plain) > 0.01


# at the edges


@pytest.mark.parametrize("name", ["focal_cross_entropy", "binary_focal_cross_entropy"])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("size", [50.0, 1e4, 1e30])
def test_focal_losses_stay_finite(name: str, gamma: float, size: float) -> None:
    target = torch.eye(3)
    for sign in (1, -1):
        logits = (sign * size * (2 * target - 1)).requires_grad_()
        loss = build(name, gamma=gamma)(logits, target)
        loss.backward()
        assert loss.isfinite() and logits.grad is not None and logits.grad.isfinite().all()
        assert (loss.item() == 0) if sign == 1 and size > 50 else loss.item() >= 0


def test_a_class_without_training_images_is_named() -> None:
    with pytest.raises(MedsegError, match=r"class 1, 3 \(counting from 0\) has no training image"):
        build_for("weighted_cross_entropy", {}, np.array([3, 0, 2, 0]))


def test_counts_go_to_those_that_need_them() -> None:
    needy = [entry.name for entry in LOSSES if entry.facts.get("needs") == "counts"]
    assert needy == ["weighted_cross_entropy"]
    with pytest.raises(MedsegError, match="needs the number of training images of each class, and has none"):
        build_for("weighted_cross_entropy", {})
    with pytest.raises(MedsegError, match="gets its counts from the training part"):
        build_for("weighted_cross_entropy", {"counts": [1, 2]}, [1, 2])
    with pytest.raises(MedsegError, match="'weighted_cross_entropy': missing a required argument: 'counts'"):
        build("weighted_cross_entropy")
    assert build_for("smoothed_cross_entropy", {"smoothing": 0.2}, [1, 2]).smoothing == 0.2
    assert build_for("dice", {"smooth": 2.0}).smooth == 2.0
    with pytest.raises(MedsegError, match="unknown loss 'cross_entropi'. Did you mean 'cross_entropy'"):
        build_for("cross_entropi", {}, [1, 2])
    with pytest.raises(MedsegError, match="has counts of 3 classes, but the logits are of 2"):
        build_for("weighted_cross_entropy", {}, COUNTS)(torch.zeros(2, 2), torch.eye(2))


def test_weights_are_no_part_of_what_is_saved() -> None:
    assert build_for("weighted_cross_entropy", {}, COUNTS).state_dict() == {}


@pytest.mark.parametrize(
    "target", [torch.tensor([[0.9, 0.1]]), torch.tensor([[0.5, 0.5]], dtype=torch.float64)]
)
def test_sparse_refuses_soft_targets(target: Tensor) -> None:
    with pytest.raises(
        MedsegError, match="takes one class per image, and the target is soft.*use cross_entropy"
    ):
        build("sparse_cross_entropy")(torch.zeros(1, 2), target)


@pytest.mark.parametrize("name", LOSSES.names("classification"))
def test_one_class_alone_is_no_choice(name: str) -> None:
    loss = build_for(name, {}, [5])
    logits, target = torch.zeros(3, 1), torch.tensor([[1.0], [0.0], [1.0]])
    if LOSSES[name].facts["multilabel"]:
        assert loss(logits, target).item() > 0  # a single finding, there or not
    else:
        with pytest.raises(MedsegError, match=f"{name!r} tells classes of one another and needs 2 or more"):
            loss(logits, target)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("smoothed_cross_entropy", {"smoothing": 1.0}, "smoothing must be 0 or more and below 1; got 1.0"),
        ("smoothed_cross_entropy", {"smoothing": -0.1}, "smoothing must be 0 or more and below 1; got -0.1"),
        ("weighted_cross_entropy", {"power": -1}, "power must not be negative; got -1"),
        ("focal_cross_entropy", {"gamma": -1}, "'focal_cross_entropy': gamma must not be negative; got -1"),
        ("focal_cross_entropy", {"alpha": 0.25}, "alpha must be a weight of 0 or more per class; got 0.25"),
        (
            "focal_cross_entropy",
            {"alpha": [1, -1]},
            r"alpha must be a weight of 0 or more per class; got \[1, -1\]",
        ),
        ("binary_focal_cross_entropy", {"alpha": 1.5}, "alpha must lie between 0 and 1; got 1.5"),
        ("binary_focal_cross_entropy", {"gamma": -1}, "'binary_focal_cross_entropy': gamma must not be"),
    ],
)
def test_wrong_arguments_are_refused(name: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(MedsegError, match=message):
        build_for(name, arguments, COUNTS)


def test_as_many_weights_as_classes() -> None:
    with pytest.raises(MedsegError, match="alpha has 2 weights, but there are 3 classes"):
        build("focal_cross_entropy", alpha=[1, 2])(torch.zeros(3, 3), torch.eye(3))


# the page


def rows(first: str) -> dict[str, list[str]]:
    """The rows of the page's table whose head begins with a word, by their first cells."""
    page = Path(__file__).resolve().parents[2] / "docs" / "classification_losses.md"
    text = page.read_text(encoding="utf-8")
    (body,) = re.findall(rf"^\| {first} \|.*\n\|[- |]+\n((?:\|.*\n)+)", text, re.MULTILINE)
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in body.splitlines()]
    return {head.strip("` "): others for head, *others in cells}


CASES = torch.tensor([[3.0, 0, 0], [0, 0, 0], [0, 0, 3]], dtype=torch.float64)


def test_the_numbers_of_the_page() -> None:
    table = rows("logits")
    assert [f"{p:.3f}" for p in CASES.softmax(1)[:, 0]] == table.pop("softmax of the true class")
    assert set(table) == {n for n in LOSSES.names("classification") if "needs" not in LOSSES[n].facts}
    for name, numbers in table.items():
        assert [f"{value(name, z[None], HARD[:1]):.4f}" for z in CASES] == numbers


def test_the_weights_of_the_page() -> None:
    counts = (70, 20, 10)
    for k, (head, (weight, *numbers, half)) in enumerate(rows("true class with").items()):
        assert head == f"{counts[k]} images"
        loss = build_for("weighted_cross_entropy", {}, counts)
        target = F.one_hot(torch.tensor([k]), 3)
        assert [f"{loss(z.roll(k)[None], target).item():.4f}" for z in CASES] == numbers
        assert f"{class_weights(counts)[k]:.4f}" == weight and f"{class_weights(counts, 0.5)[k]:.4f}" == half


def test_the_page_says_which_loss_takes_what() -> None:
    facts = {
        name: (f["activation"], *("yes" if f[fact] else "no" for fact in ("multilabel", "soft")))
        for name, f in ((n, LOSSES[n].facts) for n in LOSSES.names("classification"))
    }
    assert facts == {name: tuple(cells[-3:]) for name, cells in rows("name").items()}
