"""Export: a trained bundle as a file or folder for other tools, verified right after it is written.

An exporter is ``(bundle, out, inputs, *, tolerance, repeat, **options) -> Check``: it writes the file or folder ``out``
(which does not exist yet), loads what it wrote afresh, runs it on ``inputs`` (image files, or ``file#12`` for a slice;
none means synthetic images) and says how far that is from PyTorch. It neither judges nor cleans up:
:func:`medseg.export.delivery.export` calls it in a staging folder and moves a result that keeps to the tolerance into
place. Facts of an entry: ``form`` (``file`` or ``folder``), ``suffix`` (of a file), ``tolerance`` (largest difference
of a probability by default), ``needs`` (the Python packages that must be there, by the names they are imported by,
each with what to do where it is not).
"""

from medseg.registry import Registry

EXPORTERS = Registry("exporter", __name__)
build = EXPORTERS.build

__all__ = ["EXPORTERS", "build"]
