"""Data: a ``DatasetSpec`` and a folder become ``index.json``, then ``splits/<name>.json``, then arrays.

Each step is a plain file below ``prepared/<dataset>/`` that a person can open:

- ``spec``: what a data set is (labels, channels, layout, licence);
- ``index``: every image and mask opened, checked and listed;
- ``splits``: which case trains, validates or tests, in each repeat;
- ``prepared``: the pixels, decoded and resized once, memory-mapped by every run.
"""
