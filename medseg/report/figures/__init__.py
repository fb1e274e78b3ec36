"""The figures of a report, one file each: a function prepares the numbers, another draws them.

Every ``draw_...`` gives a :class:`Drawing`: the matplotlib figure with its title and one sentence that says the same
to those who cannot see it. Figures are at most eight inches wide, legible in grey, and the same bytes for the same
numbers.
"""

from medseg.report.figures.binarised import CasePicture, draw_binarised
from medseg.report.figures.canvas import Drawing, save
from medseg.report.figures.class_images import ClassPicture, draw_class_images
from medseg.report.figures.confusion import draw_confusion
from medseg.report.figures.cost import cheapest_tied, cost_words, draw_cost
from medseg.report.figures.critical_difference import draw_critical_difference
from medseg.report.figures.curves import draw_curves
from medseg.report.figures.distributions import draw_distributions
from medseg.report.figures.failures import FailurePicture, draw_failures, failing_cases, worst_cases
from medseg.report.figures.heatmaps import draw_heatmap
from medseg.report.figures.means import draw_means
from medseg.report.figures.places import draw_places
from medseg.report.figures.reliability import draw_reliability
from medseg.report.figures.roc import draw_roc
from medseg.report.figures.sizes import draw_sizes

__all__ = [
    "CasePicture",
    "ClassPicture",
    "Drawing",
    "FailurePicture",
    "cheapest_tied",
    "cost_words",
    "draw_binarised",
    "draw_class_images",
    "draw_confusion",
    "draw_cost",
    "draw_critical_difference",
    "draw_curves",
    "draw_distributions",
    "draw_failures",
    "draw_heatmap",
    "draw_means",
    "draw_places",
    "draw_reliability",
    "draw_roc",
    "draw_sizes",
    "failing_cases",
    "save",
    "worst_cases",
]
