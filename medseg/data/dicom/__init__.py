"""DICOM: pixels of one frame as a ``Picture``, shown as the file proposes, listed and converted.

- ``header``: a file opened, its elements checked;
- ``codestream``, ``stored``: the numbers as stored, of one frame;
- ``tables``: look-up tables of the modality, of a window and of a palette;
- ``frame``: those numbers with their meaning, which is a ``Picture``;
- ``presentation``: a ``Picture`` as grey levels;
- ``geometry``, ``volume``: where slices lie, and a series as one NIfTI volume;
- ``summary``, ``conversion``: what ``medseg dicom`` prints and writes.

pydicom is imported when a file is opened, not before.
"""

from medseg.data.dicom.frame import frames, read_picture
from medseg.data.dicom.header import is_dicom
from medseg.data.dicom.presentation import present

__all__ = ["frames", "is_dicom", "present", "read_picture"]
