"""The main job in a few minutes, on the built-in phantom set: compose, train, evaluate, track, rank, plot."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

from medseg.bundle.choice import Choice
from medseg.bundle.compose import compose
from medseg.bundle.open import Bundle, is_bundle
from medseg.bundle.settings import Settings
from medseg.cli.output import emit
from medseg.data.prepared import prepare
from medseg.engine import workflow
from medseg.metrics import METRICS, per_case
from medseg.ranking.plots import plot
from medseg.ranking.podium import rank
from medseg.results import collect, write_csv

LOSSES = ("iou_focal", "dice_bce", "bce")
# a U-Net of 0.12 M parameters instead of 31 M, so that a laptop's CPU trains it in seconds
SETTINGS = Settings(
    image_size=(96, 96),
    epochs=14,
    patience=14,
    learning_rate=2e-3,
    model_arguments={"widths": [8, 16, 32, 64]},
)


def main(folder: Path) -> None:
    """Run the demonstration below ``folder``; what is done already is not done again."""
    began = time.monotonic()
    bundles, prepared = folder / "bundles", folder / "prepared"
    uri = f"sqlite:///{folder / 'mlruns' / 'mlflow.db'}"
    options = workflow.Options(prepared=prepared, tracking_uri=uri, experiment="demo")
    for loss in LOSSES:
        choice = Choice("phantom", "unet", loss)
        root = bundles / choice.name
        bundle = (
            Bundle(root.resolve())
            if is_bundle(root)
            else compose(choice, bundles, SETTINGS, prepared=prepared)
        )
        workflow.run(bundle, options, resume=True)
    table = collect(bundles, {entry.name: entry.facts["better"] for entry in METRICS})
    write_csv(table, folder / "results.csv")
    ranking = rank(table, of="loss", by="dataset", metrics=("dice", "iou", "recall", "precision"))
    plot(ranking, folder / "ranking.png")
    emit(ranking.display(), "table", "Losses ranked on the phantom set (3-2-1 points over four metrics)")
    report(table, trivial_dice(prepared))
    print(f"\n{time.monotonic() - began:.0f} s. Where to look next:")
    for what, where in (
        (
            "best, median and worst cases",
            bundles / "phantom__unet__iou_focal" / "repeats" / "0" / "cases.png",
        ),
        ("the ranking as a picture", folder / "ranking.png"),
        ("a value per case and metric", folder / "results.csv"),
        ("the bundles", bundles),
    ):
        print(f"  {what}: {where}")
    print(f"  all runs side by side: mlflow ui --backend-store-uri {uri}")


def trivial_dice(prepared: Path) -> float:
    """Mean test Dice of the better of two predictors that look at nothing: all lesion, and no lesion."""
    part = prepare("phantom", None, prepared, image_size=SETTINGS.image_size).part("testing")
    target = part[list(range(len(part)))]["label"].bool()
    guesses = (np.ones, np.zeros)
    return max(float(per_case(_like(target, g), target, ["dice"])["dice"].mean()) for g in guesses)


def _like(target, fill):  # type: ignore[no-untyped-def]
    import torch

    return torch.from_numpy(fill(tuple(target.shape), dtype=bool))


def report(table: pd.DataFrame, trivial: float) -> None:
    """Print each loss's mean test Dice beside that of a trivial predictor."""
    dice = table[table["metric"] == "dice"].groupby("loss")["value"].mean()
    for loss, value in dice.items():
        print(f"test Dice {loss}: {value:.3f} (a predictor that looks at nothing: {trivial:.3f})")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo"))
