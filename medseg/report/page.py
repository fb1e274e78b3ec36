"""One HTML file with everything in it: no script, no network, no other file."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from urllib.parse import quote

from medseg.errors import MedsegError
from medseg.report.content import Page, Picture
from medseg.report.figures.canvas import DPI, Drawing, save, style

#: bytes of an SVG beyond which the PNG is shown, if that is smaller
LARGE = 250_000
#: CSS pixels per inch
CSS = 96
#: of JPEG, for photographs
QUALITY = 85


def render(page: Page) -> str:
    """The page as HTML; every text of it is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("medseg.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html").render(page=page, contents=len(page.sections) > 2)


def picture(drawing: Drawing, folder: Path, caption: str, *, photographs: bool = False) -> Picture:
    """Write a drawing's files, and make the picture that shows it.

    Plots are shown as SVG, which is sharp at any size, unless the PNG is much smaller; what holds photographs as JPEG.

    Args:
        drawing: the figure.
        folder: where its PNG and SVG are written.
        caption: what it shows and how to read it.
        photographs: whether it holds images.
    """
    settle(drawing)
    png, svg = sorted(save(drawing, folder))
    width, height = (round(side * CSS) for side in png_size(png))
    if photographs:
        source = _jpeg(png)
    else:
        vector, dots = shrunk(svg.read_text(encoding="utf-8")), png.read_bytes()
        as_dots = len(vector) > max(LARGE, len(dots))
        source = _address(dots, "image/png") if as_dots else _address(vector, "image/svg+xml")
    return Picture(drawing.name, drawing.title, caption, drawing.alt, source, width, height)


def png_size(path: Path) -> tuple[float, float]:
    """Width and height in inches of a PNG of ``DPI`` dots per inch.

    Raises:
        MedsegError: it is none.
    """
    head = path.read_bytes()[:24]
    if head[:8] != b"\x89PNG\r\n\x1a\n":
        raise MedsegError(f"{path}: not a PNG file")
    return int.from_bytes(head[16:20], "big") / DPI, int.from_bytes(head[20:24], "big") / DPI


def shrunk(svg: str) -> str:
    """An SVG without its comments, metadata and indentation, which nobody sees."""
    svg = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>|<\?xml.*?\?>|<!DOCTYPE.*?>", "", svg, flags=re.DOTALL)
    return re.sub(r"\s*\n\s*", "\n", svg).strip()


def settle(drawing: Drawing) -> None:
    """Lay a figure out once, where each of its files would do so twice: most of the time that a figure takes."""
    engine = drawing.figure.get_layout_engine()
    if engine is not None:
        with style():
            drawing.figure.set_dpi(DPI)
            engine.execute(drawing.figure)
        drawing.figure.set_layout_engine("none")


def _jpeg(png: Path) -> str:
    from io import BytesIO

    from PIL import Image

    file = BytesIO()
    with Image.open(png) as image:
        image.convert("RGB").save(file, "jpeg", quality=QUALITY, optimize=True)
    return _address(file.getvalue(), "image/jpeg")


def _address(content: bytes | str, kind: str) -> str:
    """The content as an address of its own; text is quoted, which is shorter than base64."""
    if isinstance(content, bytes):
        return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
    return f"data:{kind};charset=utf-8,{quote(content, safe=' =:/;,.-_()!*@+$[]{}|^~?')}"
