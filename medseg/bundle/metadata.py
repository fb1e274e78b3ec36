"""The faults of a bundle's ``metadata.json``: MONAI's schema, and what running the bundle needs beyond it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING

from medseg.bundle.open import Bundle
from medseg.errors import MedsegError

if TYPE_CHECKING:
    from jsonschema import ValidationError

SCHEMA = "meta_schema_20240725.json"


@dataclass(frozen=True)
class Fault:
    """One thing wrong with a bundle: the file, the key in it, and the reason."""

    file: str
    key: str
    reason: str


def metadata_faults(bundle: Bundle) -> list[Fault]:
    """What is wrong with ``configs/metadata.json``; nothing when the file is missing."""
    from jsonschema import Draft201909Validator

    file = "configs/metadata.json"
    if not (bundle.root / file).is_file():
        return []
    try:
        metadata = bundle.metadata
    except MedsegError as error:
        return [Fault(file, "", str(error))]
    schema = json.loads((files("medseg.bundle") / "schema" / SCHEMA).read_text(encoding="utf-8"))
    errors = map(_innermost, Draft201909Validator(schema).iter_errors(metadata))
    faults = [Fault(file, "::".join(map(str, e.absolute_path)), e.message[:200]) for e in errors]
    if faults:
        return sorted(set(faults), key=lambda fault: fault.key)
    if metadata["version"] not in metadata.get("changelog", {}):
        faults.append(Fault(file, "changelog", f"does not list version {metadata['version']!r}"))
    for side, name in (("inputs", "image"), ("outputs", "pred")):
        told = metadata["network_data_format"][side].get(name)
        shape = told.get("spatial_shape") if isinstance(told, dict) else None
        if (
            not isinstance(shape, list)
            or len(shape) != 2
            or not all(isinstance(length, int) and length > 0 for length in shape)
        ):
            key = f"network_data_format::{side}::{name}"
            faults.append(Fault(file, key, "is missing or has no spatial_shape of two numbers of pixels"))
    return faults


def _innermost(error: ValidationError) -> ValidationError:
    """The error itself, or where the schema allows several forms, the fault in the form that comes nearest."""
    while error.context:
        error = max(error.context, key=lambda inner: len(inner.absolute_path))
    return error
