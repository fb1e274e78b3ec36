"""Run an exported bundle as MONAI Label does; started as a script in a Python of its own, not imported.

It refuses every import of medseg and of what a stock server has not, so that only the bundle's own code can answer.
"""

from __future__ import annotations

import importlib.abc
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

#: packages that medseg needs and a stock server has not
ABSENT = ("medseg", "cv2", "albumentations", "timm", "segmentation_models_pytorch", "highdicom")


class Refusal(importlib.abc.MetaPathFinder):
    """Finds nothing, and refuses what a stock server has not."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        """Raise for a package that is absent on a stock server."""
        if name.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"{name} is not on a stock MONAI Label server", name=name)


def main(served: Path, order: Path, answer: Path) -> None:
    """Predict the files of a list, and train one epoch on the first where the bundle can be trained.

    Args:
        served: the bundle's folder.
        order: JSON list of the files.
        answer: ``.npz`` to write.
    """
    import numpy as np

    sys.path.insert(0, str(served))
    found: dict[str, Any] = {}
    paths = json.loads(order.read_text(encoding="utf-8"))
    trains = (served / "configs" / "train.yaml").is_file()
    for number, (probabilities, mask) in enumerate(infer(served, paths)):
        found[f"probabilities_{number}"], found[f"mask_{number}"] = probabilities, mask
    note = (
        train(served, paths[0], found["mask_0"]) if trains else "not trained there: viewers save no classes"
    )
    found["note"] = np.array(note)
    np.savez(answer, **found)


def infer(served: Path, paths: list[str]) -> list[tuple[Any, Any]]:
    """Probabilities at the network's size and mask ``(H, W)`` of each file, by the written configuration.

    Of a classifier the probabilities ``(K,)`` of the classes, twice.
    """
    import numpy as np
    import torch
    from monai.bundle import ConfigParser

    parser: Any = ConfigParser()
    parser.read_config(str(served / "configs" / "inference.yaml"))
    parser.config.update({"bundle_root": str(served), "device": "cpu"})
    network = parser.get_parsed_content("network_def")
    state = torch.load(served / "models" / "model.pt", map_location="cpu", weights_only=True)
    network.load_state_dict(state, strict=True)
    network.eval()
    before, after, inferer = (
        parser.get_parsed_content(key) for key in ("preprocessing", "postprocessing", "inferer")
    )
    answers = []
    with torch.no_grad():
        for path in paths:
            data = before({"image": path})
            data["pred"] = inferer(data["image"][None], network)[0]
            if data["pred"].ndim == 2:
                answers.append((np.asarray(after(data)["pred"]),) * 2)
                continue
            # a slice named by itself, as file#12, is a plane
            soft = after.transforms[0](data)["pred"][0]
            mask = np.asarray(after(data)["pred"])
            answers.append((np.asarray(soft), mask.reshape(mask.shape[:2]).T))
    return answers


def train(served: Path, image: str, mask: Any) -> str:
    """One epoch on one image with half of it labelled, in a folder of its own; what it changed, in words."""
    import monai.bundle
    import numpy as np
    import torch
    from PIL import Image

    label = np.zeros(mask.shape, np.uint8)
    label[: len(label) // 2] = 255
    with tempfile.TemporaryDirectory() as folder:
        Image.fromarray(label).save(f"{folder}/label.png")
        changes: dict[str, Any] = {
            "bundle_root": str(served),
            "ckpt_dir": folder,
            "device": "cpu",
            "train#trainer#max_epochs": 1,
            "train#dataset#data": [{"image": image, "label": f"{folder}/label.png"}],
        }
        monai.bundle.run(config_file=str(served / "configs" / "train.yaml"), **changes)
        old = torch.load(served / "models" / "model.pt", map_location="cpu", weights_only=True)
        new = torch.load(f"{folder}/model.pt", map_location="cpu", weights_only=True)
    if set(old) != set(new):
        raise SystemExit("training writes weights of another layout than those that are served")
    changed = sum(not torch.equal(old[name], new[name]) for name in old)
    if not changed:
        raise SystemExit("training changes no weight")
    return f"one epoch of training changed {changed} of {len(old)} tensors"


if __name__ == "__main__":
    sys.meta_path.insert(0, Refusal())
    main(*(Path(argument) for argument in sys.argv[1:4]))
