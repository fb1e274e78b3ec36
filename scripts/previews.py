"""The contact sheets of docs/augmentation.md: one per modality, from images that may be shown.

    python scripts/previews.py [FOLDER]

Ultrasound is the built-in phantom; CT, MR and colour Doppler are test images that pydicom installs. Their outlines are
ellipses drawn by hand to show how a mask moves, no lesions.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
MEDSEG = str(Path(sys.executable).with_name("medseg"))
#: data set -> pydicom's file, channels, preprocessing, settings, the outline's middle and radii
IMAGES = {
    "ct": (
        "CT_small.dcm",
        1,
        "window",
        "preprocess_arguments={window: {center: 40, width: 400}}",
        (0.5, 0.35, 0.12, 0.1),
    ),
    "mr": (
        "examples_overlay.dcm",
        1,
        "window-resize_pad",
        "preprocess_arguments={}",
        (0.45, 0.55, 0.13, 0.06),
    ),
    "colour": ("examples_rgb_color.dcm", 3, "resize_pad", "preprocess_arguments={}", (0.5, 0.5, 0.14, 0.36)),
}


def ellipse(shape: tuple[int, int], place: tuple[float, float, float, float]) -> np.ndarray:
    """An ellipse in an image ``(H, W)``, ``uint8`` of 0 and 255; middle and radii as shares of height and width."""
    row, column, tall, wide = place
    y, x = np.mgrid[: shape[0], : shape[1]]
    inside = ((y / shape[0] - row) / tall) ** 2 + ((x / shape[1] - column) / wide) ** 2 <= 1
    return (inside * 255).astype(np.uint8)


def preview(name: str, folder: Path, out: Path, *options: str) -> None:
    """Draw one sheet with ``medseg data preview``."""
    command = [MEDSEG, "data", "preview", name, "--cases", "1", *options]
    target = out / f"preview-{name}.png"
    subprocess.run([*command, "--prepared", str(folder / "prepared"), "-o", str(target)], check=True)


def main(out: Path) -> None:
    from pydicom.data import get_testdata_file

    from medseg.data.dicom import read_picture

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        preview("phantom", folder, out, "--set", "image_size=96")
        for name, (file, channels, preprocess, settings, place) in IMAGES.items():
            source = Path(get_testdata_file(file, download=False))
            top = folder / name
            (top / "images").mkdir(parents=True)
            (top / "masks").mkdir()
            (top / "images" / file).write_bytes(source.read_bytes())
            size = read_picture(source, 1).values.shape[1:]
            Image.fromarray(ellipse(size, place)).save(top / "masks" / f"{source.stem}.png")
            index = [MEDSEG, "data", "index", name, "--data", str(top)]
            patterns = ["--images", "images/*", "--masks", "masks/{stem}.png", "--channels", str(channels)]
            prepared = ["--prepared", str(folder / "prepared"), "--format", "csv"]
            subprocess.run([*index, *patterns, *prepared], check=True, stdout=subprocess.DEVNULL)
            preview(name, folder, out, "--preprocess", preprocess, "--set", settings)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "images")
