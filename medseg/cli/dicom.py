"""``medseg dicom``: list, convert and de-identify DICOM files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from medseg.cli.output import emit, format_option

if TYPE_CHECKING:
    from medseg.transforms.picture import Window


@click.group()
def dicom() -> None:
    """List, convert and de-identify DICOM files."""


@dicom.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@format_option
def info(files: tuple[Path, ...], fmt: str) -> None:
    """List FILES, or the DICOM files below folders: how pixels are stored and shown, nothing of the patient.

    Exits with 1 if one of them cannot be read.
    """
    import pandas as pd

    from medseg.cli.progress import progress_bar
    from medseg.data.dicom.summary import COLUMNS, summarize_all

    with progress_bar("reading headers") as progress:
        rows = summarize_all(files, progress)
    emit(pd.DataFrame(rows, columns=list(COLUMNS)), fmt)
    if any(row["fault"] for row in rows):
        raise SystemExit(1)


@dicom.command()
@click.argument("source", metavar="IN", type=click.Path(path_type=Path))
@click.argument("target", metavar="OUT", type=click.Path(path_type=Path))
@click.option(
    "--window", metavar="C,W", help="Window centre and width, in modality values, instead of the file's own."
)
@click.option(
    "--window-index",
    type=click.IntRange(0),
    help="Which of the file's VOI LUTs and windows, from 0.  [default: the first]",
)
@click.option("--no-window", is_flag=True, help="Write the modality values as they are.")
@click.option(
    "--bits",
    type=click.Choice(["8", "16"]),
    default="8",
    show_default=True,
    help="Bits of windowed grey levels.",
)
@click.option(
    "--to",
    type=click.Choice(["png", "nifti"]),
    help="Kind of output.  [default: by the ending of OUT, else png]",
)
@click.option(
    "--default",
    type=click.Choice(["full", "percentiles"]),
    default="full",
    show_default=True,
    help="For a file without a window: the range of its bits, or the 1st to the 99th percentile of its pixels.",
)
@format_option
def convert(
    source: Path,
    target: Path,
    window: str | None,
    window_index: int | None,
    no_window: bool,
    bits: str,
    to: str | None,
    default: str,
    fmt: str,
) -> None:
    """Convert IN, a DICOM file or a folder, to OUT: PNG images, or NIfTI volumes of modality values.

    Sub-folders are kept, several frames are numbered from 0. A bad file is listed with its reason while the others
    go on; then the command exits with 1.
    """
    import pandas as pd

    from medseg.cli.progress import progress_bar
    from medseg.data.dicom.conversion import COLUMNS, Display
    from medseg.data.dicom.conversion import convert as convert_all

    if sum((window is not None, window_index is not None, no_window)) > 1:
        raise click.UsageError("give only one of --window, --window-index and --no-window")
    kind = to or ("nifti" if target.name.lower().endswith((".nii", ".nii.gz")) else "png")
    # volumes keep modality values unless a window is asked for
    plain = no_window or (kind == "nifti" and window is None and window_index is None)
    display = Display(parse_window(window) if window else None, window_index, plain, default, int(bits))
    with progress_bar("converting") as progress:
        rows = convert_all(source, target, display, kind, progress)
    emit(pd.DataFrame(rows, columns=list(COLUMNS)), fmt)
    if any(row["outcome"] == "failed" for row in rows):
        raise SystemExit(1)


@dicom.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    "out",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Folder of the images and of removed.csv.",
)
@click.option(
    "--allow-burned-in", is_flag=True, help="Also take files that say that names stand in their pixels."
)
@format_option
def deidentify(source: Path, out: Path, allow_burned_in: bool, fmt: str) -> None:
    """Take what identifies the patient out of SOURCE, a DICOM image or a folder of them.

    By the Basic Profile of PS3.15 Annex E. Pixels stay as they are: the column burned_in says where to look for names
    in them. Files get new names, removed.csv lists each element that was changed and how, without its value. A bad
    file is listed with its reason while the others go on; then the command exits with 1.
    """
    import pandas as pd

    from medseg.cli.progress import progress_bar
    from medseg.data.dicom.deidentification import COLUMNS, deidentify_files

    with progress_bar("de-identifying") as progress:
        rows = deidentify_files(source, out, allow_burned_in, progress)
    emit(pd.DataFrame(rows, columns=list(COLUMNS)), fmt)
    possible = sum(row["burned_in"] != "" and row["outcome"] == "written" for row in rows)
    if possible:
        click.echo(f"names may stand in the pixels of {possible} file(s): look at them", err=True)
    if any(row["outcome"] == "failed" for row in rows):
        raise SystemExit(1)


def parse_window(text: str) -> Window:
    """A window from ``40,400``.

    Raises:
        MedsegError: it is not two numbers, or the width is below 1.
    """
    from medseg.errors import MedsegError
    from medseg.transforms.picture import Window
    from medseg.transforms.window import check_window

    try:
        center, width = (float(part) for part in text.split(","))
    except ValueError:
        raise MedsegError(f"--window {text}: centre and width with a comma are needed, as 40,400") from None
    window = Window(center, width)
    check_window(window)
    return window
