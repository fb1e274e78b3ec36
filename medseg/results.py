"""The results tables: their columns, atomic writing, reading, and collecting them from bundles."""

from __future__ import annotations

import csv
import os
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from medseg.errors import MedsegError

if TYPE_CHECKING:
    import pandas as pd

#: what a run is keyed by, in this order, wherever runs are named
RUN_KEYS = ("dataset", "model", "loss", "preprocess", "augment", "split", "repeat")
#: the tidy table that ranking reads: one row per measurement
COLUMNS = (*RUN_KEYS, "case", "group", "metric", "better", "value")
#: what a run's ``cases.csv`` also says of each case: areas of the lesion in pixels and a hash of the predicted mask, or
#: the true and the predicted classes of the image
FACTS = ("reference_px", "predicted_px", "prediction", "truth", "predicted")
#: the interval that a run's ``metrics.csv`` gives a metric of its whole test part
BOUNDS = ("low", "high")
#: columns that are text whatever they look like
TEXT = frozenset({*COLUMNS, "prediction", "truth", "predicted"} - {"repeat", "value"})
#: what stands in a column of numbers for no value
NO_NUMBER = ("", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "-nan", "NULL", "null", "None")
BOM = b"\xef\xbb\xbf"
#: bytes of files that are parsed at once
BATCH = 64 * 2**20


@contextmanager
def atomic_write(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open ``path`` for writing so that readers see the old file or the whole new one, never a part.

    The text goes to a temporary file beside ``path``, is flushed to disk, and replaces ``path`` on a clean exit.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # a part of the name: the whole of a long one leaves no room for what is added (255 bytes on most disks)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.")
    try:
        encoding = None if "b" in mode else "utf-8"
        with os.fdopen(handle, mode, encoding=encoding) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Write a table as CSV, atomically, without its index."""
    with atomic_write(path) as file:
        frame.to_csv(file, index=False, lineterminator="\n")


def read_csv(
    path: Path, only: Collection[str] | None = None, renamed: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """Read a CSV table, keeping empty text as empty text (a preprocess of none is ``""``), numbers exactly.

    Args:
        path: the file.
        only: the columns to read, of those the file has; all by default.
        renamed: column of the file -> what it is called here.

    Raises:
        MedsegError: the file is missing or is no table.
    """
    try:
        return _parse(path, only, renamed or {})
    except FileNotFoundError:
        raise MedsegError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise MedsegError(f"{path}: not a readable CSV table ({error})") from None


def _parse(
    source: Path | bytes, only: Collection[str] | None = None, renamed: Mapping[str, str] | None = None
) -> pd.DataFrame:
    import pandas as pd

    def opened() -> Any:
        return BytesIO(source) if isinstance(source, bytes) else source

    # pandas up to 3.0 misses the last bit of every third number unless asked; 3.1 never does, and warns if asked
    exact = tuple(map(int, pd.__version__.split(".")[:2])) >= (3, 1)
    precision: Any = None if exact else "round_trip"
    header = pd.read_csv(opened(), nrows=0, skipinitialspace=True, dtype=str).columns
    names = [(renamed or {}).get(name, name) for name in header]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"two columns are called {twice}")
    # keys stay text: case 001 is not case 1, and an empty preprocess is "" and not a missing value
    text = [name for name in names if name in TEXT]
    frame = pd.read_csv(
        opened(),
        header=0,
        names=names,
        dtype=dict.fromkeys(text, str),
        na_values={name: NO_NUMBER for name in names if name not in TEXT},
        keep_default_na=False,
        skipinitialspace=True,
        float_precision=precision,
    )
    # the fields that are too many become the index, which may be numbers in a row
    if not frame.index.equals(pd.RangeIndex(len(frame))):
        raise ValueError("a row has more fields than the header")
    if only is not None:
        frame = frame[[name for name in names if name in only]].copy()
    for name in text:
        if name in frame.columns:
            frame[name] = frame[name].fillna("").str.strip()
    return frame


def read_cases(files: Sequence[Path], only: Collection[str] | None = None) -> pd.DataFrame:
    """Read many tables and put them below each other, as ``read_csv`` of each would, in one pass.

    Neighbouring files of one header are parsed as one text, which for thousands of small files is several times
    as quick as one by one.

    Args:
        files: such as every run's ``cases.csv``.
        only: the columns to read, of those a file has; all by default.

    Raises:
        MedsegError: a file is missing or is no table; every such file of a batch is named.
    """
    import pandas as pd

    parts = [_together(batch, only) for batch in _batches(files)]
    return pd.concat(parts, ignore_index=True) if len(parts) > 1 else parts[0]


def _batches(files: Sequence[Path]) -> Iterator[list[tuple[Path, bytes, bytes]]]:
    """Neighbours of the same header, some 64 MB at once: each file with its header and body."""
    batch: list[tuple[Path, bytes, bytes]] = []
    size = 0
    for file in files:
        try:
            header, _, body = file.read_bytes().removeprefix(BOM).partition(b"\n")
        except FileNotFoundError:
            raise MedsegError(f"{file}: no such file") from None
        except OSError as error:
            raise MedsegError(f"{file}: cannot be read ({error})") from None
        if batch and (batch[0][1] != header or size > BATCH):
            yield batch
            batch, size = [], 0
        batch.append((file, header, body))
        size += len(body)
    if batch:
        yield batch


def _together(batch: list[tuple[Path, bytes, bytes]], only: Collection[str] | None) -> pd.DataFrame:
    import pandas as pd

    # a quote left open would swallow the next file
    if not any(body.count(b'"') % 2 for _, _, body in batch):
        try:
            frame = _parse(b"\n".join([batch[0][1], *(body for _, _, body in batch)]), only)
            if all(pd.api.types.is_numeric_dtype(frame[c]) for c in frame.columns if c not in TEXT):
                return frame
        except ValueError:
            pass
    # text among numbers, or a faulty file: one by one, to say which
    frames, faults = [], []
    for file, _, _ in batch:
        try:
            frames.append(read_csv(file, only))
        except MedsegError as error:
            faults.append(str(error))
    if faults:
        raise MedsegError("\n  ".join(faults))
    return pd.concat(frames, ignore_index=True)


def tidy(wide: pd.DataFrame, better: Mapping[str, str]) -> pd.DataFrame:
    """Turn a ``cases.csv`` table (one row per case, one column per metric) into one row per measurement.

    Args:
        wide: columns ``RUN_KEYS``, ``case``, ``group``, one per metric, and perhaps ``FACTS``.
        better: metric name -> ``higher`` or ``lower``; other columns are left out.
    """
    keys = [c for c in (*COLUMNS, *FACTS) if c in wide.columns and c not in better]
    metrics = [c for c in wide.columns if c in better]
    long = wide.melt(id_vars=keys, value_vars=metrics, var_name="metric", value_name="value")
    long["better"] = long["metric"].map(dict(better))
    return long[[c for c in (*COLUMNS, *FACTS) if c in long.columns]]


def case_files(bundles: Path) -> list[Path]:
    """Every finished repeat's ``cases.csv`` below a folder of bundles, in name order."""
    return sorted(bundles.glob("*/repeats/*/cases.csv"))


def finished(bundles: Path) -> list[Path]:
    """As ``case_files``, but an empty folder is an error.

    Raises:
        MedsegError: there is no finished repeat.
    """
    files = case_files(bundles)
    if not files:
        raise MedsegError(
            f"{bundles}: no finished run (repeats/<k>/cases.csv); train one with 'medseg bundle run'"
        )
    return files


def read_bundles(bundles: Path, only: Collection[str] | None = None) -> pd.DataFrame:
    """The wide table of every finished repeat below a folder of bundles: one row per case, one column per metric.

    Args:
        bundles: the folder.
        only: the columns to read; all by default.

    Raises:
        MedsegError: there is no finished repeat, or a file of one is no table.
    """
    return read_cases(finished(bundles), only)


def read_sets(files: Sequence[Path], better: Mapping[str, str]) -> pd.DataFrame:
    """The metrics that runs have of their whole test part, such as an area under a curve, as a tidy table.

    They stand in ``metrics.csv`` beside a run's ``cases.csv``; those that the latter has for every case are left out.

    Args:
        files: every run's ``cases.csv``, which says what run it is.
        better: metric name -> ``higher`` or ``lower``; other metrics are left out.

    Returns:
        ``COLUMNS`` and ``BOUNDS``, one row per run and metric: ``case`` and ``group`` are empty. No row where no run
        has such a file.

    Raises:
        MedsegError: a file is no table of metrics.
    """
    import pandas as pd

    parts = [_of_set(file, file.with_name("metrics.csv"), better) for file in files if _has_sets(file)]
    columns = [*COLUMNS, *BOUNDS]
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


def _has_sets(file: Path) -> bool:
    return file.with_name("metrics.csv").is_file()


def _of_set(cases: Path, metrics: Path, better: Mapping[str, str]) -> pd.DataFrame:
    frame = read_csv(metrics)
    if not {"metric", "value"} <= set(frame.columns):
        raise MedsegError(
            f"{metrics}: needs the columns metric, value, low, high; it has {', '.join(map(str, frame.columns))}"
        )
    # the first case tells what run it is: as text, however many there are
    with cases.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.DictReader(lines)
        first = next(iter(reader), {})
    own = set(reader.fieldnames or ())
    frame = frame[[name in better and name not in own for name in frame["metric"]]].reset_index(drop=True)
    keys = {key: (first.get(key) or "").strip() for key in RUN_KEYS}
    bounds = {name: float("nan") for name in BOUNDS if name not in frame.columns}
    ways = [better[name] for name in frame["metric"]]
    return frame.assign(**keys, **bounds, case="", group="", better=ways)


def collect(bundles: Path, better: Mapping[str, str]) -> pd.DataFrame:
    """The tidy table of every finished repeat below a folder of bundles, metrics of whole test parts last.

    Args:
        bundles: the folder.
        better: metric name -> ``higher`` or ``lower``; other columns are left out.

    Raises:
        MedsegError: there is no finished repeat, or a file of one is no table.
    """
    import numpy as np
    import pandas as pd

    files = finished(bundles)
    wide = read_cases(files, {*COLUMNS, *FACTS, *better})
    # one run after the other, each metric by metric
    keys = wide[[c for c in RUN_KEYS if c in wide.columns]]
    run = (keys != keys.shift()).any(axis=1).cumsum().to_numpy()
    long = tidy(wide, better)
    metrics = len(long) // max(len(wide), 1)
    long = long.iloc[np.tile(run, metrics).argsort(kind="stable")].reset_index(drop=True)
    sets = read_sets(files, better)
    return pd.concat([long, _like(sets, long)], ignore_index=True) if len(sets) else long


def _like(sets: pd.DataFrame, long: pd.DataFrame) -> pd.DataFrame:
    """The columns of ``sets`` that ``long`` has, and the bounds; of the same type of repeat."""
    sets = sets[[c for c in (*COLUMNS, *BOUNDS) if c in (*long.columns, *BOUNDS)]]
    return sets.astype({"repeat": long["repeat"].dtype}) if "repeat" in long.columns else sets
