"""Class-activation maps: where in an image a bundle's network looked."""
