"""What a measurement was made on, as JSON: card, driver, torch, cuDNN, packages, code.

python scripts/bench/machine.py [--device cuda] [--json FILE]
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import os
import platform
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

import torch

PACKAGES = ("monai", "ignite", "mlflow", "numpy", "pandas", "PIL")
ROOT = Path(__file__).resolve().parents[2]


def version(package: str) -> str:
    """The version of a package, or why it cannot be imported."""
    try:
        return str(importlib.import_module(package).__version__)
    except Exception as error:  # a package that breaks on import must not hide the other facts
        return f"absent ({type(error).__name__}: {error})"


def driver() -> str:
    """The version of the card's driver, as nvidia-smi tells it."""
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError) as error:
        return f"unknown ({type(error).__name__})"


def code() -> str:
    """medseg's version and a hash of its sources, since a copied tree has no git history."""
    from medseg import __version__

    files = sorted((ROOT / "medseg").rglob("*.py"))
    content = b"".join(file.read_bytes() for file in files)
    return f"{__version__}, sources {hashlib.sha256(content).hexdigest()[:12]}"


def facts(device: torch.device) -> dict[str, str]:
    """The facts in the order in which they are read."""
    table = {"date": datetime.now(timezone.utc).isoformat(timespec="seconds")}
    if device.type == "cuda":
        card = torch.cuda.get_device_properties(device)
        table |= {
            "card": f"{card.name}, {card.total_memory / 2**30:.0f} GiB, compute {card.major}.{card.minor}",
            "driver": driver(),
            "CUDA of torch": str(torch.version.cuda),
            "cuDNN": str(torch.backends.cudnn.version()),
            "bfloat16": str(torch.cuda.is_bf16_supported(including_emulation=False)),
        }
    else:
        table["card"] = f"none (CPU: {platform.processor() or platform.machine()})"
    table |= {
        "CPU cores": str(os.cpu_count()),
        "Python": platform.python_version(),
        "torch": torch.__version__,
    }
    return table | {name: version(name) for name in PACKAGES} | {"medseg": code()}


def main() -> int:
    """Print the facts; 1 if there is no such device or MONAI cannot be imported."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print(f"no CUDA device: torch {torch.__version__} sees none", file=sys.stderr)
        return 1
    table = facts(device)
    text = json.dumps(table, indent=2)
    print(text)
    if arguments.json:
        arguments.json.write_text(text, encoding="utf-8")
    missing = [name for name in ("monai", "ignite") if table[name].startswith("absent")]
    if missing:
        print(f"{', '.join(missing)} cannot be imported; carry them with --wheels", file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
