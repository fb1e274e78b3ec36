"""Metrics of classification: by hand, against scikit-learn, where they are undefined, and their intervals."""

from __future__ import annotations

import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import metrics as sk

from medseg import metrics
from medseg.errors import MedsegError
from medseg.metrics import BETTER, METRICS, classification
from medseg.metrics.classification import CLASS_METRICS, intervals, intervals_of_runs, of_set, per_case
from medseg.metrics.classification._bootstrap import tails

CASE = ["accuracy", "brier", "log_loss"]
SET = ["balanced_accuracy", "ece", "macro_f1", "pr_auc", "roc_auc", "sensitivity", "specificity"]

#: six images of a two-class set, chance of the second class and truth: 3 hits, a miss, a rejection, a false alarm
SCORES = np.array([0.9, 0.8, 0.6, 0.2, 0.3, 0.7])
TRUTH = np.array([1, 1, 1, 1, 0, 0])


def two(scores: np.ndarray) -> np.ndarray:
    """The probabilities, or the truth, of both classes from that of the second."""
    return np.stack((1 - scores, scores), 1)


def drawn(seed: int, classes: int, multilabel: bool, count: int = 120) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities with many equal ones, and truth that follows them with faults."""
    rng = np.random.default_rng(seed)
    logits = np.round(rng.normal(size=(count, classes)), 1)
    noisy = logits + rng.normal(size=logits.shape)
    if multilabel:
        return 1 / (1 + np.exp(-logits)), (noisy > 0.7).astype(int)
    exponentials = np.exp(logits)
    return exponentials / exponentials.sum(1, keepdims=True), np.eye(classes, dtype=int)[noisy.argmax(1)]


# the room


def test_facts_of_the_metrics() -> None:
    assert CLASS_METRICS.names() == sorted(CASE + SET)
    for entry in CLASS_METRICS:
        assert entry.task == "classification"
        assert entry.facts["needs"] == ("case" if entry.name in CASE else "set")
        assert entry.facts["better"] == BETTER[entry.name]
        assert entry.facts["unit"] == ""
        assert entry.doc.splitlines()[0][0].isupper() and entry.doc.split("\n\n")[0].endswith((".", "]."))


def test_better_knows_every_metric_of_both_rooms() -> None:
    assert {
        entry.name: entry.facts["better"] for room in (METRICS, CLASS_METRICS) for entry in room
    } == BETTER


def test_an_entry_is_found_in_either_room() -> None:
    assert metrics.entry("dice") is METRICS["dice"]
    assert metrics.entry("roc_auc") is CLASS_METRICS["roc_auc"]
    assert metrics.entry("specificity").facts["needs"] == "counts"
    assert metrics.entry("specificity", "classification") is CLASS_METRICS["specificity"]
    with pytest.raises(MedsegError, match="unknown metric 'roc_acu'. Did you mean 'roc_auc'"):
        metrics.entry("roc_acu")
    with pytest.raises(MedsegError, match="unknown metric 'dice'"):
        metrics.entry("dice", "classification")


def test_the_room_needs_no_torch() -> None:
    code = (
        "import sys; from medseg.metrics.classification import CLASS_METRICS; CLASS_METRICS.names();"
        "print(*{'torch', 'pandas', 'sklearn'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


# probabilities


def test_activations_by_hand() -> None:
    logits = torch.log(torch.tensor([[1.0, 3.0]]))
    result = {name: classification.probabilities(logits, name) for name in classification.ACTIVATIONS}
    assert all(p.dtype == torch.float64 for p in result.values())
    expected = {"softmax": [0.25, 0.75], "sigmoid": [0.5, 0.75], "one_vs_rest": [0.4, 0.6]}
    for name, values in expected.items():
        np.testing.assert_allclose(result[name].numpy(), [values], atol=1e-7)


def test_one_against_the_rest_keeps_proportions_where_sigmoids_vanish() -> None:
    tiny = classification.probabilities(torch.tensor([[-900.0, -901.0]]), "one_vs_rest")
    np.testing.assert_allclose(tiny.numpy(), [[1 / (1 + np.exp(-1)), 1 / (1 + np.exp(1))]])
    huge = classification.probabilities(torch.tensor([[900.0, 901.0]]), "one_vs_rest")
    np.testing.assert_allclose(huge.numpy(), [[0.5, 0.5]])


@pytest.mark.parametrize("activation", classification.ACTIVATIONS)
def test_probabilities_of_half_precision(activation: str) -> None:
    logits = torch.tensor([[2.0, -1.0, 0.5]])
    exact = classification.probabilities(logits, activation)
    torch.testing.assert_close(classification.probabilities(logits.half(), activation), exact)
    assert (activation == "sigmoid") != bool((exact.sum(1) - 1).abs() < 1e-12)


def test_unknown_activation() -> None:
    with pytest.raises(MedsegError, match="unknown activation 'softmacks'. Did you mean 'softmax'"):
        classification.probabilities(torch.zeros(1, 2), "softmacks")


# by hand


def test_two_classes_by_hand() -> None:
    result = of_set(two(SCORES), two(TRUTH))
    assert result["accuracy"] == pytest.approx(4 / 6)
    assert result["sensitivity"] == pytest.approx(3 / 4)
    assert result["specificity"] == pytest.approx(1 / 2)
    assert result["balanced_accuracy"] == pytest.approx((3 / 4 + 1 / 2) / 2)
    # second class: 3 hits, 1 false alarm, 1 miss; first: 1 hit, 1 false alarm, 1 miss
    assert result["macro_f1"] == pytest.approx((6 / 8 + 2 / 4) / 2)
    # pairs of an image with and one without: 0.9 and 0.8 beat both, 0.6 beats 0.3, 0.2 none
    assert result["roc_auc"] == pytest.approx(5 / 8)
    # precision at the true ones, from the top: 1/1, 2/2, then a false alarm, 3/4, then another, 4/6
    assert result["pr_auc"] == pytest.approx((1 + 1 + 3 / 4 + 4 / 6) / 4)
    assert result["brier"] == pytest.approx((0.01 + 0.04 + 0.16 + 0.64 + 0.09 + 0.49) / 6)
    assert result["log_loss"] == pytest.approx(-np.log([0.9, 0.8, 0.6, 0.2, 0.7, 0.3]).mean())


def test_calibration_error_by_hand() -> None:
    # bins of a fifteenth: 0.62 and 0.65 share (0.6, 0.667], one of the two right; 0.95 is alone and right
    scores = np.array([0.62, 0.35, 0.95])
    gap = abs((0.62 + 0.65) - 1)
    assert of_set(two(scores), two(np.array([1, 1, 1])), names=["ece"])["ece"] == pytest.approx(
        (gap + 0.05) / 3
    )


def test_a_confidence_on_the_edge_counts_below_it() -> None:
    from medseg.metrics.classification.calibration import bins

    edges = np.array([0.0, 0.2, 0.2000001, 0.6, 1.0])
    assert bins(edges, 5).tolist() == [0, 0, 1, 2, 4]


def test_several_labels_by_hand() -> None:
    probabilities = np.array([[0.9, 0.1], [0.5, 0.4], [0.2, 0.6], [0.4, 0.8]])
    truth = np.array([[1, 0], [0, 1], [0, 1], [1, 1]])
    result = of_set(probabilities, truth, multilabel=True)
    assert result["accuracy"] == pytest.approx((1 + 0 + 1 + 0.5) / 4)
    assert result["sensitivity"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert result["specificity"] == pytest.approx((1 / 2 + 1) / 2)
    assert result["balanced_accuracy"] == pytest.approx(((1 / 2 + 1 / 2) / 2 + (2 / 3 + 1) / 2) / 2)
    assert result["macro_f1"] == pytest.approx((2 / 4 + 4 / 5) / 2)
    assert result["roc_auc"] == pytest.approx((3 / 4 + 1) / 2)
    assert result["brier"] == pytest.approx(((0.01 + 0.25 + 0.04 + 0.36) + (0.01 + 0.36 + 0.16 + 0.04)) / 8)
    right = [0.9, 0.9, 0.5, 0.4, 0.8, 0.6, 0.4, 0.8]
    assert result["log_loss"] == pytest.approx(-np.log(right).mean())
    # each probability alone in its bin of its label
    first, second = 0.1 + 0.5 + 0.2 + 0.6, 0.1 + 0.6 + 0.4 + 0.2
    assert result["ece"] == pytest.approx((first + second) / 8)


def test_equal_scores_count_half() -> None:
    truth = two(np.array([1, 1, 0, 0]))
    assert of_set(two(np.full(4, 0.5)), truth)["roc_auc"] == 0.5
    assert of_set(two(np.full(4, 0.5)), truth)["pr_auc"] == 0.5
    # one pair is won, two are equal, one is won
    assert of_set(two(np.array([0.9, 0.5, 0.5, 0.1])), truth)["roc_auc"] == pytest.approx((2 + 1.5) / 4)


def test_of_equal_probabilities_the_first_class_is_predicted() -> None:
    assert per_case(np.full((2, 2), 0.5), np.eye(2))["accuracy"].tolist() == [1, 0]
    assert per_case(np.full((1, 2), 0.5), np.ones((1, 2)), multilabel=True)["accuracy"].tolist() == [1]


def test_certain_and_wrong_costs_a_finite_log_loss() -> None:
    value = per_case(np.array([[1.0, 0.0]]), np.array([[0, 1]]))["log_loss"]
    assert value == pytest.approx([36.0437], abs=1e-4)
    assert per_case(np.array([[1.0, 0.0]]), np.array([[1, 0]]))["log_loss"].tolist() == [0]
    both = per_case(np.array([[1.0, 0.0]]), np.array([[0, 0]]), multilabel=True)["log_loss"]
    assert both == pytest.approx([36.0437 / 2], abs=1e-4)


# against scikit-learn


def reference(p: np.ndarray, t: np.ndarray, weights: np.ndarray) -> dict[str, float]:
    """Metrics of one class of K by scikit-learn."""
    true, found, known = t.argmax(1), p.argmax(1), list(range(t.shape[1]))
    share: dict[str, object] = {"sample_weight": weights}
    binary = len(known) == 2
    average = {"average": "binary" if binary else "macro"}
    specificity = [sk.recall_score(true != k, found != k, **share) for k in ([1] if binary else known)]
    return {
        "accuracy": sk.accuracy_score(true, found, **share),
        "balanced_accuracy": sk.balanced_accuracy_score(true, found, **share),
        "macro_f1": sk.f1_score(true, found, average="macro", **share),
        "sensitivity": sk.recall_score(true, found, **average, **share),
        "specificity": float(np.mean(specificity)),
        "roc_auc": float(
            np.mean([sk.roc_auc_score(t[:, k], p[:, k], **share) for k in (known[1:] if binary else known)])
        ),
        "pr_auc": float(
            np.mean(
                [
                    sk.average_precision_score(t[:, k], p[:, k], **share)
                    for k in (known[1:] if binary else known)
                ]
            )
        ),
        "log_loss": sk.log_loss(true, p, labels=known, **share),
        "brier": float(np.average(((p - t) ** 2).sum(1) / 2, weights=weights)),
    }


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_as_scikit_learn(classes: int) -> None:
    p, t = drawn(classes, classes, multilabel=False)
    expected = reference(p, t, np.ones(len(p)))
    result = of_set(p, t)
    assert {name: result[name] for name in expected} == pytest.approx(expected)
    if classes == 2:
        assert result["brier"] == pytest.approx(sk.brier_score_loss(t[:, 1], p[:, 1]))


@pytest.mark.parametrize("classes", [2, 4])
def test_weights_of_images_as_in_scikit_learn(classes: int) -> None:
    p, t = drawn(classes, classes, multilabel=False)
    weights = np.random.default_rng(1).integers(0, 4, size=(3, len(p))).astype(float)
    for name in SET:
        together = CLASS_METRICS[name].build(p, t.astype(bool), weights=weights)
        alone = [CLASS_METRICS[name].build(p, t.astype(bool), weights=w) for w in weights]
        np.testing.assert_allclose(together, alone, rtol=1e-12)
        # an image of weight 2 is as good as two of it
        copies = [
            of_set(*(np.repeat(a, w.astype(int), axis=0) for a in (p, t)), names=[name])[name]
            for w in weights
        ]
        np.testing.assert_allclose(together, copies, rtol=1e-12)
        if name != "ece":
            np.testing.assert_allclose(together, [reference(p, t, w)[name] for w in weights], rtol=1e-12)


def test_labels_as_in_scikit_learn() -> None:
    p, t = drawn(0, 4, multilabel=True)
    found = (p >= 0.5).astype(int)
    result = of_set(p, t, multilabel=True)
    expected = {
        "accuracy": 1 - sk.hamming_loss(t, found),
        "macro_f1": sk.f1_score(t, found, average="macro"),
        "sensitivity": sk.recall_score(t, found, average="macro"),
        "specificity": sk.recall_score(1 - t, 1 - found, average="macro"),
        "balanced_accuracy": np.mean(
            [sk.balanced_accuracy_score(*ab) for ab in zip(t.T, found.T, strict=True)]
        ),
        "roc_auc": sk.roc_auc_score(t, p, average="macro"),
        "pr_auc": sk.average_precision_score(t, p, average="macro"),
        "log_loss": np.mean([sk.log_loss(*ab) for ab in zip(t.T, p.T, strict=True)]),
        "brier": np.mean([sk.brier_score_loss(*ab) for ab in zip(t.T, p.T, strict=True)]),
    }
    assert {name: result[name] for name in expected} == pytest.approx(expected)


@pytest.mark.parametrize("multilabel", [False, True])
def test_calibration_error_as_torchmetrics_defines_it(multilabel: bool) -> None:
    """Bins by ``numpy.digitize``, means within bins, as in Guo et al., equations 3 and 5."""
    p, t = drawn(3, 3, multilabel)
    claims = (
        list(zip(p.T, t.T, strict=True)) if multilabel else [(p.max(1), t[np.arange(len(t)), p.argmax(1)])]
    )
    errors = []
    for confidence, right in claims:
        place = np.digitize(confidence, np.linspace(0, 1, 16)[1:-1], right=True)
        frame = pd.DataFrame({"confidence": confidence, "right": right}).groupby(place)
        gap = (frame["right"].mean() - frame["confidence"].mean()).abs()
        errors.append((gap * frame.size()).sum() / len(confidence))
    assert of_set(p, t, multilabel)["ece"] == pytest.approx(np.mean(errors))


# undefined


@pytest.mark.parametrize("name", ["sensitivity", "balanced_accuracy", "macro_f1", "roc_auc", "pr_auc"])
def test_undefined_without_the_positive_class(name: str) -> None:
    p, t = two(np.array([0.2, 0.7, 0.4])), two(np.zeros(3))
    assert np.isnan(of_set(p, t)[name])
    assert of_set(p, t)["specificity"] == pytest.approx(2 / 3)


def test_a_class_without_images_is_left_out_of_the_mean() -> None:
    p, t = drawn(5, 3, multilabel=False)
    wider = np.concatenate((p, np.zeros((len(p), 1))), 1), np.concatenate((t, np.zeros((len(p), 1))), 1)
    assert of_set(*wider) == pytest.approx(of_set(p, t))


@pytest.mark.parametrize("fill", [0, 1])
def test_a_label_that_all_or_no_image_has_is_left_out_of_the_mean(fill: int) -> None:
    p, t = drawn(5, 3, multilabel=True)
    known = of_set(p[:, :2], t[:, :2], multilabel=True)
    t[:, 2] = fill
    result = of_set(p, t, multilabel=True)
    for name in ("balanced_accuracy", "macro_f1", "pr_auc", "roc_auc", "sensitivity", "specificity"):
        assert result[name] == pytest.approx(known[name])
    assert np.isfinite([result[name] for name in ("accuracy", "brier", "log_loss", "ece")]).all()
    none = of_set(p[:, 2:], t[:, 2:], multilabel=True)
    assert np.isnan([none[name] for name in ("balanced_accuracy", "macro_f1", "pr_auc", "roc_auc")]).all()


@pytest.mark.parametrize("multilabel", [False, True])
def test_no_images_at_all(multilabel: bool) -> None:
    nothing = np.zeros((0, 3))
    assert np.isnan(list(of_set(nothing, nothing, multilabel).values())).all()
    assert all(v.shape == (0,) for v in per_case(nothing, nothing, multilabel).values())
    assert intervals(nothing, nothing, [], multilabel)[["value", "low", "high"]].isna().all(axis=None)


def test_a_broken_probability_is_no_answer() -> None:
    p, t = two(SCORES), two(TRUTH)
    p[2] = np.nan
    assert np.isnan(list(of_set(p, t).values())).all()
    for values in per_case(p, t).values():
        assert np.isnan(values).tolist() == [False, False, True, False, False, False]


@pytest.mark.parametrize(
    ("p", "t", "message"),
    [
        (np.zeros((2, 2)), np.zeros((2, 3)), r"got \(2, 2\) and \(2, 3\)"),
        (np.zeros(2), np.zeros(2), r"got \(2,\) and \(2,\)"),
        (np.array([[3.5, -1]]), np.array([[1, 0]]), "a probability is 3.5; .*logits need"),
        (np.array([[0.5, 0.5]]), np.array([[2, 0]]), "must be 0 and 1"),
        (np.full((2, 2), 0.5), np.array([[1, 0], [1, 1]]), "image 1 has 2 of the classes"),
        (np.full((1, 2), 0.5), np.array([[0, 0]]), "image 0 has 0 of the classes"),
    ],
)
def test_arrays_that_are_refused(p: np.ndarray, t: np.ndarray, message: str) -> None:
    for function in (of_set, per_case, lambda p, t: intervals(p, t, [0] * len(t))):
        with pytest.raises(MedsegError, match=message):
            function(p, t)


def test_names_choose_and_order() -> None:
    p, t = two(SCORES), two(TRUTH)
    assert list(of_set(p, t, names=["roc_auc", "brier"])) == ["roc_auc", "brier"]
    assert list(per_case(p, t, names=["roc_auc", "brier"])) == ["brier"]
    assert list(per_case(p, t)) == CASE
    with pytest.raises(MedsegError, match="unknown classification metric 'dice'"):
        of_set(p, t, names=["dice"])


# intervals


def test_intervals_hold_the_values_of_the_set() -> None:
    p, t = drawn(0, 3, multilabel=False)
    frame = intervals(p, t, np.arange(len(p)) // 4)
    assert list(frame.columns) == ["metric", "value", "low", "high"]
    assert dict(zip(frame["metric"], frame["value"], strict=True)) == pytest.approx(of_set(p, t))
    calibrated = frame["metric"] == "ece"  # whose draws lie high: they are noisier than the set
    assert ((frame["low"] < frame["value"]) & (frame["value"] < frame["high"]) | calibrated).all()
    assert set(frame.attrs["left_out"].values()) == {0}


@pytest.mark.parametrize("multilabel", [False, True])
def test_a_draw_is_the_metric_of_its_images(multilabel: bool) -> None:
    p, t = drawn(1, 3, multilabel, count=60)
    groups = np.array([f"p{k:02d}" for k in np.random.default_rng(2).integers(12, size=60)])
    frame = intervals(p, t, groups, multilabel, draws=40, seed=3).set_index("metric")
    known, rng = np.unique(groups), np.random.default_rng(3)
    values = []
    for taken in rng.integers(len(known), size=(40, len(known))):
        rows = np.concatenate([np.flatnonzero(groups == known[k]) for k in taken])
        values.append(of_set(p[rows], t[rows], multilabel))
    low, high = tails(0.95, len(known))
    for name in CLASS_METRICS.names():
        expected = np.nanquantile([value[name] for value in values], [low, high])
        np.testing.assert_allclose(frame.loc[name, ["low", "high"]].astype(float), expected, rtol=1e-9)


def test_percentiles_move_out_for_few_groups() -> None:
    assert tails(0.95, 100_000) == pytest.approx((0.025, 0.975), abs=1e-5)
    # Student's critical value of 4 degrees, 2.7764, times sqrt(5 / 4) is 3.1042
    assert tails(0.95, 5) == pytest.approx((0.000954, 0.999046), abs=1e-6)
    assert tails(0.9, 5)[0] > tails(0.95, 5)[0]


def test_the_order_of_images_and_the_names_of_groups_change_nothing() -> None:
    p, t = drawn(4, 2, multilabel=False)
    groups = np.array([f"{k:02d}" for k in np.arange(len(p)) // 6])
    expected = intervals(p, t, groups, draws=100)
    order = np.random.default_rng(0).permutation(len(p))
    pd.testing.assert_frame_equal(intervals(p[order], t[order], groups[order], draws=100), expected)
    pd.testing.assert_frame_equal(intervals(p, t, [f"patient {g}" for g in groups], draws=100), expected)


def test_seed_level_and_draws() -> None:
    p, t = drawn(4, 2, multilabel=False)
    groups = np.arange(len(p)) // 3

    def width(level: float = 0.95, draws: int = 2000, seed: int = 0) -> float:
        frame = intervals(p, t, groups, names=["accuracy"], level=level, draws=draws, seed=seed)
        return float(frame["high"].iloc[0] - frame["low"].iloc[0])

    assert width(seed=1) == width(seed=1)
    assert width(seed=1, draws=50) != width(seed=2, draws=50)
    assert width(level=0.5) < width(level=0.9) < width(level=0.99)


def test_draws_in_pieces_are_the_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    p, t = drawn(4, 3, multilabel=False)
    groups = np.arange(len(p)) // 3
    expected = intervals(p, t, groups, draws=200)
    monkeypatch.setattr("medseg.metrics.classification._draws.WEIGHTS_HELD", 1000)
    pd.testing.assert_frame_equal(intervals(p, t, groups, draws=200), expected)


def test_one_group_has_no_interval() -> None:
    frame = intervals(two(SCORES), two(TRUTH), ["a"] * 6)
    assert frame["value"].notna().all() and frame[["low", "high"]].isna().all(axis=None)


def test_a_class_in_one_group_has_no_interval() -> None:
    p, t = two(SCORES), two(TRUTH)
    frame = intervals(p, t, ["a", "a", "a", "a", "b", "c"]).set_index("metric")
    assert frame.loc["sensitivity", ["low", "high"]].isna().all()
    assert frame.loc["accuracy", ["low", "high"]].notna().all()
    # all of b and c are drawn with the chance (2/3)^3
    assert frame.attrs["left_out"]["sensitivity"] / 2000 == pytest.approx(8 / 27, abs=0.04)
    assert frame.attrs["left_out"]["accuracy"] == 0


def test_undefined_draws_are_left_out_and_counted() -> None:
    p, t = drawn(2, 2, multilabel=False, count=40)
    t[:] = [1, 0]
    t[:3] = [0, 1]
    frame = intervals(p, t, range(40)).set_index("metric")
    # no draw of the three: (37/40)^40
    assert frame.attrs["left_out"]["roc_auc"] / 2000 == pytest.approx((37 / 40) ** 40, abs=0.02)
    assert frame.loc["roc_auc", ["low", "high"]].notna().all()


def test_several_runs_are_averaged_and_drawn_together() -> None:
    p, t = drawn(0, 2, multilabel=False)
    groups = np.arange(len(p)) // 4
    once = intervals(p, t, groups)
    pd.testing.assert_frame_equal(intervals_of_runs([(p, t, groups)] * 2), once)
    other = drawn(9, 2, multilabel=False)
    both = intervals_of_runs([(p, t, groups), (*other, groups + 1000)])
    expected = [np.mean([of_set(p, t)[name], of_set(*other)[name]]) for name in both["metric"]]
    np.testing.assert_allclose(both["value"], expected)
    # independent patients in two runs: the mean is known better than either
    assert (both.eval("high - low") < once.eval("high - low")).sum() >= 8


@pytest.mark.parametrize(("level", "draws"), [(95, 100), (0, 100), (0.95, 0)])
def test_an_interval_needs_a_level_and_draws(level: float, draws: int) -> None:
    with pytest.raises(MedsegError, match=f"got {level} and {draws}"):
        intervals(two(SCORES), two(TRUTH), range(6), level=level, draws=draws)


def test_groups_must_be_as_many_as_images() -> None:
    with pytest.raises(MedsegError, match="6 images, but groups of 2"):
        intervals(two(SCORES), two(TRUTH), ["a", "b"])


def test_intervals_of_whole_groups_hold_the_truth_where_those_of_images_do_not() -> None:
    """Forty patients of ten images that share half their luck; the true accuracy and area are known."""
    rng = np.random.default_rng(7)
    held = {"groups": np.zeros(2), "images": np.zeros(2)}
    tables = 100
    for _ in range(tables):
        patient = np.repeat(np.arange(40), 10)
        luck = np.repeat(rng.normal(size=40), 10) + rng.normal(size=400)
        positive = np.repeat(rng.random(40) < 0.5, 10)
        # the score of an image is its class at -0.7 or 0.7, and noise of variance 2
        score = np.where(positive, 0.7, -0.7) + luck
        p, t = two(1 / (1 + np.exp(-score))), two(positive.astype(float))
        truth = np.array([0.689691, 0.758036])  # Phi(0.7 / sqrt 2) and Phi(1.4 / 2)
        for kind, groups in (("groups", patient), ("images", np.arange(400))):
            frame = intervals(p, t, groups, names=["accuracy", "roc_auc"], draws=200)
            held[kind] += (frame["low"] <= truth) & (truth <= frame["high"])
    # binomial spread of 100 tables at 95 %: 2.2 tables
    assert (held["groups"] >= 0.88 * tables).all(), held
    assert (held["images"] <= 0.75 * tables).all(), held


def test_warnings_of_numpy_do_not_escape() -> None:
    p, t = two(SCORES), two(TRUTH)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        intervals(p, t, range(6), draws=200)
        of_set(np.zeros((0, 2)), np.zeros((0, 2)))
