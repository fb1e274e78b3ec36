"""From image files to a ranking, by the commands a user types."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner

from medseg.cli import main
from medseg.results import COLUMNS, RUN_KEYS

SETTINGS = [
    "image_size=32",
    "model_arguments={widths: [4, 8, 16]}",
    "epochs=12",
    "batch_size=4",
    "learning_rate=2e-2",
]
LOSSES = ("dice_bce", "bce")


def medseg(*arguments: object) -> str:
    result = CliRunner().invoke(main, list(map(str, arguments)))
    assert result.exit_code == 0, result.output
    return result.stdout


def test_two_losses_from_files_to_ranking(workspace: Path) -> None:
    pattern = ["--images", "images/*.png", "--masks", "masks/{stem}.png", "--group", "(?P<group>p[0-9]+)_"]
    medseg("data", "index", "mine", "--data", "source", *pattern, "--channels", 1)
    options = ["--tracking-uri", "", "--quiet", "--device", "cpu", "--format", "json"]
    for setting in SETTINGS:
        options += ["--set", setting]
    dice = {}
    for loss in LOSSES:
        rows = json.loads(medseg("bundle", "run", f"mine__unet__{loss}", *options))
        dice[loss] = next(row["mean"] for row in rows if row["metric"] == "dice")
    assert max(dice.values()) > 0.6, "the discs were not learnt"

    found = json.loads(medseg("rank", "--metric", "dice", "--format", "json"))
    ranking = found["groupings"]["dataset"]["table"]
    assert [row["contestant"] for row in ranking] == sorted(LOSSES, key=dice.get, reverse=True)
    assert [row["points"] for row in ranking] == [3, 2]
    for row in ranking:
        assert row["mine"] == pytest.approx(dice[row["contestant"]], abs=1e-6)

    medseg("rank", "--metric", "dice,hd95", "-o", "ranking.md", "--plot", "ranking.png")
    assert (workspace / "ranking.md").read_text(encoding="utf-8").startswith("| loss |")
    assert (workspace / "ranking.png").stat().st_size > 1000
    cases = pd.read_csv(f"bundles/mine__unet__{LOSSES[0]}/repeats/0/cases.csv", keep_default_na=False)
    assert list(cases.columns[: len(RUN_KEYS)]) == list(RUN_KEYS)
    assert set(cases["repeat"]) == {0}
    assert {"case", "group"} <= set(cases) & set(COLUMNS)
    assert not (workspace / "mlruns").exists()
