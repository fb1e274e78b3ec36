"""The bench runs and gives every row. No time is asserted."""

from __future__ import annotations

import json
import runpy
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from monai.data import get_track_meta, set_track_meta
from PIL import Image

from medseg.augmentations import AUGMENTATIONS

BENCH = Path(__file__).resolve().parents[2] / "scripts" / "bench" / "augment.py"


@pytest.fixture(autouse=True)
def settings_only_here() -> Iterator[None]:
    """The bench sets the threads of its process and MONAI's meta-data, which here are everyone's."""
    before = torch.get_num_threads(), cv2.getNumThreads(), get_track_meta()
    yield
    torch.set_num_threads(before[0])
    cv2.setNumThreads(before[1])
    set_track_meta(before[2])


@pytest.mark.filterwarnings("ignore")
def test_the_bench_gives_a_row_for_every_transform_and_group(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "result.json"
    command = ["--rounds", "1", "--images", "1", "--size", "32", "--json", str(output)]
    runpy.run_path(str(BENCH))["main"](command)
    rows = json.loads(output.read_text())["results"]
    singles = {entry.name for entry in AUGMENTATIONS if not {"members", "batch"} & set(entry.facts)}
    groups = {row for name in ("filter", "geometric", "all") for row in (name, f"{name}, every one")}
    assert {row["name"] for row in rows} == singles | groups | {"fancy_pca, first epoch"}
    for row in rows:
        assert row["images_per_s"] > 0 and row["ratio_min"] <= row["ratio"] <= row["ratio_max"]
        assert row["way"] != "medseg" or row["ratio"] == 1
    ways = {way: {row["name"] for row in rows if row["way"] == way} for way in ("medseg", "albumentations")}
    assert ways["medseg"] == ways["albumentations"]
    assert len(capsys.readouterr().out.splitlines()) == len(rows)


def test_the_bench_reads_a_folder(tmp_path: Path) -> None:
    for number in range(3):
        Image.fromarray(np.full((20, 30), 50 * number, np.uint8)).save(tmp_path / f"{number}.png")
    bench = runpy.run_path(str(BENCH))
    samples = bench["read"](tmp_path, 2, 16)
    assert [image.shape for image, _ in samples] == [(3, 16, 16)] * 2
    assert samples[1][0].max() == 50
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit, match="no .png or .jpg"):
        bench["read"](tmp_path / "empty", 2, 16)
