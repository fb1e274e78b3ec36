"""Augmentations: named lists of transforms for the training part."""

from medseg.registry import Registry

AUGMENTATIONS = Registry("augmentation", __name__)
build = AUGMENTATIONS.build
