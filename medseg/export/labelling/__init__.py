"""Labelling: what a MONAI Label server runs of medseg, from a copy inside the exported bundle.

It needs what the stock server brings (MONAI, PyTorch, numpy, Pillow, pydicom 2.4, nibabel, tifffile), and no OpenCV,
timm or medseg. Nothing here imports MONAI Label.

- ``slices``: a file or a folder as slices, and masks in its own shape and place;
- ``transforms``, ``inference``: reading, the network over slices, probabilities, masks;
- ``outlines``: masks as polygons;
- ``classes``: probabilities of the classes of an image;
- ``network``: the scripted network;
- ``labels``, ``pairs``: corrected labels, and images with them, to train on;
- ``keeping``: weights replaced only by better ones.
"""
