"""Prediction: a trained bundle on images of every kind, with masks, overlays and measures at their own size.

- ``inputs``, ``series``, ``names``, ``spacing``: files, folders and DICOM series as items, with their pixel size;
- ``predictor``: pictures in, probabilities and masks at their own size out;
- ``overlay``, ``sheet``: a picture for the eye, with masks drawn in, and the slices of a volume on one sheet;
- ``measures``: area, lesions, probability and uncertainty;
- ``masks``, ``dicom_seg``: PNG, NIfTI and DICOM SEG files;
- ``record``: what a folder of predictions holds, so that a stopped command goes on;
- ``predict``: all of it over many inputs, of which a bad one never stops the rest.
"""
