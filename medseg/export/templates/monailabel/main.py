"""A MONAI Label app for masks and classes of 2D images: MONAI Label's public classes, and the bundles below ``model/``.

Exported by medseg, which the server does not need: each bundle carries the code that reads, preprocesses and trains.
"""

from __future__ import annotations

import importlib
import json
import logging
import sys
from pathlib import Path
from typing import Any

import monailabel
import numpy as np
import torch
from fastapi import HTTPException
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import Datastore, DefaultLabelTag
from monailabel.interfaces.tasks.batch_infer import BatchInferTask
from monailabel.interfaces.tasks.infer_v2 import InferTask
from monailabel.interfaces.tasks.scoring import ScoringMethod
from monailabel.interfaces.tasks.strategy import Strategy
from monailabel.interfaces.tasks.train import TrainTask
from monailabel.tasks.activelearning.epistemic import Epistemic
from monailabel.tasks.activelearning.first import First
from monailabel.tasks.activelearning.random import Random
from monailabel.tasks.infer.bundle import BundleInferTask
from monailabel.tasks.scoring.epistemic_v2 import EpistemicScoring
from monailabel.tasks.train.bundle import BundleTrainTask

logger = logging.getLogger(__name__)


class LesionApp(MONAILabelApp):
    """Serves the bundles of ``--conf models NAME,NAME``, or all below ``model/``.

    Args:
        app_dir: the folder of this file.
        studies: the folder of images, or the address of a DICOMweb store.
        conf: what the server was started with.
    """

    def __init__(self, app_dir: str, studies: str, conf: dict[str, str]) -> None:
        self.bundles = _bundles(Path(app_dir) / "model", conf.get("models", ""))
        #: those that segment; of masks alone there is training, scoring and a choice by uncertainty
        self.of_masks = [bundle for bundle in self.bundles if not _classifies(bundle)]
        super().__init__(
            app_dir,
            studies,
            conf,
            name=f"medseg ({monailabel.__version__})",
            description="Segmentation and classification of 2D images",
            version=monailabel.__version__,
        )

    def init_infers(self) -> dict[str, InferTask]:
        """One model per bundle; its weights must be those of its network."""
        return {
            b.name: (Classes if _classifies(b) else BundleInferTask)(str(b), self.conf, load_strict=True)
            for b in self.bundles
        }

    def init_trainers(self) -> dict[str, TrainTask]:
        """Fine-tuning of each bundle that segments."""
        if str(self.conf.get("skip_trainers", "")).lower() in ("true", "1", "yes"):
            return {}
        return {b.name: FineTuning(str(b), self.conf, load_strict=True) for b in self.of_masks}

    def init_strategies(self) -> dict[str, Strategy]:
        """Which image to label next: any, the first, or the one that the network is least sure of."""
        choices: dict[str, Strategy] = {"random": Random(), "first": First()}
        if self.of_masks:
            told = "Get the image with the highest uncertainty; run /scoring first"
            choices["epistemic"] = Epistemic(desc=told)
        return choices

    def init_batch_infer(self) -> BatchInferTask:
        """Inference on many images."""
        return Batch()

    def infer(self, request: dict[str, Any], datastore: Datastore | None = None) -> Any:
        """A mask or classes; where an image cannot be read, an answer that says why."""
        try:
            return super().infer(request, datastore)
        except Exception as error:
            reason = _reason(error)
            if reason:
                raise HTTPException(status_code=422, detail=reason) from error
            raise

    def init_scoring_methods(self) -> dict[str, ScoringMethod]:
        """Uncertainty of the first bundle that segments, and how labels compare with what the network proposed."""
        if not self.of_masks:
            return {}
        first = self.of_masks[0]
        samples = int(self.conf.get("epistemic_simulation_size", "5"))
        task = UncertaintyTask(str(first), self.conf, load_strict=True, skip_writer=True)
        return {
            "epistemic": Uncertainty(task, simulation_size=samples),
            "dice": Dice(first),
            "sum": Sum(first),
        }


class Batch(BatchInferTask):
    """Inference on many images; one that cannot be read is named, and the others go on."""

    def __call__(self, request: dict[str, Any], datastore: Datastore, infer: Any) -> dict[str, Any]:
        def one(request: dict[str, Any], datastore: Datastore) -> Any:
            try:
                return infer(request, datastore)
            except HTTPException as error:
                logger.warning("left out of the batch: %s", error.detail)
                return {"error": error.detail}

        # where there is no GPU, the stock task would spread the images over none
        several = torch.cuda.device_count() > 1 and request.get("multi_gpu", True)
        return super().__call__({**request, "multi_gpu": several}, datastore, one)


class Classes(BundleInferTask):
    """Probabilities of the classes of an image; the answer has no file.

    Args:
        path: the bundle's folder.
        conf: of the app.
        more: further arguments of the stock task.
    """

    def __init__(self, path: str, conf: dict[str, str], **more: Any) -> None:
        super().__init__(path, conf, type="classification", add_post_restore=False, **more)
        metadata = _metadata(Path(path))
        names = metadata["network_data_format"]["outputs"]["pred"]["channel_def"]
        # the stock task writes them in small letters
        self.labels = {name: int(number) for number, name in names.items()}
        self.multilabel = bool(metadata["medseg"]["multilabel"])

    def writer(self, data: dict[str, Any], extension: Any = None, dtype: Any = None) -> tuple[Any, Any]:
        """What the stock writer tells of classes, and which of them are predicted."""
        scores = [float(value) for value in data[self.output_label_key]]
        told = [
            {"idx": number, "label": name, "score": scores[number]} for name, number in self.labels.items()
        ]
        best = max(scores)
        sure = [one["label"] for one in told if one["score"] >= 0.5]
        likeliest = [one["label"] for one in told if one["score"] == best][:1]
        return None, {"prediction": told, "predicted": sure if self.multilabel else likeliest}


class FineTuning(BundleTrainTask):
    """Training on the images that have a final label."""

    ASKED = ("learning_rate", "batch_size")

    def config(self) -> dict[str, Any]:
        """What a viewer offers to set."""
        own = {key: self.bundle_config[key] for key in self.ASKED}
        return {**super().config(), "max_epochs": self.bundle_config["train#trainer#max_epochs"], **own}

    def stats(self) -> dict[str, Any]:
        """What became of the last training."""
        record = Path(self.bundle_path) / "models" / "training.json"
        return json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> Any:
        self.asked = {key: request[key] for key in self.ASKED if request.get(key)}
        # there is no configuration for several GPUs: the stock task would return without training
        request = {"max_epochs": self.config()["max_epochs"], **request, "multi_gpu": False}
        try:
            return super().__call__(request, datastore)
        except Exception as error:
            # the server shows the last lines of the log, and MONAI's own say only that something was wrong
            reason = _reason(error)
            if reason:
                raise HTTPException(status_code=422, detail=reason) from None
            raise

    def _load_checkpoint(self, model_pytorch: str, pretrained: bool, train_handlers: list[Any]) -> None:
        # the list outlives a training in the server's own process, and its loader with it
        train_handlers[:] = [one for one in train_handlers if one.get("_target_") != "CheckpointLoader"]
        # without a loader the network keeps the weights that it was exported with
        if pretrained:
            super()._load_checkpoint(model_pytorch, pretrained, train_handlers)

    def _update_overrides(self, overrides: dict[str, Any]) -> dict[str, Any]:
        overrides.update(self.asked)
        return overrides


class UncertaintyTask(BundleInferTask):
    """Probabilities, the background's too, of a network whose dropout draws anew in each pass."""

    def post_transforms(self, data: Any = None) -> list[Any]:
        """Probabilities at the network's size instead of a mask."""
        transforms = _own(Path(self.bundle_path), "transforms")
        return [transforms.Probabilitiesd(keys=self.key_pred, background=True)]

    def _get_network(self, device: str, data: Any) -> Any:
        network = super()._get_network(device, data)
        # once: images are scored in parallel, and setting it anew stops the dropout of another pass for a moment
        if not hasattr(network, "draws"):
            network.draws = _own(Path(self.bundle_path), "network").with_dropout(network)
        return network


class Uncertainty(EpistemicScoring):
    """Uncertainty of the unlabelled images; one that cannot be read is named, and the others are scored."""

    def run_scoring(self, image_id: str, simulation_size: int, model_ts: int, datastore: Datastore) -> None:
        """Score one image."""
        try:
            super().run_scoring(image_id, simulation_size, model_ts, datastore)
        except Exception as error:
            reason = _reason(error)
            if not reason:
                raise
            logger.warning("not scored: %s", reason)


class LabelScore(ScoringMethod):
    """Reads the labels of a tag as slices of whole numbers.

    Args:
        bundle: whose code reads them.
        description: for people.
    """

    def __init__(self, bundle: Path, description: str) -> None:
        super().__init__(description)
        self.bundle = bundle

    def read(self, datastore: Datastore, image: str, tag: str) -> np.ndarray | None:
        """The label of an image, ``(D, H, W)`` of 0 and 1, or nothing where it has none that can be read."""
        label = datastore.get_label_by_image_id(image, tag)
        if not label:
            return None
        path, source = (
            Path(uri) for uri in (datastore.get_label_uri(label, tag), datastore.get_image_uri(image))
        )
        try:
            return _own(self.bundle, "labels").read_label(path, 1, source) > 0
        except Exception as error:
            reason = _reason(error)
            if not reason:
                raise
            logger.warning("not scored: %s", reason)
            return None


class Dice(LabelScore):
    """Dice of the final label and the network's proposal; MONAI Label's own is 255 times that of 0/255 masks."""

    def __init__(self, bundle: Path) -> None:
        super().__init__(bundle, "Dice of proposed and final labels")

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, float]:
        tags = request.get("y", DefaultLabelTag.FINAL), request.get("y_pred", DefaultLabelTag.ORIGINAL)
        result = {}
        for image in datastore.list_images():
            final, proposed = (self.read(datastore, image, tag) for tag in tags)
            if final is None or proposed is None:
                continue
            if final.shape != proposed.shape:
                logger.warning("%s: labels of shapes %s and %s", image, final.shape, proposed.shape)
                continue
            both = int(final.sum()) + int(proposed.sum())
            result[image] = 2.0 * int((final & proposed).sum()) / both if both else 1.0
            datastore.update_image_info(image, {"dice": result[image]})
        return result


class Sum(LabelScore):
    """Labelled pixels and slices of each label."""

    def __init__(self, bundle: Path) -> None:
        super().__init__(bundle, "Labelled pixels and slices")

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, dict[str, int]]:
        result = {}
        for image in datastore.list_images():
            for tag in (DefaultLabelTag.FINAL.value, DefaultLabelTag.ORIGINAL.value):
                label = self.read(datastore, image, tag)
                if label is None:
                    continue
                counts = {"sum": int(label.sum()), "slices": int(label.any((1, 2)).sum())}
                datastore.update_label_info(image, tag, counts)
                result[f"{tag}/{image}"] = counts
        return result


def _bundles(folder: Path, names: str) -> list[Path]:
    """The folders of the bundles of some names, or of all.

    Raises:
        ValueError: there is none of a name, or none at all.
    """
    known = {path.parent.parent.name: path.parent.parent for path in folder.glob("*/configs/metadata.json")}
    wanted = [name.strip() for name in names.split(",") if name.strip()] or sorted(known)
    missing = [name for name in wanted if name not in known]
    if missing or not wanted:
        raise ValueError(
            f"no bundle {', '.join(missing)} below {folder}; there is {', '.join(known) or 'none'}"
        )
    return [known[name] for name in wanted]


def _metadata(bundle: Path) -> dict[str, Any]:
    """What a bundle says of itself."""
    told: dict[str, Any] = json.loads((bundle / "configs" / "metadata.json").read_text(encoding="utf-8"))
    return told


def _classifies(bundle: Path) -> bool:
    return _metadata(bundle)["medseg"].get("task") == "classification"


def _reason(error: BaseException | None) -> str:
    """What the bundle's own code had against a file or a setting, found among the causes of an error."""
    while error is not None:
        if any(kind.__name__ == "MedsegError" for kind in type(error).__mro__):
            return str(error)
        error = error.__cause__ or error.__context__
    return ""


def _own(bundle: Path, module: str) -> Any:
    """A module of the code that a bundle carries."""
    name = f"{_metadata(bundle)['medseg']['package']}.export.labelling.{module}"
    if name not in sys.modules:
        sys.path.insert(0, str(bundle))
        try:
            importlib.import_module(name)
        finally:
            sys.path.remove(str(bundle))
    return sys.modules[name]
