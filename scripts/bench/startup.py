"""Start-up of the command line as whole processes, against bare Python and an import of MONAI, interleaved.

    python scripts/bench/startup.py [--rounds 9] [--json FILE]

Each process must end well and print what it should, or the bench stops. Times are medians of the processor time of
the process and of its wall time; the ratio is of processor time to that of ``python -c pass`` in the same round.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

#: what the console script ``medseg`` does
MEDSEG = "from medseg.cli import main; main(prog_name='medseg')"
#: name -> arguments of Python, and a word that must be printed
PROCESSES = {
    "python -c pass": (["-c", "pass"], ""),
    "medseg --help": (["-c", MEDSEG, "--help"], "bundle"),
    "medseg losses": (["-c", MEDSEG, "losses"], "dice"),
    "import torch": (["-c", "import torch; print(torch.__version__)"], "."),
    "import monai": (["-c", "import monai; print(monai.__version__)"], "."),
}
BARE = "python -c pass"


def spent(name: str) -> tuple[float, float]:
    """Seconds of processor time and of wall time of one process."""
    arguments, word = PROCESSES[name]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode or word not in done.stdout:
        sys.exit(f"{name} failed, so its time says nothing:\n{done.stderr or done.stdout}")
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime, wall


def main(command: Sequence[str] | None = None) -> None:
    """Measure, print and optionally write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument(
        "--cold", action="store_true", help="count the first round too, when the files are not yet in memory"
    )
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args(command)
    skipped = 0 if arguments.cold else 1
    rounds = [{name: spent(name) for name in PROCESSES} for _ in range(arguments.rounds + skipped)][skipped:]
    rows = []
    for name in PROCESSES:
        ratios = [seconds[name][0] / seconds[BARE][0] for seconds in rounds]
        row = {
            "name": name,
            "cpu_s": statistics.median(seconds[name][0] for seconds in rounds),
            "wall_s": statistics.median(seconds[name][1] for seconds in rounds),
            "ratio": statistics.median(ratios),
            "ratio_min": min(ratios),
            "ratio_max": max(ratios),
        }
        spread = f"({row['ratio_min']:.1f} to {row['ratio_max']:.1f})"
        print(
            f"{name:16} {row['cpu_s']:6.3f} s processor {row['wall_s']:6.3f} s wall"
            f" {row['ratio']:7.1f} of bare Python {spread}"
        )
        rows.append(row)
    if arguments.json:
        settings = vars(arguments) | {"json": None, "python": sys.version.split()[0]}
        arguments.json.write_text(json.dumps({"settings": settings, "results": rows}, indent=2))


if __name__ == "__main__":
    main()
