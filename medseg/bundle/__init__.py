"""Bundles: one experiment (data set x model x loss x augmentation) as a MONAI bundle folder."""

from medseg.bundle.open import running_root

__all__ = ["running_root"]
