"""What all figures share: one style whatever the user's matplotlib is set to, titles, captions, and files."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

from medseg.ranking.plots import FAINT, INK
from medseg.results import atomic_write

if TYPE_CHECKING:
    from matplotlib.figure import Figure

P = ParamSpec("P")

#: inches; a page of A4 has 7.2 between its margins
WIDTH = 7.2
#: dots per inch of the PNG files
DPI = 150
GREY, PALE = "#555555", "#e4e4e4"
#: an en dash, for no value
MISSING = "\N{EN DASH}"
#: told apart by the colour-blind (Okabe and Ito 2008, https://jfly.uni-koeln.de/color/)
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
#: of lines beyond the colours, so that they are told apart in grey as well
DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1.2)))

STYLE: dict[str, Any] = {
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.labelsize": 9,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 9,
    "figure.facecolor": "white",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "hatch.linewidth": 0.6,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "svg.fonttype": "path",
    "svg.hashsalt": "medseg",
    "text.color": INK,
    # a name may hold dollar signs
    "text.parse_math": False,
    "xtick.color": INK,
    "xtick.labelsize": 8.5,
    "ytick.color": INK,
    "ytick.labelsize": 8.5,
}


@dataclass(frozen=True)
class Drawing:
    """A figure and its words.

    Args:
        name: of its files, such as ``heatmap_dataset``.
        title: what stands above it.
        alt: one sentence with what it shows, from its numbers.
        figure: the matplotlib figure.
    """

    name: str
    title: str
    alt: str
    figure: Figure


def styled(draw: Callable[P, Drawing]) -> Callable[P, Drawing]:
    """Make a function draw in the style of the house, whatever ``matplotlibrc`` says."""

    @wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> Drawing:
        with style():
            return draw(*args, **kwargs)

    return drawn


@contextmanager
def style() -> Iterator[None]:
    """The style of the house, and after it what there was."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        for key, value in STYLE.items():
            matplotlib.rcParams[key] = value  # type: ignore[index]
        yield


def canvas(height: float, width: float = WIDTH) -> Figure:
    """An empty figure of so many inches, that no window and no global state knows of."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def entitle(figure: Figure, title: str, caption: str = "") -> None:
    """Write a title above a figure and a caption below it, wrapped to its width."""
    width = figure.get_figwidth()
    heading = textwrap.fill(title, int(9.2 * width))
    figure.suptitle(heading, x=0.01, ha="left", fontsize=11, fontweight="bold", color=INK)
    if caption:
        figure.supxlabel(
            textwrap.fill(caption, int(15.2 * width)), x=0.01, ha="left", fontsize=8.5, color=GREY
        )


def save(drawing: Drawing, folder: Path, name: str = "") -> list[Path]:
    """Write a drawing as PNG (150 dpi) and as SVG, whole or not at all; the same drawing gives the same bytes.

    Letters are shapes in the SVG: it looks alike where its font is missing, such as on a phone.

    Args:
        drawing: what to write.
        folder: made if missing.
        name: of the files without extension; the drawing's own if empty.

    Returns:
        the two files.
    """
    files = []
    with style():
        # the layout settles once and holds for both files and for all later ones
        drawing.figure.draw_without_rendering()
        drawing.figure.set_layout_engine("none")
        for kind, nothing in (("png", {"Software": None}), ("svg", {"Date": None, "Creator": None})):
            path = folder / f"{name or drawing.name}.{kind}"
            with atomic_write(path, "wb") as file:
                drawing.figure.savefig(file, format=kind, dpi=DPI, facecolor="white", metadata=nothing)
            files.append(path)
    return files


def line_style(position: int) -> dict[str, Any]:
    """Colour and dashes of the line at a position, different for the first eighteen."""
    dashes = DASHES[position // len(COLOURS) % len(DASHES)]
    return {"color": COLOURS[position % len(COLOURS)], "linestyle": dashes}


def ink_on(colour: Any) -> str:
    """Black or white, whichever is better told from a colour (contrast as in WCAG 2.1).

    >>> ink_on("#08519c"), ink_on("#ffd24d")
    ('white', '#1a1a1a')
    """
    from matplotlib.colors import to_rgb

    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    # white on it against ink on it, whose own luminance is 0.01
    return "white" if 1.05 / (luminance + 0.05) > (luminance + 0.05) / 0.06 else INK


def label_lowest(panels: Any, count: int) -> None:
    """Number the axis below the lowest panel of each column, and hide the panels beyond ``count``."""
    columns = panels.shape[1]
    for number, axes in enumerate(panels.flat):
        if number >= count:
            axes.set_axis_off()
        axes.tick_params(axis="x", labelbottom=number + columns >= count)


def clip(text: str, letters: int) -> str:
    """A text without its middle if it is too long; its ends tell cases apart.

    >>> clip("kvasir_seg", 12), clip("cju0qkwl35piu0993l0dewei2_frame7", 12)
    ('kvasir_seg', 'cju0q…frame7')
    """
    if len(text) <= letters:
        return text
    half = (letters - 1) // 2
    return f"{text[:half]}…{text[len(text) - (letters - 1 - half) :]}"


def shown(level: str) -> str:
    """A level as people read it: that of no preprocessing is not blank."""
    return level or "none"


def short(value: float) -> str:
    """A value with three decimals, one from ten on, a dash when it is missing."""
    if value != value:
        return MISSING
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"


def plural(count: int, noun: str) -> str:
    """A number of things: ``1 data set``, ``3 losses``.

    >>> plural(3, "loss"), plural(1, "dataset"), plural(2, "augment")
    ('3 losses', '1 data set', '2 augmentations')
    """
    noun = {"dataset": "data set", "augment": "augmentation", "preprocess": "preprocessing"}.get(noun, noun)
    if count == 1:
        return f"1 {noun}"
    return f"{count} {noun}{'es' if noun.endswith('s') else 's'}"


def listed(names: list[str], limit: int = 6) -> str:
    """Names in a sentence: ``a, b and c``, cut after ``limit``.

    >>> listed(["a", "b", "c"]), listed(["a", "b", "c"], limit=2)
    ('a, b and c', 'a, b and 1 more')
    """
    names = [shown(name) for name in names]
    if len(names) > limit:
        names = [*names[:limit], f"{len(names) - limit} more"]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else ""
