"""Masks equal those of the bundle's own ``inference.yaml`` in MONAI, and the Dice that evaluation found."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from medseg.bundle.choice import Choice
from medseg.bundle.compose import compose
from medseg.predict.predict import Options, predict
from medseg.predict.predictor import Settings

CPU = Settings(device="cpu", batch_size=1)


def by_monai(root: Path, images: Path, out: Path, **overrides) -> None:
    from monai.bundle import ConfigWorkflow

    workflow = ConfigWorkflow(
        config_file=str(root / "configs" / "inference.yaml"),
        workflow_type="infer",
        logging_file=False,
        bundle_root=str(root),
        dataset_dir=str(images),
        output_dir=str(out),
        device="$torch.device('cpu')",
        **overrides,
    )
    workflow.initialize()
    workflow.run()


@pytest.mark.parametrize("preprocess", [(), ("clahe", "resize_pad", "normalize_imagenet")])
def test_masks_of_real_images_are_those_of_monai(shared_data: Path, tmp_path: Path, parts, preprocess):
    bundle = parts.composed(tmp_path / "bundles", preprocess)
    chosen = [
        "busi/Dataset_BUSI_with_GT/malignant/malignant (10).png",
        "cvc-clinicdb-tif/CVC-ClinicDB/Original/1.tif",
        "isic-2017/ISIC-2017_Training_Data/ISIC_0000199.jpg",
    ]
    (tmp_path / "in").mkdir()
    for name in chosen:
        shutil.copy(shared_data / "original" / name, tmp_path / "in")
    shutil.copy(next((shared_data / "dicom" / "ct-series").iterdir()), tmp_path / "in" / "slice.dcm")
    by_monai(bundle.root, tmp_path / "in", tmp_path / "monai")
    rows = predict(bundle, [tmp_path / "in"], tmp_path / "out", CPU, options=Options("png", overlays=False))
    assert len(rows) == 4
    for row in rows:
        mask = np.asarray(Image.open(tmp_path / "out" / row["mask"]))
        theirs = np.asarray(Image.open(tmp_path / "monai" / f"{Path(row['mask']).stem}_mask.png"))
        assert 0 < mask.mean() < 255
        assert np.array_equal(mask, theirs)


def test_monai_keeps_images_of_one_stem_apart(tmp_path: Path, parts, files):
    bundle = parts.composed(tmp_path / "bundles")
    for name in ("a.png", "a.tif", "b.png", "sub/a.png", "sub/b.png"):
        files.png(tmp_path / "in" / name)
    by_monai(bundle.root, tmp_path / "in", tmp_path / "out", pattern="**/*")
    found = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.png")}
    assert found == {
        "a.png_mask.png",
        "a.tif_mask.png",
        "b_mask.png",
        "sub/a_mask.png",
        "sub/b_mask.png",
    }


def test_dice_is_what_the_evaluation_of_the_test_part_found(workspace: Path, small_settings):
    from medseg.engine import workflow

    bundle = compose(
        Choice("discs", "unet", "dice_bce"), Path("bundles"), small_settings, prepared=Path("prepared")
    )
    folder = workflow.run(bundle, workflow.Options(tracking_uri="", progress=False, device="cpu"))
    cases = pd.read_csv(folder / "cases.csv", dtype={"case": str}).set_index("case")
    images = [workspace / "source" / "images" / f"{case}.png" for case in cases.index]
    rows = predict(bundle, images, Path("out"), CPU, repeats=["0"])
    assert [Path(row["file"]).stem for row in rows] == list(cases.index)
    for row, case in zip(rows, cases.index, strict=True):
        mask = np.asarray(Image.open(Path("out") / row["mask"])) > 0
        true = np.asarray(Image.open(workspace / "source" / "masks" / f"{case}.png")) > 0
        assert 2 * (mask & true).sum() / (mask.sum() + true.sum()) == pytest.approx(
            cases.loc[case, "dice"], abs=1e-6
        )
        assert row["area_px"] == cases.loc[case, "predicted_px"]
