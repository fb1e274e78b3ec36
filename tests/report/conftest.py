"""A small study that was really run, for the tests of the page; and a headless browser."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

LOSSES, REPEATS = ("bce", "dice", "dice_bce"), (0, 1)


@pytest.fixture(scope="session")
def tiny_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study: three losses, of which one failed, and two repeats, on drawn discs."""
    from medseg.bundle.choice import Choice
    from medseg.bundle.settings import Settings
    from medseg.data.index import build_index
    from medseg.data.index_file import index_path, write_index
    from medseg.study.entry import Entry
    from medseg.study.folder import StudyFolder, WorkOptions
    from medseg.study.key import code_fingerprint
    from medseg.study.ledger import Ledger
    from medseg.study.spec import Cell
    from medseg.study.worker import work

    place = tmp_path_factory.mktemp("tiny")
    _draw_discs(place / "source", 20, 24)
    rules = {"images": "images/*.png", "masks": "masks/{stem}.png", "channels": 1}
    index = build_index("discs", place / "source", group="(?P<group>p[0-9]+)_", **rules)
    write_index(index, index_path("discs", place / "prepared"))
    folder = StudyFolder(place / "studies" / "tiny")
    folder.root.mkdir(parents=True)
    folder.write_options(WorkOptions(prepared=str(place / "prepared"), retries=0))
    folder.study_file.write_text(f"study: tiny\naxes: {{loss: [bce, dice]}}\n# {place}/private.yaml\n")
    settings = Settings(
        image_size=(16, 16), epochs=2, learning_rate=1e-2, model_arguments={"widths": [4, 8, 16]}
    )
    cells = [Cell(Choice("discs", "unet", loss), repeat, settings) for repeat in REPEATS for loss in LOSSES]
    ledger = Ledger(folder.ledger)
    ledger.enter([Entry(cell.name, cell.name, code_fingerprint(), cell, "holdout") for cell in cells])
    for cell in cells:
        if cell.choice.loss == "dice_bce":
            ledger.fail(ledger.claim(key=cell.name), f"cannot read {place}/private/p01.png")
    work(folder.root, device="cpu")
    return folder.root


@pytest.fixture(scope="session")
def tiny_report(tiny_study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of that study."""
    from medseg.report.report import Options, write_report
    from medseg.report.source import from_study

    options = Options(cases=1, draws=200, device="cpu", command="medseg report tiny")
    return write_report(from_study(tiny_study), tmp_path_factory.mktemp("report"), options)


@pytest.fixture
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out all figures but those of cases: most of the time of a report, and shown by other tests."""
    from medseg.report import report

    for name in ("draw_rankings", "draw_evidence", "draw_cases", "draw_class_cases", "draw_training"):
        monkeypatch.setattr(report, name, lambda *_: None)


def _draw_discs(folder: Path, count: int, size: int) -> None:
    from PIL import Image

    draw = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size]
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for number in range(count):
        row, column = draw.uniform(size / 4, 3 * size / 4, 2)
        mask = (y - row) ** 2 + (x - column) ** 2 < draw.uniform(size / 8, size / 4) ** 2
        image = np.clip(draw.normal(80 + 80 * mask, 25), 0, 255).astype(np.uint8)
        name = f"p{number // 2:02d}_{number}.png"
        Image.fromarray(image).save(folder / "images" / name)
        Image.fromarray((mask * 255).astype(np.uint8)).save(folder / "masks" / name)


@pytest.fixture(scope="session")
def wide_table() -> pd.DataFrame:
    """A normalised table of the loss study's shape, 10 losses x 12 models x 6 data sets x 5 repeats, of few cases."""
    from medseg.ranking.table import normalise

    losses = [
        "bce",
        "dice",
        "focal",
        "iou",
        "tversky",
        "bce_focal",
        "dice_bce",
        "dice_focal",
        "iou_bce",
        "iou_focal",
    ]
    datasets = ["busi_benign", "busi_malignant", "cvc_clinicdb", "foot_ulcer", "isic2017", "kvasir_seg"]
    models = ["unet", "unetplusplus", "resunetplusplus", "fcn", "deeplab", "colonsegnet"]
    models += ["ducknet", "emcad", "esfpnet", "caranet", "fcbformer", "fatnet"]
    levels = [datasets, models, losses, [str(k) for k in range(5)], [f"case_{k:02d}" for k in range(4)]]
    names = ["dataset", "model", "loss", "repeat", "case"]
    table = pd.MultiIndex.from_product(levels, names=names).to_frame(index=False)
    draw = np.random.default_rng(0)
    better = table["loss"].map({name: 0.01 * number for number, name in enumerate(losses)})
    dice = (0.6 + better + draw.normal(0, 0.08, len(table))).clip(0, 1)
    return normalise(
        table.assign(preprocess="", augment="vanilla", split="holdout", dice=dice, iou=dice / (2 - dice))
    )


CLASSES = ("benign", "malignant", "normal")
CLASS_LOSSES = ("cross_entropy", "focal_cross_entropy")


@pytest.fixture(scope="session")
def class_place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``bundles`` and ``prepared`` of finished runs of a classification: two losses, two repeats.

    Runs are made up, images are drawn: each patient has two of one class.
    """
    from medseg.data.index import build_index
    from medseg.data.index_file import index_path, write_index
    from medseg.data.prepared import prepare

    place = tmp_path_factory.mktemp("classes")
    _draw_classes(place / "source", 48)
    index = build_index(
        "cells", place / "source", classes="{class}/*", group="(?P<group>p[0-9]+)_", channels=1
    )
    write_index(index, index_path("cells", place / "prepared"))
    for repeat in REPEATS:
        samples = prepare("cells", None, place / "prepared", repeat=repeat, image_size=(16, 16))
        part = samples.part("testing")
        truth = part[list(range(len(part)))]["label"].numpy()
        for number, loss in enumerate(CLASS_LOSSES):
            draw = np.random.default_rng([repeat, number])
            logits = (1.5 - number) * truth + draw.normal(size=truth.shape)
            likely = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
            write_class_run(place, "cells", loss, repeat, CLASSES, likely, truth, part.cases, part.groups)
    return place


@pytest.fixture(scope="session")
def label_place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As ``class_place``, of images with any number of two labels, and without the images."""
    place = tmp_path_factory.mktemp("labels")
    draw = np.random.default_rng(0)
    truth = (draw.random((30, 2)) < 0.4).astype(int)
    cases, groups = [f"x{k:02d}" for k in range(30)], [f"q{k // 2:02d}" for k in range(30)]
    for number, loss in enumerate(("binary_cross_entropy", "focal_cross_entropy")):
        logits = (2 - number) * (truth - 0.5) + draw.normal(size=truth.shape)
        likely = 1 / (1 + np.exp(-logits))
        classes = ("effusion", "mass")
        write_class_run(place, "chests", loss, 0, classes, likely, truth, cases, groups, True, "roc_auc")
    return place


def write_class_run(
    place: Path,
    dataset: str,
    loss: str,
    repeat: int,
    classes: tuple[str, ...],
    likely: np.ndarray,
    truth: np.ndarray,
    cases: list[str],
    groups: list[str],
    multilabel: bool = False,
    monitor: str = "balanced_accuracy",
) -> Path:
    """The files that a finished run of a classifier leaves."""
    import json

    from medseg.bundle.choice import Choice
    from medseg.metrics.classification import answers, intervals, of_set, per_case

    choice = Choice(dataset, "resnet50", loss)
    root = place / "bundles" / choice.name
    folder = root / "repeats" / str(repeat)
    (root / "configs").mkdir(parents=True, exist_ok=True)
    folder.mkdir(parents=True)
    told = {"task": "classification", "multilabel": multilabel}
    (root / "configs" / "metadata.json").write_text(json.dumps({"medseg": told}))
    knobs = {"dataset_name": dataset, "image_size": [16, 16], "channels": 1}
    (root / "configs" / "train.yaml").write_text(json.dumps(knobs))
    facts = {"dataset": dataset, "model": "resnet50", "loss": loss, "preprocess": "", "augment": "vanilla"}
    facts |= {"split": "holdout", "repeat": repeat}

    def names(rows: np.ndarray) -> list[str]:
        return ["|".join(classes[k] for k in np.flatnonzero(row)) for row in rows]

    frame = pd.DataFrame({**facts, "case": cases, "group": groups, **per_case(likely, truth, multilabel)})
    frame = frame.assign(truth=names(truth), predicted=names(answers(likely, multilabel)))
    frame = frame.assign(**{f"p_{name}": likely[:, k] for k, name in enumerate(classes)})
    frame.to_csv(folder / "cases.csv", index=False)
    intervals(likely, truth, groups, multilabel, draws=100).to_csv(folder / "metrics.csv", index=False)
    epochs = {
        "epoch": [1, 2, 3],
        "train_loss": [1.0, 0.7, 0.6],
        f"val_{monitor}": [0.4, 0.6 + 0.1 * repeat, 0.5],
    }
    pd.DataFrame(epochs).to_csv(folder / "curves.csv", index=False)
    record = {
        "settings": {"image_size": [16, 16], "epochs": 3, "batch_size": 4},
        "monitor": monitor,
        f"best_val_{monitor}": 0.6,
        "best_epoch": 2,
        "epochs": 3,
        "seconds": 10.0 + repeat,
        "task": "classification",
        "test": of_set(likely, truth, multilabel),
        "tags": {"parameters": "1000"},
        "started": "2026-11-22T10:00:00+00:00",
        "ended": "2026-11-22T10:01:00+00:00",
    }
    (folder / "run.json").write_text(json.dumps(record))
    return folder


def _draw_classes(folder: Path, count: int) -> None:
    from PIL import Image

    draw = np.random.default_rng(0)
    for number in range(count):
        name = CLASSES[number // 2 % 3]
        (folder / name).mkdir(parents=True, exist_ok=True)
        image = np.clip(draw.normal(80 + 40 * CLASSES.index(name), 25, (20, 20)), 0, 255).astype(np.uint8)
        Image.fromarray(image).save(folder / name / f"p{number // 2:02d}_{number}.png")


@pytest.fixture(scope="session")
def class_report(class_place: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of those runs."""
    from medseg.report.report import Options, write_report
    from medseg.report.source import from_bundles

    source = from_bundles(class_place / "bundles", class_place / "prepared")
    options = Options(cases=2, draws=200, command="medseg report")
    return write_report(source, tmp_path_factory.mktemp("class_report"), options)
