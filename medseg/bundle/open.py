"""Finding and reading bundles, without running anything in them."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from medseg.errors import MedsegError, unknown

CONFIGS = ("train", "evaluate", "inference", "multi_gpu_train")


def running_root() -> str:
    """The folder of the bundle that MONAI is running, so that configs hold no path and a bundle can be moved.

    MONAI's ``ConfigWorkflow.run`` puts the running bundle's folder second in ``sys.path``, behind the folder that
    ``python -m`` puts first; so the first one is asked last, and standing in another bundle's folder does no harm.

    Raises:
        MedsegError: no bundle is running; give ``bundle_root``.
    """
    for entry in (*sys.path[1:], *sys.path[:1], "."):
        if (Path(entry) / "configs" / "metadata.json").is_file():
            return str(Path(entry).resolve())
    raise MedsegError("cannot tell which bundle is running: pass --bundle_root FOLDER")


@dataclass(frozen=True)
class Bundle:
    """A read-only handle on a bundle folder."""

    root: Path

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.root.name

    def config(self, name: str) -> Path:
        """The file of a config, such as ``train``; it need not exist."""
        return self.root / "configs" / f"{name}.yaml"

    @cached_property
    def metadata(self) -> dict[str, Any]:
        """``configs/metadata.json`` as it stands.

        Raises:
            MedsegError: it is missing or no JSON object.
        """
        path = self.root / "configs" / "metadata.json"
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise MedsegError(f"{self.root}: no bundle here (configs/metadata.json is missing)") from None
        except ValueError as error:
            raise MedsegError(f"{path}: not valid JSON ({error})") from None
        if not isinstance(content, dict):
            raise MedsegError(f"{path}: holds no JSON object")
        return content

    def read(self, name: str) -> dict[str, Any]:
        """A config as plain values; its expressions stay text.

        Raises:
            MedsegError: it is missing or no YAML mapping; the line is named.
        """
        import yaml

        path = self.config(name)
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise MedsegError(f"{path}: no such file") from None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise MedsegError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from None
        if not isinstance(content, dict):
            raise MedsegError(f"{path}: holds no mapping of keys to values")
        return content

    def run_folder(self, repeat: int, split: str = "holdout") -> Path:
        """Where a repeat keeps its weights, curves and cases; see ``run_folder``."""
        return Path(run_folder(str(self.root), repeat, split))

    def finished(self) -> list[str]:
        """The names of the run folders whose ``cases.csv`` is there, such as ``0`` or ``official-2``."""
        names = (path.parent.name for path in self.root.glob("repeats/*/cases.csv"))
        return sorted((name for name in names if name.rpartition("-")[2].isdigit()), key=_by_number)


def run_folder(root: str, repeat: int, split: str = "holdout") -> str:
    """Where a bundle keeps a repeat: ``repeats/<k>``, and ``repeats/<split>-<k>`` for another split than holdout.

    Args:
        root: the bundle's folder.
        repeat: number of the repeat, from 0.
        split: name of the split.
    """
    return f"{root}/repeats/{repeat}" if split == "holdout" else f"{root}/repeats/{split}-{repeat}"


def _by_number(name: str) -> tuple[str, int]:
    split, _, repeat = name.rpartition("-")
    return split, int(repeat)


def is_bundle(folder: Path) -> bool:
    """Whether a folder looks like a bundle."""
    return (folder / "configs" / "metadata.json").is_file()


def bundles_in(folder: Path) -> list[Bundle]:
    """The bundles directly below a folder, by name."""
    if not folder.is_dir():
        return []
    return [Bundle(p) for p in sorted(folder.iterdir()) if p.is_dir() and is_bundle(p)]


def find(name_or_folder: str, folder: Path) -> Bundle:
    """The bundle of a name below ``folder``, or in a folder given by its path.

    Raises:
        MedsegError: there is none; the nearest names are given.
    """
    for path in (Path(name_or_folder), folder / name_or_folder):
        if is_bundle(path):
            return Bundle(path.resolve())
    raise unknown("bundle", name_or_folder, (b.name for b in bundles_in(folder)))
