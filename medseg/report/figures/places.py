"""The rank-probability matrix: how often each contestant takes each place when the data are drawn anew."""

from __future__ import annotations

import numpy as np

from medseg.errors import MedsegError
from medseg.ranking.evidence import Evidence
from medseg.report.figures.canvas import Drawing, canvas, entitle, ink_on, plural, shown, styled


def percentage(probability: float) -> str:
    """A probability for a small cell: whole per cents, nothing for never.

    >>> [percentage(p) for p in (0.0, 0.004, 0.426, 0.998, 1.0)]
    ['', '<1', '43', '>99', '100']
    """
    if probability <= 0 or probability != probability:
        return ""
    if probability < 0.01:
        return "<1"
    return ">99" if 0.99 < probability < 1 else f"{100 * probability:.0f}"


@styled
def draw_places(evidence: Evidence) -> Drawing:
    """Draw the probability of each place, contestants as rows, in per cent.

    Raises:
        MedsegError: nothing in the table tells of chance, so there are no probabilities.
    """
    import matplotlib

    places = evidence.places.loc[evidence.contestants]
    values = places.to_numpy(dtype=float)
    if np.isnan(values).all():
        raise MedsegError(
            "one value of each contestant tells nothing of chance: places have no probabilities"
        )
    count, columns = values.shape
    label = 0.08 * max(len(shown(name)) for name in evidence.contestants)
    figure = canvas(1.2 + 0.32 * count, min(7.2, max(4.2, 0.8 + label + 0.48 * columns)))
    axes = figure.subplots()
    shades = matplotlib.colormaps["Blues"](np.nan_to_num(values) * 0.85)
    axes.imshow(shades, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        colour = ink_on(shades[row, column])
        axes.text(column, row, percentage(value), ha="center", va="center", fontsize=8.5, color=colour)
    axes.set_xticks(range(columns), [str(place) for place in places.columns])
    axes.set_yticks(range(count), [shown(name) for name in evidence.contestants], fontsize=9)
    axes.tick_params(length=0, labeltop=True, labelbottom=False)
    axes.set_xticks(np.arange(columns - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(count - 1) + 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="minor", length=0)
    axes.spines[:].set_visible(False)
    title = f"Probability of each place ({evidence.metric}, %)"
    entitle(
        figure, title, f"Columns: places. {evidence.draws} draws of the bootstrap; blank: in none of them."
    )
    first = evidence.places.iloc[:, 0]
    lead = str(first.idxmax())
    alt = (
        f"Matrix of the probabilities of {plural(count, evidence.of)} to take each place: {shown(lead)} is first "
        f"in {percentage(float(first[lead])) or '0'} % of the draws."
    )
    return Drawing(f"places_{evidence.of}", title, alt, figure)
