"""Bundles: one experiment (data set x model x loss x augmentation) as a MONAI bundle folder."""

from medseg.bundle.open import run_folder, running_root

__all__ = ["run_folder", "running_root"]
