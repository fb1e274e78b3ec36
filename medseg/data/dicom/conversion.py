"""DICOM files, one or a folder of them, as PNG images or NIfTI volumes; what is bad is told, the rest goes on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from medseg.data.address import stem
from medseg.data.dicom.elements import text
from medseg.data.dicom.frame import picture_of
from medseg.data.dicom.header import Header, guarded, is_dicom, open_header
from medseg.data.dicom.presentation import present
from medseg.data.dicom.stored import read_layout
from medseg.data.dicom.volume import as_nifti, read_volume, slices_of, write_volume
from medseg.data.raster import FileFault
from medseg.errors import MedsegError
from medseg.results import atomic_write
from medseg.transforms.picture import Picture, Window

#: kind of output -> endings of its names, the first is given to new files
ENDINGS = {"png": (".png",), "nifti": (".nii.gz", ".nii")}
COLUMNS = ("file", "output", "images", "outcome", "reason")
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Display:
    """What becomes of modality values.

    Args:
        window: instead of what the file proposes.
        index: which of the file's proposals (VOI LUTs first, then windows), from 0; nothing for the first.
        modality: no window at all, the values as they are.
        default: for a file that proposes none: ``full`` or ``percentiles``.
        bits: of windowed grey levels, 8 or 16; colour always has 8.
    """

    window: Window | None = None
    index: int | None = None
    modality: bool = False
    default: str = "full"
    bits: int = 8

    def grey(self, picture: Picture) -> np.ndarray:
        """Grey levels, or the modality values, ``(1, H, W)``.

        Raises:
            MedsegError: the file lacks the proposal asked for, or the window is not allowed.
        """
        if self.modality:
            return picture.values
        if self.index is not None and not (picture.lut or picture.windows):
            raise MedsegError(f"window index {self.index}: the file proposes no window; leave the index out")
        return present(picture, self.window, self.index or 0, self.default, self.bits)


class NoImage(FileFault):
    """A file that is DICOM, but no image by its kind: a report, a plan, a directory."""


@dataclass
class Report:
    """What became of each input, and the outputs already written, so that none is written twice.

    Args:
        taken: paths that no output may have, resolved.
        skips: a file without an image is no fault.
        rows: of ``COLUMNS``.
    """

    taken: set[Path]
    skips: bool
    rows: list[dict[str, object]] = field(default_factory=list)

    def claim(self, path: Path) -> Path:
        """Reserve an output.

        Raises:
            MedsegError: it is an input, or another input became it.
        """
        if path.resolve() in self.taken:
            raise MedsegError(
                f"{path} is taken by another file; give another output folder or rename the input"
            )
        self.taken.add(path.resolve())
        return path

    @contextmanager
    def noting(self, file: Path, only_faults: bool = False) -> Iterator[list[Path]]:
        """Note what becomes of an input: the outputs that are put into the list, and the fault that is raised."""
        outputs: list[Path] = []
        outcome, reason = "written", ""
        try:
            yield outputs
        except NoImage as fault:
            outcome, reason = ("skipped" if self.skips else "failed"), fault.reason
        except FileFault as fault:
            place = "" if fault.path == file else f"{fault.path.name}: "
            outcome, reason = "failed", f"{place}{fault.reason}; {fault.cure}"
        except MedsegError as error:
            outcome, reason = "failed", str(error)
        except OSError as error:
            outcome, reason = "failed", f"cannot be written ({error.strerror or error})"
        except MemoryError:
            outcome, reason = "failed", "needs more memory than there is"
        if reason or not only_faults:
            shown = (
                " ... ".join(str(path) for path in (outputs[0], outputs[-1])[: len(outputs)])
                if outputs
                else ""
            )
            row = (str(file), shown, len(outputs), outcome, reason)
            self.rows.append(dict(zip(COLUMNS, row, strict=True)))


def convert(
    source: Path, target: Path, display: Display, to: str, progress: Progress = lambda done, total: None
) -> list[dict[str, object]]:
    """Convert one file, or all DICOM files below a folder.

    Sub-folders are kept. A file without an image (a report, a directory) is skipped; a bad one is noted and the rest
    goes on. Existing outputs are replaced.

    Args:
        source: a DICOM file or a folder.
        target: a folder, or the output of one file where its name ends as such.
        display: what becomes of the values.
        to: ``png``, an image per frame, or ``nifti``, a volume per multi-frame file or series.
        progress: is told how many of how many are done.

    Returns:
        A row of ``COLUMNS`` per file, or per volume.

    Raises:
        MedsegError: the source is missing or holds no DICOM file, or the target does not fit it.
    """
    files = _inputs(source)
    report = Report({file.resolve() for file in files}, skips=source.is_dir())
    groups = _volumes(files, report) if to == "nifti" else [[file] for file in files]
    if target.name.lower().endswith(ENDINGS[to]) and not target.is_dir():
        if len(groups) > 1:
            raise MedsegError(f"{target}: {source} gives {len(groups)} outputs; give a folder for them")
        outputs = dict.fromkeys(files, target)
    else:
        top = source if source.is_dir() else source.parent
        outputs = _outputs([group[0] for group in groups], top, target, ENDINGS[to][0])
    for done, group in enumerate(groups, 1):
        with report.noting(group[0]) as written:
            if to == "nifti":
                _write_nifti(group, report.claim(outputs[group[0]]), display, written)
            else:
                _write_png(group[0], outputs[group[0]], display, report, written)
        progress(done, len(groups))
    return report.rows


def _inputs(source: Path) -> list[Path]:
    if not source.exists():
        raise MedsegError(f"{source}: no such file or folder")
    if not source.is_dir():
        return [source]
    files = [file for file in sorted(source.rglob("*")) if file.is_file() and is_dicom(file)]
    if not files:
        raise MedsegError(f"{source}: holds no DICOM file")
    return files


def _outputs(files: Sequence[Path], top: Path, target: Path, ending: str) -> dict[Path, Path]:
    """An output for each input: its stem, or its whole name where several inputs of a folder have one stem."""
    folders = {file: target / file.relative_to(top).parent for file in files}
    # some file systems do not tell capitals apart
    counts = Counter((folders[file], stem(file.name).casefold()) for file in files)
    alone = {file: counts[folders[file], stem(file.name).casefold()] == 1 for file in files}
    return {
        file: folders[file] / ((stem(file.name) if alone[file] else file.name) + ending) for file in files
    }


def _opened(path: Path) -> Header:
    header = open_header(path)
    if header.keyword or "Rows" in header.dataset:
        return header
    from pydicom.uid import UID

    # a file cut before its pixels is an image all the same
    with guarded(path, "reading (0008,0016) SOP Class UID", tell=False):
        kind = UID(text(header.dataset, "SOPClassUID", path)).name
    if "Image Storage" in kind:
        return header
    raise NoImage(path, "holds no image", "give a DICOM image")


def _write_png(path: Path, output: Path, display: Display, report: Report, written: list[Path]) -> None:
    header = _opened(path)
    layout = read_layout(header)
    for frame in range(layout.frames):
        picture = picture_of(header, layout, 3 if layout.colour else 1, frame)
        pixels = _exact(picture, path) if display.modality else _shown(picture, layout.colour, display)
        name = output.name if layout.frames == 1 else f"{output.name[:-4]}_{frame:04d}{output.suffix}"
        place = report.claim(output.with_name(name))
        write_png(pixels, place)
        written.append(place)


def _shown(picture: Picture, colour: bool, display: Display) -> np.ndarray:
    return present(picture) if colour else display.grey(picture)


def _exact(picture: Picture, path: Path) -> np.ndarray:
    """Modality values in a type of PNG.

    Raises:
        FileFault: there is none for them.
    """
    values = picture.values
    low, high = values.min(), values.max()
    limit = 65535 if len(values) == 1 else 255
    if values.dtype.kind == "f" or low < 0 or high > limit:
        seen = f"its values {low:g} to {high:g} ({values.dtype}) do not fit a PNG image"
        raise FileFault(path, seen, "convert it --to nifti, which keeps them, or window it")
    return values.astype(np.uint8 if picture.high <= 255 or limit == 255 else np.uint16)


def write_png(pixels: np.ndarray, path: Path) -> None:
    """Write ``(1, H, W)`` of 8 or 16 bits or ``(3, H, W)`` of 8 as PNG, without any text."""
    image = Image.fromarray(
        pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0))
    )
    with atomic_write(path, "wb") as file:
        image.save(file, format="PNG")


def _volumes(files: Sequence[Path], report: Report) -> list[list[Path]]:
    """Files that belong together: those of one series, where each has one frame."""
    series: dict[tuple[str, ...], list[Path]] = {}
    for file in files:
        with report.noting(file, only_faults=True):
            header = _opened(file)
            several = read_layout(header).frames > 1
            series.setdefault((str(file),) if several else _series(header), []).append(file)
    return list(series.values())


def _series(header: Header) -> tuple[str, ...]:
    """What files of one series share: its UID (PS3.3 C.7.3.1).

    Where an anonymizer has emptied it: folder, frame of reference and number of the series.
    """
    uid, place, number = (
        text(header.dataset, keyword, header.path)
        for keyword in ("SeriesInstanceUID", "FrameOfReferenceUID", "SeriesNumber")
    )
    if uid:
        return (uid,)
    return (str(header.path.parent), place, number) if place else (str(header.path),)


def _write_nifti(group: Sequence[Path], output: Path, display: Display, written: list[Path]) -> None:
    slices = slices_of(group)
    volume = read_volume(slices, display.grey)
    write_volume(as_nifti(volume, [one.plane for one in slices]), output)
    written.append(output)
