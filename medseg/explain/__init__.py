"""Class-activation maps: where in an image a bundle's network finds the evidence for its answer.

A method is built with ``network`` (in evaluation mode) and ``layer`` (the name of a submodule that gives maps), and
has ``compute_map(images, score)``: images ``(1, C, H, W)`` in, the raw map ``(1, 1, h, w)`` out, 0 or more, at the
layer's own resolution; ``score`` (see ``scores``) makes of the logits the one number that is explained. Facts of an
entry: ``paper``, ``needs_gradient`` (False where the network is only run), ``needs_layer`` (False where the map
comes from the image itself).

- ``gradcam``, ``gradcampp``, ``hirescam``, ``layercam``, ``occlusion``: the methods, on MONAI's where its fit;
- ``scores``: a region of a segmentation, or a class of a classifier, as one number;
- ``layers``: which submodules give maps, and how their cells lie on the image;
- ``regions``: predicted, whole, one lesion, or a mask;
- ``explainer``: a picture in, a heat map of its mask at its own size out;
- ``classes``: the same of a classifier's class, with the region and box that the map marks;
- ``localization``: that region and box, and how well they agree with a mask;
- ``masks``: the masks beside images, with which maps are compared;
- ``heat``: the map over the picture, and how much of it lies inside the mask;
- ``cases``: all of it over many inputs, of which a bad one never stops the rest.
"""

from medseg.registry import Registry

__all__ = ["METHODS", "build"]

METHODS = Registry("method", __name__)
build = METHODS.build
