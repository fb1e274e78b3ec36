"""What classification adds to MONAI's engines: mixed batches, metrics of a whole part, results per case."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from ignite.metrics import Metric
from monai.config import KeysCollection
from monai.engines.workflow import Workflow
from monai.transforms import MapTransform
from monai.utils import evenly_divisible_all_gather
from torch import Tensor

from medseg.augmentations.protocol import parse_augment
from medseg.engine.device import prepare_batch
from medseg.engine.record import RunRecord, now
from medseg.errors import MedsegError

#: between the names of several classes in one cell of a table, as in ChestX-ray14's own
SEPARATOR = "|"


class MixedBatches:
    """Takes training batches to the device, and mixes their images and labels where the augmentation does so.

    Args:
        names: augmentations joined by ``-``; those of single samples are not done here.
        arguments: of them, by name.
        normalization: name of a normalising transform; none if not given.
    """

    def __init__(
        self,
        names: str = "vanilla",
        arguments: Mapping[str, Mapping[str, Any]] | None = None,
        normalization: str | None = None,
    ) -> None:
        from medseg.augmentations.mixing import mixer

        single = parse_augment(names)[0]
        self.mix: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = mixer(single, arguments or {})
        self.normalization = normalization

    def __call__(
        self, batch: dict[str, Tensor], device: torch.device, non_blocking: bool = False, **_: Any
    ) -> tuple[Tensor, Tensor]:
        """Images ``(N, C, H, W)`` float32 and labels, as stored or of a mixture float32, whose rows keep their sum."""
        image, label = prepare_batch(batch, device, non_blocking, self.normalization)
        return (image, label) if self.mix is None else self.mix(image, label.float())


def check_classes(root: str, classes: Sequence[str]) -> None:
    """Raise if a data set's classes are not, in their order, those that its bundle says of its network's output.

    Args:
        root: the bundle's folder.
        classes: of the data set, as it is indexed now.

    Raises:
        MedsegError: they are others, or in another order.
    """
    from medseg.bundle.network import read_labels
    from medseg.bundle.open import Bundle

    bundle = Bundle(Path(root))
    told = [label.name for label in read_labels(bundle)]
    if told != list(classes):
        raise MedsegError(
            f"{bundle.name} has the classes {told}, and its data set now {list(classes)}: each value of its network"
            " would get another name; compose a new bundle (medseg bundle create), or index the images as they were"
        )


def key_metric(
    monitor: str, names: Sequence[str], activation: str, multilabel: bool
) -> dict[str, SetMetrics]:
    """The metrics of validation as MONAI's evaluator takes them: the monitored one first, under its name.

    Args:
        monitor: the metric that chooses the weights; higher is better.
        names: further metrics of the curves.
        activation: see :func:`medseg.metrics.classification.probabilities`.
        multilabel: whether an image may have several classes or none.

    Raises:
        MedsegError: the monitored metric is unknown, or lower is better.
    """
    from medseg.metrics import BETTER
    from medseg.metrics.classification import CLASS_METRICS

    if CLASS_METRICS[monitor] and BETTER.get(monitor) != "higher":
        raise MedsegError(f"monitor={monitor!r}: give a metric of which more is better, such as roc_auc")
    every = [monitor, *(name for name in names if name != monitor)]
    return {f"val_{monitor}": SetMetrics(every, activation, multilabel)}


class SetMetrics(Metric):
    """Metrics of all images of a part together, from probabilities that stay on the device until the epoch ends.

    Sets ``val_<name>`` in the engine's metrics for every name. Under several processes the images of all are used.

    Args:
        names: classification metrics; the first is the key metric.
        activation: see :func:`medseg.metrics.classification.probabilities`.
        multilabel: whether an image may have several classes or none.
    """

    def __init__(self, names: Sequence[str], activation: str = "softmax", multilabel: bool = False) -> None:
        self.names = list(names)
        self.activation = activation
        self.multilabel = multilabel
        super().__init__(output_transform=lambda output: (output["pred"], output["label"]))

    def reset(self) -> None:
        """Forget the images seen."""
        self._seen: list[Tensor] = []

    def update(self, output: tuple[Tensor, Tensor]) -> None:
        """Keep one batch: logits ``(N, K)`` and labels of that shape."""
        logits, label = output
        found = likelihoods(logits, self.activation)
        self._seen.append(torch.stack((found, label.to(found)), 1))

    def compute(self) -> dict[str, float]:
        """Every metric of the images seen.

        Raises:
            MedsegError: the first cannot be had of them.
        """
        from medseg.metrics.classification import of_set

        seen = torch.cat(self._seen)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            seen = evenly_divisible_all_gather(seen, concat=True)
        found, truth = seen.double().cpu().numpy().swapaxes(0, 1)
        values = of_set(found, truth, self.multilabel, self.names)
        if math.isnan(values[self.names[0]]):
            raise MedsegError(
                f"{self.names[0]} cannot be computed of the {len(truth)} validation images: a class is missing there;"
                " use a split with more of them, or monitor another metric (--set monitor=accuracy)"
            )
        return {name: values[name] for name in self.names}

    def completed(self, engine: Engine, name: str) -> None:
        """Publish the metrics as numbers of their own, so that curves and best-epoch logic can read them."""
        engine.state.metrics.update({f"val_{key}": value for key, value in self.compute().items()})


def likelihoods(logits: Tensor, activation: str) -> Tensor:
    """Probabilities of logits ``(N, K)``, in float32 or better, finite.

    Raises:
        MedsegError: a logit is not finite.
    """
    from medseg.metrics.classification import probabilities

    found = probabilities(logits.to(torch.promote_types(logits.dtype, torch.float32)), activation)
    if not torch.isfinite(found).all():
        raise MedsegError("the network gives values that are not finite; lower learning_rate")
    return found


class Probabilitiesd(MapTransform):
    """Turns the logits ``(K,)`` of a classifier into probabilities.

    Args:
        keys: of the logits.
        activation: see :func:`medseg.metrics.classification.probabilities`.
    """

    def __init__(self, keys: KeysCollection, activation: str) -> None:
        super().__init__(keys)
        self.activation = activation

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        """The item with the values of ``keys`` replaced."""
        changed = {key: likelihoods(data[key][None], self.activation)[0] for key in self.key_iterator(data)}
        return {**data, **changed}


class ClassResults:
    """Writes what was predicted of each test case, the metrics of all with intervals, and a picture; closes the record.

    ``cases.csv`` is written last and at once: where it is, the run is done.

    Args:
        record: the run's record.
        part: the prepared part that is evaluated, in the order of the loader.
        classes: names of the classes, in the order of the logits.
        activation: see :func:`medseg.metrics.classification.probabilities`.
        multilabel: whether an image may have several classes or none.
    """

    def __init__(
        self, record: RunRecord, part: Any, classes: Sequence[str], activation: str, multilabel: bool
    ) -> None:
        self.record = record
        self.part = part
        self.classes = list(classes)
        self.activation = activation
        self.multilabel = multilabel

    def attach(self, engine: Workflow) -> None:
        """Act on every batch and at the end."""
        engine.add_event_handler(Events.STARTED, self._begin)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)
        engine.add_event_handler(Events.COMPLETED, self._end)

    def _begin(self, engine: Workflow) -> None:
        self._found: list[np.ndarray] = []
        self._truth: list[np.ndarray] = []

    def _add(self, engine: Workflow) -> None:
        found = likelihoods(engine.state.output["pred"], self.activation)
        self._found.append(found.double().cpu().numpy())
        self._truth.append(engine.state.output["label"].cpu().numpy())

    def _end(self, engine: Workflow) -> None:
        from medseg.engine.class_gallery import draw
        from medseg.metrics.classification import intervals, of_set
        from medseg.results import write_csv

        found, truth = np.concatenate(self._found), np.concatenate(self._truth).astype(np.uint8)
        folder = self.record.folder
        draw(self.part, found, truth, self.classes, self.record.name, folder / "cases.png", self.multilabel)
        values = of_set(found, truth, self.multilabel)
        told = {name: None if math.isnan(value) else round(value, 6) for name, value in values.items()}
        table = intervals(found, truth, self.part.groups, self.multilabel)
        write_csv(table, folder / "metrics.csv")
        frame = self._cases(found, truth)
        self.record.update(
            status="done",
            task="classification",
            test=told,
            cases=len(frame),
            groups=len(set(self.part.groups)),
            ended=now(),
        )
        write_csv(frame, folder / "cases.csv")
        self.record.send(force=True)

    def _cases(self, found: np.ndarray, truth: np.ndarray) -> Any:
        import pandas as pd

        from medseg.metrics.classification import per_case

        facts = {**self.record.facts, "case": self.part.cases, "group": self.part.groups}
        said = {
            "truth": class_names(truth, self.classes),
            "predicted": class_names(decided(found, self.multilabel), self.classes),
        }
        chances = {f"p_{name}": found[:, k] for k, name in enumerate(self.classes)}
        return pd.DataFrame({**facts, **per_case(found, truth, self.multilabel), **said, **chances})


def decided(found: np.ndarray, multilabel: bool) -> np.ndarray:
    """The classes that probabilities ``(N, K)`` speak for: the likeliest, or of multi-label sets all from 0.5 on.

    Shape:
        result ``(N, K)`` uint8 of 0 and 1.
    """
    if multilabel:
        return (found >= 0.5).astype(np.uint8)
    return np.eye(found.shape[1], dtype=np.uint8)[found.argmax(1)]


def class_names(chosen: np.ndarray, classes: Sequence[str]) -> list[str]:
    """The names of each row's classes, several joined by ``|``; empty for none.

    >>> class_names(np.array([[1, 0], [1, 1], [0, 0]]), ["effusion", "mass"])
    ['effusion', 'effusion|mass', '']
    """
    return [SEPARATOR.join(classes[k] for k in np.flatnonzero(row).tolist()) for row in chosen]
