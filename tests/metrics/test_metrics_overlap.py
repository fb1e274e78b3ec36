"""Counts and overlap metrics: by hand, for empty masks, and against MONAI and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.metrics import ConfusionMatrixMetric, DiceMetric, MeanIoU
from torch import Tensor

from medseg import metrics
from medseg.errors import MedsegError
from medseg.metrics import METRICS
from medseg.metrics.overlap import binarise, confusion

COUNTING = [entry.name for entry in METRICS if entry.facts["needs"] == "counts"]


def value(name: str, *counts: int) -> float:
    result = METRICS[name].build(torch.tensor(counts))
    assert result.dtype == torch.float64 and result.shape == ()
    return result.item()


def test_the_counting_metrics() -> None:
    assert COUNTING == ["dice", "iou", "mean_iou", "precision", "recall", "specificity"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("dice", 12 / 17),
        ("iou", 6 / 11),
        ("recall", 6 / 8),
        ("precision", 6 / 9),
        ("specificity", 9 / 12),
        ("mean_iou", (6 / 11 + 9 / 14) / 2),
    ],
)
def test_by_hand(name: str, expected: float) -> None:
    # TP 6, FP 3, FN 2, TN 9
    assert value(name, 6, 3, 2, 9) == pytest.approx(expected, abs=1e-15)


#: TP, FP, FN, TN -> the value by the room's convention, in the order of the header
HEADER = ("dice", "iou", "recall", "precision", "specificity", "mean_iou")
CONVENTION = {
    "both empty": ((0, 0, 0, 16), (1, 1, 1, 1, 1, 1)),
    "empty reference, false positives": ((0, 4, 0, 12), (0, 0, 0, 0, 12 / 16, 12 / 16 / 2)),
    "empty reference, full prediction": ((0, 16, 0, 0), (0, 0, 0, 0, 0, 0)),
    "empty prediction": ((0, 0, 4, 12), (0, 0, 0, 0, 1, 12 / 16 / 2)),
    "full reference, empty prediction": ((0, 0, 16, 0), (0, 0, 0, 0, 0, 0)),
    "both full": ((16, 0, 0, 0), (1, 1, 1, 1, 1, 1)),
    "full reference, some missed": ((12, 0, 4, 0), (24 / 28, 12 / 16, 12 / 16, 1, 0, 12 / 16 / 2)),
    "disjoint": ((0, 4, 4, 8), (0, 0, 0, 0, 8 / 12, 8 / 16 / 2)),
    "perfect": ((5, 0, 0, 11), (1, 1, 1, 1, 1, 1)),
}


@pytest.mark.parametrize("case", CONVENTION)
def test_the_convention_for_empty_masks(case: str) -> None:
    counts, expected = CONVENTION[case]
    assert tuple(value(name, *counts) for name in HEADER) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("name", COUNTING)
def test_metrics_take_counts_of_any_shape(name: str) -> None:
    counts = torch.tensor([c for c, _ in CONVENTION.values()])[:8].view(2, 4, 4)
    values = METRICS[name].build(counts)
    assert values.shape == (2, 4)
    assert values[1, 2].item() == value(name, *counts[1, 2].tolist())


# counting


def test_confusion_by_hand() -> None:
    prediction = torch.tensor([[1, 1, 1, 0, 0, 0]]).bool().view(1, 1, 2, 3)
    target = torch.tensor([[1, 0, 0, 1, 0, 0]]).bool().view(1, 1, 2, 3)
    counts = confusion(prediction, target)
    assert counts.dtype == torch.int64
    assert counts.tolist() == [[[1, 2, 1, 2]]]
    assert confusion(target, prediction).tolist() == [[[1, 1, 2, 2]]]


@pytest.mark.parametrize(
    "shape", [(3, 2, 5, 7), (2, 1, 300, 4), (2, 1, 4, 300), (1, 1, 1, 255), (1, 1, 1, 511)]
)
def test_confusion_counts_every_pixel(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    prediction, target = torch.rand(shape) > 0.2, torch.rand(shape) > 0.4
    expected = [prediction & target, prediction & ~target, ~prediction & target, ~prediction & ~target]
    expected = torch.stack([mask.long().sum((2, 3)) for mask in expected], -1)
    assert confusion(prediction, target).equal(expected)
    transposed = confusion(prediction.transpose(2, 3), target.transpose(2, 3))
    assert transposed.equal(expected), "also for a mask that does not lie in one piece"


@pytest.mark.parametrize("fill", [0, 1])
def test_confusion_is_exact_beyond_float32(fill: int) -> None:
    # 2**24 + 4096 pixels: float32 cannot count them one by one
    prediction = torch.ones(1, 1, 4097, 4096, dtype=torch.bool)
    target = torch.full_like(prediction, bool(fill))
    target[..., 0, 0] = not fill
    pixels = 4097 * 4096
    expected = [pixels - 1, 1, 0, 0] if fill else [1, pixels - 1, 0, 0]
    assert confusion(prediction, target)[0, 0].tolist() == expected


def test_confusion_takes_integers_and_arrays() -> None:
    prediction, target = np.array([[[[1, 1, 0, 0]]]]), np.array([[[[1, 0, 1, 0]]]])
    for dtype in (np.bool_, np.uint8, np.int64):
        assert confusion(prediction.astype(dtype), target.astype(dtype)).tolist() == [[[1, 1, 1, 1]]]
    assert confusion(255 * prediction.astype(np.uint8), target).tolist() == [[[1, 1, 1, 1]]]


def test_confusion_refuses_probabilities_and_other_shapes() -> None:
    mask = torch.zeros(2, 1, 4, 4, dtype=torch.bool)
    with pytest.raises(MedsegError, match=r"not torch\.float32; binarise logits first"):
        confusion(torch.rand(2, 1, 4, 4), mask)
    with pytest.raises(MedsegError, match=r"got \(2, 1, 4, 4\) and \(2, 4, 4\)"):
        confusion(mask, mask[:, 0])


def test_binarise_one_channel_takes_a_tie_as_foreground() -> None:
    logits = torch.tensor([-1e4, -1.0, -0.01, 0.0, 0.01, 1e4]).view(1, 1, 1, 6)
    assert binarise(logits).flatten().tolist() == [False, False, False, True, True, True]
    assert binarise(logits).equal(logits.sigmoid() >= 0.5)


def test_binarise_several_channels_picks_one() -> None:
    logits = torch.tensor([[0.0, 2.0, 1.0, 5.0], [1.0, 1.0, 1.0, 4.0], [-1.0, 3.0, 0.0, 6.0]]).view(
        1, 3, 2, 2
    )
    mask = binarise(logits)
    assert mask.dtype == torch.bool
    assert mask.view(3, 4).tolist() == [
        [False, False, True, False],
        [True, False, False, False],
        [False, True, False, True],
    ]


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_metrics_by_sets_of_pixels(data: st.DataObject) -> None:
    pixels = st.frozensets(st.integers(0, 11))
    predicted, true = data.draw(pixels), data.draw(pixels)
    masks = [torch.tensor([i in chosen for i in range(12)]).view(1, 1, 3, 4) for chosen in (predicted, true)]
    values = {name: float(v[0]) for name, v in metrics.per_case(*masks, COUNTING).items()}
    both, either = len(predicted & true), len(predicted | true)
    if either:
        assert values["iou"] == pytest.approx(both / either)
        assert values["dice"] == pytest.approx(2 * both / (len(predicted) + len(true)))
        assert values["recall"] == pytest.approx(both / len(true) if true else 0)
        assert values["precision"] == pytest.approx(both / len(predicted) if predicted else 0)
    else:
        assert set(values.values()) == {1}
    swapped = {name: float(v[0]) for name, v in metrics.per_case(*masks[::-1], COUNTING).items()}
    assert values["dice"] == swapped["dice"] and values["mean_iou"] == swapped["mean_iou"]
    if either:
        assert values["recall"] == swapped["precision"]
    assert values["dice"] == pytest.approx(2 * values["iou"] / (1 + values["iou"]))


# against the libraries


def random_masks(cases: int = 24) -> tuple[Tensor, Tensor]:
    """Masks of every density, of which some are empty and some full."""
    torch.manual_seed(3)
    density = torch.linspace(-0.2, 1.2, cases).view(-1, 1, 1, 1)
    shuffled = density[torch.randperm(cases)]
    return torch.rand(cases, 1, 9, 11) < density, torch.rand(cases, 1, 9, 11) < shuffled


def test_against_monai() -> None:
    prediction, target = random_masks()
    ours = metrics.per_case(prediction, target, COUNTING)
    p, t = prediction.float(), target.float()
    for name, metric in (("dice", DiceMetric(ignore_empty=False)), ("iou", MeanIoU(ignore_empty=False))):
        np.testing.assert_allclose(ours[name], metric(p, t)[:, 0], atol=1e-6)
    for name in ("recall", "precision", "specificity"):
        metric = ConfusionMatrixMetric(metric_name=name, compute_sample=True, reduction="none")
        metric(p, t)
        expected = metric.aggregate()[0][:, 0].numpy()
        defined = np.isfinite(expected) & (expected > 0)  # MONAI has its own rule for 0 / 0
        assert defined.sum() > 12
        np.testing.assert_allclose(ours[name][defined], expected[defined], atol=1e-6)


def test_against_scikit_learn() -> None:
    prediction, target = random_masks()
    ours = metrics.per_case(prediction, target, COUNTING)
    checked = 0
    for case, (p, t) in enumerate(zip(prediction.flatten(1).numpy(), target.flatten(1).numpy(), strict=True)):
        if not p.any() and not t.any():
            assert all(ours[name][case] == 1 for name in COUNTING)
            continue
        options = {"zero_division": 0}
        assert ours["dice"][case] == pytest.approx(sklearn.metrics.f1_score(t, p, **options))
        assert ours["iou"][case] == pytest.approx(sklearn.metrics.jaccard_score(t, p, **options))
        assert ours["recall"][case] == pytest.approx(sklearn.metrics.recall_score(t, p, **options))
        assert ours["precision"][case] == pytest.approx(sklearn.metrics.precision_score(t, p, **options))
        if p.all() and t.all():
            continue
        specificity = sklearn.metrics.recall_score(t, p, pos_label=0, **options)
        assert ours["specificity"][case] == pytest.approx(specificity)
        mean_iou = sklearn.metrics.jaccard_score(t, p, labels=[0, 1], average="macro", **options)
        assert ours["mean_iou"][case] == pytest.approx(mean_iou)
        checked += 1
    assert checked > 12


# per case


def test_per_case_leaves_the_background_out() -> None:
    # two lesions; the first is half found (Dice 2/3), the second missed (0)
    classes = torch.tensor([[0, 1, 1, 2]])
    found = torch.tensor([[0, 1, 0, 0]])
    target, prediction = (
        torch.nn.functional.one_hot(c, 3).T.reshape(1, 3, 1, 4) for c in (classes[0], found[0])
    )
    values = metrics.per_case(prediction, target, ["dice", "recall"])
    assert values["dice"].tolist() == pytest.approx([(2 / 3 + 0) / 2])
    assert values["recall"].tolist() == pytest.approx([(1 / 2 + 0) / 2])


def test_per_case_gives_all_metrics_or_those_asked_for_in_order() -> None:
    mask = torch.ones(2, 1, 4, 4, dtype=torch.bool)
    assert list(metrics.per_case(mask, mask)) == METRICS.names()
    assert list(metrics.per_case(mask, mask, ["recall", "dice"])) == ["recall", "dice"]
    assert list(metrics.per_case(mask, mask, iter(["recall", "hd95"]))) == ["recall", "hd95"]


def test_per_case_refuses_an_unknown_metric() -> None:
    mask = torch.ones(1, 1, 4, 4, dtype=torch.bool)
    with pytest.raises(MedsegError, match=r"unknown metric 'dise'\. Did you mean 'dice'\?"):
        metrics.per_case(mask, mask, ["dise"])


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
def test_confusion_never_waits_for_the_gpu() -> None:
    torch.manual_seed(0)
    logits, target = torch.randn(8, 1, 224, 224), torch.rand(8, 1, 224, 224) > 0.5
    on_gpu = logits.cuda(), target.cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        counts = confusion(binarise(on_gpu[0]), on_gpu[1])
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert counts.cpu().equal(confusion(binarise(logits), target))
