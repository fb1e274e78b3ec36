"""Prediction: a trained bundle on images of every kind: masks, overlays and measures at their own size, or classes.

- ``inputs``, ``series``, ``names``, ``spacing``: files, folders and DICOM series as items, with their pixel size;
- ``settings``, ``options``: how a bundle predicts, and what is written;
- ``predictor``: pictures in, probabilities and masks at their own size out, or probabilities of classes;
- ``overlay``, ``sheet``: a picture for the eye, with masks drawn in or classes below, and the slices of a volume on one
  sheet;
- ``measures``: area, lesions, probability and uncertainty of a mask;
- ``certainty``: the predicted class and how sure it is;
- ``masks``, ``dicom_seg``: PNG, NIfTI and DICOM SEG files;
- ``record``: what a folder of predictions holds, so that a stopped command goes on;
- ``session``, ``mask_session``, ``class_session``: many inputs, of which a bad one never stops the rest;
- ``predict``: all of it into one folder.
"""
