"""Transforms: named changes of an image ``(C, H, W)`` that are made once, before training.

A registered class or function builds a callable ``image -> image`` that keeps the type of the pixels. The
fact ``keeps_size`` says whether height and width stay; only such transforms may stand in ``preprocess``.
"""

from medseg.registry import Registry

TRANSFORMS = Registry("transform", __name__)
build = TRANSFORMS.build
