"""What ``medseg dicom info`` says of a file: how its pixels are stored and shown, nothing of the patient."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from medseg.data.dicom.elements import items, text
from medseg.data.dicom.frame import read_modality_table, read_rescale, read_windows
from medseg.data.dicom.geometry import read_spacing
from medseg.data.dicom.header import Header, is_dicom, open_header
from medseg.data.dicom.stored import Layout, decoder_of, read_layout, syntax_name
from medseg.data.raster import FileFault
from medseg.errors import MedsegError
from medseg.transforms.picture import Window

COLUMNS = (
    "file",
    "modality",
    "rows",
    "columns",
    "frames",
    "photometric",
    "bits",
    "signed",
    "syntax",
    "decodes",
    "windows",
    "rescale",
    "spacing",
    "fault",
)


def found_files(paths: Iterable[Path]) -> Iterator[Path]:
    """The files named, and below folders those that are DICOM by their content, in name order.

    Raises:
        MedsegError: a path does not exist.
    """
    for path in paths:
        if path.is_dir():
            yield from (file for file in sorted(path.rglob("*")) if file.is_file() and is_dicom(file))
        elif path.exists():
            yield path
        else:
            raise MedsegError(f"{path}: no such file or folder")


def summarize(path: Path) -> dict[str, object]:
    """One row of ``COLUMNS``; what cannot be read is empty, and the fault says why."""
    row: dict[str, object] = dict.fromkeys(COLUMNS, "")
    row["file"] = str(path)
    try:
        header = open_header(path)
        row |= {"modality": _shown(header, "Modality"), "syntax": syntax_name(header), "decodes": ""}
        layout = read_layout(header)
        row |= _pixels(layout)
        row["decodes"] = "no"
        decoder_of(header)
        row["decodes"] = "yes"
        row |= _meaning(header, layout)
    except FileFault as fault:
        row["fault"] = f"{fault.reason}; {fault.cure}"
    return row


def _shown(header: Header, keyword: str) -> str:
    return text(header.dataset, keyword, header.path)[:16]


def _pixels(layout: Layout) -> dict[str, object]:
    return {
        "rows": layout.rows,
        "columns": layout.columns,
        "frames": layout.frames,
        "photometric": layout.photometric,
        "bits": f"{layout.stored}/{layout.allocated}",
        "signed": "yes" if layout.signed else "no",
    }


def _meaning(header: Header, layout: Layout) -> dict[str, object]:
    spacing = read_spacing(header)
    row: dict[str, object] = {"spacing": f"{spacing[0]:g} x {spacing[1]:g} mm" if spacing else ""}
    if layout.colour:
        return row
    slope, intercept = read_rescale(header, 0)
    table = read_modality_table(header, layout)
    shown = [f"LUT {k}" for k in range(len(items(header.dataset, "VOILUTSequence", header.path)))]
    shown += [window_text(window) for window in read_windows(header, 0)]
    row["windows"] = ", ".join(shown)
    row["rescale"] = (
        "LUT" if table else f"{slope:g} x + {intercept:g}" if (slope, intercept) != (1, 0) else ""
    )
    return row


def window_text(window: Window) -> str:
    """A window as the command line takes it, with the file's word and a function other than ``LINEAR``."""
    words = [window.explanation, "" if window.function == "LINEAR" else window.function]
    words = [word for word in words if word]
    return f"{window.center:g},{window.width:g}" + (f" ({' '.join(words)})" if words else "")


def summarize_all(
    paths: Iterable[Path], progress: Callable[[int, int], None] = lambda done, total: None
) -> list[dict[str, object]]:
    """Rows of all files named or below folders named.

    Raises:
        MedsegError: a path does not exist, or there is no file.
    """
    files = list(found_files(paths))
    if not files:
        raise MedsegError("no DICOM file there; give DICOM files or a folder that holds some")
    rows = []
    for done, file in enumerate(files, 1):
        rows.append(summarize(file))
        progress(done, len(files))
    return rows
