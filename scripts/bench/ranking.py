"""Ranking of a whole study: reading its tables against pandas file by file, and ``medseg rank`` from start to end.

    python scripts/bench/ranking.py [--rounds 5] [--losses 10] [--models 12] [--datasets 6] [--repeats 5] [--cases 200]

A study of drawn values is written to a temporary folder, as a tree of ``cases.csv`` and as one table. The readers take
turns, and must give the same values to the last bit, or the bench stops. Times are medians of wall time in seconds;
the ratio is to medseg's reader in the same round. ``rank`` is a process of its own, with all that it imports.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medseg.results import NO_NUMBER, TEXT, case_files, read_bundles, read_csv

MEDSEG = "from medseg.cli import main; main(prog_name='medseg')"
METRICS = ("dice", "iou", "recall", "precision", "specificity", "mean_iou", "hd95", "nsd")


def write_study(folder: Path, sizes: argparse.Namespace) -> tuple[Path, Path]:
    """Draw a study, and write it as bundles and as one table."""
    draw = np.random.default_rng(0)
    bundles, table = folder / "bundles", folder / "table.csv"
    pool = 5 * sizes.cases
    first = True
    with table.open("w", encoding="utf-8") as whole:
        for dataset, repeat in itertools.product(range(sizes.datasets), range(sizes.repeats)):
            cases = np.sort(draw.choice(pool, sizes.cases, replace=False))
            ease = draw.normal(0.75, 0.1, sizes.cases)
            for model, loss in itertools.product(range(sizes.models), range(sizes.losses)):
                text = run_table(draw, f"dataset{dataset}", f"model{model}", loss, repeat, cases, ease)
                file = bundles / f"dataset{dataset}__model{model}__loss{loss}/repeats/{repeat}/cases.csv"
                file.parent.mkdir(parents=True)
                file.write_text(text, encoding="utf-8")
                whole.write(text if first else text.partition("\n")[2])
                first = False
    return bundles, table


def run_table(
    draw: np.random.Generator,
    dataset: str,
    model: str,
    loss: int,
    repeat: int,
    cases: np.ndarray,
    ease: np.ndarray,
) -> str:
    """A run's ``cases.csv``: eight metrics and the facts of the masks."""
    values = np.clip(ease + 0.002 * loss + draw.normal(0, 0.03, (len(METRICS), len(cases))), 0, 1)
    keys = f"{dataset},{model},loss{loss},,vanilla,holdout,{repeat}"
    columns = zip(
        cases.tolist(), values.T.tolist(), draw.integers(1, 2**32, len(cases)).tolist(), strict=True
    )
    rows = [
        f"{keys},images/case_{case:05d},p{case // 2:04d},{','.join(map(repr, measured))},"
        f"{mask % 9000},{mask % 8999},{mask:08x}"
        for case, measured, mask in columns
    ]
    header = "dataset,model,loss,preprocess,augment,split,repeat,case,group"
    facts = "reference_px,predicted_px,prediction"
    return "\n".join([f"{header},{','.join(METRICS)},{facts}", *rows]) + "\n"


def naive(bundles: Path) -> pd.DataFrame:
    """What one writes first: pandas, file by file, with the same rules for text and missing numbers."""
    frames = []
    for file in case_files(bundles):
        columns = pd.read_csv(file, nrows=0).columns
        missing = {c: NO_NUMBER for c in columns if c not in TEXT}
        text = {c: str for c in columns if c in TEXT}
        frames.append(pd.read_csv(file, dtype=text, na_values=missing, keep_default_na=False))
    return pd.concat(frames, ignore_index=True)


def one_by_one(bundles: Path) -> pd.DataFrame:
    """medseg's reader of one file, called for each."""
    return pd.concat([read_csv(file) for file in case_files(bundles)], ignore_index=True)


READERS: dict[str, Callable[[Path], pd.DataFrame]] = {
    "medseg": read_bundles,
    "medseg, file by file": one_by_one,
    "pandas, file by file": naive,
}


def read_in_turn(bundles: Path, number: int) -> dict[str, float]:
    """Seconds of each reader in one round; the first round checks that they agree."""
    seconds, tables = {}, {}
    names = list(READERS)
    for name in names[number % len(names) :] + names[: number % len(names)]:
        began = time.perf_counter()
        tables[name] = READERS[name](bundles)
        seconds[name] = time.perf_counter() - began
    if number == 0:
        check(tables)
    return seconds


def check(tables: dict[str, pd.DataFrame]) -> None:
    """Stop unless every reader gave the same table."""
    first = tables["medseg"]
    for name, table in tables.items():
        try:
            pd.testing.assert_frame_equal(table, first, check_exact=True)
        except AssertionError as error:
            sys.exit(f"{name} and medseg differ, so their times say nothing:\n{error}")


def rank(arguments: Sequence[str]) -> float:
    """Wall seconds of one ``medseg rank``."""
    command = [sys.executable, "-c", MEDSEG, "rank", *arguments, "--format", "json"]
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    wall = time.perf_counter() - began
    if done.returncode or '"evidence"' not in done.stdout:
        sys.exit(f"medseg rank failed, so its time says nothing:\n{done.stderr or done.stdout}")
    return wall


def main(command: Sequence[str] | None = None) -> None:
    """Measure, print and optionally write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    sizes = {"losses": 10, "models": 12, "datasets": 6, "repeats": 5, "cases": 200}
    for name, default in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args(command)
    with tempfile.TemporaryDirectory() as folder:
        bundles, table = write_study(Path(folder), arguments)
        rounds = [read_in_turn(bundles, number) for number in range(arguments.rounds)]
        ways = {"folder of runs": ["--bundles", str(bundles)], "one table": [str(table)]}
        ranked = [{way: rank(options) for way, options in ways.items()} for _ in range(arguments.rounds)]
    rows = [row("read", way, rounds, "medseg") for way in READERS]
    rows += [row("rank", way, ranked, "folder of runs") for way in ways]
    for line in rows:
        spread = f"({line['ratio_min']:.2f} to {line['ratio_max']:.2f})"
        print(f"{line['part']:5} {line['way']:22} {line['s']:7.2f} s {line['ratio']:7.2f} {spread}")
    if arguments.json:
        settings = vars(arguments) | {"json": None, "pandas": pd.__version__}
        arguments.json.write_text(json.dumps({"settings": settings, "results": rows}, indent=2))


def row(part: str, way: str, rounds: list[dict[str, float]], first: str) -> dict[str, Any]:
    """Median seconds of one way, and their ratio to the first way's of the same round."""
    ratios = [seconds[way] / seconds[first] for seconds in rounds]
    return {
        "part": part,
        "way": way,
        "s": statistics.median(seconds[way] for seconds in rounds),
        "ratio": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
    }


if __name__ == "__main__":
    main()
