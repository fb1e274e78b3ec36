"""Data sets: one file each, a function that returns its ``DatasetSpec``."""

from medseg.registry import Registry

DATASETS = Registry("data set", __name__)
build = DATASETS.build
