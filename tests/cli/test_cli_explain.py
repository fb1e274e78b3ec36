"""``medseg explain``."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner

from medseg.bundle.choice import Choice
from medseg.bundle.compose import compose
from medseg.bundle.network import build_network, read_recipe
from medseg.bundle.open import Bundle
from medseg.bundle.settings import Settings
from medseg.cli.explain import explain
from medseg.errors import MedsegError


@pytest.fixture
def bundle(workspace: Path) -> Bundle:
    """A bundle of random weights in ``bundles/``."""
    import torch

    settings = Settings(image_size=(32, 32), model_arguments={"widths": [4, 8]})
    made = compose(
        Choice("discs", "unet", "dice"), workspace / "bundles", settings, prepared=workspace / "prepared"
    )
    torch.manual_seed(0)
    (made.root / "models").mkdir(exist_ok=True)
    torch.save(build_network(read_recipe(made), None).state_dict(), made.root / "models" / "model.pt")
    return made


@pytest.fixture
def classifier(workspace: Path) -> Bundle:
    """A classifier's bundle of random weights in ``bundles/``."""
    import torch
    from PIL import Image

    from medseg.data.index import build_index
    from medseg.data.index_file import index_path, write_index

    draw = np.random.default_rng(0)
    for kind in ("dark", "light"):
        (workspace / "tiles" / kind).mkdir(parents=True)
        for number in range(4):
            pixels = draw.integers(0, 128, (40, 40), np.uint8) + np.uint8(120 * (kind == "light"))
            Image.fromarray(pixels).save(workspace / "tiles" / kind / f"{kind}{number}.png")
    index = build_index("tiles", workspace / "tiles", classes="{class}/*.png", channels=1)
    write_index(index, index_path("tiles", workspace / "prepared"))
    small = {"growth": 4, "depths": [1, 1, 1, 1], "stem": "small"}
    settings = Settings(image_size=(32, 32), pretrained=False, model_arguments=small)
    choice = Choice("tiles", "densenet121", "cross_entropy")
    made = compose(choice, workspace / "bundles", settings, prepared=workspace / "prepared")
    torch.manual_seed(0)
    (made.root / "models").mkdir(exist_ok=True)
    torch.save(build_network(read_recipe(made), None).state_dict(), made.root / "models" / "model.pt")
    mask = np.zeros((40, 40), np.uint8)
    mask[:20] = 255
    Image.fromarray(mask).save(workspace / "tiles" / "light" / "light0_mask.png")
    return made


def image(workspace: Path) -> str:
    return str(sorted((workspace / "source" / "images").glob("*.png"))[0].relative_to(workspace))


def test_explains_an_image_and_names_its_outputs(bundle: Bundle, workspace: Path) -> None:
    given = [bundle.name, image(workspace), "-o", "out", "--region", "whole", "--method", "gradcampp"]
    done = CliRunner().invoke(explain, given, catch_exceptions=False)
    assert done.exit_code == 0
    assert "method gradcampp, layer bottom" in done.output and "explanations.csv: out" in done.output
    stem = Path(image(workspace)).stem
    assert np.load(workspace / "out" / "maps" / f"{stem}.npy").shape == (32, 32)
    assert (workspace / "out" / "overlays" / f"{stem}.png").is_file()


def test_a_bad_file_is_told_and_the_rest_goes_on(bundle: Bundle, workspace: Path) -> None:
    (workspace / "bad.png").write_bytes(b"no image")
    given = [bundle.name, "bad.png", "missing.png", image(workspace), "-o", "out", "--region", "whole"]
    done = CliRunner().invoke(
        explain, [*given, "--method", "occlusion", "--set", "size=16", "--format", "json"]
    )
    assert done.exit_code == 1
    rows = {Path(row["file"]).name: row for row in json.loads(done.stdout)}
    assert rows["bad.png"]["outcome"] == rows["missing.png"]["outcome"] == "failed"
    assert "no such file" in rows["missing.png"]["reason"]
    good = rows[Path(image(workspace)).name]
    assert good["outcome"] != "failed" and (good["method"], good["layer"]) == ("occlusion", "")


def test_layers_are_listed_without_weights(bundle: Bundle) -> None:
    (bundle.root / "models" / "model.pt").unlink()
    done = CliRunner().invoke(explain, [bundle.name, "--list-layers", "--format", "json"])
    rows = {row["layer"]: row for row in json.loads(done.stdout)}
    assert rows["bottom"] == {
        "layer": "bottom",
        "channels": 8,
        "height": 16,
        "width": 16,
        "step_px": 2.0,
        "default": "yes",
    }
    assert sum(row["default"] == "yes" for row in rows.values()) == 1


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--region", "lesions"], "give predicted, whole, lesion:2 or mask:FILE"),
        (["--layer", "botom"], "Did you mean 'bottom'"),
        (["--method", "cam"], "unknown method 'cam'"),
        (["--repeat", "3"], "no weights at repeats/3/model.pt"),
        (["--device", "tpu9"], "unknown device 'tpu9'"),
        (["--set", "size=4"], "method 'gradcam'"),
    ],
)
def test_mistakes_are_told_before_anything_is_written(
    bundle: Bundle, workspace: Path, given: list[str], words: str
) -> None:
    with pytest.raises(MedsegError, match=words):
        explain.main(
            [bundle.name, image(workspace), "-o", "out", *given], standalone_mode=False, prog_name="explain"
        )
    assert not (workspace / "out").exists()


def test_inputs_and_output_are_needed(bundle: Bundle) -> None:
    done = CliRunner().invoke(explain, [bundle.name])
    assert done.exit_code == 2 and "--list-layers" in done.output


def test_help_names_every_method_and_imports_nothing_heavy() -> None:
    from medseg.explain import METHODS

    code = (
        "import sys; from click.testing import CliRunner; from medseg.cli.explain import explain;"
        "print(CliRunner().invoke(explain, ['--help']).output);"
        "print('heavy:', *{'torch', 'monai', 'pandas', 'matplotlib', 'numpy'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("heavy:")
    assert all(name in done.stdout for name in METHODS.names())


def test_a_classifier_is_explained_by_class_with_boxes_and_masks(classifier: Bundle, workspace: Path) -> None:
    given = [classifier.name, "tiles/light", "-o", "out", "--label", "light", "--masks", "{stem}_mask*"]
    done = CliRunner().invoke(explain, given, catch_exceptions=False)
    assert done.exit_code == 0
    assert "method gradcam, layer backbone.features.norm5, label light" in " ".join(done.output.split())
    assert "1 images with a mask, which covers 0.500 of them: pointing game" in done.output
    rows = list(csv.DictReader((workspace / "out" / "explanations.csv").open()))
    assert [Path(row["file"]).stem for row in rows] == ["light0", "light1", "light2", "light3"]
    assert {row["label"] for row in rows} == {"light"} and {row["outcome"] for row in rows} <= {
        "explained",
        "empty",
    }
    assert {row["predicted"] for row in rows} <= {"dark", "light"}
    assert [row["mask_share"] for row in rows] == ["0.5", "", "", ""]
    assert (workspace / "out" / "overlays" / "light3.png").is_file()


def test_the_likeliest_class_is_explained_unless_one_is_given(classifier: Bundle, workspace: Path) -> None:
    done = CliRunner().invoke(
        explain, [classifier.name, "tiles/dark", "-o", "out", "--format", "json", "--share", "0.5"]
    )
    assert done.exit_code == 0
    rows = json.loads(done.stdout)
    assert len(rows) == 4 and all(row["label"] == row["predicted"] for row in rows)
    assert all(row["probability"] >= 0.5 for row in rows)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--region", "whole"], "--region is for masks; this bundle classifies whole images"),
        (["--label", "grey"], "unknown label 'grey'. Known: dark, light"),
        (["--share", "2"], "share must be at least 0 and below 1; got 2.0"),
        (["--masks", "mask.png"], "mask pattern 'mask.png': needs {stem} once"),
        (["--threshold", "0.7"], "threshold=0.7 has no meaning where each image has one class"),
    ],
)
def test_mistakes_of_a_classifier(classifier: Bundle, workspace: Path, given: list[str], words: str) -> None:
    with pytest.raises((MedsegError, click.UsageError), match=re.escape(words)):
        explain.main([classifier.name, "tiles/dark", "-o", "out", *given], standalone_mode=False)
    assert not (workspace / "out" / "maps").exists()


@pytest.mark.parametrize("given", [["--share", "0.3"], ["--masks", "{stem}_mask.png"]])
def test_options_of_classifiers_have_no_meaning_for_masks(
    bundle: Bundle, workspace: Path, given: list[str]
) -> None:
    with pytest.raises(
        click.UsageError, match="--share and --masks are for classifiers; this bundle segments"
    ):
        explain.main([bundle.name, image(workspace), "-o", "out", *given], standalone_mode=False)


def test_layers_of_a_classifier_are_listed(classifier: Bundle) -> None:
    done = CliRunner().invoke(explain, [classifier.name, "--list-layers", "--format", "json"])
    rows = {row["layer"]: row for row in json.loads(done.stdout)}
    assert rows["backbone.features.norm5"]["default"] == "yes"
    assert (rows["backbone.features.norm5"]["height"], rows["backbone.features.norm5"]["step_px"]) == (4, 8.0)
