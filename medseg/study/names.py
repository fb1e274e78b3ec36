"""The names in a study file, looked up in the rooms that they are of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from medseg.augmentations import AUGMENTATIONS
from medseg.augmentations.protocol import parse_augment, with_protocol
from medseg.errors import MedsegError, unknown
from medseg.losses import LOSSES
from medseg.models import MODELS
from medseg.study.document import Document, Place
from medseg.study.spec import Study
from medseg.transforms import TRANSFORMS


def check_names(document: Document, study: Study) -> None:
    """Note every name of a model, loss, step or augmentation that there is not, with the nearest that there is."""
    for number, model in enumerate(study.axes["model"]):
        _look_up(document, ("axes", "model", number), MODELS, model)
    for number, loss in enumerate(study.axes["loss"]):
        _look_up(document, ("axes", "loss", number), LOSSES, loss)
    for number, steps in enumerate(study.axes["preprocess"]):
        for step in steps:
            _look_up(document, ("axes", "preprocess", number), TRANSFORMS, step)
    for number, augment in enumerate(study.axes["augment"]):
        names, protocol = parse_augment(augment)
        for name in names.split("-"):
            _look_up(document, ("axes", "augment", number), AUGMENTATIONS, name)
        try:
            with_protocol(names, protocol)
        except MedsegError as error:
            document.fault(("axes", "augment", number), error)
    _check_arguments(document, study)


def _look_up(document: Document, place: Place, room: Any, name: str) -> None:
    try:
        room[name]
    except MedsegError as error:
        document.fault(place, error)


def _check_arguments(document: Document, study: Study) -> None:
    """Note arguments for steps or augmentations that no level has; a run takes those that are for its own."""
    steps = {step for level in study.axes["preprocess"] for step in level}
    augments = {name for level in study.axes["augment"] for name in augment_names(level)}
    for place, values in _given(study):
        for setting, known in (("preprocess_arguments", steps), ("augment_arguments", augments)):
            given = values.get(setting)
            for name in given if isinstance(given, dict) else ():
                if name not in known:
                    kind = f"name in {setting} (no level of its axis has it)"
                    document.fault((*place, setting), unknown(kind, name, known))


def _given(study: Study) -> Iterator[tuple[Place, dict[str, Any]]]:
    yield ("fixed",), study.fixed
    for number, rule in enumerate(study.rules):
        yield ("settings", number, "set"), rule["set"]


def augment_names(augment: str) -> set[str]:
    """The augmentations of a level, and the members of the groups among them."""
    names = set(parse_augment(augment)[0].split("-"))
    known = [name for name in names if name in AUGMENTATIONS]
    return names.union(*(AUGMENTATIONS[name].facts.get("members") or () for name in known))
