"""The contact sheets of docs/augmentation.md: one per modality, from images that may be shown.

    python scripts/previews.py [FOLDER]

Ultrasound is the built-in phantom; CT, MR and colour are test images that pydicom installs. Their outlines are no
diagnoses: the largest region above Otsu's threshold, which stands in for a lesion.
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
#: data set -> pydicom's file, channels, preprocessing, settings
IMAGES = {
    "ct": ("693_J2KI.dcm", 1, "window", "preprocess_arguments={window: {center: 40, width: 400}}"),
    "mr": ("examples_overlay.dcm", 1, "window-resize_pad", "preprocess_arguments={}"),
    "colour": ("examples_rgb_color.dcm", 3, "resize_pad", "preprocess_arguments={}"),
}


def largest_bright_region(image: np.ndarray) -> np.ndarray:
    """The largest connected region of an image ``(H, W)`` above Otsu's threshold, ``uint8`` of 0 and 255."""
    from skimage.filters import gaussian, threshold_otsu
    from skimage.measure import label, regionprops

    smooth = gaussian(image.astype(float), 2)
    regions = label(smooth > threshold_otsu(smooth))
    largest = max(regionprops(regions), key=lambda region: region.area)
    return ((regions == largest.label) * 255).astype(np.uint8)


def preview(name: str, folder: Path, out: Path, *options: str) -> None:
    """Draw one sheet with ``medseg data preview``."""
    command = [MEDSEG, "data", "preview", name, "--cases", "2", *options]
    target = out / f"preview-{name}.png"
    subprocess.run([*command, "--prepared", str(folder / "prepared"), "-o", str(target)], check=True)


def main(out: Path) -> None:
    from pydicom.data import get_testdata_file

    from medseg.data.dicom import present, read_picture

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        preview("phantom", folder, out, "--set", "image_size=96")
        for name, (file, channels, preprocess, settings) in IMAGES.items():
            source = Path(get_testdata_file(file, download=False))
            top = folder / name
            (top / "images").mkdir(parents=True)
            (top / "masks").mkdir()
            (top / "images" / file).write_bytes(source.read_bytes())
            shown = present(read_picture(source, 1))[0]
            Image.fromarray(largest_bright_region(shown)).save(top / "masks" / f"{source.stem}.png")
            index = [MEDSEG, "data", "index", name, "--data", str(top)]
            patterns = ["--images", "images/*", "--masks", "masks/{stem}.png", "--channels", str(channels)]
            prepared = ["--prepared", str(folder / "prepared"), "--format", "csv"]
            subprocess.run([*index, *patterns, *prepared], check=True, stdout=subprocess.DEVNULL)
            preview(name, folder, out, "--preprocess", preprocess, "--set", settings)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "images")
