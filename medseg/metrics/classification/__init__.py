"""Classification metrics: of the probabilities ``(N, K)`` of N images and their classes ``(N, K)``, 0 or 1.

One class of K is the truth of an image, and the likeliest the prediction (the first of equals). The classes of a
two-class set run from negative to positive: its sensitivity, specificity and areas under curves speak of the
last. With more classes these are means over the classes, each against the rest. In a multi-label set every label
is a question of its own, answered with yes from a probability of 0.5 on; a metric is the mean over labels.

A class takes part in such a mean if the set has images with and without it. What is undefined, because no class
does, because there is no image, or because a probability is not a number, is NaN: never 0, and no error.

Facts of an entry: ``better`` (``higher`` or ``lower``), ``unit`` (empty), ``needs``, and perhaps ``bounded`` (False
where values may be above 1) and ``sorts`` (True where the images are put in order). A metric that needs a ``case``
has one value per image, ``(N,)``, whose mean is that of the set; one that needs the ``set`` has none, and also takes
``weights`` of the images, ``(N,)``, or ``(D, N)`` for D values at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from medseg.errors import MedsegError, unknown
from medseg.metrics.classification._arrays import answers, checked
from medseg.metrics.classification._bootstrap import averaged, bounds
from medseg.registry import Entry, Registry

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

__all__ = [
    "CLASS_METRICS",
    "answers",
    "build",
    "intervals",
    "intervals_of_runs",
    "of_set",
    "per_case",
    "probabilities",
]

CLASS_METRICS = Registry("classification metric", __name__)
build = CLASS_METRICS.build

#: what turns logits into probabilities: of one class of K, of any number of labels, and of one class of K by a
#: network that was trained for each class against the rest
ACTIVATIONS = ("softmax", "sigmoid", "one_vs_rest")


def probabilities(logits: Tensor, activation: str) -> Tensor:
    r"""The probabilities of the classes, in float64.

    Args:
        logits: as the network gives them.
        activation: ``softmax`` for one class of K, ``sigmoid`` for labels of which an image has any number, or
            ``one_vs_rest``: sigmoids :math:`\sigma(z_k) / \sum_j \sigma(z_j)`, for one class of K by a network
            that was trained with a sigmoid per class.

    Shape:
        logits and result ``(N, K)``.

    Raises:
        MedsegError: there is no such activation.
    """
    if activation not in ACTIVATIONS:
        raise unknown("activation", activation, ACTIVATIONS)
    logits = logits.double()
    if activation == "sigmoid":
        return logits.sigmoid()
    # normalised as logarithms, so that sigmoids that are all nearly 0 keep their proportions
    return (logits if activation == "softmax" else -(-logits).logaddexp(logits.new_zeros(()))).softmax(1)


def _entries(names: Iterable[str] | None, needs: str | None = None) -> list[Entry]:
    entries = [CLASS_METRICS[name] for name in (CLASS_METRICS.names() if names is None else names)]
    return [entry for entry in entries if needs in (None, entry.facts["needs"])]


def per_case(
    probabilities: np.ndarray, truth: np.ndarray, multilabel: bool = False, names: Iterable[str] | None = None
) -> dict[str, np.ndarray]:
    """The value of each metric that an image has by itself, in float64; NaN where a probability is.

    Args:
        probabilities: of each class, 0 to 1.
        truth: 0 and 1; exactly one 1 in each row unless ``multilabel``.
        multilabel: an image has any number of the classes.
        names: the metrics; all by default. Those of the whole set are passed over.

    Shape:
        probabilities and truth ``(N, K)``, each result ``(N,)``.

    Raises:
        MedsegError: a metric is unknown, or the arrays are not of that kind.
    """
    entries = _entries(names, "case")
    probabilities, truth = checked(probabilities, truth, multilabel)
    broken = np.isnan(probabilities).any(1)
    values = {entry.name: entry.build(probabilities, truth, multilabel) for entry in entries}
    return {name: np.where(broken, np.nan, value) for name, value in values.items()}


def of_set(
    probabilities: np.ndarray, truth: np.ndarray, multilabel: bool = False, names: Iterable[str] | None = None
) -> dict[str, float]:
    """The value of each metric for all images together; NaN where it is undefined.

    Args:
        probabilities: of each class, 0 to 1.
        truth: 0 and 1; exactly one 1 in each row unless ``multilabel``.
        multilabel: an image has any number of the classes.
        names: the metrics; all by default.

    Shape:
        probabilities and truth ``(N, K)``.

    Raises:
        MedsegError: a metric is unknown, or the arrays are not of that kind.
    """
    entries = _entries(names)
    probabilities, truth = checked(probabilities, truth, multilabel)
    values = averaged(entries, [(probabilities, truth, None)], multilabel)
    return {name: float(value[0]) for name, value in values.items()}


def intervals(
    probabilities: np.ndarray,
    truth: np.ndarray,
    groups: Iterable[object],
    multilabel: bool = False,
    names: Iterable[str] | None = None,
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Each metric with its bootstrap interval, for which whole groups are drawn.

    As many groups as there are (patients, slides) are drawn with replacement, each with all its images, and the
    metric is computed of every draw as of a test set (Davison and Hinkley 1997, *Bootstrap Methods and their
    Application*, section 3.8; Field and Welsh 2007, doi:10.1111/j.1467-9868.2007.00593.x). The bounds are
    percentiles of the draws, further out where groups are few, as Student's t is (Hesterberg 2015,
    doi:10.1080/00031305.2015.1089789). Draws in which a metric is undefined are left out.

    Args:
        probabilities: of each class, 0 to 1.
        truth: 0 and 1; exactly one 1 in each row unless ``multilabel``.
        groups: the group of each image.
        multilabel: an image has any number of the classes.
        names: the metrics; all by default.
        level: of the interval.
        draws: their number.
        seed: equal seeds give equal intervals.

    Returns:
        a row per metric with the columns ``metric``, ``value``, ``low`` and ``high``. Bounds are NaN with fewer
        than two groups, and where a fifth of the draws or more were left out: then a class lies in one group,
        and nothing is known of how groups differ. The attribute ``attrs["left_out"]`` counts such draws by metric.

    Shape:
        probabilities and truth ``(N, K)``, groups ``(N,)``.

    Raises:
        MedsegError: a metric is unknown, the arrays are not of that kind, or level or draws make no interval.
    """
    return intervals_of_runs([(probabilities, truth, groups)], multilabel, names, level, draws, seed)


def intervals_of_runs(
    runs: Iterable[tuple[np.ndarray, np.ndarray, Iterable[object]]],
    multilabel: bool = False,
    names: Iterable[str] | None = None,
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """The mean of each metric over several runs with its interval; a group is drawn alike in all of them.

    A run in which a metric is undefined, in a draw or altogether, does not count in its mean.
    The interval says what other patients would have given for these networks, not what other training would.

    Args:
        runs: probabilities, truth and groups of each, as for ``intervals``.

    Raises:
        MedsegError: as for ``intervals``.
    """
    import pandas as pd

    if not 0 < level < 1 or draws < 1:
        raise MedsegError(
            f"an interval has a level between 0 and 1 and at least 1 draw; got {level} and {draws}"
        )
    entries = _entries(names)
    parts = [(*checked(p, t, multilabel, list(groups)), groups) for p, t, groups in _listed(runs)]
    values = averaged(entries, [(p, t, None) for p, t, _ in parts], multilabel)
    edges, left_out = bounds(entries, parts, multilabel, level, draws, seed)
    rows = [(e.name, float(values[e.name][0]), *edges[e.name]) for e in entries]
    frame = pd.DataFrame(rows, columns=["metric", "value", "low", "high"])
    frame.attrs["left_out"] = left_out
    return frame


def _listed(
    runs: Iterable[tuple[np.ndarray, np.ndarray, Iterable[object]]],
) -> list[tuple[np.ndarray, np.ndarray, list[object]]]:
    return [(p, t, list(groups)) for p, t, groups in runs]
