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

    for name in ("draw_rankings", "draw_evidence", "draw_cases", "draw_training"):
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
