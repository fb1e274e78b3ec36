"""Prediction: a trained bundle on images of every kind, with masks, overlays and measures at their own size.

- ``inputs``: files, folders and series as items;
- ``predictor``: pictures in, probabilities and masks at their own size out;
- ``overlay``: a picture for the eye, with masks drawn in;
- ``measures``: area, lesions, probability and uncertainty;
- ``masks``, ``dicom_seg``: PNG, NIfTI and DICOM SEG files;
- ``predict``: all of it over many inputs, of which a bad one never stops the rest.
"""
