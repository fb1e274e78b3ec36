"""A page of classifiers: what is read of their runs, its numbers, its figures, and what is left out."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from sklearn import metrics as sk

from medseg.cli import main
from medseg.errors import MedsegError
from medseg.metrics.classification import intervals, of_set
from medseg.ranking.table import normalise, read_runs
from medseg.report import class_tables
from medseg.report.class_gallery import averaged
from medseg.report.classes import Answers, answers_of, grouped, read_answers
from medseg.report.figures import (
    ClassPicture,
    draw_class_images,
    draw_confusion,
    draw_reliability,
    draw_roc,
)
from medseg.report.figures.confusion import shares
from medseg.report.report import Options, write_report
from medseg.report.runs import curves, monitored, runs_of
from medseg.report.source import Source, from_bundles
from medseg.report.task import of_task, task_of
from medseg.results import finished

CLASSES = ("benign", "malignant", "normal")


@pytest.fixture(scope="module")
def runs(class_place):
    return runs_of(read_runs(finished(class_place / "bundles")), class_place / "bundles")


@pytest.fixture(scope="module")
def groups(runs):
    answers, faults = answers_of(runs)
    assert not faults
    return grouped(answers, "loss", ["focal_cross_entropy"])


def made(
    likely: list[list[float]], truth: list[list[int]], multilabel: bool = False, **more: object
) -> Answers:
    """Answers of a run that nobody made, one case after the other."""
    names = tuple(f"c{k}" for k in range(len(likely)))
    classes = tuple("abc"[: len(truth[0])])
    run = more.get("run")
    arrays = (np.array(likely, float), np.array(truth, bool))
    return Answers(run, classes, multilabel, names, names, *arrays)  # type: ignore[arg-type]


# what is read


def test_the_answers_of_a_run(runs):
    found = read_answers(runs[0])
    assert found.classes == CLASSES
    assert not found.multilabel
    assert found.probabilities.shape == found.truth.shape == (8, 3)
    frame = pd.read_csv(runs[0].folder / "cases.csv")
    assert [CLASSES[k] for k in found.truth.argmax(1)] == frame["truth"].tolist()
    assert [CLASSES[k] for k in found.found.argmax(1)] == frame["predicted"].tolist()
    assert found.probabilities[:, 1].tolist() == frame["p_malignant"].tolist()
    assert list(found.groups) == frame["group"].tolist()


def test_several_labels_and_none_are_read(label_place):
    folder = label_place / "bundles"
    found = read_answers(runs_of(read_runs(finished(folder)), folder)[0])
    assert found.multilabel
    frame = pd.read_csv(found.run.folder / "cases.csv", keep_default_na=False)
    assert {"", "effusion|mass"} < set(frame["truth"])
    for text, row in zip(frame["truth"], found.truth, strict=True):
        assert text == "|".join(name for name, has in zip(("effusion", "mass"), row, strict=True) if has)


def test_a_run_without_probabilities_is_named(runs, tmp_path):
    from dataclasses import replace

    from medseg.bundle.open import Bundle

    frame = pd.read_csv(runs[0].folder / "cases.csv")
    (tmp_path / "0").mkdir()
    frame[["case", "truth"]].to_csv(tmp_path / "0" / "cases.csv", index=False)
    run = replace(runs[0], folder=tmp_path / "0")
    with pytest.raises(
        MedsegError, match="cells__resnet50__cross_entropy: cases.csv of repeat 0 has no prob"
    ):
        read_answers(run)
    assert answers_of([run])[0] == [] and len(answers_of([run])[1]) == 1
    frame.assign(truth="odd").to_csv(tmp_path / "0" / "cases.csv", index=False)
    with pytest.raises(
        MedsegError, match="'odd' in cases.csv is none of the classes benign, malignant, normal"
    ):
        read_answers(run)
    # of a bundle that says nothing, a name that is no class means several labels
    alone = read_answers(replace(run, bundle=Bundle(tmp_path)))
    assert alone.multilabel and not alone.truth.any()


def test_contestants_stand_in_the_order_given(groups):
    assert list(groups) == ["cells"]
    assert list(groups["cells"]) == ["focal_cross_entropy", "cross_entropy"]
    assert [one.run.keys["repeat"] for one in groups["cells"]["cross_entropy"]] == ["0", "1"]


def test_runs_of_other_classes_are_no_contestants(runs):
    from dataclasses import replace

    found = answers_of(runs)[0]
    found[1] = replace(found[1], classes=("x", "y", "z"))
    assert sum(len(some) for some in grouped(found, "loss", [])["cells"].values()) == 3


# the task


def one_metric(*names: str) -> pd.DataFrame:
    return normalise(
        pd.DataFrame([{"loss": "a", "case": "c", "metric": name, "value": 0.5} for name in names])
    )


def test_the_task_is_told_by_the_metrics_or_the_bundles(runs):
    assert task_of(one_metric("dice", "specificity")) == "segmentation"
    assert task_of(one_metric("roc_auc", "specificity")) == "classification"
    assert task_of(one_metric("specificity")) == "segmentation"
    assert task_of(one_metric("specificity"), runs) == "classification"


def test_two_tasks_are_refused_in_one_line(class_place, tmp_path):
    with pytest.raises(MedsegError, match="segmentation and of classification.*one task at a time") as caught:
        write_report(Source(one_metric("dice", "brier"), "both"), tmp_path, Options(metric="dice"))
    assert "\n" not in str(caught.value)
    rows = normalise(pd.DataFrame({"loss": ["a"], "metric": ["dice"], "value": [0.5]}))
    with pytest.raises(MedsegError, match="one task at a time"):
        task_of(rows, runs_of(read_runs(finished(class_place / "bundles")), class_place / "bundles"))


def test_one_task_can_be_picked_from_a_folder_of_both():
    wide = pd.DataFrame(
        {
            "dataset": ["seg", "cls", "cls"],
            "loss": ["a", "b", "c"],
            "case": "x",
            "dice": [0.5, np.nan, np.nan],
            "specificity": [0.9, np.nan, np.nan],
            "accuracy": [np.nan, 1.0, np.nan],
        }
    )
    table = normalise(wide)
    with pytest.raises(MedsegError, match="one task at a time"):
        task_of(table)
    seg, cls = (table[table["dataset"] == name] for name in ("seg", "cls"))
    assert (task_of(seg), task_of(cls)) == ("segmentation", "classification")
    assert set(of_task(seg, "segmentation")["metric"]) == {"dice", "specificity"}
    kept = of_task(cls, "classification")
    # a hole of the task's own metric stays, to be named
    assert kept["metric"].tolist() == ["accuracy", "accuracy"] and kept["value"].isna().sum() == 1


# numbers


def test_metrics_are_means_over_runs_with_intervals(groups):
    rows = class_tables.metric_rows(groups, 0.95, 200, 0)
    assert list(rows) == [
        "dataset",
        "contestant",
        "metric",
        "value",
        "low",
        "high",
        "runs",
        "images",
        "groups",
        "left_out",
    ]
    mine = rows[rows["contestant"] == "cross_entropy"].set_index("metric")
    answers = groups["cells"]["cross_entropy"]
    values = [of_set(one.probabilities, one.truth) for one in answers]
    for name in values[0]:
        assert mine.loc[name, "value"] == pytest.approx(np.mean([value[name] for value in values]))
    assert set(mine["runs"]) == {2}
    assert set(mine["images"]) == {len({case for one in answers for case in one.cases})}
    alone = class_tables.metric_rows({"cells": {"x": answers[:1]}}, 0.95, 200, 0).set_index("metric")
    expected = intervals(answers[0].probabilities, answers[0].truth, answers[0].groups, draws=200)
    pd.testing.assert_frame_equal(
        alone[["value", "low", "high"]], expected.set_index("metric")[["value", "low", "high"]]
    )


def test_draws_are_fewer_where_images_are_many(groups, monkeypatch):
    assert class_tables.affordable(groups, 2000) == 2000
    monkeypatch.setattr(class_tables, "BUDGET", 50_000)
    # 2 losses, 2 runs, 8 images, 3 classes
    assert class_tables.affordable(groups, 2000) == 50_000 // 96
    monkeypatch.setattr(class_tables, "BUDGET", 500)
    assert class_tables.affordable(groups, 2000) == 200


def test_each_class_against_the_rest_as_in_scikit_learn(groups):
    rows = class_tables.class_rows(groups)
    one = groups["cells"]["cross_entropy"][0]
    rows = class_tables.class_rows({"cells": {"x": [one]}}).set_index("class")
    for k, name in enumerate(CLASSES):
        true, found, chance = one.truth[:, k], one.found[:, k], one.probabilities[:, k]
        assert rows.loc[name, "images"] == true.sum()
        assert rows.loc[name, "sensitivity"] == pytest.approx(sk.recall_score(true, found))
        assert rows.loc[name, "specificity"] == pytest.approx(sk.recall_score(~true, ~found))
        assert rows.loc[name, "roc_auc"] == pytest.approx(sk.roc_auc_score(true, chance))
        assert rows.loc[name, "pr_auc"] == pytest.approx(sk.average_precision_score(true, chance))


def test_confusion_is_summed_over_runs(groups):
    answers = groups["cells"]["focal_cross_entropy"]
    expected = sum(
        sk.confusion_matrix(one.truth.argmax(1), one.found.argmax(1), labels=range(3)) for one in answers
    )
    np.testing.assert_array_equal(class_tables.confusion_matrix(answers), expected)
    rows = class_tables.confusion_rows(groups)
    mine = rows[(rows["contestant"] == "focal_cross_entropy") & (rows["truth"] == "normal")]
    assert mine.set_index("predicted")["images"].to_dict() == dict(zip(CLASSES, expected[2], strict=True))


def test_bins_give_the_calibration_error_of_one_run(groups):
    one = groups["cells"]["cross_entropy"][1]
    bins = class_tables.reliability_rows({"cells": {"x": [one]}})
    assert bins["claims"].sum() == 8
    assert ((bins["low"] < bins["confidence"]) & (bins["confidence"] <= bins["high"])).all()
    error = ((bins["accuracy"] - bins["confidence"]).abs() * bins["claims"]).sum() / 8
    assert error == pytest.approx(of_set(one.probabilities, one.truth)["ece"])


def test_a_roc_curve_of_two_classes_is_exact():
    scores, truth = np.array([0.9, 0.8, 0.8, 0.3, 0.1]), np.array([1, 0, 1, 1, 0])
    one = made([[1 - s, s] for s in scores], [[1 - t, t] for t in truth])
    expected = sk.roc_curve(truth, scores, drop_intermediate=False)[:2]
    for mine, theirs in zip(class_tables.roc_curve([one]), expected, strict=True):
        np.testing.assert_allclose(mine, theirs)


def test_a_mean_roc_curve_has_the_mean_area():
    draw = np.random.default_rng(0)
    truth = np.eye(3, dtype=int)[draw.integers(3, size=200)]
    some = [made(_softmax(truth + draw.normal(size=(200, 3))).tolist(), truth.tolist()) for _ in range(2)]
    x, y = class_tables.roc_curve(some)
    assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
    assert (np.diff(x) >= 0).all() and (np.diff(y) >= 0).all()
    areas = [of_set(one.probabilities, one.truth)["roc_auc"] for one in some]
    assert np.trapezoid(y, x) == pytest.approx(np.mean(areas), abs=0.005)


def _softmax(logits: np.ndarray) -> np.ndarray:
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


def test_without_a_class_there_is_no_roc_curve():
    one = made([[0.4, 0.6], [0.7, 0.3]], [[1, 0], [1, 0]])
    assert len(class_tables.roc_curve([one])[0]) == 0
    areas = pd.DataFrame(
        {"dataset": ["d"], "contestant": ["x"], "value": [np.nan], "low": [np.nan], "high": [np.nan]}
    )
    with pytest.raises(MedsegError, match="no ROC curve"):
        draw_roc({"d": {"x": class_tables.roc_curve([one])}}, areas)


def test_the_mean_of_answers_and_how_sure_they_are(runs):
    first = made([[0.9, 0.1], [0.4, 0.6]], [[1, 0], [1, 0]], run=runs[0])
    second = made([[0.5, 0.5], [0.0, 1.0]], [[1, 0], [1, 0]], run=runs[1])
    mean = averaged([first, second])
    np.testing.assert_allclose(mean.probabilities, [[0.7, 0.3], [0.2, 0.8]])
    assert mean.wrong.tolist() == [False, True]
    assert mean.surest.tolist() == pytest.approx([0.7, 0.8])
    assert mean.error[1] == pytest.approx(0.8)
    assert mean.said(1) == "is a\nsaid b 0.80"
    labels = averaged([made([[0.1, 0.55], [0.2, 0.3]], [[0, 0], [0, 1]], True, run=runs[0])])
    assert labels.wrong.tolist() == [True, True]
    assert labels.surest.tolist() == pytest.approx([0.55, 0.7])
    assert labels.error.tolist() == pytest.approx([0.55, 0.7])
    assert labels.said(0) == "is no label\nsaid b 0.55"
    assert labels.said(1) == "is b\nsaid no label (at most 0.30)"


# figures


def test_confusion_matrices_are_drawn_with_shares_and_numbers():
    matrix = np.array([[8, 2], [0, 0]])
    np.testing.assert_array_equal(shares(matrix), [[0.8, 0.2], [np.nan, np.nan]])
    drawing = draw_confusion({"x": matrix, "y": np.array([[10, 0], [0, 5]])}, ("no", "yes"), "bhi")
    first, second = (axes for axes in drawing.figure.axes if axes.get_title(loc="left"))
    # a class without images has no shares
    assert [text.get_text() for text in first.texts] == ["80%\n8", "20%\n2"]
    assert [text.get_text() for text in second.texts] == ["100%\n10", "0%\n0", "0%\n0", "100%\n5"]
    assert drawing.alt == (
        "Confusion matrices of bhi: x takes 20% of no for yes, its most frequent fault; y confuses none."
    )
    with pytest.raises(MedsegError, match="no confusion matrix"):
        draw_confusion({}, ("no", "yes"), "bhi")


def test_names_are_no_formulas():
    drawing = draw_confusion({"$x^{$": np.eye(2, dtype=int)}, ("a$b$", "$\\frac{$"), "bhi")
    drawing.figure.draw_without_rendering()
    axes = drawing.figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a$b$", "$\\frac{$"]


@pytest.mark.parametrize("classes", [2, 7, 14])
def test_confusion_matrices_fit_the_page(classes):
    names = [f"a class with number {k}" for k in range(classes)]
    matrices = {f"contestant_of_a_long_name_{k}": np.eye(classes, dtype=int) * 9 for k in range(6)}
    drawing = draw_confusion(matrices, names, "d")
    drawing.figure.draw_without_rendering()
    width = drawing.figure.bbox.width
    assert drawing.figure.get_figwidth() <= 7.21
    for axes in drawing.figure.axes:
        box = axes.get_tightbbox()
        assert box is None or (box.x0 > -2 and box.x1 < width + 2)


def test_the_roc_legend_has_areas_best_first():
    curve = (np.array([0, 0.0, 1.0]), np.array([0, 0.5, 1.0]))
    rows = [("d", "x", 0.7, 0.6, 0.8), ("d", "y", 0.9, np.nan, np.nan)]
    areas = pd.DataFrame(rows, columns=["dataset", "contestant", "value", "low", "high"])
    drawing = draw_roc({"d": {"x": curve, "y": curve}}, areas)
    legend = drawing.figure.axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["y 0.900", "x 0.700 (0.600 to 0.800)"]
    assert drawing.alt == "ROC curves: on d y has the area 0.900, x 0.700."


def test_many_roc_curves_name_the_best():
    curve = (np.array([0.0, 1.0]), np.array([0.0, 1.0]))
    names = [f"n{k}" for k in range(11)]
    rows = [("d", name, 0.5 + 0.01 * k, 0.4, 0.9) for k, name in enumerate(names)]
    areas = pd.DataFrame(rows, columns=["dataset", "contestant", "value", "low", "high"])
    drawing = draw_roc({"d": dict.fromkeys(names, curve)}, areas)
    texts = [text.get_text() for text in drawing.figure.axes[0].get_legend().get_texts()]
    assert len(texts) == 9
    assert texts[0].startswith("n10 ") and texts[-1] == "and 3 more"


def test_reliability_has_a_histogram_below_each_diagram():
    bins = pd.DataFrame(
        {
            "contestant": ["x", "x", "y"],
            "low": [0.4, 0.8, 0.8],
            "high": [0.4667, 0.8667, 0.8667],
            "claims": [1, 3, 4],
            "confidence": [0.45, 0.85, 0.81],
            "accuracy": [1.0, 1 / 3, 0.75],
        }
    )
    errors = pd.DataFrame(
        {"contestant": ["x", "y"], "value": [0.5, 0.06], "low": [0.4, np.nan], "high": [0.6, np.nan]}
    )
    drawing = draw_reliability(bins, errors, "bhi")
    above, other, below, _ = drawing.figure.axes
    assert above.collections[1].get_offsets().tolist() == [[0.45, 1.0], [0.85, pytest.approx(1 / 3)]]
    assert [bar.get_height() for bar in below.patches] == [0.25, 0.75]
    assert [axes.texts[0].get_text() for axes in (above, other)] == [
        "ECE 0.500 (0.400 to 0.600)",
        "ECE 0.060",
    ]
    assert "the smallest expected calibration error is 0.060 (y), the largest 0.500 (x)" in drawing.alt


def test_images_need_a_picture():
    with pytest.raises(MedsegError, match="no such image"):
        draw_class_images([], "Least sure answers")
    drawing = draw_class_images(
        [ClassPicture("cells\nc1", np.zeros((1, 4, 4), np.uint8))], "Least sure answers"
    )
    assert drawing.alt == "Least sure answers, 1 image: cells, c1."


# curves


def test_curves_are_of_the_metric_that_chose_the_weights(runs):
    found = curves(runs)
    assert monitored(found) == ["val_balanced_accuracy"]
    assert found["val_balanced_accuracy"].tolist()[:3] == [0.4, 0.6, 0.5]


# the page


def text_of(page: Path) -> str:
    text = re.sub(r"<style.*?</style>|<[^>]+>", " ", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return " ".join(text.split())


def test_a_page_of_classifiers_is_whole(class_report):
    names = {path.stem for path in (class_report.parent / "figures").glob("*.png")}
    assert {"confusion_loss_cells", "roc_loss", "reliability_loss_cells", "errors_loss", "unsure"} <= names
    assert "curves_val_balanced_accuracy_loss_by_dataset" in names
    assert not [name for name in names if name.startswith(("sizes", "binarised", "failures_worst"))]
    tables = {path.stem for path in (class_report.parent / "tables").glob("*.csv")}
    assert {
        "metrics",
        "classes",
        "confusion",
        "reliability",
        "means_roc_auc",
        "means_brier",
        "pairs",
    } <= tables
    text = text_of(class_report)
    assert "cross_entropy has the highest mean accuracy of 2 losses" in text
    assert "What is taken for what" in text and "Every metric on cells" in text
    assert "distribution of accuracy over cases: an image is right or wrong; the Brier score is drawn" in text
    assert "16 different ones" in text
    assert "lesion sizes and masks: these runs classify images and draw no mask" in text
    assert "reference_px" not in text and "both empty counts as perfect" not in text


def test_the_page_s_metrics_are_those_of_the_table(class_report):
    rows = pd.read_csv(class_report.parent / "tables" / "metrics.csv")
    row = rows[(rows["metric"] == "roc_auc") & (rows["contestant"] == "cross_entropy")].iloc[0]
    assert f"{row['value']:.3f} ({row['low']:.3f} to {row['high']:.3f})" in text_of(class_report)
    assert set(rows["metric"]) > {"accuracy", "ece", "pr_auc", "specificity"}


def test_a_page_of_classifiers_tells_no_path_and_no_patient(class_report, class_place):
    whole = class_report.read_text(encoding="utf-8")
    tables = "".join(
        path.read_text(encoding="utf-8") for path in (class_report.parent / "tables").glob("*.csv")
    )
    assert str(class_place) not in whole + tables
    groups = set(from_bundles(class_place / "bundles", class_place / "prepared").table["group"]) - {""}
    assert groups
    assert not groups & set(re.findall(r"[\w.-]+", text_of(class_report) + tables))


def test_a_table_alone_has_no_answers(class_place, tmp_path, no_plots):
    table = from_bundles(class_place / "bundles", class_place / "prepared").table
    text = text_of(write_report(Source(table, "alone"), tmp_path, Options(draws=200)))
    assert "confusion, ROC and reliability: no probabilities of these runs are at hand" in text
    assert "images that were classified: only the table is known, not the images" in text
    assert "What is taken for what" not in text


def test_several_labels_have_no_confusion_matrix(label_place, tmp_path, no_plots):
    source = from_bundles(label_place / "bundles", label_place / "prepared")
    page = write_report(source, tmp_path, Options(draws=200, images=False))
    text = text_of(page)
    assert "confusion matrices of chests: an image may have several labels" in text
    names = {path.stem for path in (tmp_path / "figures").glob("*.png")}
    assert names == {"roc_loss", "reliability_loss_chests"}
    assert not (tmp_path / "tables" / "confusion.csv").exists()
    classes = pd.read_csv(tmp_path / "tables" / "classes.csv")
    assert classes["class"].unique().tolist() == ["effusion", "mass"]


def test_the_command_ranks_by_a_metric_of_the_whole_set_without_the_images(class_place, tmp_path, no_plots):
    command = [
        "report",
        str(class_place / "bundles"),
        "-o",
        str(tmp_path / "r"),
        "--draws",
        "200",
        "--cases",
        "1",
    ]
    done = CliRunner().invoke(main, [*command, "--prepared", str(tmp_path / "no"), "--metric", "roc_auc"])
    assert done.exit_code == 0, done.output
    text = text_of(tmp_path / "r" / "report.html")
    assert "By ROC-AUC, with intervals" in text
    assert "has the highest mean ROC-AUC of 2 losses" in text
    assert "images of cells__resnet50__cross_entropy repeat" in text
    assert "surest errors of each loss: there is no such image" in text
    assert "ROC curves of 2 losses" in text
