"""Training and evaluation: a bundle run through MONAI's engines, with handlers for what medseg adds."""
