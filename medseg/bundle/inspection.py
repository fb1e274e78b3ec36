"""What a bundle holds and would run, told by reading it: nothing in it is run, imported or unpickled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.bundle.archive import FORMAT, MANIFEST, WRAPPING
from medseg.bundle.executable import KNOBS, TELLS_TASK, Executable, executables_of, parse, told_task
from medseg.bundle.metadata import Fault, metadata_faults
from medseg.bundle.open import Bundle
from medseg.bundle.package import Package
from medseg.errors import MedsegError

if TYPE_CHECKING:
    import torch

#: files of text that are read whole; others are hashed piece by piece
PIECE = 2**22
WEIGHTS = "models/model.pt"


@dataclass(frozen=True)
class FileFact:
    """One file of a bundle.

    Args:
        path: in the bundle.
        bytes: its size.
        sha256: of its bytes.
        manifest: ``as told``, ``changed``, ``not told``, or empty where there is no manifest.
    """

    path: str
    bytes: int
    sha256: str
    manifest: str


@dataclass(frozen=True)
class WeightFact:
    """What ``models/model.pt`` holds, read as plain tensors.

    Args:
        tensors: number of tensors; 0 where the file cannot be read safely.
        parameters: numbers in them, with the running statistics.
        dtypes: their types, in alphabetical order.
        finite: whether every number is finite.
        reason: why it cannot be read safely; empty where it can.
    """

    tensors: int = 0
    parameters: int = 0
    dtypes: tuple[str, ...] = ()
    finite: bool = False
    reason: str = ""


@dataclass(frozen=True)
class Inspection:
    """Everything that reading tells of a bundle.

    Args:
        name: of the bundle.
        source: the folder or zip.
        files: its files.
        executables: what its configs would run, and files that could be code.
        weights: of ``models/model.pt``; None where there is none.
        knobs: what its inference config says, without the template's part.
        provenance: run, repeat, scores, fingerprints, versions and pre-trained weights, as told by the bundle.
        faults: what is wrong with it.
    """

    name: str
    source: Path
    files: tuple[FileFact, ...]
    executables: tuple[Executable, ...]
    weights: WeightFact | None
    knobs: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    faults: tuple[Fault, ...] = ()

    @property
    def foreign(self) -> tuple[Executable, ...]:
        """What runs, or decides what runs, and is not of medseg's own template."""
        return tuple(one for one in self.executables if not one.of_template)

    @property
    def to_trust(self) -> tuple[Executable, ...]:
        """The foreign parts that the bundle would have in its place, where what only wraps it does not come along."""
        return tuple(one for one in self.foreign if one.file not in WRAPPING)


def inspect(package: Package) -> Inspection:
    """Read a bundle that need not be trusted.

    Args:
        package: its files.
    """
    bundle, faults = Bundle(package.root), []
    manifest, told = _manifest(package)
    facts = tuple(_file_fact(package.root, name, manifest) for name in package.files)
    faults += [*told, *_manifest_faults(facts, manifest)]
    executables: list[Executable] = []
    task = told_task(_read(package, TELLS_TASK))
    for name in package.files:
        try:
            executables += executables_of((name,), lambda file: (package.root / file).read_bytes(), task)
        except MedsegError as error:
            faults.append(Fault(name, "", str(error)))
    if not any(fault.file == "configs/metadata.json" for fault in faults):
        faults += metadata_faults(bundle)
    weights = weight_fact(package.root / WEIGHTS)
    if weights is not None and weights.reason:
        faults.append(Fault(WEIGHTS, "", weights.reason))
    return Inspection(
        package.name,
        package.source,
        facts,
        tuple(executables),
        weights,
        _knobs(package),
        _provenance(package, manifest),
        tuple(faults),
    )


def weight_fact(path: Path) -> WeightFact | None:
    """What a file of weights holds; its pickle may make tensors and nothing else (``weights_only``)."""
    if not path.is_file():
        return None
    import torch

    if _is_blown_up(path):
        return WeightFact(reason="unpacks to far more than its size, which PyTorch never writes")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a broken or hostile file fails in torch's, zipfile's or pickle's own way
        return WeightFact(reason=f"cannot be read as plain tensors ({_first_sentence(error)})")
    tensors = list(state.values()) if isinstance(state, Mapping) else []
    if not tensors or not all(isinstance(value, torch.Tensor) for value in tensors):
        return WeightFact(reason="holds no plain mapping of names to tensors")
    if not all(_is_whole(value) for value in tensors):
        return WeightFact(reason="holds tensors that are not stored whole, one number after the other")
    finite = all(_is_finite(value) for value in tensors)
    return WeightFact(
        len(tensors),
        sum(value.numel() for value in tensors),
        tuple(sorted({str(value.dtype).removeprefix("torch.") for value in tensors})),
        finite,
        "" if finite else "holds values that are not finite",
    )


def _is_blown_up(path: Path) -> bool:
    """Whether a file of weights is a zip whose parts are compressed; PyTorch stores them as they are."""
    import zipfile

    try:
        with zipfile.ZipFile(path) as archive:
            return sum(entry.file_size for entry in archive.infolist()) > 2 * path.stat().st_size
    except (zipfile.BadZipFile, OSError, ValueError):
        return False  # an older form, or broken, of which the loader tells


def _is_whole(values: torch.Tensor) -> bool:
    """Whether a tensor has as many numbers in store as its shape says; one stretched from a few could fill memory."""
    import torch

    if values.layout != torch.strided or values.is_quantized or values.device.type != "cpu":
        return False
    return values.numel() * values.element_size() <= values.untyped_storage().nbytes()


def _is_finite(values: torch.Tensor) -> bool:
    import torch

    return not values.is_floating_point() or bool(torch.isfinite(values).all())


def _first_sentence(error: Exception) -> str:
    """Torch's reason without its advice to load the file unsafely."""
    text = " ".join(str(error).split())
    found = text.find("WeightsUnpickler error:")
    return (text[found:] if found >= 0 else text)[:160].split(". ")[0]


def _manifest(package: Package) -> tuple[dict[str, dict[str, Any]], list[Fault]]:
    """What the manifest tells of each file, or why it tells nothing."""
    if MANIFEST not in package.files:
        return {}, []
    try:
        content = parse((package.root / MANIFEST).read_bytes(), MANIFEST)
    except MedsegError as error:
        return {}, [Fault(MANIFEST, "", str(error))]
    files = content.get("files")
    if content.get("format") != FORMAT:
        return {}, [Fault(MANIFEST, "format", f"is {content.get('format')!r}; this medseg reads {FORMAT}")]
    if not isinstance(files, dict) or not files:
        return {}, [Fault(MANIFEST, "files", "lists none")]
    if content.get("bundle") != package.name:
        told = f"is {content.get('bundle')!r}, but the folder is called {package.name!r}"
        return files, [Fault(MANIFEST, "bundle", told)]
    return files, []


def _file_fact(root: Path, name: str, manifest: Mapping[str, Any]) -> FileFact:
    import hashlib

    path, digest = root / name, hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            digest.update(piece)
    size, found = path.stat().st_size, digest.hexdigest()
    told = manifest.get(name)
    if not manifest or name == MANIFEST:
        state = ""
    elif not isinstance(told, dict):
        state = "not told"
    else:
        state = "as told" if (told.get("sha256"), told.get("bytes")) == (found, size) else "changed"
    return FileFact(name, size, found, state)


def _manifest_faults(facts: tuple[FileFact, ...], manifest: Mapping[str, Any]) -> list[Fault]:
    reasons = {
        "changed": "differs from its SHA-256 in the manifest",
        "not told": "is not in the manifest",
    }
    faults = [Fault(fact.path, "", reasons[fact.manifest]) for fact in facts if fact.manifest in reasons]
    here = {fact.path for fact in facts}
    return faults + [
        Fault(name, "", "is in the manifest and missing") for name in manifest if name not in here
    ]


def _knobs(package: Package) -> dict[str, Any]:
    """The values of a bundle's train config, or else of its inference config, above the template's part."""

    for name in ("configs/train.yaml", "configs/inference.yaml"):
        if name in package.files:
            try:
                config = parse((package.root / name).read_bytes(), name)
            except MedsegError:
                continue
            return {str(key): value for key, value in config.items() if key in KNOBS}
    return {}


def _provenance(package: Package, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What the bundle tells of where it comes from."""
    told: dict[str, Any] = {}
    metadata = _read(package, "configs/metadata.json")
    for key in ("version", "monai_version", "pytorch_version", "data_source", "copyright"):
        told[key] = metadata.get(key)
    told |= {f"packages {k}": v for k, v in _mapping(metadata.get("required_packages_version")).items()}
    own = _mapping(metadata.get("medseg"))
    told |= {f"experiment {k}": v for k, v in own.items() if k != "labels"}
    labels = own.get("labels")
    names = [_mapping(one).get("name") for one in labels] if isinstance(labels, list) else []
    told["labels"] = ", ".join(map(str, names)) or None
    record = _read(package, "models/model.json")
    best = [key for key in record if key.startswith("best_val_")]
    told |= {key: record.get(key) for key in ("repeat", *best, "best_epoch")}
    for part in ("test", "tags"):
        told |= {f"{part} {key}": value for key, value in _mapping(record.get(part)).items()}
    weights = record.get("weights")
    for number, one in enumerate(weights if isinstance(weights, list) else ()):
        told |= {f"pre-trained {number} {key}": value for key, value in _mapping(one).items()}
    if manifest:
        told["exported by medseg"] = _read(package, MANIFEST).get("medseg")
    return {key: value for key, value in told.items() if value is not None}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _read(package: Package, name: str) -> dict[str, Any]:
    """A config as plain values; nothing where it is missing or not plain."""
    if name not in package.files:
        return {}
    try:
        return parse((package.root / name).read_bytes(), name)
    except MedsegError:
        return {}
