"""Published values against ours: what meets what, the numbers, and what is told."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from medseg.errors import MedsegError
from medseg.ranking.comparison import COMPARED, NOT_PUBLISHED, NOT_RUN, compare
from medseg.ranking.published import Aliases
from medseg.ranking.table import normalise


def run(mean: float, metric: str = "accuracy", cases: int = 8, repeats: int = 2, **keys: str) -> pd.DataFrame:
    """Runs whose cases lie around a mean: 0.1 above and below it by turns."""
    facts = {
        "dataset": "bhi",
        "model": "vgg19",
        "loss": "cross_entropy",
        "augment": "vanilla",
        "split": "holdout",
    }
    rows = [
        {**facts, **keys, "repeat": r, "case": f"c{r}_{c}", "group": f"p{c // 2}_{r}", "metric": metric,
         "value": mean + 0.1 * (-1) ** (c // 2) + 0.01 * r}
        for r in range(repeats) for c in range(cases)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def published(*rows: tuple[str, str, str, float], metric: str = "accuracy") -> pd.DataFrame:
    """Table, model, augmentation and value on bhi."""
    frame = pd.DataFrame(rows, columns=["table", "model", "augment", "value"])
    facts = {"dataset": "bhi", "loss": "cross_entropy", "metric": metric}
    return frame.assign(**facts)[["table", "dataset", "model", "loss", "augment", "metric", "value"]]


def told(found) -> list[tuple]:
    columns = ["table", "model", "augment", "split", "protocol", "published", "status"]
    return list(found.rows[columns].fillna(-1).itertuples(index=False, name=None))


def test_the_numbers_of_a_cell() -> None:
    frame = run(0.8, cases=8, repeats=1)
    found = compare(normalise(frame), published(("8", "vgg19", "vanilla", 0.83)))
    row = found.rows.iloc[0]
    low, high = stats.ttest_1samp(frame.groupby("group")["value"].mean(), 0).confidence_interval(0.95)
    assert (row["ours"], row["low"], row["high"]) == pytest.approx((0.8, low, high))
    assert row["difference"] == pytest.approx(-0.03)
    assert (row["inside"], row["cases"], row["groups"], row["repeats"]) == ("yes", 8, 4, 1)
    assert any("what another training would change" in note for note in found.notes)


@pytest.mark.parametrize(("value", "inside"), [(0.6, "no"), (0.8, "yes"), (1.0, "no")])
def test_inside(value: float, inside: str) -> None:
    found = compare(normalise(run(0.8, cases=40, repeats=1)), published(("8", "vgg19", "vanilla", value)))
    assert found.rows["inside"].tolist() == [inside]
    assert found.words()[1].startswith(
        f"{int(inside == 'yes')} of 1 published values lie inside our 95% interval"
    )


def test_what_only_one_of_both_has() -> None:
    ours = pd.concat([run(0.8), run(0.7, model="resnet50"), run(0.2, metric="brier")])
    found = compare(normalise(ours), published(("8", "vgg19", "vanilla", 0.8), ("8", "vgg19", "mixup", 0.84)))
    assert told(found) == [
        ("8", "vgg19", "vanilla", "holdout", "", 0.8, COMPARED),
        ("8", "vgg19", "mixup", "", "", 0.84, NOT_RUN),
        ("", "resnet50", "vanilla", "holdout", "", -1, NOT_PUBLISHED),
    ]
    assert found.words()[0] == (
        "1 comparisons of 1 published values; 1 published values have no run of ours, 1 means of ours are not "
        "published (--all lists both)."
    )


def test_every_protocol_and_split_has_a_row_of_its_own() -> None:
    leaking = {"augment": "filter-leaking", "split": "holdout-leaking-0123456789abcdef"}
    ours = pd.concat(
        [
            run(0.8, augment="filter-offline"),
            run(0.9, **leaking),
            run(0.85, augment="filter-offline", split="holdout-ungrouped"),
            run(0.81, augment="filter"),
        ]
    )
    found = compare(normalise(ours), published(("8", "vgg19", "filter", 0.92)))
    assert told(found) == [
        ("8", "vgg19", "filter", "holdout", "offline", 0.92, COMPARED),
        ("8", "vgg19", "filter", "holdout", "leaking", 0.92, COMPARED),
        ("8", "vgg19", "filter", "holdout-ungrouped", "offline", 0.92, COMPARED),
        ("8", "vgg19", "filter", "holdout", "online", 0.92, COMPARED),
    ]
    assert found.rows["ours"].tolist() == pytest.approx([0.805, 0.905, 0.855, 0.815])
    words = "\n".join(found.notes)
    assert "copies of test images were trained on" in words and "ends in -ungrouped" in words
    # a published name that says its protocol is met by that alone
    exact = compare(normalise(ours), published(("8", "vgg19", "filter-leaking", 0.92)))
    assert [row[4] for row in told(exact) if row[-1] == COMPARED] == ["leaking"]


def test_one_cell_in_two_tables_is_compared_with_both() -> None:
    found = compare(
        normalise(run(0.8)), published(("4", "vgg19", "vanilla", 0.79), ("5", "vgg19", "vanilla", 0.80))
    )
    assert [row[:1] for row in told(found)] == [("4",), ("5",)]
    assert "1 cells stand in several tables with different values; each is compared by itself." in found.notes


def test_aliases_are_followed_and_told() -> None:
    ours = pd.concat([run(0.8, model="efficientnetv2_s"), run(0.8, augment="breast_geometric")])
    theirs = published(("8", "efficientnetv2", "vanilla", 0.8), ("8", "VGG", "geometric", 0.8))
    found = compare(normalise(ours), theirs, Aliases({("model", "VGG"): "vgg19"}))
    assert [row[1:3] for row in told(found)] == [
        ("efficientnetv2_s", "vanilla"),
        ("vgg19", "breast_geometric"),
    ]
    assert set(found.notes) >= {
        "The published model efficientnetv2 is taken for efficientnetv2_s of ours.",
        "The published model VGG is taken for vgg19 of ours.",
        "The published augment geometric is taken for breast_geometric of ours.",
    }


def test_an_iou_above_dice_is_no_iou_and_may_be_taken_for_the_mean() -> None:
    ours = pd.concat([run(0.7, metric=metric) for metric in ("dice", "iou", "mean_iou")])
    theirs = pd.concat(
        [published(("4", "vgg19", "vanilla", v), metric=m) for m, v in (("dice", 0.7), ("iou", 0.75))],
        ignore_index=True,
    )
    found = compare(normalise(ours), theirs, Aliases({("metric", "iou"): "mean_iou"}))
    assert found.of(COMPARED)["metric"].tolist() == ["dice", "mean_iou"]
    assert any(note.startswith("The published iou is above the dice in 1 of 1 cells") for note in found.notes)
    right = theirs.assign(value=[0.7, 0.54])
    assert not any("above the dice" in note for note in compare(normalise(ours), right).notes)


def test_factors_that_are_not_published_are_kept_apart() -> None:
    ours = pd.concat(
        [run(v, loss=loss, model=m) for loss, v in (("a", 0.8), ("b", 0.6)) for m in ("x", "y", "z")]
    )
    theirs = pd.DataFrame(
        {"table": "", "dataset": "bhi", "model": list("xyz"), "metric": "accuracy", "value": [0.7, 0.8, 0.9]}
    )
    found = compare(normalise(ours), theirs)
    assert found.met == 3 and len(found.rows) == 6
    assert found.orders[["loss", "cells"]].to_numpy().tolist() == [["a", 3], ["b", 3]]


def test_cells_without_augmentation_are_of_every_protocol() -> None:
    ours = pd.concat(
        [run(0.7)]
        + [run(0.8 + 0.01 * i, augment=f"filter{end}") for i, end in enumerate(("", "-offline", "-leaking"))]
    )
    found = compare(normalise(ours), published(("8", "vgg19", "vanilla", 0.7), ("8", "vgg19", "filter", 0.8)))
    assert found.orders[["protocol", "cells", "winner_ours"]].to_numpy().tolist() == [
        ["online", 2, "filter"],
        ["offline", 2, "filter"],
        ["leaking", 2, "filter"],
    ]


def test_a_hole_is_neither_compared_nor_ordered() -> None:
    hole = run(0.8, model="resnet50")
    hole.loc[3, "value"] = math.nan
    found = compare(
        normalise(pd.concat([run(0.7), hole], ignore_index=True)),
        published(("8", "vgg19", "vanilla", 0.7), ("8", "resnet50", "vanilla", 0.8)),
    )
    assert found.rows["inside"].tolist() == ["yes", ""] and math.isnan(found.rows["ours"].iloc[1])
    assert not len(found.orders)
    assert any("suspicious" in note for note in found.notes)


def test_metrics_of_whole_sets_have_the_runs_own_interval() -> None:
    frame = pd.DataFrame(
        {"dataset": "bhi", "model": "vgg19", "loss": "cross_entropy", "augment": "vanilla", "split": "holdout",
         "repeat": 0, "case": "", "group": "", "metric": "roc_auc", "value": 0.9, "low": 0.85, "high": 0.95},
        index=[0],
    )  # fmt: skip
    ours = pd.concat([run(0.8), frame])
    found = compare(normalise(ours), published(("8", "vgg19", "vanilla", 0.86), metric="roc_auc"))
    row = found.of(COMPARED).iloc[0]
    assert (row["low"], row["high"]) == pytest.approx((0.85, 0.95))
    assert (row["inside"], row["cases"], row["repeats"]) == ("yes", 0, 1)


@pytest.mark.parametrize(
    ("theirs", "words"),
    [
        (
            published(("8", "alexnet", "vanilla", 0.8)),
            r"no published model \(alexnet\) is one of ours \(vgg19\); --alias",
        ),
        (published(("8", "vgg19", "vanilla", 79.0)), "published accuracy goes up to 79 .* give --percent"),
        (
            published(("8", "vgg19", "vanilla", 0.8), metric="f1"),
            r"no published metric \(f1\) is one of ours",
        ),
        (
            published(("8", "alexnet", "vanilla", 0.8), ("8", "vgg19", "cutmix", 0.8)),
            "no combination of them",
        ),
    ],
)
def test_nothing_to_compare(theirs: pd.DataFrame, words: str) -> None:
    with pytest.raises(MedsegError, match=words):
        compare(normalise(run(0.8)), theirs)


def test_a_table_that_says_little_is_compared_by_what_it_says() -> None:
    """Without augmentation nothing is augmented; without a loss any published one is met."""
    ours = pd.DataFrame(
        {"dataset": "bhi", "model": ["vgg19", "resnet50"], "metric": "accuracy", "value": [0.8, 0.9]}
    )
    theirs = published(
        ("8", "vgg19", "vanilla", 0.79), ("8", "vgg19", "filter", 0.9), ("8", "resnet50", "vanilla", 1.0)
    )
    found = compare(normalise(ours), theirs)
    assert [row[1:3] for row in told(found) if row[-1] == COMPARED] == [
        ("vgg19", "vanilla"),
        ("resnet50", "vanilla"),
    ]
    assert [row[1:3] for row in told(found) if row[-1] == NOT_RUN] == [("vgg19", "filter")]
    assert "No interval: one value each cannot be told from chance." in found.notes
    assert found.rows["low"].isna().all()


def test_the_order_of_rows_does_not_matter() -> None:
    ours = pd.concat([run(0.7 + 0.05 * i, model=m) for i, m in enumerate("xyz")], ignore_index=True)
    theirs = published(*(("8", m, "vanilla", 0.7 + 0.02 * i) for i, m in enumerate("xyz")))
    one = compare(normalise(ours), theirs)
    other = compare(normalise(ours.sample(frac=1, random_state=0)), theirs)
    pd.testing.assert_frame_equal(one.rows, other.rows)
    pd.testing.assert_frame_equal(one.orders, other.orders)


def test_the_picture(tmp_path: Path) -> None:
    from medseg.ranking.comparison_plot import draw, plot

    ours = pd.concat([run(0.8), run(0.7, model="resnet50"), run(0.2, metric="brier")])
    theirs = pd.concat(
        [
            published(("8", "vgg19", "vanilla", 0.8), ("8", "resnet50", "vanilla", 0.84)),
            published(("8", "vgg19", "vanilla", 0.3), metric="brier"),
        ],
        ignore_index=True,
    )
    found = compare(normalise(ours), theirs)
    panels = draw(found).axes
    assert [axes.get_title(loc="left") for axes in panels] == ["accuracy", "brier"]
    points = [line.get_xydata()[0].tolist() for line in panels[0].lines if line.get_marker() == "o"]
    np.testing.assert_allclose(points, [[0.8, 0.805], [0.84, 0.705]])
    plot(found, tmp_path / "out.svg")
    assert "<svg" in (tmp_path / "out.svg").read_text(encoding="utf-8")
    with pytest.raises(MedsegError, match=r"out.gif: a plot is written as .png, .svg, .pdf"):
        plot(found, tmp_path / "out.gif")
