"""What a run's model says of some of its test cases: the probability of each pixel, computed anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.errors import MedsegError
from medseg.report.runs import Run

if TYPE_CHECKING:
    import torch

#: how far the Dice of a prediction may be from the run's own before the pictures are said not to be the run's
CLOSE = 1e-6


@dataclass(frozen=True)
class Predictions:
    """A model's output for some cases, in the order in which they were asked for.

    Args:
        cases: their names.
        images: one ``(C, H, W)`` each, of the pixels' own depth, as the network gets them before normalising.
        references: one ``(H, W)`` each, boolean.
        probabilities: one ``(H, W)`` each, float32, 0 to 1: that the pixel is of a lesion.
        dice: of each prediction at 0.5 against its reference.
    """

    cases: tuple[str, ...]
    images: np.ndarray = field(repr=False)
    references: np.ndarray = field(repr=False)
    probabilities: np.ndarray = field(repr=False)
    dice: np.ndarray = field(repr=False)


def predict(run: Run, cases: Sequence[str], prepared: Path, device: str = "auto") -> Predictions:
    """Build a run's network, load its weights, and predict test cases as its evaluation did.

    Nothing of the bundle's configs is executed: the network is built by name, and weights are read as plain tensors.

    Args:
        run: the run.
        cases: names of cases of its test part.
        prepared: folder of indexes, splits and arrays.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:1``.

    Raises:
        MedsegError: the weights or the images are not there, or a case is not of the test part.
    """
    import torch

    knobs = knobs_of(run)
    part, normalization = testing_part(run, prepared)
    place = {case: position for position, case in enumerate(part.cases)}
    for case in cases:
        if case not in place:
            raise MedsegError(
                f"{run.bundle.name}: case {case!r} is not of the test part of {run.folder.name}"
            )
    where = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
    network = _network(run, knobs, where)
    batch = part[[place[case] for case in cases]]
    amp = where.type == "cuda" and bool(run.record.get("settings", {}).get("amp"))
    logits = _logits(network, batch, where, normalization, amp)
    return _predictions(tuple(cases), batch, logits)


def knobs_of(run: Run) -> dict[str, Any]:
    """The values at the top of the run's ``train.yaml``, with what the run overrode."""
    return {**run.bundle.read("train"), **run.record.get("overrides", {})}


def testing_part(run: Run, prepared: Path) -> tuple[Any, str | None]:
    """The run's test part, and the normalisation that its batches need.

    Raises:
        MedsegError: the images are not there, or are not those that the run was tested on.
    """
    from medseg.data.prepared import prepare

    knobs = knobs_of(run)
    samples = prepare(
        run.keys["dataset"],
        None,
        prepared,
        run.keys["split"],
        int(run.keys["repeat"]),
        image_size=knobs["image_size"],
        channels=knobs["channels"],
        preprocess=knobs.get("preprocess") or (),
        preprocess_arguments=knobs.get("preprocess_arguments") or {},
    )
    known = run.record.get("tags", {}).get("data_fingerprint")
    if known and known != samples.fingerprint:
        raise MedsegError(f"{run.keys['dataset']}: the images have changed since the run was made")
    return samples.part("testing"), samples.normalization


def _network(run: Run, knobs: Mapping[str, Any], device: torch.device) -> torch.nn.Module:
    from medseg.bundle.network import load_weights
    from medseg.models import build

    weights = run.weights
    if weights is None:
        raise MedsegError(f"{run.bundle.name}: the weights of repeat {run.folder.name} were not kept")
    network = build(
        knobs["model_name"],
        knobs.get("model_arguments") or {},
        in_channels=knobs["channels"],
        out_channels=knobs["classes"],
    )
    try:
        load_weights(network, weights)
    except MedsegError as error:  # a report tells no path
        raise MedsegError(f"{run.bundle.name}: {str(error).replace(str(weights), weights.name)}") from error
    return network.to(device).eval()


def _logits(
    network: torch.nn.Module,
    batch: Mapping[str, torch.Tensor],
    device: torch.device,
    normalization: str | None,
    amp: bool,
) -> torch.Tensor:
    """Logits ``(N, K, H, W)``, one case at a time, so that a large network needs no more memory than for one."""
    import torch

    from medseg.engine.device import amp_dtype, prepare_batch

    parts = []
    with torch.inference_mode():
        for number in range(len(batch["image"])):
            one = {name: values[number : number + 1] for name, values in batch.items()}
            image, _ = prepare_batch(one, device, normalization=normalization)
            with torch.autocast(device.type, dtype=amp_dtype(), enabled=amp):
                parts.append(network(image).float().cpu())
    return torch.cat(parts)


def _predictions(
    cases: tuple[str, ...], batch: Mapping[str, torch.Tensor], logits: torch.Tensor
) -> Predictions:
    from medseg.metrics import per_case
    from medseg.metrics.overlap import binarise

    several = logits.shape[1] > 1
    # of several channels the first is the background
    probability = 1 - logits.softmax(1)[:, 0] if several else logits.sigmoid()[:, 0]
    reference = batch["label"].bool()
    return Predictions(
        cases,
        batch["image"].numpy(),
        reference[:, int(several) :].any(1).numpy(),
        probability.numpy(),
        per_case(binarise(logits), reference, ["dice"])["dice"],
    )


def departure(predictions: Predictions, stored: Mapping[str, float]) -> str:
    """A sentence if predictions are not those that a run was judged by, such as after a run on another device.

    Args:
        predictions: the new ones.
        stored: case -> the run's own Dice.
    """
    gaps = [abs(d - stored.get(case, d)) for case, d in zip(predictions.cases, predictions.dice, strict=True)]
    widest = max(gaps, default=0.0)
    if widest <= CLOSE:
        return ""
    return f"the Dice of its cases, predicted anew, differs from the run's own by up to {widest:.2g}"
