"""The mini-MIAS database of mammograms, whose lesions are marked by circles."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from medseg.data.datasets import DATASETS
from medseg.data.faults import FileFault
from medseg.data.spec import DatasetSpec, Label, Sample
from medseg.errors import MedsegError

LIST = "Info.txt"
#: image, background tissue, class of abnormality, severity, and the circle where there is one
LINE = re.compile(
    r"^\s*(?P<case>mdb\d{3})\s+[FGD]\s+(?P<kind>[A-Z]{4})(?:\s+(?P<severity>[BM])\b)?(?P<rest>.*)$",
    re.MULTILINE,
)
CIRCLE = re.compile(r"\s*(\d+)\s+(\d+)\s+(\d+)\s*")


@dataclass(frozen=True)
class Finding:
    """One line of the list.

    Args:
        case: the image, such as ``mdb001``.
        kind: class of abnormality, such as ``CIRC``; ``NORM`` where there is none.
        severity: ``B`` benign, ``M`` malignant, empty for normal images.
        circle: x of the centre from the left, y of it from the bottom, and radius, in pixels; ``None`` where
            there is no abnormality, or one that is spread too widely.
    """

    case: str
    kind: str
    severity: str
    circle: tuple[int, int, int] | None


@DATASETS.register("mini_mias")
def mini_mias() -> DatasetSpec:
    """Mammograms of 161 patients with circles around their abnormalities (Suckling et al. 1994)."""
    return DatasetSpec(
        title="mini-MIAS",
        channels=1,
        labels=(Label("abnormality"),),
        index=index,
        layout=(LIST,),
        homepage="http://peipa.essex.ac.uk/info/mias.html",
        licence="research only (MIAS licence agreement)",
        citation="Suckling et al., The Mammographic Image Analysis Society digital mammogram database, "
        "Excerpta Medica International Congress Series 1069, 1994, 375-378",
        expected=322,
        empty_masks=True,
        draw_mask=draw_circles,
        notes=(
            "masks are discs drawn from Info.txt: the area around an abnormality, not its outline",
            "y counts from the bottom of the image, row 1023 of 1024 being 0",
            "images with an abnormality that has no circle (widely spread calcifications) are left out",
            "normal images have empty masks; the patient of two successive images is the group",
            "the images have been reduced to 200 micron and 1024 x 1024 pixels; the full ones are the MIAS "
            "database v1.21 of the University of Cambridge",
        ),
    )


def index(folder: Path) -> list[Sample]:
    """The images of the list, with the circles of each as its mask.

    Raises:
        MedsegError: the list names no image.
    """
    findings: dict[str, list[Finding]] = {}
    for finding in _findings((folder / LIST).read_text(encoding="latin-1")):
        findings.setdefault(finding.case, []).append(finding)
    if not findings:
        raise MedsegError(
            f"{folder / LIST}: lists no image such as 'mdb001 G CIRC B 535 425 197'; get it again"
        )
    files = {path.stem: path.relative_to(folder).as_posix() for path in _images(folder)}
    return [
        Sample(
            case,
            files.get(case, f"{case}.pgm"),
            (f"{LIST}#{case}",),
            _patient(case),
            category=_category(found),
        )
        for case, found in sorted(findings.items())
        if all(finding.circle or finding.kind == "NORM" for finding in found)
    ]


def draw_circles(file: Path, case: str, size: tuple[int, int]) -> np.ndarray:
    """The discs of an image, ``size`` ``uint8`` of 0 and 1; all 0 for a normal one.

    Raises:
        FileFault: the list does not name the image, or a circle lies outside it.
    """
    height, width = size
    found = [finding for finding in _listed(file, file.stat().st_mtime_ns) if finding.case == case]
    if not found:
        raise FileFault(file, f"does not list {case}", "get the list again")
    rows, columns = np.mgrid[:height, :width]
    mask = np.zeros(size, np.uint8)
    for x, y, radius in (finding.circle for finding in found if finding.circle):
        disc = (columns - x) ** 2 + (rows - (height - 1 - y)) ** 2 <= radius**2
        if not disc.any():
            raise FileFault(file, f"{case}: the circle {x} {y} {radius} lies outside the image", "correct it")
        mask |= disc.astype(np.uint8)
    return mask


def _images(folder: Path) -> Iterator[Path]:
    for pattern in ("mdb*.*", "*/mdb*.*"):
        yield from (path for path in folder.glob(pattern) if path.suffix.lower() in (".pgm", ".png", ".jpg"))


@lru_cache(maxsize=2)
def _listed(file: Path, changed: int) -> tuple[Finding, ...]:
    return tuple(_findings(file.read_text(encoding="latin-1")))


def _findings(text: str) -> Iterator[Finding]:
    for line in LINE.finditer(text):
        circle = CIRCLE.match(line["rest"])
        x_y_radius = (int(circle[1]), int(circle[2]), int(circle[3])) if circle else None
        yield Finding(line["case"], line["kind"], line["severity"] or "", x_y_radius)


def _patient(case: str) -> str:
    """Successive images, an odd number and the next even one, are the two breasts of one patient."""
    return f"patient_{(int(case[3:]) + 1) // 2:03d}"


def _category(findings: list[Finding]) -> str:
    severities = {finding.severity for finding in findings}
    return "malignant" if "M" in severities else "benign" if "B" in severities else "normal"
