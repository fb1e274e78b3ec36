"""A bundle as it leaves: the files that go, cleaned of what is local, with a manifest, as one zip or folder."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medseg import __version__
from medseg.bundle.network import weights_of
from medseg.bundle.open import CONFIGS, Bundle
from medseg.bundle.privacy import demand_no_local_path
from medseg.errors import MedsegError
from medseg.results import RUN_KEYS, atomic_write

MANIFEST = "MANIFEST.json"
FORMAT = 1
#: files that a bundle may have beside its configs
TEXTS = ("LICENSE", "docs/README.md", "configs/logging.conf")
#: configs that also travel as JSON, the only form in which ``monai.bundle.load`` looks for them
AS_JSON = ("train", "inference")
#: what only a package has; the bundle in its place has none of it
WRAPPING = (MANIFEST, "README.md", "models/model.ts", *(f"configs/{name}.json" for name in AS_JSON))
#: what of the record of the released run travels; its tags name no machine, person or case
RUN_FACTS = ("repeat", "facts", "task", "monitor", "best_epoch", "test", "weights", "tags")
RUN_TAGS = (
    "code_version",
    "torch_version",
    "data_fingerprint",
    "split_fingerprint",
    "cases_training",
    "cases_validation",
    "cases_testing",
    "parameters",
    "leaking",
    "pretrained",
    "pretrained_source",
    "pretrained_sha256",
    "pretrained_data",
)
#: what a file in a zip is dated, the earliest that the format knows, so that equal bundles are equal bytes
DATE = (1980, 1, 1, 0, 0, 0)


def files_of(bundle: Bundle, repeat: str | None = None) -> dict[str, bytes]:
    """The files of a trained bundle that leave, by their paths in it; nothing of ``repeats/``.

    Args:
        bundle: a trained bundle.
        repeat: whose weights go, such as ``0``; the released ones by default.

    Raises:
        MedsegError: a file is missing, or holds a path of this machine.
    """
    files = {name: _bytes(bundle.root / name) for name in TEXTS}
    for name in TEXTS:
        demand_no_local_path(_text(files[name], name), name)
    for name in CONFIGS:
        relative = f"configs/{name}.yaml"
        text = _without_local_weights(_text(_bytes(bundle.config(name)), relative))
        # the text too, for its comments
        for told in (_parsed(text, relative), text):
            demand_no_local_path(told, relative)
        files[relative] = text.encode()
    demand_no_local_path(bundle.metadata, "configs/metadata.json")
    files["configs/metadata.json"] = _json(bundle.metadata)
    files["models/model.pt"] = _bytes(weights_of(bundle, repeat))
    record = run_facts(bundle, repeat)
    if record:
        demand_no_local_path(record, "models/model.json")
        files["models/model.json"] = _json(record)
    return files


def run_facts(bundle: Bundle, repeat: str | None = None) -> dict[str, Any]:
    """What is known of the run that a bundle's weights come from, without anything of its machine or its cases."""
    path = bundle.root / ("models/model.json" if repeat is None else f"repeats/{repeat}/run.json")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    if not isinstance(record, dict):
        return {}
    record = {"repeat": repeat, **record} if repeat is not None else record
    facts = (*RUN_FACTS, *(key for key in record if key.startswith("best_val_")))
    kept = {key: record[key] for key in facts if record.get(key) is not None}
    for key, known in (("facts", RUN_KEYS), ("tags", RUN_TAGS)):
        if isinstance(kept.get(key), dict):
            kept[key] = {name: kept[key][name] for name in known if name in kept[key]}
    return kept


def json_configs(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The configs that MONAI's loader wants as JSON, of the same values as the YAML ones."""
    names = {f"configs/{name}.yaml": f"configs/{name}.json" for name in AS_JSON}
    return {json_: _json(_parsed(files[yaml_].decode(), yaml_)) for yaml_, json_ in names.items()}


def with_manifest(files: Mapping[str, bytes], name: str) -> dict[str, bytes]:
    """The files and ``MANIFEST.json``: the bundle's name, and size and SHA-256 of every file."""
    listed = {path: {"bytes": len(files[path]), "sha256": sha256(files[path])} for path in sorted(files)}
    manifest = {"format": FORMAT, "bundle": name, "medseg": __version__, "files": listed}
    return {**files, MANIFEST: _json(manifest)}


def write_zip(files: Mapping[str, bytes], name: str, path: Path) -> None:
    """Write files as one zip below one folder, the same bytes for the same files.

    They are stored and not compressed: weights hardly shrink, and compressed bytes differ between versions of zlib.
    """
    with atomic_write(path, "wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for relative in sorted(files):
            entry = zipfile.ZipInfo(f"{name}/{relative}", DATE)
            entry.create_system, entry.external_attr = 3, 0o100644 << 16  # a plain file, as on Unix
            archive.writestr(entry, files[relative])


def write_folder(files: Mapping[str, bytes], folder: Path) -> None:
    """Write files below a new folder."""
    for relative, content in files.items():
        path = folder / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _without_local_weights(text: str) -> str:
    """A config whose ``pretrained`` is a path keeps the file's name alone; the trained weights are in the bundle."""
    lines = text.splitlines(keepends=True)
    for number, line in enumerate(lines):
        key, colon, value = line.partition(":")
        if key == "pretrained" and colon and ("/" in value or "\\" in value):
            name = value.strip().strip("'\"").replace("\\", "/").rstrip("/").rpartition("/")[2]
            lines[number] = f"pretrained: {json.dumps(name)}\n"
    return "".join(lines)


def _parsed(text: str, file: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise MedsegError(f"{file}: not valid YAML ({' '.join(str(error).split())})") from None


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise MedsegError(f"{path}: no such file; a bundle needs it to leave") from None


def _text(content: bytes, file: str) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise MedsegError(f"{file}: is not UTF-8 text") from None


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n").encode()
