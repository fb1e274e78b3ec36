"""The packages of scripts/gpu-check for a machine without network: collected as wheels here, installed there.

    python scripts/gpu_wheels.py DIR     download into DIR what such a machine lacks

Collecting runs in medseg's own environment and needs an index; installing needs the machine's own pip alone.
"""

from __future__ import annotations

import configparser
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
#: what the machine has: torch and what came with it, and what its image holds besides
MACHINE = """
aiohttp annotated-doc anyio attrs certifi charset-normalizer click cloudpickle cycler filelock fsspec h11
hypothesis idna iniconfig jinja2 joblib kiwisolver lazy-loader markdown-it-py markupsafe matplotlib
narwhals networkx numpy opencv-python-headless packaging pandas pillow pluggy protobuf pyarrow pygments
pyparsing pytest pytest-xdist python-dateutil pyyaml requests rich scikit-image scikit-learn scipy six
sortedcontainers sympy threadpoolctl tifffile timm torch torchvision tqdm triton typing-extensions
urllib3 werkzeug zipp
"""
GIVEN = frozenset(MACHINE.split())
#: what the CUDA tests import besides medseg's own requirements
EXTRA = ("pytest>=8.0",)
PYTHON = "3.12"
#: the platforms of its wheels, as pip wants them: each by its exact number
PLATFORMS = (
    *(f"manylinux_2_{n}_x86_64" for n in range(39, 4, -1)),
    "manylinux2014_x86_64",
    "manylinux1_x86_64",
)


def canonical(name: str) -> str:
    """A distribution's name as PEP 503 spells it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements() -> list[str]:
    """What setup.cfg says medseg needs."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    return config["options"]["install_requires"].split("\n")[1:]


def collect(folder: Path) -> list[Path]:
    """Download what medseg needs, and its needs in turn, as far as the machine lacks it.

    Versions are those of the environment that runs this, which the tests have seen.

    Returns:
        The wheels in the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.whl"):
        old.unlink()
    target = ["--python-version", PYTHON, "--implementation", "cp", "--only-binary=:all:", "--no-deps"]
    platforms = [word for platform in PLATFORMS for word in ("--platform", platform)]
    command = [sys.executable, "-m", "pip", "download", "-q", *target, *platforms, "-d", str(folder)]
    subprocess.run([*command, *missing()], check=True)
    return sorted(folder.glob("*.whl"))


def missing() -> list[str]:
    """The distributions to carry, as ``name==version``.

    Raises:
        PackageNotFoundError: this environment lacks one of them; install medseg with its test extra.
    """
    from packaging.requirements import Requirement

    versions: dict[str, str] = {}
    waiting = [Requirement(text) for text in (*requirements(), *EXTRA)]
    while waiting:
        need = waiting.pop()
        name = canonical(need.name)
        if name not in GIVEN and name not in versions and _applies(need):
            versions[name] = metadata.version(name)
            waiting += [Requirement(text) for text in metadata.requires(name) or ()]
    return [f"{name}=={version}" for name, version in sorted(versions.items())]


def _applies(need: Requirement) -> bool:
    """Whether a requirement holds on that machine, no extra being asked for."""
    version = {"python_version": PYTHON, "python_full_version": f"{PYTHON}.3"}
    linux = {
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": "x86_64",
        "os_name": "posix",
    }
    return need.marker is None or need.marker.evaluate({"extra": "", **version, **linux})


def install(wheels: Path | None, site: Path, python: str) -> list[str]:
    """Install a folder of wheels into ``site``, and medseg's own metadata beside them.

    Nothing that the machine has is replaced: torch and its company are left out, the rest lies in a folder of its
    own. medseg itself runs from the checkout; its metadata (which says what it requires) is written from setup.cfg,
    since building it would need setuptools.

    Returns:
        The wheels that were installed.
    """
    site.mkdir(parents=True, exist_ok=True)
    files = sorted(wheels.glob("*.whl")) if wheels else []
    files = [
        path for path in files if canonical(path.name.split("-")[0]) not in ("torch", "torchvision", "triton")
    ]
    if files:
        quiet = [
            "-q",
            "--disable-pip-version-check",
            "--no-index",
            "--no-deps",
            "--no-cache-dir",
            "--no-compile",
        ]
        command = [
            python,
            "-m",
            "pip",
            "install",
            *quiet,
            "--upgrade",
            "--target",
            str(site),
            *map(str, files),
        ]
        subprocess.run(command, check=True, timeout=120)
    _write_metadata(site)
    return [path.name for path in files]


def _write_metadata(site: Path) -> None:
    version = re.search(
        r'__version__ = "(.+)"', (ROOT / "medseg" / "__init__.py").read_text(encoding="utf-8")
    )
    number = version.group(1) if version else "0"
    folder = site / f"medseg-{number}.dist-info"
    folder.mkdir(exist_ok=True)
    needs = "".join(f"Requires-Dist: {text}\n" for text in requirements())
    (folder / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: medseg\nVersion: {number}\n{needs}", encoding="utf-8"
    )


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    found = collect(Path(sys.argv[1]))
    print(
        f"{len(found)} wheels, {sum(path.stat().st_size for path in found) / 2**20:.1f} MiB, in {sys.argv[1]}"
    )
