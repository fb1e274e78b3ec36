"""Grad-CAM."""

from __future__ import annotations

from medseg.explain import METHODS
from medseg.explain._probe import ProbedCam


@METHODS.register("gradcam", paper="arXiv:1610.02391", needs_gradient=True, needs_layer=True)
class GradCam(ProbedCam):
    r"""Maps weighed by the mean of their gradient (Selvaraju et al. 2017, arXiv:1610.02391), by MONAI.

    With the score of a region it is Seg-Grad-CAM (Vinogradova et al. 2020, arXiv:2002.11434).

    .. math:: \mathrm{ReLU} \sum_k \Big(\frac{1}{hw} \sum_{ij} g^k_{ij}\Big) A^k
    """
